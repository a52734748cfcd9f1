"""The pages of keys: make one and see it once, replace one with a grace, revoke one for good."""

from typing import Final
from urllib.parse import urlencode

import orjson
from aiohttp import web

from proxy.accounts import ApiKey
from proxy.admin.refused import OperationRefused, Reason
from proxy.dashboard.api import milliseconds
from proxy.dashboard.frame import Frame, Visit, redirect

_HERE: Final = "Keys"


def key_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/keys", frame.page(_choose)),
        web.post("/accounts/{account}/keys", frame.page(_create)),
        web.get("/keys/{key_id}", frame.page(_show)),
        web.post("/keys/{key_id}/rotate", frame.page(_rotate)),
        web.post("/keys/{key_id}/revoke", frame.page(_revoke)),
    ]


async def _choose(visit: Visit) -> web.Response:
    return await _list(visit, visit.me.account or visit.query["account"])


async def _list(
    visit: Visit,
    account: str,
    refused: OperationRefused | None = None,
    new_key: str = "",
    replaced: ApiKey | None = None,
) -> web.Response:
    records = visit.frame.gate.desk.records
    return visit.show(
        "keys.html",
        _HERE,
        refused=refused,
        account=account,
        accounts=[account.name for account in await records.accounts()] if visit.me.is_operator else [],
        keys=await visit.operations.keys(account) if account else [],
        models=[model.id for model in visit.catalog.enabled()],
        typed={"name": visit.form["name"], "expires": visit.form["expires"], "models": visit.chosen.get("models", [])},
        new_key=new_key,
        curl=_curl(visit, new_key) if new_key else "",
        replaced=replaced,
    )


async def _create(visit: Visit) -> web.Response:
    account, expires = visit.request.match_info["account"], visit.form["expires"]
    try:
        minted = await visit.operations.create_key(
            account,
            name=visit.form["name"],
            lifetime_ms=milliseconds("good for", expires) if expires else None,
            models=visit.chosen.get("models") or None,
        )
    except OperationRefused as refused:
        return await _list(visit, account, refused)
    return await _list(visit, account, new_key=minted.key)


async def _show(visit: Visit, refused: OperationRefused | None = None) -> web.Response:
    key = await visit.operations.key(visit.request.match_info["key_id"])
    return visit.show(
        "key.html",
        _HERE,
        refused=refused,
        key=key,
        good=key.good(visit.frame.gate.desk.now_ms),
    )


async def _rotate(visit: Visit) -> web.Response:
    try:
        grace = milliseconds("stays good for", visit.form["grace"])
        rotated = await visit.operations.rotate_key(visit.request.match_info["key_id"], grace)
    except OperationRefused as refused:
        return await _show(visit, refused)
    new = rotated.minted
    return await _list(visit, new.record.account, new_key=new.key, replaced=rotated.replaced)


async def _revoke(visit: Visit) -> web.Response:
    if visit.form["sure"] != "yes":
        unsure = OperationRefused(Reason.MALFORMED, "Nothing was revoked: tick the box to say that you mean this key.")
        return await _show(visit, unsure)
    key = await visit.operations.revoke_key(visit.request.match_info["key_id"])
    return redirect(f"/keys?{urlencode({'account': key.account, 'done': 'revoked'})}")


def _curl(visit: Visit, key: str) -> str:
    """Return a command that works as it is pasted: nothing in it can end the quotes it stands in."""
    model = next((model.id for model in visit.catalog.enabled()), "")
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return (
        f"curl {visit.frame.surroundings.api_url}/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d '{orjson.dumps(body).decode()}'"
    )
