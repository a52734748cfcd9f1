"""The judge of chaos runs: what it must find, so that a run without findings means something."""

from functools import partial
from typing import Any

import pytest
from oracle import Served
from plan import Fault, Planned, planned
from traffic import Seen
from verdict import Verdict, by_number, judge, nusd, tokens

SEED = 7
PLAN = partial(planned, SEED)


def number_with(stream: bool, fault: Fault) -> int:
    """A request of the seed that is of this kind, and whose client stays."""
    kinds = (PLAN(number) for number in range(10_000))
    return next(it.number for it in kinds if (it.stream, it.fault, it.leaves_after) == (stream, fault, None))


def row_of(plan: Planned, **changes: Any) -> dict[str, Any]:
    """A right row: the usage that the provider told."""
    prompt, completion = plan.reported_prompt, plan.reported_completion
    row = {
        "request_id": f"req_{plan.number}",
        "metadata": {"number": str(plan.number)},
        "usage_source": "upstream",
        "ending": "complete",
        "status": 200,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "price_prompt": "0.0000008",
        "price_completion": "0.0000016",
    } | changes
    return {"cost_pusd": row["prompt_tokens"] * 800_000 + row["completion_tokens"] * 1_600_000, **row}


def estimate_of(plan: Planned, completion: int, **changes: Any) -> dict[str, Any]:
    prompt = 4 + tokens(len(plan.prompt))
    return row_of(plan, usage_source="estimated", prompt_tokens=prompt, completion_tokens=completion, **changes)


def told(plan: Planned) -> Served:
    """What the provider knows of a request that went well."""
    return Served(1, 1, len("".join(plan.words).encode()), told_usage=plan.fault is not Fault.NO_USAGE)


def verdict_of(plan: Planned, served: Served, seen: Seen, *rows: dict[str, Any]) -> Verdict:
    return judge(PLAN, {plan.number: served}, {plan.number: seen}, by_number(rows))


GOOD = PLAN(number_with(stream=True, fault=Fault.NONE))
SILENT = PLAN(number_with(stream=True, fault=Fault.NO_USAGE))
READ_ALL = Seen(200, told(GOOD).text_bytes, whole=True)


def test_a_right_row_is_right():
    assert not verdict_of(GOOD, told(GOOD), READ_ALL, row_of(GOOD)).findings()


def test_a_request_without_a_row_is_lost():
    assert verdict_of(GOOD, told(GOOD), READ_ALL).lost


def test_a_request_with_two_rows_is_doubled():
    assert verdict_of(GOOD, told(GOOD), READ_ALL, row_of(GOOD), row_of(GOOD)).doubled


def test_a_row_of_a_request_that_never_came_is_invented():
    assert verdict_of(GOOD, Served(), Seen(), row_of(GOOD)).invented


@pytest.mark.parametrize(
    "changes",
    [
        {"completion_tokens": GOOD.reported_completion + 1},
        {"prompt_tokens": GOOD.reported_prompt - 1},
        {"cost_pusd": 1},
        {"price_prompt": "0.0000009"},
        {"usage_source": "none", "prompt_tokens": 0, "completion_tokens": 0},
    ],
)
def test_a_wrong_amount_is_found(changes: dict[str, Any]):
    assert verdict_of(GOOD, told(GOOD), READ_ALL, row_of(GOOD, **changes)).wrong


def test_an_estimate_where_usage_was_read_is_wrong():
    assert verdict_of(GOOD, told(GOOD), READ_ALL, estimate_of(GOOD, tokens(READ_ALL.text_bytes))).wrong


def test_an_estimate_after_a_crash_lies_below_what_was_sent():
    most = tokens(told(GOOD).text_bytes)
    assert not verdict_of(GOOD, told(GOOD), READ_ALL, estimate_of(GOOD, most, ending="crashed")).findings()
    assert verdict_of(GOOD, told(GOOD), READ_ALL, estimate_of(GOOD, most + 1, ending="crashed")).wrong


def test_an_estimate_is_exact_where_the_provider_is_silent():
    exact = tokens(told(SILENT).text_bytes)
    seen = Seen(200, told(SILENT).text_bytes, whole=True)
    assert not verdict_of(SILENT, told(SILENT), seen, estimate_of(SILENT, exact)).findings()
    assert verdict_of(SILENT, told(SILENT), seen, estimate_of(SILENT, exact - 1)).wrong


def test_a_client_that_left_is_billed_for_no_less_than_it_read():
    seen = Seen(200, 9, left=True)
    assert not verdict_of(GOOD, told(GOOD), seen, estimate_of(GOOD, 3, ending="client_gone")).wrong
    assert verdict_of(GOOD, told(GOOD), seen, estimate_of(GOOD, 2, ending="client_gone")).wrong


def test_a_refused_request_costs_nothing():
    refused = row_of(GOOD, usage_source="none", ending="upstream_error", prompt_tokens=0, completion_tokens=0)
    assert not verdict_of(GOOD, Served(asked=1), Seen(502), refused).findings()


def test_an_answer_that_a_stopping_gateway_gave_up_costs_nothing_unless_some_of_it_was_sent():
    nothing = {"usage_source": "none", "ending": "cancelled", "prompt_tokens": 0, "completion_tokens": 0}
    assert not verdict_of(GOOD, told(GOOD), Seen(503), row_of(GOOD, status=503, **nothing)).findings()
    assert verdict_of(GOOD, told(GOOD), Seen(200, 9), row_of(GOOD, **nothing)).wrong


def test_the_same_seed_plans_the_same_requests():
    assert [PLAN(number) for number in range(50)] == [planned(SEED, number) for number in range(50)]


def test_a_charge_is_rounded_up_to_the_nano_dollar():
    assert [nusd(cost) for cost in (0, 1, 1000, 1001)] == [0, 1, 1, 2]
