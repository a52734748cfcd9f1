"""The GenAI metrics: OpenTelemetry's names, labels and buckets, and nothing of them unless they are asked for."""

import pytest
from prometheus_client import CollectorRegistry

from proxy.call import Ending, RequestEnd
from proxy.metrics import Metrics

LABELS = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "one", "gen_ai_request_model": "lab/model"}


def ended(**fields) -> RequestEnd:
    defaults = {
        "request_id": "req_1", "endpoint": "chat", "model": "lab/model", "stream": True, "status": 200,
        "ending": Ending.COMPLETE, "duration_ms": 2000.0, "provider": "one", "ttft_ms": 500.0, "overhead_ms": 250.0,
        "prompt_tokens": 70, "completion_tokens": 31,
    }  # fmt: skip
    return RequestEnd(**{**defaults, **fields})


class Page:
    """A worker's page with the families switched on."""

    def __init__(self, *ends: RequestEnd) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry, genai=True)
        for end in ends:
            metrics.request_ended(end)
        metrics.flush()

    def sum(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"gen_ai_{name}_sum", {**LABELS, **labels})


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_stream_is_counted_in_every_family(endpoint):
    page = Page(ended(endpoint=endpoint))
    assert page.sum("client_token_usage", gen_ai_token_type="input") == 70
    assert page.sum("client_token_usage", gen_ai_token_type="output") == 31
    assert page.sum("client_operation_duration_seconds", error_type="") == 1.75
    assert page.sum("server_request_duration_seconds", error_type="") == 2.0
    assert page.sum("server_time_to_first_token_seconds") == 0.5
    assert page.sum("server_time_per_output_token_seconds") == 0.05


def test_an_answer_that_is_no_stream_has_no_first_token():
    page = Page(ended(stream=False, ttft_ms=None))
    assert page.sum("server_time_to_first_token_seconds") is None
    assert page.sum("server_time_per_output_token_seconds") is None


def test_one_token_has_no_time_for_each_after_it():
    assert Page(ended(completion_tokens=1)).sum("server_time_per_output_token_seconds") is None


def test_a_failure_has_its_word_and_no_first_token():
    page = Page(ended(ending=Ending.UPSTREAM_TRUNCATED))
    assert page.sum("client_operation_duration_seconds", error_type="upstream_truncated") == 1.75
    assert page.sum("server_time_to_first_token_seconds") is None
    page = Page(ended(ending=Ending.UPSTREAM_ERROR, code="provider_auth", ttft_ms=None))
    assert page.sum("server_request_duration_seconds", error_type="provider_auth") == 2.0


def test_one_that_was_refused_was_served_and_no_provider_was_asked():
    refused = ended(ending=Ending.REFUSED, code="rate_limit_exceeded", provider=None, overhead_ms=None, ttft_ms=None,
                    prompt_tokens=None, completion_tokens=None)  # fmt: skip
    page = Page(refused)
    where = {"gen_ai_provider_name": "", "error_type": "rate_limit_exceeded"}
    assert page.sum("server_request_duration_seconds", **where) == 2.0
    assert page.sum("client_operation_duration_seconds", **where) is None


@pytest.mark.parametrize("endpoint", ["models", "unknown"])
def test_what_asks_no_model_is_not_counted(endpoint):
    registry = Page(ended(endpoint=endpoint)).registry
    assert not [
        sample for family in registry.collect() if family.name.startswith("gen_ai") for sample in family.samples
    ]


@pytest.mark.parametrize(
    ("name", "labels", "first", "last", "number"),
    [
        ("client_token_usage", {"gen_ai_token_type": "input"}, 1, 67_108_864, 14),
        ("client_operation_duration_seconds", {"error_type": ""}, 0.01, 81.92, 14),
        ("server_request_duration_seconds", {"error_type": ""}, 0.01, 81.92, 14),
        ("server_time_to_first_token_seconds", {}, 0.001, 10.0, 16),
        ("server_time_per_output_token_seconds", {}, 0.01, 2.5, 13),
    ],
)
def test_the_buckets_are_those_of_the_conventions(name, labels, first, last, number):
    (family,) = [family for family in Page(ended()).registry.collect() if family.name == f"gen_ai_{name}"]
    bounds = [
        float(sample.labels["le"])
        for sample in family.samples
        if sample.name.endswith("_bucket") and {**LABELS, **labels}.items() <= sample.labels.items()
    ]
    assert (bounds[0], bounds[-2], len(bounds) - 1) == (first, last, number)


def test_nothing_of_them_is_there_unless_they_are_asked_for():
    registry = CollectorRegistry()
    Metrics(registry).request_ended(ended())
    assert not [family.name for family in registry.collect() if family.name.startswith("gen_ai")]
