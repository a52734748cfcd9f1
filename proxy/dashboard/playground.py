"""The playground: one request to this gateway's own API with a key that somebody has, and everything that came back.

The request goes over the API's port like anybody's, so that limits, prices and the ledger see it as any other. The key
is used for that one request and kept nowhere; nothing but the gateway itself can be asked from here.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import msgspec
import orjson
from aiohttp import web

from proxy.accounts import account_of_key
from proxy.admin.refused import OperationRefused, Reason
from proxy.dashboard.frame import Frame, Visit
from proxy.usage_record import UsageRecord

_CHAT: Final = "chat"
_PATHS: Final = {_CHAT: "/chat/completions", "responses": "/responses"}
_LONGEST: Final = 1 << 20
_PATIENCE: Final = aiohttp.ClientTimeout(total=120)
_TRIES: Final = 10
_PAUSE: Final = 0.2
_OK: Final = 200


def playground_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [web.get("/playground", frame.page(_show)), web.post("/playground", frame.page(_ask))]


async def _show(visit: Visit, wrong: str = "", status: int = 200, **found: object) -> web.Response:
    models = [model.id for model in visit.catalog.enabled()]
    nothing = {"raw": "", "answer": "", "answered": None, "row": None}
    return visit.show(
        "playground.html",
        "Playground",
        wrong=wrong,
        status=status,
        models=models,
        endpoints=list(_PATHS),
        **{**nothing, **found},
    )


async def _ask(visit: Visit) -> web.Response:
    form = visit.form
    key, endpoint = form["key"], form["endpoint"] if form["endpoint"] in _PATHS else _CHAT
    account = account_of_key(key)
    if account is None:
        return await _show(visit, "That is no API key of this gateway: it begins with sk-aion-.", 400)
    try:
        visit.me.must_own(account)
    except OperationRefused:
        return await _show(visit, "That key is of another account.", 403)
    if not form["text"]:
        return await _show(visit, "Say something: the request needs a text.", 400)
    streamed = form["stream"] == "yes"
    said = [{"role": "user", "content": form["text"]}]
    body = {"model": form["model"], "stream": streamed, "messages" if endpoint == _CHAT else "input": said}
    status, request_id, raw = await _send(visit.frame.surroundings.api_url + _PATHS[endpoint], key, orjson.dumps(body))
    return await _show(
        visit,
        answered=status,
        raw=raw,
        answer="".join(_texts(raw, streamed=streamed)),
        row=await _row(visit, request_id) if status == _OK else None,
    )


async def _send(url: str, key: str, body: bytes) -> tuple[int, str, str]:
    """Return the status, the request's id and what came."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=_PATIENCE) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            raw = bytearray()
            async for piece in answer.content.iter_any():
                raw += piece
                if len(raw) > _LONGEST:
                    break
            return answer.status, answer.headers.get("x-request-id", ""), raw[:_LONGEST].decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OperationRefused(
            Reason.UNAVAILABLE, f"the API's port did not answer ({type(error).__name__}): the system page says why"
        ) from None


async def _row(visit: Visit, request_id: str) -> UsageRecord | None:
    """Wait a moment for the request's row."""
    for _ in range(_TRIES):
        try:
            return await visit.looking.request(request_id)
        except OperationRefused as refused:
            if refused.reason is not Reason.NOT_FOUND:
                return None
        await asyncio.sleep(_PAUSE)
    return None


def _texts(raw: str, *, streamed: bool) -> Iterator[str]:
    """Take the text of an answer out of whatever came; what has none is shown as it came anyway."""
    lines = raw.splitlines() if streamed else [f"data: {raw}"]
    for line in lines:
        try:
            event: Any = msgspec.json.decode(line.removeprefix("data:").strip())
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict):
            yield from _said(event)


def _said(event: dict[str, Any]) -> Iterator[str]:
    for choice in _objects(event.get("choices")):
        for part in (choice.get("delta"), choice.get("message")):
            if isinstance(part, dict) and isinstance(part.get("content"), str):
                yield part["content"]
    if event.get("type") == "response.output_text.delta" and isinstance(event.get("delta"), str):
        yield event["delta"]
    for item in _objects(event.get("output")):
        yield from (part["text"] for part in _objects(item.get("content")) if isinstance(part.get("text"), str))


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
