"""What one gateway lets in by itself: never more than its share, never what it does not know, and a grace only once."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import local_limits
from proxy.limits import Hold, Limit, LimitReached, Limits, Period, Remaining, Reservation
from proxy.local_limits import HONOURED_US, WINDOW_US, LocalLimits

NOW = 7_000_000_000_000
SECOND = 1_000_000
MILLION = 10**6


def hold(tokens: int = 0, nusd: int = 0, request: str = "req_1") -> Hold:
    return Hold(request, tokens, nusd)


def word(account: str = "acme", tokens_left: int = -1, nusd_left: int = -1, **remaining: int) -> Reservation:
    return Reservation(hold(), account, Remaining(**remaining), tokens_left, nusd_left)


def alone(gateways: int = 1, said: Reservation | None = None, at: int = NOW) -> LocalLimits:
    """The limits of a worker to which the store has once spoken of `acme` and its key."""
    limits = LocalLimits()
    limits.gateways = gateways
    limits.told("digest", said or word(), at)
    return limits


def ask(local: LocalLimits, limits: Limits, asked: Hold | None = None, now: int = NOW, in_flight: int = 0):
    return local.admit("digest", "acme", limits, asked or hold(), in_flight, now)


def admitted(local: LocalLimits, limits: Limits, asked: Hold | None = None, now: int = NOW, most: int = 1000) -> int:
    """How often it is let in at one moment before it is refused."""
    return next(count for count in range(most) if not isinstance(ask(local, limits, asked, now), Remaining))


class TestKeys:
    def test_a_key_that_the_store_has_never_called_good_is_not_let_in(self):
        local = alone()
        assert local.admit("other", "acme", Limits(), hold(), 0, NOW) is None
        assert LocalLimits().admit("digest", "acme", Limits(), hold(), 0, NOW) is None

    def test_a_key_is_honoured_for_ten_minutes_after_the_store_has_called_it_good(self):
        local = alone()
        assert ask(local, Limits(), now=NOW + HONOURED_US - 1) == Remaining()
        assert ask(local, Limits(), now=NOW + HONOURED_US) is None
        local.told("digest", word(), NOW + HONOURED_US)
        assert ask(local, Limits(), now=NOW + HONOURED_US + 1) == Remaining()

    def test_somebody_is_known_as_long_as_the_last_key_is_honoured(self):
        assert not LocalLimits().knows_somebody(NOW)
        assert alone().knows_somebody(NOW + HONOURED_US - 1)
        assert not alone().knows_somebody(NOW + HONOURED_US)

    def test_no_more_keys_and_accounts_are_remembered_than_may_be_and_the_longest_known_goes(self, monkeypatch):
        monkeypatch.setattr(local_limits, "MOST", 2)
        local = LocalLimits()
        for name in ("a", "b", "a", "c"):
            local.told(name, word(name), NOW)
        known = [local.admit(name, name, Limits(), hold(), 0, NOW) is not None for name in "abc"]
        assert known == [False, True, True]


class TestRates:
    @pytest.mark.parametrize(
        ("limit", "gateways", "share"), [(6, 1, 6), (6, 2, 3), (7, 2, 3), (6, 4, 1), (6, 6, 1), (6, 9, 1)]
    )
    def test_a_gateway_lets_in_its_share_of_the_requests_and_at_least_one(self, limit, gateways, share):
        assert admitted(alone(gateways), Limits(requests_per_minute=limit)) == share

    def test_it_lets_in_its_share_of_the_tokens(self):
        assert admitted(alone(2), Limits(tokens_per_minute=1000), hold(100)) == 5

    def test_what_one_limit_refuses_takes_nothing_of_the_other(self):
        local = alone()
        limits = Limits(requests_per_minute=10, tokens_per_minute=100)
        assert isinstance(ask(local, limits, hold(60)), Remaining)
        for _ in range(20):
            assert ask(local, limits, hold(60)).limit is Limit.TOKENS_PER_MINUTE
        assert ask(local, limits, hold(40)).requests == 8

    def test_a_request_that_is_larger_than_the_whole_share_is_not_for_one_gateway_to_decide(self):
        assert ask(alone(2), Limits(tokens_per_minute=100), hold(51)) is None
        assert isinstance(ask(alone(2), Limits(tokens_per_minute=100), hold(50)), Remaining)

    def test_what_is_left_is_told_as_the_store_tells_it(self):
        local = alone(2)
        limits = Limits(requests_per_minute=12, tokens_per_minute=1200)
        assert ask(local, limits, hold(100)) == Remaining(12, 5, 10_000, 1200, 500, 10_000)

    def test_a_refusal_tells_the_account_s_limit_and_a_wait_after_which_there_is_room(self):
        local = alone(2)
        limits = Limits(requests_per_minute=12)
        assert admitted(local, limits) == 6
        refusal = ask(local, limits)
        assert refusal == LimitReached(Limit.REQUESTS_PER_MINUTE, 12, 0, 1, 10_000, Remaining(12, 0, 60_000))
        assert isinstance(ask(local, limits, now=NOW + 10_000_000 - 1), LimitReached)
        assert isinstance(ask(local, limits, now=NOW + 10_000_000), Remaining)

    def test_of_several_refusals_the_longest_wait_is_told(self):
        local = alone()
        limits = Limits(requests_per_minute=1, concurrent_requests=1)
        ask(local, limits)
        assert ask(local, limits, in_flight=1).limit is Limit.REQUESTS_PER_MINUTE

    def test_what_was_taken_in_the_store_counts_here(self):
        """The store said: three quarters of the minute are taken. Half a minute later it is a quarter."""
        local = alone(2, word(requests_limit=80, requests_reset_ms=45_000))
        assert admitted(local, Limits(requests_per_minute=80)) == 10
        local = alone(2, word(requests_limit=80, requests_reset_ms=45_000))
        assert admitted(local, Limits(requests_per_minute=80), now=NOW + 30 * SECOND) == 30

    def test_a_refusal_of_the_store_tells_what_is_left_too(self):
        local = alone(said=word(requests_limit=60, tokens_left=500, nusd_left=500))
        local.told_refusal("digest", "acme", Remaining(requests_limit=60, requests_reset_ms=60_000), NOW + SECOND)
        limits = Limits(requests_per_minute=60, tokens_per_day=9)
        assert isinstance(ask(local, limits, hold(5), now=NOW + SECOND), LimitReached)
        assert isinstance(ask(local, limits, hold(5), now=NOW + 2 * SECOND), Remaining)
        assert ask(local, limits, hold(5), now=NOW + 3 * SECOND) is None

    def test_a_refusal_of_the_store_shows_that_the_key_is_good_and_makes_no_other_key_good(self):
        local = alone()
        local.told_refusal("digest", "acme", Remaining(), NOW + HONOURED_US)
        assert isinstance(ask(local, Limits(), now=NOW + HONOURED_US), Remaining)
        local.told_refusal("other", "acme", Remaining(), NOW + HONOURED_US)
        assert local.admit("other", "acme", Limits(), hold(), 0, NOW + HONOURED_US) is None

    def test_what_was_taken_here_counts_although_the_store_does_not_know_it_yet(self):
        local = alone(said=word(requests_limit=4))
        assert admitted(local, Limits(requests_per_minute=4)) == 4
        local.told("digest", word(requests_limit=4, requests_reset_ms=15_000), NOW + 1)
        assert isinstance(ask(local, Limits(requests_per_minute=4), now=NOW + 2), LimitReached)

    def test_tokens_are_corrected_by_what_was_used(self):
        local = alone()
        limits = Limits(tokens_per_minute=100)
        asked = hold(90)
        assert isinstance(ask(local, limits, asked), Remaining)
        local.ended("acme", limits, asked, 20, 0, NOW)
        assert ask(local, limits, hold(80)).tokens == 0
        local.ended("acme", limits, hold(80), 100, 0, NOW)
        assert isinstance(ask(local, limits, hold(1), now=NOW + 12 * SECOND), LimitReached)
        assert isinstance(ask(local, limits, hold(1), now=NOW + 13 * SECOND), Remaining)

    def test_what_has_come_back_by_itself_is_not_given_twice(self):
        local = alone()
        limits = Limits(tokens_per_minute=100)
        asked = hold(60)
        ask(local, limits, asked)
        ask(local, limits, hold(40), now=NOW + 60 * SECOND)
        local.ended("acme", limits, asked, 0, 0, NOW + 60 * SECOND)
        assert isinstance(ask(local, limits, hold(100), now=NOW + 60 * SECOND), Remaining)
        assert isinstance(ask(local, limits, hold(1), now=NOW + 60 * SECOND), LimitReached)

    def test_nobody_waits_longer_than_a_minute_more_for_one_request_that_used_too_much(self):
        local = alone()
        limits = Limits(tokens_per_minute=100)
        ask(local, limits, hold(10))
        local.ended("acme", limits, hold(10), 10**9, 0, NOW)
        assert ask(local, limits, hold(100)).retry_after_ms == 120_000

    def test_a_limit_that_did_not_apply_leaves_no_debt_to_one_that_does_later(self):
        local = alone()
        for _ in range(100):
            ask(local, Limits(), hold(1000))
        local.ended("acme", Limits(), hold(1000), 5000, 0, NOW)
        assert admitted(local, Limits(requests_per_minute=5, tokens_per_minute=100), hold(20)) == 5

    @settings(max_examples=200, deadline=None)
    @given(
        limit=st.integers(1, 2_000),
        gateways=st.integers(1, 7),
        reset_ms=st.integers(0, 60_000),
        steps=st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(1, 600)), min_size=1, max_size=30),
    )
    def test_it_agrees_with_a_bucket_that_leaks_continuously_and_never_passes_its_share(
        self, limit, gateways, reset_ms, steps
    ):
        share = max(1, limit // gateways)
        local = alone(gateways, word(tokens_limit=limit, tokens_reset_ms=reset_ms))
        limits = Limits(tokens_per_minute=limit)
        now, taken, entries = NOW, Fraction(share * reset_ms, 60_000), []
        for passed, cost in steps:
            now += passed
            taken = max(Fraction(0), taken - Fraction(share * passed, WINDOW_US))
            verdict = ask(local, limits, hold(cost), now)
            fits = taken + cost <= share
            assert isinstance(verdict, Remaining) is fits
            if fits:
                taken += cost
                entries.append((now, cost))
                assert verdict.tokens == (share - taken) // 1
            elif cost <= share:
                wait = verdict.retry_after_ms * 1000
                assert taken + cost - Fraction(share * wait, WINDOW_US) <= share
                assert taken + cost - Fraction(share * (wait - 1000), WINDOW_US) > share
        for start, (begun, _) in enumerate(entries):
            for end, (last, _) in enumerate(entries[start:], start):
                assert sum(cost for _, cost in entries[start : end + 1]) <= share * (
                    1 + Fraction(last - begun, WINDOW_US)
                )

    @settings(max_examples=60, deadline=None)
    @given(
        limit=st.integers(2, 300),
        gateways=st.integers(1, 5),
        steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20 * SECOND)), min_size=1, max_size=200),
    )
    def test_all_gateways_together_let_in_no_more_than_the_limit_of_a_minute(self, limit, gateways, steps):
        limit = max(limit, gateways)
        locals_ = [alone(gateways) for _ in range(gateways)]
        now, entries = NOW, []
        for which, passed in steps:
            now += passed
            if isinstance(ask(locals_[which % gateways], Limits(requests_per_minute=limit), now=now), Remaining):
                entries.append(now)
        for start, begun in enumerate(entries):
            for end, last in enumerate(entries[start:], 1):
                assert end <= limit * (1 + Fraction(last - begun, WINDOW_US))


class TestConcurrency:
    def test_a_gateway_lets_in_its_share_and_at_least_one(self):
        limits = Limits(concurrent_requests=5)
        assert isinstance(ask(alone(2), limits, in_flight=1), Remaining)
        refusal = ask(alone(2), limits, in_flight=2)
        assert (refusal.limit, refusal.allowed, refusal.left, refusal.retry_after_ms) == (
            Limit.CONCURRENT_REQUESTS,
            5,
            0,
            1000,
        )
        assert isinstance(ask(alone(9), limits, in_flight=0), Remaining)


class TestGrace:
    LIMITS = Limits(tokens_per_day=MILLION, budget_nusd=MILLION)

    @pytest.mark.parametrize("limits", [Limits(tokens_per_day=MILLION), Limits(budget_nusd=MILLION)])
    def test_what_the_store_has_not_told_is_closed(self, limits):
        assert ask(alone(), limits, hold(1, 1)) is None

    @pytest.mark.parametrize("limits", [Limits(tokens_per_day=MILLION), Limits(budget_nusd=MILLION)])
    @pytest.mark.parametrize(("gateways", "times"), [(1, 10), (2, 5), (3, 3)])
    def test_a_hundredth_of_what_was_left_is_shared_by_the_gateways(self, limits, gateways, times):
        local = alone(gateways, word(tokens_left=100_000, nusd_left=100_000))
        taken = 0
        while isinstance(ask(local, limits, hold(100, 100)), Remaining):
            taken += 1
        assert taken == times
        assert ask(local, limits, hold(100, 100)) is None

    def test_a_budget_of_another_period_is_a_budget(self):
        limits = Limits(more_budgets=((Period.DAY, MILLION),))
        assert ask(alone(), limits, hold(1, 1)) is None
        assert isinstance(ask(alone(said=word(nusd_left=100)), limits, hold(1, 1)), Remaining)

    def test_a_request_without_cost_needs_no_grace_of_a_budget_that_is_not_overdrawn(self):
        assert isinstance(ask(alone(said=word(nusd_left=0)), Limits(budget_nusd=1), hold(10, 0)), Remaining)
        assert ask(alone(said=word(nusd_left=-1)), Limits(budget_nusd=1), hold(10, 0)) is None

    def test_it_is_corrected_by_what_was_used(self):
        local = alone(said=word(tokens_left=100_000, nusd_left=100_000))
        assert isinstance(ask(local, self.LIMITS, hold(1000, 1000)), Remaining)
        assert ask(local, self.LIMITS, hold(1, 1)) is None
        local.ended("acme", self.LIMITS, hold(1000, 1000), 10, 990, NOW)
        assert isinstance(ask(local, self.LIMITS, hold(990, 10)), Remaining)
        assert ask(local, self.LIMITS, hold(1, 0)) is None
        assert ask(local, self.LIMITS, hold(0, 1)) is None

    def test_a_store_that_comes_and_goes_does_not_renew_it(self):
        local = alone(said=word(tokens_left=100_000, nusd_left=100_000))
        asked = hold(1000, 1000)
        ask(local, self.LIMITS, asked)
        local.ended("acme", self.LIMITS, asked, 1000, 1000, NOW)
        local.told("digest", word(tokens_left=100_000, nusd_left=100_000), NOW + 1)  # it was not charged yet
        assert ask(local, self.LIMITS, asked, NOW + 2) is None
        local.settled("acme", NOW + 3)  # and nobody has heard what is left since
        local.told_refusal("digest", "acme", Remaining(), NOW + 4)
        assert ask(local, self.LIMITS, asked, NOW + 5) is None

    def test_it_is_there_again_when_all_was_charged_and_the_store_has_then_told_what_is_left(self):
        local = alone(said=word(tokens_left=100_000, nusd_left=100_000))
        asked = hold(1000, 1000)
        ask(local, self.LIMITS, asked)
        local.settled("acme", NOW + 3)
        local.told("digest", word(tokens_left=99_000, nusd_left=99_000), NOW + 4)
        assert ask(local, self.LIMITS, asked, NOW + 5) is None
        assert isinstance(ask(local, self.LIMITS, hold(990, 990), NOW + 5), Remaining)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_however_requests_end_and_the_store_comes_and_goes_no_more_than_the_grace_is_out(self, data):
        """The oracle keeps what is held, what was used and not charged, and what was charged since the store's word."""
        now, left, told, charged = NOW, MILLION, MILLION, 0
        open_: list[Hold] = []
        uncharged: list[int] = []
        limits = Limits(tokens_per_day=MILLION)
        local = alone(said=word(tokens_left=left))
        for number in range(data.draw(st.integers(1, 40))):
            now += data.draw(st.integers(1, SECOND))
            match data.draw(st.sampled_from(["ask", "end", "charge", "tell"])):
                case "ask":
                    asked = hold(data.draw(st.integers(1, 6000)), request=f"req_{number}")
                    let_in = isinstance(ask(local, limits, asked, now), Remaining)
                    assert let_in or open_ or uncharged or charged or asked.tokens > told // 100
                    open_ += [asked] if let_in else []
                case "end" if open_:
                    ending = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
                    uncharged.append(data.draw(st.integers(0, ending.tokens)))
                    local.ended("acme", limits, ending, uncharged[-1], 0, now)
                case "charge" if uncharged:
                    left -= uncharged[-1]
                    charged += uncharged.pop()
                    local.settled("acme", now)
                case "tell":
                    told, charged = left, 0
                    local.told("digest", word(tokens_left=left), now)
            assert sum(uncharged) + sum(asked.tokens for asked in open_) + charged <= MILLION // 100


class TestAccounts:
    def test_accounts_do_not_share_anything(self):
        local = alone()
        local.told("digest_of_other", word("other"), NOW)
        limits = Limits(requests_per_minute=1)
        assert isinstance(ask(local, limits), Remaining)
        assert isinstance(local.admit("digest_of_other", "other", limits, hold(), 0, NOW), Remaining)

    def test_there_is_an_end_to_the_accounts_that_are_kept_account_of_and_idle_ones_make_room(self, monkeypatch):
        local = LocalLimits()
        for name in "abc":
            local.told(name, word(name), NOW)
        monkeypatch.setattr(local_limits, "MOST", 2)

        def let_in(name: str, now: int) -> bool:
            return isinstance(local.admit(name, name, Limits(requests_per_minute=9), hold(), 0, now), Remaining)

        assert [let_in(name, NOW) for name in "abc"] == [True, True, False]
        later = NOW + 3 * WINDOW_US
        assert not let_in("c", later)  # the others are not settled
        local.settled("a", NOW + 1)
        assert not let_in("c", later)  # nobody has heard of `a` since
        local.told("a", word("a"), NOW + 2)
        assert let_in("c", later)
