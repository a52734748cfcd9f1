"""Which routes are passed over, when they are tried again, and how many requests may be tried twice."""

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Target
from proxy.provider_health import (
    LONGEST_COOLING,
    PROBE_PATIENCE,
    WINDOW,
    WINDOW_FAILURES,
    Blame,
    Health,
    Policy,
    blame,
)
from proxy.steps.route import draw
from proxy.wire.upstream_error import ErrorBody, UpstreamError
from specimens import target

A, B, SPARE = target("a"), target("b"), target("spare", weight=0)
BROKEN = UpstreamError(status=500)
UNREACHED = UpstreamError(kind="upstream_unavailable")
POLICY = Policy()


def names(targets) -> list[str]:
    return [one.route.provider for one in targets]


def ejected(*targets: Target, now: float = 100.0, error: UpstreamError = BROKEN) -> Health:
    """What is known when these have failed too often."""
    health = Health()
    for one in targets:
        for _ in range(POLICY.eject_after):
            health.failed(one, error, now, now)
    return health


def limited(seconds: float | None = None, status: int = 429) -> UpstreamError:
    return UpstreamError(status=status, retry_after_ms=None if seconds is None else int(seconds * 1000))


class TestBlame:
    @pytest.mark.parametrize(
        ("error", "culprit"),
        [
            (UNREACHED, Blame.PROVIDER),
            (UpstreamError(kind="upstream_timeout"), Blame.PROVIDER),
            (UpstreamError(kind="upstream_truncated"), Blame.ROUTE),
            (UpstreamError(kind="upstream_bad_response"), Blame.ROUTE),
            *[(UpstreamError(status=status), Blame.ROUTE) for status in (404, 408, 500, 502, 503, 504, 599, 101)],
            *[(UpstreamError(status=status), Blame.PROVIDER) for status in (301, 307, 401, 402, 403, 407)],
            *[(UpstreamError(status=status), Blame.REQUEST) for status in (400, 413, 422)],
            (UpstreamError(ErrorBody(param="top_k"), status=404), Blame.REQUEST),
            (UpstreamError(ErrorBody(moderated=True), status=403), Blame.REQUEST),
            *[(UpstreamError(status=status), Blame.LOAD) for status in (429, 529)],
            (limited(3, 503), Blame.LOAD),
        ],
        ids=lambda value: (
            f"{value.status} {value.kind} {value.body.param}" if isinstance(value, UpstreamError) else value.name
        ),
    )
    def test_a_failure_is_laid_to_what_caused_it(self, error, culprit):
        assert blame(error) is culprit

    def test_silence_after_the_request_was_sent_is_the_route_s(self):
        error = UpstreamError(kind="upstream_timeout")
        error.sent = True
        assert blame(error) is Blame.ROUTE


