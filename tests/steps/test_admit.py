"""What a call holds in advance, and what a client is told when the store says no."""

import re

import pytest

from proxy.accounts import Identity
from proxy.errors import ErrorType, Fault, Refusal, StoreUnavailable
from proxy.holds import hold_for
from proxy.limits import (
    AccountChanged,
    Admission,
    Hold,
    KeyRefused,
    KeyState,
    Limit,
    LimitReached,
    Limits,
    Period,
    Remaining,
    Reservation,
)
from proxy.steps.admit import ATTEMPTS, NotAdmitted, admit
from proxy.wire.headers import fault_lines
from specimens import account, call, identity

DEFAULT_HOLD = 1024
REMAINING = Remaining(requests_limit=600, requests=599, tokens_limit=1000, tokens=1)
LIMITS = Limits(
    requests_per_minute=600,
    tokens_per_minute=200_000,
    concurrent_requests=32,
    tokens_per_day=5_000_000,
    budget_nusd=25_000_000_000,
    budget_per=Period.MONTH,
)


class Store:
    """Answers with what it was given, in turn; without anything, it admits."""

    def __init__(self, *answers: Admission | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Identity, Limits, Hold]] = []

    async def admit(self, identity: Identity, limits: Limits, hold: Hold) -> Admission:
        self.asked.append((identity, limits, hold))
        answer = self.answers.pop(0) if self.answers else Reservation(hold, identity.account.name, REMAINING)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def admitted(store: Store, limits=lambda _: LIMITS, who: Identity | None = None):
    return await admit(call(), who or identity(), store, limits, typical=DEFAULT_HOLD)


async def not_admitted(*answers: Admission | Exception, limits: Limits = LIMITS) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as refused:
        await admitted(Store(*answers), lambda _: limits)
    return refused.value


def reached(limit: Limit, *, wait: int | None = 12_000, allowed: int = 600, left: int = 0, asked: int = 1):
    return LimitReached(limit, allowed, left, asked, wait, REMAINING)


class TestAdmitted:
    async def test_a_call_with_room_gets_its_reservation_and_what_it_was_measured_by(self):
        store = Store()
        who = identity()
        reservation, seen, limits = await admitted(store, who=who)
        assert (reservation.account, reservation.remaining) == ("acme", REMAINING)
        assert (seen, limits) == (who, LIMITS)
        assert store.asked == [(who, LIMITS, reservation.hold)]

    async def test_an_account_that_changed_is_measured_anew_by_what_it_is_now(self):
        changed = account(version=2, plan="small")
        store = Store(AccountChanged(changed))
        small = Limits(tokens_per_minute=100)
        reservation, seen, limits = await admitted(store, lambda who: small if who.plan == "small" else LIMITS)
        assert (seen.account, limits, reservation.hold.tokens) == (changed, small, 100)
        assert [asked[0].account.version for asked in store.asked] == [1, 2]
        assert store.asked[0][0].key is seen.key

    async def test_an_account_that_changes_under_every_try_is_told_to_come_back(self):
        store = Store(*[AccountChanged(account(version=number)) for number in range(2, 2 + ATTEMPTS)])
        with pytest.raises(NotAdmitted) as refused:
            await admitted(store)
        assert refused.value.fault.status == 503
        assert len(store.asked) == ATTEMPTS

    async def test_an_account_whose_limits_are_not_known_is_refused_and_nothing_is_asked(self):
        def unknown(_):
            raise Refusal(Fault(400, ErrorType.CONFIGURATION, "unknown_plan", "no plan"))

        store = Store()
        with pytest.raises(Refusal):
            await admitted(store, unknown)
        assert store.asked == []


class TestKeys:
    @pytest.mark.parametrize("state", [KeyState.UNKNOWN, KeyState.REVOKED, KeyState.EXPIRED])
    async def test_a_key_that_went_bad_is_refused_and_to_be_forgotten(self, state):
        refused = await not_admitted(KeyRefused(state))
        fault = refused.fault
        assert (fault.status, fault.type, fault.code, fault.reason) == (
            401,
            ErrorType.AUTHENTICATION,
            "invalid_api_key",
            "authentication",
        )
        assert refused.key_is_bad

    async def test_an_account_that_was_disabled_is_told_so(self):
        refused = await not_admitted(KeyRefused(KeyState.DISABLED))
        fault = refused.fault
        assert (fault.status, fault.type, fault.code) == (403, ErrorType.PERMISSION, "account_disabled")
        assert refused.key_is_bad

    async def test_a_store_that_is_away_is_no_reason_to_throw_a_key_away(self):
        refused = await not_admitted(StoreUnavailable("connection refused to 10.0.0.1"))
        fault = refused.fault
        assert (fault.status, fault.type, fault.code, fault.reason) == (
            503,
            ErrorType.INTERNAL,
            "overloaded",
            "store_unavailable",
        )
        assert fault.retry_after_ms
        assert not refused.key_is_bad
        assert refused.unanswered is None
        assert "10.0.0.1" not in fault.message

    async def test_a_hold_that_may_have_been_taken_unheard_is_to_be_given_back(self):
        refused = await not_admitted(StoreUnavailable("too slow", may_have_run=True))
        assert refused.unanswered == (hold_for(call(), LIMITS, DEFAULT_HOLD), LIMITS)


