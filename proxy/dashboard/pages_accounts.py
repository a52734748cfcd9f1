"""The pages of accounts: the list, one with its limits, and the forms that change them."""

from typing import Final
from urllib.parse import quote

from aiohttp import web

from proxy.admin.accounts import Changes
from proxy.admin.overrides import NONE, PLAN, overrides_of, read_budget
from proxy.admin.refused import OperationRefused, Reason
from proxy.admin.wording import limit_lines
from proxy.dashboard.api import milliseconds
from proxy.dashboard.frame import Frame, Visit, redirect
from proxy.limits import OVERRIDABLE
from proxy.quantities import whole_number

_HERE: Final = "Accounts"
_DEFAULT: Final = "(default)"
_LIMITS: Final = tuple(name for name in OVERRIDABLE if not name.startswith("budget"))


def account_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    one = "/accounts/{account}"
    return [
        web.get("/accounts", frame.page(_list)),
        web.post("/accounts", frame.page(_create)),
        web.get(one, frame.page(_show)),
        web.post(f"{one}/limits", frame.page(_change)),
        web.post(f"{one}/disable", frame.page(_disable)),
        web.post(f"{one}/enable", frame.page(_enable)),
        web.post(f"{one}/tokens", frame.page(_create_token)),
        web.post("/tokens/{token_id}/revoke", frame.page(_revoke_token)),
    ]


async def _list(visit: Visit, refused: OperationRefused | None = None) -> web.Response:
    settings = visit.settings
    return visit.show(
        "accounts.html",
        _HERE,
        refused=refused,
        states=await visit.operations.accounts(),
        plans=sorted(settings.plans),
        default_plan=settings.default_plan,
    )


async def _create(visit: Visit) -> web.Response:
    try:
        state = await visit.operations.create_account(visit.form["account"], visit.form["plan"] or None)
    except OperationRefused as refused:
        return await _list(visit, refused)
    return redirect(f"/accounts/{quote(state.account.name)}?done=made")


async def _show(visit: Visit, refused: OperationRefused | None = None, new_token: str = "") -> web.Response:
    state = await visit.operations.account(visit.request.match_info["account"])
    keys = await visit.operations.keys(state.account.name)
    tokens = await visit.operations.tokens(state.account.name) if visit.me.is_operator else []
    return visit.show(
        "account.html",
        _HERE,
        refused=refused,
        state=state,
        limits=list(limit_lines(state)),
        plans=sorted(visit.settings.plans),
        overridable=_LIMITS,
        tokens=tokens,
        keys=keys,
        good_keys=sum(key.good(visit.frame.gate.desk.now_ms) for key in keys),
        new_token=new_token,
    )


async def _change(visit: Visit) -> web.Response:
    name = visit.request.match_info["account"]
    try:
        await visit.operations.change_account(name, _changes(visit))
    except OperationRefused as refused:
        return await _show(visit, refused)
    return redirect(f"/accounts/{quote(name)}?done=changed")


async def _disable(visit: Visit) -> web.Response:
    state = await visit.operations.switch_account(visit.request.match_info["account"], disabled=True)
    return redirect(f"/accounts/{quote(state.account.name)}?done=disabled")


async def _enable(visit: Visit) -> web.Response:
    state = await visit.operations.switch_account(visit.request.match_info["account"], disabled=False)
    return redirect(f"/accounts/{quote(state.account.name)}?done=enabled")


async def _create_token(visit: Visit) -> web.Response:
    name, expires = visit.request.match_info["account"], visit.form["expires"]
    try:
        lifetime = milliseconds("good for", expires) if expires else None
        _, token = await visit.operations.create_token(name, name=visit.form["name"], lifetime_ms=lifetime)
    except OperationRefused as refused:
        return await _show(visit, refused)
    return await _show(visit, new_token=token)


async def _revoke_token(visit: Visit) -> web.Response:
    token = await visit.operations.revoke_token(visit.request.match_info["token_id"])
    return redirect(f"/accounts/{quote(token.account)}?done=revoked")


def _changes(visit: Visit) -> Changes:
    form = visit.form
    try:
        limits = {name: _limit(name, form[name]) for name in _LIMITS if form[name]}
        budget = read_budget(form["budget_usd"]) if form["budget_usd"] else None
    except ValueError as wrong:
        raise OperationRefused(Reason.MALFORMED, str(wrong)) from None
    plan = form["plan"]
    overrides = overrides_of(limits, budget, form["budget_per"] or None)
    return Changes(None if plan == _DEFAULT else plan or None, plan == _DEFAULT, overrides)


def _limit(name: str, text: str) -> int | str:
    if text in (NONE, PLAN):
        return text
    try:
        return whole_number()(text.replace(",", ""))
    except ValueError as wrong:
        raise ValueError(f"{name.replace('_', ' ')}: {wrong}, or `none` or `plan`") from None