class TestPassingOver:
    def test_nothing_is_passed_over_before_anything_failed(self):
        drawn = (A, B)
        assert Health().order("m", drawn, 0.0) is drawn

    @pytest.mark.parametrize("failures", range(POLICY.eject_after))
    def test_a_few_failures_in_a_row_are_borne(self, failures):
        health = Health()
        for _ in range(failures):
            health.failed(A, BROKEN, 1.0, 1.0)
        assert names(health.order("m", (A, B), 1.0)) == ["a", "b"]

    def test_too_many_failures_in_a_row_are_not(self):
        assert names(ejected(A).order("m", (A, B), 100.0)) == ["b"]

    def test_half_of_the_last_answers_are_too_many_in_whatever_order(self):
        health = Health(Policy(eject_after=100))
        for number in range(WINDOW):
            if number % 2:
                health.failed(A, BROKEN, 1.0, 1.0)
            else:
                health.succeeded(A, 1.0)
            expected = ["b"] if number // 2 + number % 2 >= WINDOW_FAILURES else ["a", "b"]
            assert names(health.order("m", (A, B), 1.0)) == expected

    def test_failures_of_long_ago_count_no_more_in_the_share(self):
        health = Health(Policy(eject_after=100))
        for number in range(WINDOW_FAILURES * 3):
            health.failed(A, BROKEN, 0.0, number * 31.0)
        assert names(health.order("m", (A, B), 10_000.0)) == ["a", "b"]

    def test_a_provider_that_cannot_be_reached_takes_all_its_routes_with_it(self):
        other_model = target("a", called="other")
        assert names(ejected(A, error=UNREACHED).order("m", (other_model, B), 100.0)) == ["b"]

    def test_a_route_that_fails_leaves_the_others_of_its_provider(self):
        other_model = target("a", called="other")
        assert names(ejected(A).order("m", (other_model, B), 100.0)) == ["a", "b"]

    def test_requests_that_were_wrong_tell_that_the_route_works(self):
        health = Health()
        for _ in range(POLICY.eject_after - 1):
            health.failed(A, BROKEN, 1.0, 1.0)
        health.failed(A, UpstreamError(status=400), 1.0, 1.0)
        health.failed(A, BROKEN, 1.0, 1.0)
        assert names(health.order("m", (A, B), 1.0)) == ["a", "b"]

    def test_it_can_be_turned_off(self):
        health = Health(Policy(health=False))
        for _ in range(50):
            health.failed(A, UNREACHED, 1.0, 1.0)
            health.failed(A, limited(), 1.0, 1.0)
        assert names(health.order("m", (A, B), 1.0)) == ["a", "b"]

    def test_a_model_with_one_route_has_nothing_to_pass_over(self):
        assert names(ejected(A, error=UNREACHED).order("m", (A,), 100.0)) == ["a"]

    def test_another_configuration_begins_anew(self):
        health = ejected(A)
        health.failed(B, limited(), 100.0, 100.0)
        health.renew(Policy())
        assert names(health.order("m", (A, B), 100.0)) == ["a", "b"]

    def test_its_changes_are_told_once(self):
        told = []
        health = Health(on_change=lambda place, out: told.append((place, out)))
        for _ in range(20):
            health.failed(A, BROKEN, 1.0, 1.0)
        health.succeeded(A, 2.0)
        health.succeeded(A, 2.0)
        assert told == [(("a", "lab/model"), True), (("a", "lab/model"), False)]


class TestProbes:
    def test_one_request_a_second_tries_it_and_has_the_others_behind_it(self):
        health = ejected(A)
        for second in range(1, 6):
            now = 100.0 + second
            assert names(health.order("m", (B, A), now)) == ["a", "b"]
            health.failed(A, BROKEN, now, now + 0.1)
            assert names(health.order("m", (B, A), now + 0.99)) == ["b"]

    def test_one_whose_outcome_is_not_known_keeps_others_from_trying_for_a_while(self):
        health = ejected(A)
        assert names(health.order("m", (A, B), 101.0)) == ["a", "b"]
        assert names(health.order("m", (A, B), 101.0 + PROBE_PATIENCE - 0.1)) == ["b"]
        assert names(health.order("m", (A, B), 101.0 + PROBE_PATIENCE)) == ["a", "b"]

    def test_a_success_ends_it_at_once(self):
        health = ejected(A)
        health.order("m", (A, B), 101.0)
        health.succeeded(A, 101.0)
        assert names(health.order("m", (A, B), 101.1)) == ["a", "b"]
        assert health.passed_over(101.1) == {}

    def test_an_answer_that_began_before_the_trouble_says_nothing_of_now(self):
        health = ejected(A)
        health.succeeded(A, 99.9)
        assert names(health.order("m", (A, B), 100.1)) == ["b"]

    def test_without_a_retry_left_nobody_s_request_is_risked(self):
        health = ejected(A)
        while health.may_retry("m"):
            pass
        assert names(health.order("m", (A, B), 105.0)) == ["b"]

    def test_a_spare_is_not_tried_while_another_serves(self):
        assert names(ejected(SPARE).order("m", (A, SPARE), 105.0)) == ["a"]


