"""Call → reservation: how much the request is going to use, and whether the account has that much left.

The words of a refusal are here; the estimate is `proxy/holds.py`'s, the decision the store's, in one atomic call.
"""

from collections.abc import Callable
from typing import Final

from proxy.accounts import Account, Identity
from proxy.call import Call
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
    LimitStore,
    Period,
    Remaining,
    Reservation,
)
from proxy.pricing import format_usd

ATTEMPTS: Final = 3
"""How often an account may change under us before we give up: each change costs one more round-trip."""
_PUSD_PER_NUSD: Final = 1_000
_A_DAY_MS: Final = 86_400_000


class NotAdmitted(Refusal):
    """The store said no, or nothing. `remaining` is what is left of the per-minute limits, for the headers."""

    def __init__(
        self,
        fault: Fault,
        remaining: Remaining | None = None,
        *,
        key_is_bad: bool = False,
        unanswered: tuple[Hold, Limits] | None = None,
    ) -> None:
        """Keep what the answer needs; `key_is_bad` means that what was remembered of the key is wrong, `unanswered` is
        a hold that the store may have taken although nobody heard of it.
        """
        super().__init__(fault)
        self.remaining = remaining
        self.key_is_bad = key_is_bad
        self.unanswered = unanswered


async def admit(
    call: Call, identity: Identity, store: LimitStore, limits_of: Callable[[Account], Limits], *, typical: int
) -> tuple[Reservation, Identity, Limits]:
    """Take the call's hold; returns it with the identity as the store knows it now, and the limits that were applied.
    `typical` is the output to expect of a call that names no maximum.

    Raises `NotAdmitted` (401, 403, 429, or 503 if the store is away).
    """
    trace = call.trace
    if trace is not None:
        trace.asks_admission()
    for _ in range(ATTEMPTS):
        limits = limits_of(identity.account)
        hold = hold_for(call, limits, typical)
        try:
            admission = await store.admit(identity, limits, hold)
        except StoreUnavailable as away:
            raise NotAdmitted(_store_away(), unanswered=(hold, limits) if away.may_have_run else None) from None
        if isinstance(admission, Reservation):
            if trace is not None:
                trace.admitted()
            return admission, identity, limits
        if not isinstance(admission, AccountChanged):
            raise _refused(admission, limits)
        identity = Identity(admission.account, identity.key, identity.digest)
    raise NotAdmitted(_store_away())


def _refused(admission: Admission, limits: Limits) -> NotAdmitted:
    if isinstance(admission, KeyRefused):
        if admission.state is KeyState.DISABLED:
            message = "This account is disabled; ask the operator of this gateway."
            fault = Fault(403, ErrorType.PERMISSION, "account_disabled", message, reason="permission")
        else:
            message = "The API key is not valid; check it, or ask for a new one."
            fault = Fault(401, ErrorType.AUTHENTICATION, "invalid_api_key", message, reason="authentication")
        return NotAdmitted(fault, key_is_bad=True)
    assert isinstance(admission, LimitReached)  # noqa: S101 - the other members of the union were handled
    return NotAdmitted(_limit_fault(admission, limits), admission.remaining)


def _limit_fault(reached: LimitReached, limits: Limits) -> Fault:
    wait = reached.retry_after_ms
    reason = reached.limit.value
    if reached.limit is Limit.BUDGET:
        return Fault(
            429, ErrorType.RATE_LIMIT, "insufficient_quota", _budget_sentence(reached, limits),
            retry_after_ms=_A_DAY_MS if wait is None else wait, should_retry=False, reason=reason,
        )  # fmt: skip
    if wait is None:
        message = (
            f"This request asks for {reached.asked:,} tokens at once, more than the account's {reason} of "
            f"{reached.allowed:,}; send a shorter prompt or a smaller `max_tokens`."
        )
        return Fault(
            429,
            ErrorType.RATE_LIMIT,
            "rate_limit_exceeded",
            message,
            retry_after_ms=_A_DAY_MS,
            should_retry=False,
            reason=reason,
        )
    code = "concurrency_limit" if reached.limit is Limit.CONCURRENT_REQUESTS else "rate_limit_exceeded"
    message = (
        f"Rate limit reached: {reason} is {reached.allowed:,}, {max(reached.left, 0):,} left, "
        f"{reached.asked:,} asked for. Please try again in {_wait_words(wait)}."
    )
    return Fault(429, ErrorType.RATE_LIMIT, code, message, retry_after_ms=wait, reason=reason)


def _budget_sentence(reached: LimitReached, limits: Limits) -> str:
    per = reached.period or limits.budget_per
    if reached.asked > reached.allowed:
        asked, allowed = (format_usd(value * _PUSD_PER_NUSD) for value in (reached.asked, reached.allowed))
        return (
            f"This request may cost {asked} USD, more than the whole budget of {allowed} USD; "
            "send a shorter prompt or a smaller `max_tokens`."
        )
    period = {Period.DAY: "today's ", Period.MONTH: "this month's ", Period.TOTAL: "the "}[per]
    after = "it starts again with the next period" if per is not Period.TOTAL else "the operator can raise it"
    allowed, left = (format_usd(max(value, 0) * _PUSD_PER_NUSD) for value in (reached.allowed, reached.left))
    return (
        f"This request may cost more than what is left of {period}budget of {allowed} USD ({left} USD left); {after}."
    )


def _wait_words(milliseconds: int) -> str:
    """Write a wait as clients look for it (`12s`, `250ms`), never shorter than it is."""
    return f"{milliseconds}ms" if milliseconds < 1_000 else f"{-(-milliseconds // 1_000)}s"  # noqa: PLR2004


def _store_away() -> Fault:
    message = "Usage limits cannot be checked at the moment; try again shortly."
    return Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=1_000, reason="store_unavailable")
