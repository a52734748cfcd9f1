"""What the metrics page shows: fixed names, labels from closed sets, and numbers that two workers share."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.call import Ending, Metered, RequestEnd
from proxy.metrics import ACCOUNTS_SHOWN, Metrics
from proxy.usage import Usage, UsageSource

ROOT = Path(__file__).resolve().parent.parent
PROMISED = {
    "aion_requests_total": {"endpoint", "model", "provider", "status", "stream"},
    "aion_refused_total": {"reason"},
    "aion_tokens_total": {"account", "model", "kind"},
    "aion_cost_usd_total": {"account", "model"},
    "aion_usage_source_total": {"source", "ending"},
    "aion_request_duration_seconds": {"endpoint", "model"},
    "aion_time_to_first_token_seconds": {"endpoint", "model"},
    "aion_overhead_seconds": {"endpoint", "model"},
    "aion_tokens_per_second": {"model"},
    "aion_in_flight_requests": set(),
    "aion_open_streams": set(),
    "aion_upstream_attempts_total": {"provider", "outcome"},
    "aion_upstream_up": {"provider"},
    "aion_store_up": set(),
    "aion_store_call_seconds": {"call"},
}
METERED = Metered(Usage(70, 31, cached=64, reasoning=19), UsageSource.UPSTREAM, 67_200_000)


def ended(**fields) -> RequestEnd:
    defaults = {
        "request_id": "req_1", "endpoint": "chat", "model": "lab/model", "stream": True, "status": 200,
        "ending": Ending.COMPLETE, "duration_ms": 2000.0, "account": "acme", "key_id": "key_1", "provider": "one",
        "usage_source": UsageSource.UPSTREAM, "ttft_ms": 450.0, "overhead_ms": 0.7, "attempts": 1,
    }  # fmt: skip
    return RequestEnd(**{**defaults, **fields})


class Page:
    """A worker's metrics, and the page as a scraper reads it."""

    def __init__(self, **options) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, **options)

    def samples(self) -> dict[str, float]:
        self.metrics.flush()
        found = {}
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float | None:
        wanted = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
        return self.samples().get(f"{name}{{{wanted}}}")

    def labels_of(self, name: str) -> set[str]:
        """The labels of a family, a histogram's bucket bound left out."""
        found = [key for key in self.samples() if re.match(rf"{name}(_bucket)?\{{", key)]
        assert found, f"{name} is not on the page"
        return {pair.split("=")[0] for key in found for pair in key[key.index("{") + 1 : -1].split(",") if pair} - {
            "le"
        }


def test_every_family_that_was_promised_is_there_with_exactly_its_labels():
    page = Page()
    page.metrics.request_ended(ended(), METERED)
    page.metrics.request_ended(ended(status=429, reason="budget", provider=None))
    page.metrics.attempt("one", "ok", reachable=True)
    page.metrics.store_call("admit", 0.001)
    assert {name: page.labels_of(name) for name in PROMISED} == PROMISED


def test_a_request_is_counted_by_what_it_was():
    page = Page()
    for _ in range(3):
        page.metrics.request_ended(ended(), METERED)
    labels = {"endpoint": "chat", "model": "lab/model", "provider": "one", "status": "200", "stream": "true"}
    assert page.value("aion_requests_total", **labels) == 3
    assert page.value("aion_usage_source_total", source="upstream", ending="complete") == 3


def test_tokens_and_cost_are_counted_by_account_and_model():
    page = Page()
    for _ in range(2):
        page.metrics.request_ended(ended(), METERED)
    kinds = {"prompt": 140, "cached": 128, "completion": 62, "reasoning": 38}
    for kind, count in kinds.items():
        assert page.value("aion_tokens_total", account="acme", model="lab/model", kind=kind) == count
    assert page.value("aion_cost_usd_total", account="acme", model="lab/model") == pytest.approx(0.0001344)