class TestCooling:
    @pytest.mark.parametrize("status", [429, 529])
    def test_a_route_that_asks_for_a_pause_gets_it(self, status):
        health = Health()
        health.failed(A, limited(7, status), 100.0, 100.0)
        assert names(health.order("m", (A, B), 106.9)) == ["b"]
        assert names(health.order("m", (A, B), 107.0)) == ["a", "b"]

    def test_one_that_does_not_say_how_long_gets_the_usual(self):
        health = Health()
        health.failed(A, limited(), 100.0, 100.0)
        assert names(health.order("m", (A, B), 100.0 + POLICY.cooling - 0.1)) == ["b"]
        assert names(health.order("m", (A, B), 100.0 + POLICY.cooling)) == ["a", "b"]

    def test_a_pause_is_no_longer_than_an_hour(self):
        health = Health()
        health.failed(A, limited(10**6), 100.0, 100.0)
        assert names(health.order("m", (A, B), 100.0 + LONGEST_COOLING)) == ["a", "b"]

    def test_a_shorter_pause_does_not_end_a_longer_one(self):
        health = Health()
        health.failed(A, limited(60), 100.0, 100.0)
        health.failed(A, limited(1), 100.0, 100.0)
        assert names(health.order("m", (A, B), 150.0)) == ["b"]

    def test_where_all_pause_the_one_is_asked_that_ends_first(self):
        health = Health()
        health.failed(A, limited(60), 100.0, 100.0)
        health.failed(B, limited(30), 100.0, 100.0)
        assert names(health.order("m", (A, B), 101.0)) == ["b"]

    def test_what_is_passed_over_is_counted_by_provider(self):
        health = ejected(A)
        health.failed(A, limited(60), 100.0, 100.0)
        health.failed(B, limited(60), 100.0, 100.0)
        assert health.passed_over(101.0) == {"a": 1, "b": 1}
        assert health.passed_over(161.0) == {"a": 1}


class TestNeverAll:
    def test_where_all_fail_one_is_asked_all_the_same_and_no_second_one(self):
        assert names(ejected(A, B).order("m", (B, A), 100.1)) == ["b"]

    def test_where_all_fail_a_spare_is_tried_too(self):
        health = ejected(A, SPARE)
        tried = [names(health.order("m", (A, SPARE), 101.0)) for _ in range(3)]
        assert tried == [["a"], ["spare"], ["a"]]


class TestBudget:
    def test_so_many_requests_of_a_hundred_may_be_tried_twice(self):
        health = Health(Policy(retry_percent=10, retry_burst=3))
        assert [health.may_retry("m") for _ in range(5)] == [True, True, True, False, False]
        granted = 0
        for _ in range(1000):
            health.order("m", (A, B), 0.0)
            granted += health.may_retry("m")
        assert granted == 100

    def test_it_is_each_model_s_own(self):
        health = Health(Policy(retry_burst=1))
        assert [health.may_retry(model) for model in ("m", "m", "n")] == [True, False, True]

    def test_it_does_not_grow_without_end(self):
        health = Health(Policy(retry_burst=2))
        for _ in range(1000):
            health.order("m", (A, B), 0.0)
        assert [health.may_retry("m") for _ in range(3)] == [True, True, False]

    def test_what_it_does_not_allow_is_counted(self):
        health = Health(Policy(retry_burst=1))
        for _ in range(3):
            health.may_retry("m")
        assert health.denied == {"m": 2}


