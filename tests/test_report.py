"""What operators are told of a call to a provider, and what no log may hold."""

import re

import pytest
from prometheus_client import CollectorRegistry

from proxy.call import Ending, Metered, RequestEnd
from proxy.metrics import Metrics
from proxy.report import Report
from proxy.usage import Usage, UsageSource
from proxy.wire.upstream_error import ErrorBody, UpstreamError
from specimens import KEY, call, provider, target


class Logger:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict]] = []

    def warning(self, event: str, **facts: object) -> None:
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: object) -> None:
        self.lines.append(("error", event, facts))


class Requests:
    def __init__(self) -> None:
        self.ends: list[RequestEnd] = []

    def request(self, end: RequestEnd) -> None:
        self.ends.append(end)


class Bench:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.logger = Logger()
        self.requests = Requests()
        self.report = Report(self.metrics, self.requests, self.logger)
        self.target = target("one", provider(headers={"X-Token": "operators-own-token"}))

    def attempt(self, error: UpstreamError | None) -> None:
        self.report.attempt(call(), self.target, error)

    def value(self, name: str, **labels: str) -> float | None:
        self.metrics.flush()
        return self.registry.get_sample_value(name, labels)


def test_a_target_that_answered_is_counted_and_not_worth_a_line():
    bench = Bench()
    bench.attempt(None)
    assert bench.value("aion_upstream_attempts_total", provider="one", outcome="ok") == 1
    assert bench.value("aion_upstream_up", provider="one") == 1
    assert bench.logger.lines == []


def test_a_target_that_failed_is_counted_by_how_and_told():
    bench = Bench()
    bench.attempt(UpstreamError(ErrorBody("boom"), status=500, detail="the provider answered 500"))
    assert bench.value("aion_upstream_attempts_total", provider="one", outcome="upstream_error") == 1
    assert bench.logger.lines == [
        (
            "warning",
            "upstream attempt failed",
            {
                "request_id": "req_1",
                "provider": "one",
                "kind": "upstream_error",
                "upstream_status": 500,
                "detail": "the provider answered 500",
                "said": "boom",
            },
        )
    ]


@pytest.mark.parametrize(
    ("error", "up"),
    [
        (UpstreamError(kind="upstream_unavailable"), 0),
        (UpstreamError(kind="upstream_timeout"), 0),
        (UpstreamError(kind="upstream_bad_response"), 1),
        (UpstreamError(kind="upstream_truncated"), 1),
        (UpstreamError(status=503), 1),
        (UpstreamError(status=401), 1),
    ],
)
def test_a_provider_is_up_if_it_said_anything(error, up):
    bench = Bench()
    bench.attempt(error)
    assert bench.value("aion_upstream_up", provider="one") == up


def test_an_attempt_that_this_side_ended_says_nothing_of_the_provider():
    bench = Bench()
    bench.report.interrupted(call(), bench.target, Ending.CLIENT_GONE)
    assert bench.value("aion_upstream_attempts_total", provider="one", outcome="client_gone") == 1
    assert bench.value("aion_upstream_up", provider="one") is None
    assert bench.logger.lines == []


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429])
def test_what_a_provider_says_of_a_request_is_not_logged(status):
    """It may quote the prompt."""
    bench = Bench()
    bench.attempt(UpstreamError(ErrorBody("your prompt 'secret diary' is bad"), status=status))
    assert "diary" not in str(bench.logger.lines)


def test_what_a_provider_says_after_an_answer_has_begun_is_not_logged():
    """It may quote the answer."""
    bench = Bench()
    error = UpstreamError(ErrorBody("the model said 'secret diary'"), status=500)
    error.begun = True
    bench.attempt(error)
    assert "diary" not in str(bench.logger.lines)


def test_of_what_a_provider_says_of_itself_the_words_of_the_request_are_masked():
    bench = Bench()
    content = bytes(call().request.fields["messages"]).decode()
    bench.attempt(UpstreamError(ErrorBody(f"CUDA broke: {content}"), status=500))
    said = bench.logger.lines[0][2]["said"]
    assert said.startswith("CUDA broke: ")
    assert not [word for word in re.findall(r"[a-z]+", said[12:]) if word in content]


def test_no_credential_is_logged_however_the_provider_repeats_it():
    bench = Bench()
    said = f"key {KEY} and token operators-own-token and sk-other-0123456789 of a@b.example"
    bench.attempt(UpstreamError(ErrorBody(said), status=500))
    logged = str(bench.logger.lines)
    for secret in (KEY, "operators-own-token", "sk-other", "a@b.example"):
        assert secret not in logged


def test_a_provider_without_a_key_is_logged_too():
    bench = Bench()
    bench.target = target("one", provider(api_key=None))
    bench.attempt(UpstreamError(ErrorBody("boom"), status=500))
    assert bench.logger.lines[0][2]["said"] == "boom"


def test_a_request_is_counted_and_leaves_its_one_line():
    bench = Bench()
    end = RequestEnd("req_1", "chat", "lab/model", stream=False, status=200, ending=Ending.COMPLETE, duration_ms=1.0)
    bench.report.request_ended(end, Metered(Usage(1, 1), UsageSource.UPSTREAM, 1))
    assert bench.requests.ends == [end]
    labels = {"endpoint": "chat", "model": "lab/model", "provider": "none", "status": "200", "stream": "false"}
    assert bench.value("aion_requests_total", **labels) == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UpstreamError(status=429), "upstream_rate_limited"),
        (UpstreamError(status=503), "upstream_overloaded"),
        (UpstreamError(status=401), "provider_auth"),
        (UpstreamError(ErrorBody("bad", code="made_up_by_the_provider"), status=400), "provider_validation"),
        (UpstreamError(kind="upstream_truncated"), "upstream_truncated"),
    ],
)
def test_an_attempt_is_counted_by_what_clients_are_told_and_never_by_the_providers_words(error, outcome):
    bench = Bench()
    bench.attempt(error)
    assert bench.value("aion_upstream_attempts_total", provider="one", outcome=outcome) == 1
    assert bench.logger.lines[0][2]["kind"] == outcome


def test_a_bug_is_logged_by_its_name_and_its_places_and_not_by_its_values():
    def failing(secret: str) -> None:
        raise ValueError(secret)

    bench = Bench()
    try:
        failing("secret " + "value")
    except ValueError as error:
        bench.report.bug("req_1", error)
    ((level, event, facts),) = bench.logger.lines
    assert (level, event, facts["request_id"], facts["error"]) == ("error", "bug", "req_1", "ValueError")
    assert [re.fullmatch(r"test_report\.py:\d+ (\w+)", place)[1] for place in facts["where"]] == [
        "test_a_bug_is_logged_by_its_name_and_its_places_and_not_by_its_values",
        "failing",
    ]
    assert "secret value" not in str(bench.logger.lines)