def test_a_request_that_was_not_admitted_counts_no_usage_and_no_time():
    page = Page()
    page.metrics.request_ended(
        ended(status=429, ending=Ending.REFUSED, reason="requests_per_minute", provider=None, usage_source=None)
    )
    assert page.value("aion_refused_total", reason="requests_per_minute") == 1
    labels = {"endpoint": "chat", "model": "lab/model", "provider": "none", "status": "429", "stream": "true"}
    assert page.value("aion_requests_total", **labels) == 1
    samples = page.samples()
    assert not [name for name in samples if name.startswith(("aion_tokens_total", "aion_cost"))]
    assert samples["aion_request_duration_seconds_count{endpoint=chat,model=lab/model}"] == 0


def test_a_refusal_that_is_no_ones_count_is_in_no_family_of_refusals():
    page = Page()
    page.metrics.request_ended(ended(status=404, ending=Ending.REFUSED, reason=None))
    assert not [name for name in page.samples() if name.startswith("aion_refused_total")]


def test_times_land_in_their_buckets_and_sums():
    page = Page()
    page.metrics.request_ended(ended(duration_ms=2000.0, ttft_ms=450.0, overhead_ms=0.7), METERED)
    page.metrics.request_ended(ended(duration_ms=2500.0, ttft_ms=500.0, overhead_ms=None), METERED)
    labels = {"endpoint": "chat", "model": "lab/model"}
    assert page.value("aion_request_duration_seconds_sum", **labels) == pytest.approx(4.5)
    assert page.value("aion_request_duration_seconds_count", **labels) == 2
    assert page.value("aion_request_duration_seconds_bucket", le="1.0", **labels) == 0
    assert page.value("aion_request_duration_seconds_bucket", le="2.5", **labels) == 2
    assert page.value("aion_time_to_first_token_seconds_bucket", le="0.5", **labels) == 2
    assert page.value("aion_time_to_first_token_seconds_bucket", le="0.25", **labels) == 0
    assert page.value("aion_overhead_seconds_count", **labels) == 1
    assert page.value("aion_overhead_seconds_bucket", le="0.001", **labels) == 1


def test_a_value_beyond_every_bound_is_counted_too():
    page = Page()
    page.metrics.store_call("settle", 100.0)
    assert page.value("aion_store_call_seconds_bucket", call="settle", le="1.0") == 0
    assert page.value("aion_store_call_seconds_bucket", call="settle", le="+Inf") == 1
    assert page.value("aion_store_call_seconds_sum", call="settle") == 100


def test_speed_is_that_after_the_first_token_of_streams():
    page = Page()
    page.metrics.request_ended(ended(duration_ms=2000.0, ttft_ms=450.0), METERED)
    page.metrics.request_ended(ended(ttft_ms=None, stream=False), METERED)
    page.metrics.request_ended(ended(duration_ms=10.0, ttft_ms=10.0), METERED)
    assert page.value("aion_tokens_per_second_count", model="lab/model") == 1
    assert page.value("aion_tokens_per_second_sum", model="lab/model") == pytest.approx(31 / 1.55)


def test_what_is_written_once_is_not_written_again():
    page = Page()
    page.metrics.request_ended(ended(), METERED)
    first = page.samples()
    assert page.samples() == first


def test_usage_that_does_not_add_up_is_counted_by_provider():
    page = Page()
    odd = Metered(Usage(1, 1, inconsistent=True), UsageSource.UPSTREAM, 1)
    page.metrics.request_ended(ended(), odd)
    assert page.value("aion_usage_inconsistent_total", provider="one") == 1


def test_what_a_stream_lost_is_counted_by_provider():
    page = Page()
    page.metrics.request_ended(ended(dropped_events=2), METERED)
    page.metrics.request_ended(ended(), METERED)
    assert page.value("aion_dropped_events_total", provider="one") == 2


def test_closing_tags_without_an_opening_one_are_counted_by_model():
    page = Page()
    page.metrics.request_ended(ended(stray_close_tags=1), METERED)
    page.metrics.request_ended(ended(), METERED)
    assert page.value("aion_stray_close_tags_total", model="lab/model") == 1


def test_calls_to_providers_are_counted_and_show_whether_they_are_reached():
    page = Page()
    for outcome, reachable, up in (
        ("ok", True, 1), ("upstream_unavailable", False, 0), ("client_gone", None, 0), ("upstream_error", True, 1),
        ("cancelled", None, 1),
    ):  # fmt: skip
        page.metrics.attempt("one", outcome, reachable=reachable)
        assert page.value("aion_upstream_attempts_total", provider="one", outcome=outcome) == 1
        assert page.value("aion_upstream_up", provider="one") == up


