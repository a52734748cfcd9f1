"""The playground: one request with a key that somebody chose, or pasted, and everything that came back as it comes.

A chosen key is borrowed for that one request, since nothing stored shows a key; a pasted one is kept nowhere. With
scripts the answer is a stream of lines, each a JSON object; without them the same lines make a page at the end.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import orjson
from aiohttp import web

from proxy.accounts import account_of_key
from proxy.admin.refused import OperationRefused, Reason
from proxy.dashboard.answer_text import AnswerText, Heard
from proxy.dashboard.api_server import STATUS
from proxy.dashboard.frame import HEADERS, Frame, Visit
from proxy.dashboard.trial import PATHS, Trial, trial
from proxy.errors import StoreUnavailable
from proxy.pricing import format_usd
from proxy.usage_record import UsageRecord

_HERE: Final = "Playground"
_TRIES: Final = 15
_TRIES_IF_REFUSED: Final = 5
_PAUSE: Final = 0.2
_OK: Final = 200
_COUNTED_BY: Final = {"upstream": "as the provider counted", "estimated": "estimated here", "none": "nothing was used"}
_TOLD: Final = ("status", "raw", "answer", "reasoning", "calls", "words", "row", "wrong")
Line = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request that can be sent."""

    url: str
    key: str
    body: bytes
    streamed: bool


def playground_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/playground", frame.page(_show)),
        web.post("/playground", frame.page(_ask)),
        web.post("/playground/stream", frame.page(_stream)),
    ]


async def _show(visit: Visit, refused: OperationRefused | None = None, lines: list[Line] | None = None) -> web.Response:
    key_id = visit.form["key_id"] or visit.query["key_id"]
    account = visit.me.account or visit.form["account"] or visit.query["account"]
    if not account and key_id:
        account = (await visit.operations.key(key_id)).account
    accounts = [one.name for one in await visit.frame.gate.desk.records.accounts()] if visit.me.is_operator else []
    if not account and len(accounts) == 1:
        account = accounts[0]
    now_ms = visit.frame.gate.desk.now_ms
    told = {name: "".join(str(line[name]) for line in lines or () if name in line) for name in _TOLD}
    return visit.show(
        "playground.html",
        _HERE,
        refused=refused,
        models=[model.id for model in visit.catalog.enabled()],
        endpoints=list(PATHS),
        accounts=accounts,
        account=account,
        keys=[key for key in await visit.operations.keys(account) if key.good(now_ms)] if account else [],
        key_id=key_id,
        told=told,
    )


async def _ask(visit: Visit) -> web.Response:
    """Answer a form that no script has sent: with the whole page, at the end."""
    try:
        wanted = await _wanted(visit)
    except OperationRefused as refused:
        return await _show(visit, refused)
    lines = [line async for line in _lines(visit, wanted)]
    if "status" not in lines[0]:
        return await _show(visit, OperationRefused(Reason.UNAVAILABLE, str(lines[0]["wrong"])))
    return await _show(visit, None, lines)


async def _stream(visit: Visit) -> web.StreamResponse:
    """Answer with lines, each as soon as there is something to show."""
    headers = {**HEADERS, "Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"}
    try:
        wanted = await _wanted(visit)
    except OperationRefused as refused:
        return web.Response(body=_line({"wrong": refused.message}), status=STATUS[refused.reason], headers=headers)
    except StoreUnavailable as away:
        wrong = {"wrong": f"The store cannot be asked: {away.detail}"}
        return web.Response(body=_line(wrong), status=503, headers=headers)
    response = web.StreamResponse(headers=headers)
    try:
        await response.prepare(visit.request)
        async with aclosing(_lines(visit, wanted)) as lines:
            async for line in lines:
                await response.write(_line(line))
        await response.write_eof()
    except ConnectionError:  # the browser went away: the provider is hung up on as well
        pass
    return response


def _line(line: Line) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


async def _wanted(visit: Visit) -> _Wanted:
    """Read the form; a chosen key is borrowed last, when nothing else is wrong."""
    form = visit.form
    endpoint = form["endpoint"] if form["endpoint"] in PATHS else next(iter(PATHS))
    if not form["text"]:
        raise OperationRefused(Reason.MALFORMED, "Say something: the request needs a text.")
    streamed = form["stream"] == "yes"
    said = [{"role": "user", "content": form["text"]}]
    body = {"model": form["model"], "stream": streamed, "input" if endpoint == "responses" else "messages": said}
    url = visit.frame.surroundings.api_url + PATHS[endpoint]
    return _Wanted(url, await _key(visit), orjson.dumps(body), streamed)


async def _key(visit: Visit) -> str:
    pasted = visit.form["key"]
    if not pasted:
        if not visit.form["key_id"]:
            raise OperationRefused(Reason.MALFORMED, "Choose a key, or paste one.")
        return await visit.operations.borrow_key(visit.form["key_id"])
    account = account_of_key(pasted)
    if account is None:
        raise OperationRefused(Reason.MALFORMED, "That is no API key of this gateway: it begins with sk-aion-.")
    if visit.me.account not in (None, account):
        raise OperationRefused(Reason.FORBIDDEN, "That key is of another account.")
    return pasted


async def _lines(visit: Visit, wanted: _Wanted) -> AsyncGenerator[Line, None]:
    """Yield what comes back; a failure is the last line."""
    try:
        async with trial(wanted.url, wanted.key, wanted.body) as begun:
            yield {"status": begun.status}
            async for heard in _heard(begun, streamed=wanted.streamed and begun.status == _OK):
                yield {name: getattr(heard, name) for name in heard.__slots__ if getattr(heard, name)}
        row = await _row(visit, begun.request_id, _TRIES if begun.status == _OK else _TRIES_IF_REFUSED)
        yield {"words": _words(row)} | ({} if row is None else {"row": f"/usage/{quote(row.request_id)}"})
    except OperationRefused as refused:
        yield {"wrong": refused.message}


async def _heard(begun: Trial, *, streamed: bool) -> AsyncIterator[Heard]:
    text = AnswerText(streamed=streamed)
    async for piece in begun.pieces:
        yield text.read(piece)
    yield text.read(b"", last=True)


def _words(row: UsageRecord | None) -> str:
    if row is None:
        return "no row in the ledger: it cost nothing"
    counted = f"{row.prompt_tokens:,} prompt and {row.completion_tokens:,} completion tokens"
    return f"{counted}, {_COUNTED_BY[row.usage_source]}: ${format_usd(row.cost_pusd)}"


async def _row(visit: Visit, request_id: str, tries: int) -> UsageRecord | None:
    """Wait a moment for the request's row."""
    for _ in range(tries):
        try:
            return await visit.looking.request(request_id)
        except OperationRefused as refused:
            if refused.reason is not Reason.NOT_FOUND:
                return None
        await asyncio.sleep(_PAUSE)
    return None
