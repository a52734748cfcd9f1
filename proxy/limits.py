"""What an account may use, what one request holds of it, and what the store answered.

Only values and the seam to the store (`LimitStore`); the arithmetic itself runs inside the store, in one atomic
script, so that any number of gateways share one truth. Budgets are integer nano-dollars here (1 nUSD = 1,000 pUSD),
rounded up once per request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from proxy.accounts import Account, ApiKey, Identity


class Limit(StrEnum):
    """The limits of a plan, by the names that configuration, refusals and metrics use."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    TOKENS_PER_MINUTE = "tokens_per_minute"
    CONCURRENT_REQUESTS = "concurrent_requests"
    TOKENS_PER_DAY = "tokens_per_day"
    BUDGET = "budget"


class Period(StrEnum):
    """How long a budget lasts; days and months are UTC, by the store's clock."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


class OnBudgetEnd(StrEnum):
    """What becomes of a stream that has used up its hold when there is no room for more: it may go on for another
    hold, or it ends.
    """

    FINISH = "finish"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one account; None means that this one is not limited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_day: int | None = None
    budget_nusd: int | None = None
    budget_per: Period = Period.TOTAL
    more_budgets: tuple[tuple[Period, int], ...] = ()
    """Budgets in nUSD of other periods, which hold beside the first."""
    on_budget_end: OnBudgetEnd = OnBudgetEnd.FINISH

    @property
    def budgets(self) -> tuple[tuple[Period, int], ...]:
        """Every budget in nUSD, each of another period."""
        first = () if self.budget_nusd is None else ((self.budget_per, self.budget_nusd),)
        return first + self.more_budgets


class Hold(Struct, frozen=True, gc=False):
    """What a request takes in advance: at most this much is used unless the estimate was wrong."""

    request_id: str
    tokens: int
    nusd: int


class Remaining(Struct, frozen=True, gc=False):
    """What is left of the two per-minute limits after this request; None where there is no such limit. Resets in ms."""

    requests_limit: int | None = None
    requests: int = 0
    requests_reset_ms: int = 0
    tokens_limit: int | None = None
    tokens: int = 0
    tokens_reset_ms: int = 0


class Reservation(Struct, frozen=True, gc=False):
    """A request that was let in: its hold stays taken until it is settled or its lease runs out."""

    hold: Hold
    account: str
    remaining: Remaining
    tokens_left: int = -1
    """What is then left of the day's tokens; -1: no such limit, or not told."""
    nusd_left: int = -1
    """What is then left of the budget; -1 as above."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Refused: nothing was taken. `retry_after_ms` is how long to wait for this to pass; None: waiting alone will not
    help.
    """

    limit: Limit
    allowed: int
    """The limit's value (tokens, requests, or nUSD)."""
    left: int
    asked: int
    retry_after_ms: int | None
    remaining: Remaining
    period: Period | None = None
    """Of a budget: which one."""


class KeyState(StrEnum):
    """Why a key is not good (any more)."""

    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """The key or its account was refused by the store at admission."""

    state: KeyState


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The gateway's copy of the account was old; here is the record as it is now. Nothing was taken: ask again with
    it.
    """

    account: Account


Admission = Reservation | LimitReached | KeyRefused | AccountChanged


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit as `accounts show` prints it; times in Unix milliseconds."""

    limit: int
    used: int
    remaining: int
    resets_ms: int | None
    held: int = 0
    """What requests under way hold of it; it is neither used nor left."""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """One budget as `accounts show` prints it, in nUSD; what is held is the same for all budgets of an account."""

    period: Period
    limit_nusd: int
    spent_nusd: int
    resets_ms: int | None


@dataclass(frozen=True, slots=True)
class AccountUse:
    """How much of its limits an account has used at this moment; money in nUSD."""

    limits: dict[Limit, LimitUse]
    spent_nusd: int
    """In the period of the first budget."""
    held_nusd: int
    budget_resets_ms: int | None
    in_flight: int
    budgets: tuple[BudgetUse, ...] = ()

    def remaining(self, now_ms: int) -> Remaining:
        """Return what is left of the limits per minute, with the waits counted from `now_ms`."""
        requests, tokens = (self.limits.get(limit) for limit in (Limit.REQUESTS_PER_MINUTE, Limit.TOKENS_PER_MINUTE))
        return Remaining(*_left(requests, now_ms), *_left(tokens, now_ms))


def _left(use: LimitUse | None, now_ms: int) -> tuple[int | None, int, int]:
    if use is None:
        return None, 0, 0
    return use.limit, use.remaining, max(0, (use.resets_ms or now_ms) - now_ms)