def test_a_provider_of_which_nothing_is_known_is_not_called_down():
    page = Page()
    page.metrics.attempt("one", "client_gone", reachable=None)
    assert page.value("aion_upstream_up", provider="one") is None


def test_what_is_under_way_and_the_store_are_shown_as_they_are():
    page = Page()
    assert page.value("aion_store_up") == 0
    page.metrics.flight(5, 3)
    page.metrics.store_up(up=True)
    assert (page.value("aion_in_flight_requests"), page.value("aion_open_streams")) == (5, 3)
    assert page.value("aion_store_up") == 1
    page.metrics.flight(0, 0)
    assert page.value("aion_in_flight_requests") == 0


def test_what_was_let_in_while_the_store_was_away_is_counted_and_how_many_share_the_limits_is_shown():
    page = Page()
    page.metrics.gateways(3)
    page.metrics.let_in_alone()
    page.metrics.let_in_alone()
    page.metrics.flush()
    assert (page.value("aion_gateways"), page.value("aion_local_admissions_total")) == (3, 2)


class TestAccounts:
    def shown(self, page: Page) -> set[str]:
        found = (re.search(r"account=([^,}]+)", name) for name in page.samples())
        return {match[1] for match in found if match}

    def test_the_first_thousand_are_shown_and_the_rest_together(self):
        page = Page()
        for number in range(ACCOUNTS_SHOWN + 5):
            page.metrics.request_ended(ended(account=f"a{number}"), METERED)
            page.metrics.request_ended(ended(account=f"a{number}"), METERED)
        assert self.shown(page) == {f"a{number}" for number in range(ACCOUNTS_SHOWN)} | {"other"}
        assert page.value("aion_tokens_total", account="other", model="lab/model", kind="prompt") == 5 * 2 * 70
        assert page.value("aion_tokens_total", account="a0", model="lab/model", kind="prompt") == 140

    def test_an_account_that_is_shown_is_shown_for_every_model(self):
        page = Page()
        for number in range(ACCOUNTS_SHOWN + 1):
            page.metrics.request_ended(ended(account=f"a{number}"), METERED)
        page.metrics.request_ended(ended(account="a0", model="lab/two"), METERED)
        page.metrics.request_ended(ended(account=f"a{ACCOUNTS_SHOWN}", model="lab/two"), METERED)
        assert page.value("aion_tokens_total", account="a0", model="lab/two", kind="prompt") == 70
        assert page.value("aion_tokens_total", account="other", model="lab/two", kind="prompt") == 70

    def test_what_is_kept_does_not_grow_with_accounts_that_are_not_shown(self):
        page = Page()
        for number in range(ACCOUNTS_SHOWN + 500):
            page.metrics.request_ended(ended(account=f"a{number}"), METERED)
        assert len(page.metrics._of_account) <= ACCOUNTS_SHOWN + 1

    def test_the_label_can_be_left_out(self):
        page = Page(account_label=False)
        page.metrics.request_ended(ended(account="acme"), METERED)
        page.metrics.request_ended(ended(account="zeta"), METERED)
        assert self.shown(page) == set()
        assert page.value("aion_tokens_total", model="lab/model", kind="prompt") == 140
        assert page.value("aion_cost_usd_total", model="lab/model") == pytest.approx(0.0001344)

    def test_no_other_family_has_the_label(self):
        page = Page()
        page.metrics.request_ended(ended(), METERED)
        with_it = {re.sub(r"(_total|_created)?\{.*", "", name) for name in page.samples() if "account=" in name}
        assert with_it == {"aion_tokens", "aion_cost_usd"}


