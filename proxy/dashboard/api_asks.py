"""What a caller of the admin API may say: bodies and queries as types, which check them and describe them alike."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from proxy.ledger.export import Format

_Limit = Annotated[int, Meta(ge=1, le=10**15)] | Literal["none", "plan"] | UnsetType
_Name = Annotated[str, Meta(max_length=100, description="in your words")]
_Duration = Annotated[str, Meta(description="such as `90d` or `12h`")]
_When = Annotated[str, Meta(description="how long ago, such as `7d`, or a date or time, such as `2026-01-31T08:00Z`")]
_Columns = Annotated[str, Meta(description="what is told apart, of `account,key,model,day,hour`, with commas between")]
_Word = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Account = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="the name of an account")]


class NewAccount(Struct, forbid_unknown_fields=True):
    """An account to be made; `plan` null: the default plan, whatever it is at the time."""

    account: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_]{0,31}$")]
    plan: str | None = None


class AccountChange(Struct, forbid_unknown_fields=True):
    """What is left out stays as it is. A limit is a number, `none` (lifted) or `plan` (back to the plan's)."""

    plan: str | UnsetType = UNSET
    default_plan: bool = False
    requests_per_minute: _Limit = UNSET
    tokens_per_minute: _Limit = UNSET
    concurrent_requests: _Limit = UNSET
    tokens_per_day: _Limit = UNSET
    budget_usd: Annotated[str, Meta(description='decimal text such as "10.00", or `none` or `plan`')] | UnsetType = (
        UNSET
    )
    budget_per: Literal["day", "month", "total"] | UnsetType = UNSET


class NewKey(Struct, forbid_unknown_fields=True):
    """A key to be made. No `expires`: good until revoked; no `models`: good for all."""

    name: _Name = ""
    expires: _Duration | None = None
    models: list[str] | None = None


class Rotation(Struct, forbid_unknown_fields=True):
    """How long the old key stays good; `0s`: not at all."""

    grace: _Duration = "24h"


class TrialRequest(Struct, forbid_unknown_fields=True):
    """A request that is sent to this gateway as one of a key."""

    request: Annotated[dict[str, Any], Meta(description="its body, as the endpoint understands it")]
    endpoint: Literal["chat", "responses"] = "chat"


class NewToken(Struct, forbid_unknown_fields=True):
    """A dashboard token to be made."""

    name: _Name = ""
    expires: _Duration | None = None


class NoQuery(Struct, forbid_unknown_fields=True):
    """No query is understood."""


class UsageQuery(Struct, forbid_unknown_fields=True):
    """Which requests, and how they are told apart."""

    account: _Account | None = None
    since: _When | None = None
    until: _When | None = None
    by: _Columns = "account"


class RequestsQuery(Struct, forbid_unknown_fields=True):
    """Which requests, the latest first; `before` is the `next` of the page before."""

    account: _Account | None = None
    key_id: _Word | None = None
    model: _Word | None = None
    ending: _Word | None = None
    since: _When | None = None
    until: _When | None = None
    before: _Word | None = None
    count: Annotated[int, Meta(ge=1, le=500)] = 50


class ExportQuery(Struct, forbid_unknown_fields=True):
    """Which rows, and how they are written."""

    format: Format
    account: _Account | None = None
    key_id: _Word | None = None
    model: _Word | None = None
    ending: _Word | None = None
    since: _When | None = None
    until: _When | None = None


class AuditQuery(Struct, forbid_unknown_fields=True):
    """Which entries, the latest first; `before` is the `next` of the page before."""

    account: _Account | None = None
    before: _Word | None = None
    count: Annotated[int, Meta(ge=1, le=500)] = 50


class OverviewQuery(Struct, forbid_unknown_fields=True):
    """How long ago it begins."""

    window: Literal["hour", "day", "month"] = "day"