class LimitStore(Protocol):
    """The shared truth about limits. Every call raises `StoreUnavailable` when the store cannot be asked."""

    async def admit(self, identity: Identity, limits: Limits, hold: Hold) -> Admission:
        """Check the key and every limit, and take the hold, all or nothing, in one round-trip; idempotent per request
        id.
        """

    async def settle(
        self, account: str, hold: Hold, tokens: int, nusd: int, limits: Limits, *, maybe: Hold | None = None
    ) -> None:
        """Give the hold back and charge what was used; a second settle of the same request changes nothing.

        `limits` are the account's, because the token rate is corrected by what the hold was wrong by. `maybe` is
        another hold that the request may have instead: the answer to its top-up was not heard.
        """

    async def renew(self, account: str, holds: list[Hold]) -> None:
        """Extend the leases of requests that are still running; holds that a request only may have are no harm."""

    async def top_up(self, account: str, has: Hold, wants: Hold, limits: Limits) -> Limit | None:
        """Let a running request hold what it wants instead of what it has; returns the limit that has no room for it,
        and then nothing has changed. Idempotent: it may be asked again, when the answer was not heard.
        """

    async def use(self, account: str, limits: Limits) -> AccountUse:
        """Tell how much of `limits` the account has used; frees leases that ran out on the way."""


class KeyStore(Protocol):
    """The records of accounts and keys. Every call raises `StoreUnavailable` when the store cannot be asked."""

    async def identify(self, account: str, digest: str) -> Identity | None:
        """Return the key's identity, revoked and expired keys and disabled accounts included; None if it does not
        exist.
        """

    async def create_account(self, account: Account) -> bool:
        """Store a new account; False if the name is taken."""

    async def account(self, name: str) -> Account | None:
        """Return one account's record."""

    async def accounts(self) -> list[Account]:
        """Return every account, by name."""

    async def change_account(self, account: Account) -> Account | None:
        """Store `plan`, `disabled` and `overrides` under a new version, which the next admission of every gateway
        sees; None: no such account.
        """

    async def create_key(self, key: ApiKey, digest: str) -> None:
        """Store a new key under its digest."""

    async def lend_key(self, key: ApiKey, digest: str) -> None:
        """Let another digest stand for a key until `key.expires_ms`; it is listed nowhere, and gone afterwards."""

    async def keys(self, account: str) -> list[ApiKey]:
        """Return every key of the account, oldest first."""

    async def key(self, key_id: str) -> ApiKey | None:
        """Return one key's record by its id."""

    async def change_key(
        self, key_id: str, *, revoked_ms: int | None = None, expires_ms: int | None = None
    ) -> ApiKey | None:
        """Revoke a key or set its expiry; holds from the very next request of every gateway. None: no such key."""


UNLIMITED: Final = "none"
"""The override that lifts a limit for one account, whatever its plan says."""

OVERRIDABLE: Final = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests",
    "tokens_per_day",
    "budget_nusd",
    "budget_per",
)
"""The names in `Account.overrides`. A limit is a whole number of at least 1 (the budget in nUSD) or `UNLIMITED`;
`budget_per` is a `Period` and stands beside a `budget_nusd` that is a number; it is then the account's only budget.
An absent name goes by the plan."""

_PlanT = TypeVar("_PlanT")


class UnknownPlan(Exception):  # noqa: N818 - the name of a state
    """The account's plan is not in the configuration: what it may use is not known, so nothing may be admitted."""

    def __init__(self, account: str, plan: str) -> None:
        super().__init__(
            f"account {account!r} is on the plan {plan!r}, which the configuration does not have: add the plan, "
            f"or choose another with `aion-proxy accounts set {account} --plan …`"
        )
        self.account = account
        self.plan = plan


def plan_of(account: Account, plans: Mapping[str, _PlanT], default_plan: str) -> _PlanT:
    """Return the entry of `plans` that the account is on (`default_plan` if it names none); raises `UnknownPlan`."""
    name = account.plan or default_plan
    try:
        return plans[name]
    except KeyError:
        raise UnknownPlan(account.name, name) from None


def limits_of(account: Account, plan: Limits) -> Limits:
    """Return the limits in force: the plan's, each replaced by the account's own where it has one.

    Raises ValueError for an override that this version cannot read: a limit that is not understood is not lifted.
    """
    own = account.overrides
    if not own:
        return plan
    strange = own.keys() - set(OVERRIDABLE)
    if strange:
        raise ValueError(f"account {account.name!r} has limits that are not known here: {', '.join(sorted(strange))}")
    return Limits(
        requests_per_minute=_own(account, "requests_per_minute", plan.requests_per_minute),
        tokens_per_minute=_own(account, "tokens_per_minute", plan.tokens_per_minute),
        concurrent_requests=_own(account, "concurrent_requests", plan.concurrent_requests),
        tokens_per_day=_own(account, "tokens_per_day", plan.tokens_per_day),
        budget_nusd=_own(account, "budget_nusd", plan.budget_nusd),
        budget_per=Period(str(own.get("budget_per", plan.budget_per))),
        more_budgets=() if "budget_nusd" in own else plan.more_budgets,
        on_budget_end=plan.on_budget_end,
    )


def _own(account: Account, name: str, of_plan: int | None) -> int | None:
    value = account.overrides.get(name, of_plan)
    if value is None or value == UNLIMITED:
        return None
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"account {account.name!r} has {name} = {value!r}; set it anew with `aion-proxy accounts set`")
    return value
