"""The admin API does what its own OpenAPI document says: whatever is asked of it, right or wrong, gets an answer that
the document describes, and never a 5xx.

Questions are drawn by schemathesis, the same ones in every run. Every other one is about things that exist, because
questions about nothing reach little of the code.
"""

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from installation import ADMIN_TOKEN, Installation
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    allow_header_conformance,
]
SENSIBLE = {
    "plan": "unlimited",
    "default_plan": False,
    "budget_usd": "1.50",
    "budget_per": "day",
    "models": ["lab/plain"],
    "expires": "90d",
    "grace": "1h",
    "since": "7d",
    "until": "2036-01-31T08:00Z",
    "by": "model,day",
}
"""What may stand in fields that are texts to the document and have a form of their own to the API."""
EXAMPLES = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 6}


@pytest.mark.parametrize("mode", EXAMPLES, ids=lambda mode: mode.value)
def test_every_answer_is_one_that_the_document_describes(each_installation: Installation, mode: GenerationMode):
    made = each_installation
    key = made.new_key(made.new_account())
    assert made.ask(key, metadata={"a": 1}).status == 200
    (row,) = made.recorded(key.account)
    made.new_token(key.account)
    (token,) = made.admin("GET", f"/accounts/{key.account}/tokens").document["tokens"]
    there = {**row, "token_id": token["token_id"], **SENSIBLE}
    described = schemathesis.openapi.from_dict(made.admin("GET", "/openapi.json").document)
    described.config.update(base_url=f"{made.url}/admin/api")
    failures, asked = [], 0

    def ask(case: Any, about_what_is_there: bool) -> None:
        nonlocal asked
        asked += 1
        if about_what_is_there:
            there["key_id"] = made.new_key(key.account).key_id  # the one before may have been revoked
            told = (case.path_parameters, case.query) if mode is GenerationMode.POSITIVE else (case.path_parameters,)
            for place in told:
                place.update({name: there[name] for name in place if name in there})
            if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
                case.body.update({name: SENSIBLE[name] for name in case.body if name in SENSIBLE})
        answer = case.call(headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=30)
        case.validate_response(answer, checks=CHECKS)

    for found in described.get_all_operations():
        operation = found.ok()
        draw = operation.as_strategy(generation_mode=mode)
        run = hypothesis.settings(
            max_examples=EXAMPLES[mode],
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(hypothesis.given(draw, st.booleans())(ask))
        try:
            run()
        except FailureGroup as group:
            failures += [f"{operation.label}: {one}" for one in group.exceptions]
        except hypothesis.errors.Unsatisfiable:  # nothing can be said wrong here
            assert mode is GenerationMode.NEGATIVE
    assert asked > 50
    assert not failures, "\n\n".join(failures)
