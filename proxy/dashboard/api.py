"""The operations of the admin API: from a checked question to a document. Which URL is which stands in the table.

Nothing of HTTP here but names; who asks and what was asked come in ready, refusals go out as `OperationRefused`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy import __version__
from proxy.admin import documents
from proxy.admin.accounts import Changes
from proxy.admin.documents import Document
from proxy.admin.ledger_check import counters_check, verify_document
from proxy.admin.overrides import overrides_of, read_budget
from proxy.admin.refused import OperationRefused, Reason
from proxy.admin.usage import audit_document, request_document, token_document, usage_document
from proxy.catalog import models_body
from proxy.dashboard import api_answers as answers
from proxy.dashboard import api_asks as asks
from proxy.dashboard.configured import configured
from proxy.dashboard.looking import (
    Looking,
    audit_after,
    columns,
    place_after,
    read_audit_place,
    read_filter,
    read_place,
)
from proxy.dashboard.operations import Operations
from proxy.dashboard.overview import overview, overview_document
from proxy.dashboard.state import figures, near_limits, routes
from proxy.dashboard.watching import Watching
from proxy.health import Reloaded
from proxy.ledger.database import Ledger
from proxy.ledger.queries import Selection
from proxy.ledger.verify import checks, count
from proxy.limits import OVERRIDABLE
from proxy.quantities import parse_duration

_BUDGET_FIELDS: Final = ("budget_nusd", "budget_per")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the API knows of the gateway besides its stores."""

    readiness: Callable[[], tuple[bool, list[str]]]
    store_url: str
    api_url: str
    """Where clients send their requests, up to its version."""
    last_reload: Callable[[], Reloaded | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Ask:
    """One question: by whom, about what, and what it said; body and query are of the route's types."""

    operations: Operations
    surroundings: Surroundings
    path: Mapping[str, str]
    query: Any
    body: Any
    watching: Watching

    @property
    def looking(self) -> Looking:
        """What the ledger may be asked."""
        return Looking(self.operations)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API, for the router and for the OpenAPI document."""

    method: str
    path: str
    what: str
    work: Callable[[Ask], Awaitable[Document]]
    answer: type[Struct]
    body: type[Struct] | None = None
    query: type[Struct] = asks.NoQuery
    status: int = 200


async def _list_accounts(ask: Ask) -> Document:
    return documents.accounts_document(await ask.operations.accounts())


async def _create_account(ask: Ask) -> Document:
    return documents.account_document(await ask.operations.create_account(ask.body.account, ask.body.plan))


async def _show_account(ask: Ask) -> Document:
    return documents.account_document(await ask.operations.account(ask.path["account"]))


async def _change_account(ask: Ask) -> Document:
    given = {name: value for name, value in msgspec.structs.asdict(ask.body).items() if value is not msgspec.UNSET}
    budget = given.get("budget_usd")
    try:
        amount = None if budget is None else read_budget(budget)
    except ValueError as wrong:
        raise OperationRefused(Reason.MALFORMED, f"budget_usd: {wrong}") from None
    limits: dict[str, int | str] = {
        name: given[name] for name in OVERRIDABLE if name not in _BUDGET_FIELDS and name in given
    }
    overrides = overrides_of(limits, amount, given.get("budget_per"))
    changes = Changes(given.get("plan"), given["default_plan"], overrides)
    return documents.account_document(await ask.operations.change_account(ask.path["account"], changes))


async def _disable_account(ask: Ask) -> Document:
    return documents.account_document(await ask.operations.switch_account(ask.path["account"], disabled=True))


async def _enable_account(ask: Ask) -> Document:
    return documents.account_document(await ask.operations.switch_account(ask.path["account"], disabled=False))


async def _list_keys(ask: Ask) -> Document:
    return documents.keys_document(await ask.operations.keys(ask.path["account"]))


async def _create_key(ask: Ask) -> Document:
    minted = await ask.operations.create_key(
        ask.path["account"],
        name=ask.body.name,
        lifetime_ms=None if ask.body.expires is None else milliseconds("expires", ask.body.expires),
        models=ask.body.models,
    )
    return documents.minted_key_document(minted)


async def _show_key(ask: Ask) -> Document:
    return documents.key_document(await ask.operations.key(ask.path["key_id"]))


async def _revoke_key(ask: Ask) -> Document:
    return documents.key_document(await ask.operations.revoke_key(ask.path["key_id"]))


async def _rotate_key(ask: Ask) -> Document:
    rotated = await ask.operations.rotate_key(ask.path["key_id"], milliseconds("grace", ask.body.grace))
    return documents.rotated_key_document(rotated)


async def _list_tokens(ask: Ask) -> Document:
    return {"tokens": list(map(token_document, await ask.operations.tokens(ask.path["account"])))}


async def _create_token(ask: Ask) -> Document:
    lifetime = None if ask.body.expires is None else milliseconds("expires", ask.body.expires)
    token, secret = await ask.operations.create_token(ask.path["account"], name=ask.body.name, lifetime_ms=lifetime)
    return {**token_document(token), "token": secret}


async def _revoke_token(ask: Ask) -> Document:
    return token_document(await ask.operations.revoke_token(ask.path["token_id"]))


async def _overview(ask: Ask) -> Document:
    return overview_document(await overview(ask.looking, ask.query.window))


async def _usage(ask: Ask) -> Document:
    by, chosen = columns(ask.query.by), selection(ask)
    return usage_document(by, await ask.looking.sums(chosen, by))


async def _requests(ask: Ask) -> Document:
    chosen = read_filter(ask.looking, msgspec.structs.asdict(ask.query))
    found = await ask.looking.requests(chosen, ask.query.count, read_place(ask.query.before))
    return {"requests": list(map(request_document, found)), "next": place_after(found, ask.query.count)}


async def _request(ask: Ask) -> Document:
    return request_document(await ask.looking.request(ask.path["request_id"]))


async def _verify(ask: Ask) -> Document:
    ask.operations.person.must_be_operator("have the ledger verified")
    url = ask.surroundings.store_url

    def verify(ledger: Ledger) -> Document:
        with ledger.reading() as connection:
            rows, found = count(connection), list(checks(connection))
        found.append(counters_check(ledger, nullcontext(url)))
        return verify_document(found, rows)

    return await ask.operations.desk.ledger.use(verify)


async def _audit(ask: Ask) -> Document:
    entries = await ask.operations.audit(ask.query.account, ask.query.count, read_audit_place(ask.query.before))
    return {"entries": list(map(audit_document, entries)), "next": audit_after(entries, ask.query.count)}


async def _models(ask: Ask) -> Document:
    listing: Document = msgspec.json.decode(models_body(ask.operations.desk.configuration().catalog))
    return {"models": listing["models"]}


async def _routes(ask: Ask) -> Document:
    ask.operations.person.must_be_operator("see where models run")
    found = routes(ask.operations.desk.configuration().catalog, await ask.watching.samples())
    return {"routes": msgspec.to_builtins(found)}


async def _limits(ask: Ask) -> Document:
    near = near_limits(await ask.operations.accounts())
    refusals = await ask.watching.refusals() if ask.operations.person.is_operator else None
    return {
        "near": msgspec.to_builtins(near),
        "refused": None if refusals is None else dict(refusals.since_start),
        "refused_by_hour": None
        if refusals is None
        else [
            {"hour": documents.rfc3339(hour * 1_000), "refused": dict(counts)}
            for hour, counts in refusals.by_hour.items()
        ],
    }


async def _plans(ask: Ask) -> Document:
    ask.operations.person.must_be_operator("see the plans")
    settings = ask.operations.desk.configuration().settings
    plans = settings.limits_by_plan()
    return {"plans": msgspec.to_builtins(plans), "default_plan": settings.default_plan}


async def _system(ask: Ask) -> Document:
    ask.operations.person.must_be_operator("see how the gateway is")
    ready, reasons = ask.surroundings.readiness()
    reload = ask.surroundings.last_reload()
    return {
        "version": __version__,
        "ready": ready,
        "reasons": reasons,
        "last_reload": reload
        and {
            "at": documents.rfc3339(int(reload.at * 1_000)),
            "success": reload.success,
            "told": reload.told,
        },
        "figures": {name: value for name, value in figures(await ask.watching.samples()).items() if isfinite(value)},
    }


async def _configuration(ask: Ask) -> Document:
    ask.operations.person.must_be_operator("see the configuration")
    return {"configuration": dict(configured(ask.operations.desk.configuration().settings))}


def selection(ask: Ask) -> Selection:
    """Read which rows are meant."""
    looking, query = ask.looking, ask.query
    times = (looking.moment(query.since, "since"), looking.moment(query.until, "until"))
    return Selection(ask.operations.person.scope(query.account), *times)


def milliseconds(name: str, text: str) -> int:
    """Read a duration that somebody wrote."""
    try:
        return round(parse_duration(text) * 1_000)
    except ValueError as wrong:
        raise OperationRefused(Reason.MALFORMED, f"{name}: {wrong}") from None


_ACCOUNT: Final = "/accounts/{account}"
ROUTES: Final = (
    Route("GET", "/accounts", "List the accounts", _list_accounts, answers.AccountsAnswer),
    Route("POST", "/accounts", "Make an account", _create_account, answers.AccountAnswer, asks.NewAccount, status=201),
    Route("GET", _ACCOUNT, "Show an account, its limits and their use", _show_account, answers.AccountAnswer),
    Route("PATCH", _ACCOUNT, "Change plan and limits", _change_account, answers.AccountAnswer, asks.AccountChange),
    Route("POST", f"{_ACCOUNT}/disable", "Refuse every request", _disable_account, answers.AccountAnswer),
    Route("POST", f"{_ACCOUNT}/enable", "Let an account in again", _enable_account, answers.AccountAnswer),
    Route("GET", f"{_ACCOUNT}/keys", "List the keys of an account", _list_keys, answers.KeysAnswer),
    Route("POST", f"{_ACCOUNT}/keys", "Make a key", _create_key, answers.NewKeyAnswer, asks.NewKey, status=201),
    Route("GET", "/keys/{key_id}", "Show a key by its id", _show_key, answers.KeyAnswer),
    Route("POST", "/keys/{key_id}/revoke", "Revoke a key for good", _revoke_key, answers.KeyAnswer),
    Route(
        "POST", "/keys/{key_id}/rotate", "Replace a key", _rotate_key, answers.RotatedAnswer, asks.Rotation, status=201
    ),
    Route("GET", f"{_ACCOUNT}/tokens", "List the dashboard tokens", _list_tokens, answers.TokensAnswer),
    Route(
        *("POST", f"{_ACCOUNT}/tokens", "Make a dashboard token", _create_token, answers.NewTokenAnswer),
        asks.NewToken,
        status=201,
    ),
    Route("POST", "/tokens/{token_id}/revoke", "Revoke a dashboard token", _revoke_token, answers.TokenAnswer),
    Route(
        *("GET", "/overview", "Look at the last hour, day or month", _overview, answers.OverviewAnswer),
        query=asks.OverviewQuery,
    ),
    Route("GET", "/usage", "Sum up what was used", _usage, answers.UsageAnswer, query=asks.UsageQuery),
    Route("GET", "/requests", "List requests", _requests, answers.RequestsAnswer, query=asks.RequestsQuery),
    Route("GET", "/requests/{request_id}", "Show a request", _request, answers.RequestAnswer),
    Route("POST", "/ledger/verify", "Compare rows, prices, sums and counters", _verify, answers.VerifyAnswer),
    Route("GET", "/audit", "List who changed what", _audit, answers.AuditLogAnswer, query=asks.AuditQuery),
    Route("GET", "/models", "List the models", _models, answers.ModelsAnswer),
    Route("GET", "/routes", "List where the models run, and whether it answers", _routes, answers.RoutesAnswer),
    Route("GET", "/limits", "Say who is near a limit, and what was refused", _limits, answers.LimitsAnswer),
    Route("GET", "/plans", "List the plans", _plans, answers.PlansAnswer),
    Route("GET", "/system", "Say how the gateway is", _system, answers.SystemAnswer),
    Route("GET", "/configuration", "Show the configuration in force", _configuration, answers.ConfigurationAnswer),
)