# The kind of value that all metrics of a process are made of is chosen once per process: these run in one of their own.
WORKER = """
import json, sys
from prometheus_client import values
slot, steps = int(sys.argv[1]), json.loads(sys.argv[2])
values.ValueClass = values.MultiProcessValue(lambda: slot)
from proxy.call import Ending, Metered, RequestEnd
from proxy.metrics import Metrics
from proxy.usage import Usage, UsageSource
metrics = Metrics()
for name, arguments in steps:
    if name == "request":
        for _ in range(arguments):
            metrics.request_ended(
                RequestEnd("req_1", "chat", "lab/model", False, 200, Ending.COMPLETE, 20.0,
                           account="acme", provider="one", usage_source=UsageSource.UPSTREAM),
                Metered(Usage(70, 31), UsageSource.UPSTREAM, 1000),
            )
    elif name == "flight":
        metrics.flight(*arguments)
    elif name == "store_up":
        metrics.store_up(up=arguments)
    elif name == "upstream":
        metrics.attempt("one", "ok" if arguments else "upstream_unavailable", reachable=arguments)
metrics.flush()
"""
PAGE = """
import sys
from pathlib import Path
from proxy.health import OwnMetrics, metrics_page
sys.stdout.buffer.write(metrics_page(OwnMetrics("1.2.3"), Path(sys.argv[1])))
"""
FORGET = """
import sys
from pathlib import Path
from proxy.health import forget_worker
forget_worker(Path(sys.argv[1]), int(sys.argv[2]))
"""


class TestWorkersTogether:
    @pytest.fixture
    def run(self):
        def run(program: str, *arguments: object, **environment: str) -> str:
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT), **environment},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        return run

    @pytest.fixture
    def worker(self, run, tmp_path):
        def worker(slot: int, *steps: tuple[str, object]) -> None:
            run(WORKER, slot, json.dumps(steps), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))

        return worker

    @pytest.fixture
    def page(self, run, tmp_path):
        return lambda: run(PAGE, tmp_path)

    def value(self, page: str, name: str) -> float:
        (line,) = [line for line in page.splitlines() if re.match(rf"{name}(\{{[^}}]*\}})? ", line)]
        return float(line.rsplit(" ", 1)[1])

    def test_two_workers_are_one_page(self, worker, page):
        worker(0, ("request", 3), ("flight", (5, 2)), ("store_up", True), ("upstream", True))
        worker(1, ("request", 4), ("flight", (1, 1)), ("store_up", False), ("upstream", False))
        text = page()
        assert self.value(text, "aion_requests_total") == 7
        assert self.value(text, "aion_request_duration_seconds_count") == 7
        assert self.value(text, "aion_in_flight_requests") == 6
        assert self.value(text, "aion_open_streams") == 3
        assert self.value(text, "aion_store_up") == 0
        assert self.value(text, "aion_upstream_up") == 0
        assert "pid=" not in text

    def test_a_worker_that_died_leaves_its_counts_and_takes_what_it_had_open_with_it(self, worker, page, run, tmp_path):
        worker(0, ("request", 3), ("flight", (5, 2)), ("store_up", True))
        worker(1, ("request", 4), ("flight", (1, 1)), ("store_up", False))
        run(FORGET, tmp_path, 1)
        text = page()
        assert self.value(text, "aion_requests_total") == 7
        assert self.value(text, "aion_in_flight_requests") == 5
        assert self.value(text, "aion_store_up") == 1

    def test_its_successor_goes_on_counting_where_it_stopped(self, worker, page, run, tmp_path):
        worker(0, ("request", 3), ("flight", (5, 2)))
        run(FORGET, tmp_path, 0)
        worker(0, ("request", 2))
        text = page()
        assert self.value(text, "aion_requests_total") == 5
        assert self.value(text, "aion_in_flight_requests") == 0
        assert len(list(tmp_path.glob("counter_*.db"))) == 1

    def test_only_the_worker_that_died_is_forgotten(self, worker, page, run, tmp_path):
        worker(1, ("flight", (1, 0)))
        worker(11, ("flight", (10, 0)))
        run(FORGET, tmp_path, 1)
        assert self.value(page(), "aion_in_flight_requests") == 10

    def test_the_supervisors_own_families_are_on_the_same_page(self, page):
        text = page()
        assert self.value(text, "aion_config_reload_success") == 1
        assert 'aion_build_info{version="1.2.3"} 1.0' in text