@dataclass
class Run:
    """Clients before a model, by the clock of the test: each is served as forwarding serves, one after the other."""

    targets: list[Target]
    works: dict[str, bool]
    health: Health = field(default_factory=Health)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    now: float = 100.0
    calls: list[tuple[float, str]] = field(default_factory=list)

    def serve(self) -> bool:
        failed = False
        for one in self.health.order("m", draw(self.targets, self.dice.random), self.now)[:3]:
            if failed and not self.health.may_retry("m"):
                break
            self.calls.append((self.now, one.route.provider))
            if self.works[one.route.provider]:
                self.health.succeeded(one, self.now)
                return True
            self.health.failed(one, BROKEN, self.now, self.now)
            failed = True
        return False

    def serve_many(self, requests: int, per_second: float) -> int:
        served = 0
        for _ in range(requests):
            self.now += 1 / per_second
            served += self.serve()
        return served


@pytest.mark.parametrize("routes", [2, 3, 5])
@pytest.mark.parametrize("per_second", [1, 50, 1000])
def test_while_everything_fails_providers_are_asked_hardly_more_often_than_clients_ask(routes, per_second):
    run = Run([target(str(number)) for number in range(routes)], {str(number): False for number in range(routes)})
    assert run.serve_many(100, per_second) == 0
    assert 100 <= len(run.calls) <= 120


@pytest.mark.parametrize("per_second", [5, 50, 1000])
def test_when_everything_is_back_nobody_is_failed_any_more_and_no_herd_comes(per_second):
    run = Run([A, B], {"a": False, "b": False})
    run.serve_many(200, per_second)
    run.works = {"a": True, "b": True}
    run.calls.clear()
    requests = 3 * per_second
    assert run.serve_many(requests, per_second) == requests
    assert len(run.calls) == requests
    assert run.health.passed_over(run.now) == {}


@pytest.mark.parametrize("per_second", [1, 10, 1000])
def test_one_dead_route_fails_nobody_and_is_asked_once_a_second_at_most(per_second):
    run = Run([A, B], {"a": False, "b": True})
    requests = 60 * per_second
    assert run.serve_many(requests, per_second) == requests
    asked = sum(name == "a" for _, name in run.calls)
    assert POLICY.eject_after <= asked <= POLICY.eject_after + 61


facts = st.lists(
    st.tuples(
        st.floats(0, 5, allow_nan=False),
        st.sampled_from(["order", "ok", "500", "unreached", "429", "400", "retry", "renew"]),
        st.integers(0, 3),
    ),
    max_size=200,
)


@given(facts)
def test_whatever_happens_somebody_is_asked_and_nobody_twice(facts):
    targets = [A, B, target("b", called="other"), SPARE]
    errors = {"500": BROKEN, "unreached": UNREACHED, "429": limited(3), "400": UpstreamError(status=400)}
    health, now = Health(), 0.0
    for wait, what, number in facts:
        now += wait
        if what == "order":
            ordered = health.order("m", targets, now)
            assert ordered
            assert len(set(map(id, ordered))) == len(ordered)
            assert all(any(one is known for known in targets) for one in ordered)
        elif what == "ok":
            health.succeeded(targets[number], now)
        elif what == "retry":
            health.may_retry("m")
        elif what == "renew":
            health.renew(POLICY)
        else:
            health.failed(targets[number], errors[what], now, now)
        counted = health.passed_over(now)
        assert all(counted.values())


@given(st.lists(st.booleans(), max_size=500), st.integers(0, 100), st.integers(1, 20))
def test_retries_never_exceed_their_share_and_the_burst(tries, percent, burst):
    health = Health(Policy(retry_percent=percent, retry_burst=burst))
    requests = granted = 0
    for is_request in tries:
        if is_request:
            requests += 1
            health.order("m", (A, B), 0.0)
        else:
            granted += health.may_retry("m")
    assert granted * 100 <= requests * percent + burst * 100


@given(st.lists(st.floats(0, 3, allow_nan=False), max_size=100))
def test_what_is_passed_over_is_tried_once_a_second_at_most(waits):
    health, now, tried = ejected(A), 100.0, []
    for wait in waits:
        now += wait
        if names(health.order("m", (A, B), now))[0] == "a":
            tried.append(now)
            health.failed(A, BROKEN, now, now)
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(tried))
