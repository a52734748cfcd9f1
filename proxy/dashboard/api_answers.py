"""The forms of what the admin API answers, for its OpenAPI document; the documents themselves are made in
`proxy/admin/`, and a test holds the two together.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from proxy.dashboard.state import NearLimit, RouteState


class LimitState(Struct):
    """One limit and its use."""

    limit: int
    used: int
    remaining: int
    resets_at: str | None
    held: int = 0


class BudgetState(Struct):
    """One budget in USD, as decimal text."""

    limit_usd: str
    spent_usd: str
    resets_at: str | None
    per: Literal["day", "month", "total"]
    held_usd: str = "0"


class AccountAnswer(Struct):
    """An account as it is now."""

    account: str
    plan: str
    plan_is_default: bool
    disabled: bool
    created: str
    limits: dict[str, LimitState]
    budget: BudgetState | None
    more_budgets: list[BudgetState]
    in_flight: int
    overrides: dict[str, int | str | None]
    problem: str | None


class AccountsAnswer(Struct):
    """Every account that may be seen."""

    accounts: list[AccountAnswer]


class KeyAnswer(Struct):
    """A key by its hint."""

    key_id: str
    account: str
    name: str
    hint: str
    created: str
    expires: str | None
    revoked: str | None
    models: list[str] | None
    last_used: str | None


class KeysAnswer(Struct):
    """Every key of an account."""

    keys: list[KeyAnswer]


class NewKeyAnswer(Struct):
    """A key just made; `key` is shown this once."""

    key_id: str
    account: str
    key: str
    name: str
    expires: str | None
    models: list[str] | None


class RotatedAnswer(NewKeyAnswer):
    """The new key, and what becomes of the old one."""

    replaces: KeyAnswer


class TokenAnswer(Struct):
    """A dashboard token by its id."""

    token_id: str
    account: str
    name: str
    created: str
    expires: str | None
    revoked: str | None


class TokensAnswer(Struct):
    """Every dashboard token of an account."""

    tokens: list[TokenAnswer]


class NewTokenAnswer(TokenAnswer):
    """A dashboard token just made; `token` is shown this once."""

    token: str


class SumsAnswer(Struct):
    """What a group of requests has used, with the columns that were asked for."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_usd: str
    estimated_requests: int
    account: str | None = None
    key: str | None = None
    model: str | None = None
    day: str | None = None
    hour: str | None = None


class UsageAnswer(Struct):
    """Sums by group, and all of them together."""

    rows: list[SumsAnswer]
    total: SumsAnswer


class QualityAnswer(SumsAnswer, kw_only=True):
    """The same with how the latest requests went, of which `looked_at` were among the latest of all."""

    looked_at: int
    failed: int
    ttft_ms: int | None


class PointAnswer(Struct):
    """A minute, an hour or a day by its beginning."""

    at: str
    requests: int
    cost_usd: str


class OverviewAnswer(Struct):
    """The last hour, day or month; `of_latest`: so many requests at most are looked at to say how they went."""

    window: Literal["hour", "day", "month"]
    total: QualityAnswer
    of_latest: int
    by_model: list[QualityAnswer]
    by_account: list[QualityAnswer]
    points: list[PointAnswer]


class RequestAnswer(Struct):
    """One row of the ledger."""

    request_id: str
    upstream_id: str | None
    account: str
    key_id: str
    endpoint: str
    model: str
    provider: str
    upstream_model: str
    stream: bool
    status: int
    ending: str
    usage_source: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_pusd: int
    cost_usd: str
    price_prompt: str
    price_completion: str
    price_input_cache_read: str | None
    attempts: int
    started_at: str
    ttft_ms: int | None
    duration_ms: int
    metadata: Any


class RequestsAnswer(Struct):
    """Some rows of the ledger, the latest first; `next` asks for the following ones, null: there are none."""

    requests: list[RequestAnswer]
    next: str | None


class AuditAnswer(Struct):
    """One change that somebody asked for."""

    at: str
    person: str
    action: str
    account: str
    subject: str
    detail: Any
    outcome: str


class AuditLogAnswer(Struct):
    """The latest changes first."""

    entries: list[AuditAnswer]
    next: str | None


class ModelsAnswer(Struct):
    """The catalog."""

    models: list[dict[str, Any]]


class RoutesAnswer(Struct):
    """Every route of the catalog."""

    routes: list[RouteState]


class RefusedAnswer(Struct):
    """How often requests were refused in an hour, by reason."""

    hour: str
    refused: dict[str, int]


class LimitsAnswer(Struct):
    """Who is near a limit, and, for operators, how often requests were refused since the start, by reason."""

    near: list[NearLimit]
    refused: dict[str, int] | None
    refused_by_hour: list[RefusedAnswer] | None


class ReloadAnswer(Struct):
    """The last time that the configuration was read again."""

    at: str
    success: bool
    told: str


class PlansAnswer(Struct):
    """The plans of the configuration."""

    plans: dict[str, dict[str, Any]]
    default_plan: str


class CheckAnswer(Struct):
    """One check of the ledger."""

    name: str
    ok: bool
    detail: str


class VerifyAnswer(Struct):
    """Whether the ledger and the counters of limits agree."""

    ok: bool
    rows: int
    checks: list[CheckAnswer]


class SystemAnswer(Struct):
    """How the gateway is."""

    version: str
    ready: bool
    reasons: list[str]
    last_reload: ReloadAnswer | None
    figures: Annotated[dict[str, float], Meta(description="metrics of these names, added up over all workers")]


class ConfigurationAnswer(Struct):
    """Every key that is set with its value; whatever may be a secret is hidden."""

    configuration: dict[str, str]


class ErrorBody(Struct):
    """What went wrong, and what to do."""

    message: str
    type: str


class ErrorAnswer(Struct):
    """Any refusal."""

    error: ErrorBody