class TestLimits:
    @pytest.mark.parametrize(
        ("limit", "code"),
        [
            (Limit.REQUESTS_PER_MINUTE, "rate_limit_exceeded"),
            (Limit.TOKENS_PER_MINUTE, "rate_limit_exceeded"),
            (Limit.TOKENS_PER_DAY, "rate_limit_exceeded"),
            (Limit.CONCURRENT_REQUESTS, "concurrency_limit"),
            (Limit.BUDGET, "insufficient_quota"),
        ],
    )
    async def test_each_limit_has_its_code_and_is_counted_under_its_name(self, limit, code):
        refused = await not_admitted(reached(limit))
        fault = refused.fault
        assert (fault.status, fault.type, fault.code, fault.reason) == (429, ErrorType.RATE_LIMIT, code, limit.value)
        assert refused.remaining is REMAINING
        assert not refused.key_is_bad

    async def test_the_message_says_the_limit_what_is_left_and_ends_with_the_wait(self):
        fault = (await not_admitted(reached(Limit.TOKENS_PER_MINUTE, allowed=200_000, left=1_500, asked=3_000))).fault
        assert fault.message == (
            "Rate limit reached: tokens_per_minute is 200,000, 1,500 left, 3,000 asked for. Please try again in 12s."
        )
        assert fault.retry_after_ms == 12_000

    @pytest.mark.parametrize(
        ("wait", "words"),
        [(1, "1ms"), (999, "999ms"), (1000, "1s"), (1001, "2s"), (11_999, "12s"), (3_600_000, "3600s")],
    )
    async def test_a_wait_is_never_told_shorter_than_it_is(self, wait, words):
        message = (await not_admitted(reached(Limit.REQUESTS_PER_MINUTE, wait=wait))).fault.message
        assert message.endswith(f"Please try again in {words}.")
        assert re.search(r"try again in\s*(\d+(?:\.\d+)?)\s*(s|ms|seconds?)", message)

    async def test_what_is_left_is_never_less_than_nothing(self):
        fault = (await not_admitted(reached(Limit.TOKENS_PER_DAY, left=-5))).fault
        assert " 0 left" in fault.message

    async def test_a_request_larger_than_the_limit_is_told_that_waiting_does_not_help(self):
        fault = (await not_admitted(reached(Limit.TOKENS_PER_MINUTE, wait=None, allowed=1_000, asked=5_000))).fault
        assert "5,000 tokens at once" in fault.message
        assert "1,000" in fault.message
        assert "max_tokens" in fault.message
        assert fault.should_retry is False
        assert b"x-should-retry: false" in fault_lines(fault)
        assert b"Retry-After: " in fault_lines(fault)

    @pytest.mark.parametrize(
        ("per", "words"),
        [
            (Period.DAY, "today's budget of 25 USD (0.5 USD left); it starts again with the next period"),
            (Period.MONTH, "this month's budget of 25 USD (0.5 USD left); it starts again with the next period"),
            (Period.TOTAL, "the budget of 25 USD (0.5 USD left); the operator can raise it"),
        ],
    )
    async def test_a_budget_that_is_used_up_says_which_and_how_much(self, per, words):
        answer = reached(Limit.BUDGET, wait=None, allowed=25_000_000_000, left=500_000_000, asked=600_000_000)
        fault = (await not_admitted(answer, limits=Limits(budget_nusd=25_000_000_000, budget_per=per))).fault
        assert words in fault.message
        assert fault.should_retry is False
        assert b"Retry-After: 86400\r\n" in fault_lines(fault)

    @pytest.mark.parametrize("per", list(Period))
    async def test_a_request_that_no_period_s_budget_covers_is_told_to_shrink_and_not_to_wait(self, per):
        answer = LimitReached(Limit.BUDGET, 10**9, 10**9, 2 * 10**9, None, REMAINING, per)
        fault = (await not_admitted(answer)).fault
        assert fault.message == (
            "This request may cost 2 USD, more than the whole budget of 1 USD; "
            "send a shorter prompt or a smaller `max_tokens`."
        )
        assert (fault.code, fault.should_retry) == ("insufficient_quota", False)

    async def test_a_budget_that_comes_back_says_when(self):
        fault = (await not_admitted(reached(Limit.BUDGET, wait=90_000))).fault
        assert (fault.retry_after_ms, fault.should_retry) == (90_000, False)
