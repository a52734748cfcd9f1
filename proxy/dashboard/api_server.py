"""The admin API over HTTP: reads what was asked, lets the operation answer, and gives every refusal one form."""

import asyncio
import io
import tempfile
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.admin.refused import OperationRefused, Reason
from proxy.dashboard.api import ROUTES, Ask, Route, Surroundings
from proxy.dashboard.api_asks import ExportQuery, NoQuery, TrialRequest
from proxy.dashboard.gate import Denied, Gate
from proxy.dashboard.looking import Looking, read_filter
from proxy.dashboard.openapi import EXPORT, MEDIA_TYPES, PREFIX, TRY, document
from proxy.dashboard.operations import Operations
from proxy.dashboard.trial import PATHS, trial
from proxy.dashboard.watching import Watching
from proxy.errors import StoreUnavailable
from proxy.ledger.database import Ledger
from proxy.ledger.export import FormatUnavailable, ensure_available, write
from proxy.ledger.requests import rows

STATUS: Final = {
    Reason.MALFORMED: 400,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.CONFLICT: 409,
    Reason.UNAVAILABLE: 503,
}
_UNAVAILABLE: Final = 503
_KINDS: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}
_IN_MEMORY: Final = 1 << 20
_PIECE: Final = 1 << 16
_NO_STORE: Final = {"Cache-Control": "no-store"}


def api_routes(gate: Gate, surroundings: Surroundings, watching: Watching) -> Iterable[web.RouteDef]:
    """Return the API's routes."""
    told = orjson.dumps(document(ROUTES))

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=told, content_type="application/json")

    yield web.get(f"{PREFIX}/openapi.json", openapi)
    yield web.get(PREFIX + EXPORT, _guarded(_export(gate)))
    yield web.post(PREFIX + TRY, _guarded(_try(gate, surroundings)))
    for route in ROUTES:
        yield web.route(route.method, PREFIX + route.path, _guarded(_handler(route, gate, surroundings, watching)))


def _handler(route: Route, gate: Gate, surroundings: Surroundings, watching: Watching) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        person = await gate.bearer(request)
        body = None if route.body is None else msgspec.json.decode(await request.read() or b"{}", type=route.body)
        who, query = Operations(gate.desk, person), _query(request, route.query)
        ask = Ask(who, surroundings, request.match_info, query, body, watching)
        answer = orjson.dumps(await route.work(ask))
        return web.Response(body=answer, status=route.status, content_type="application/json", headers=_NO_STORE)

    return handle


def _export(gate: Gate) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        person = await gate.bearer(request)
        query, looking = _query(request, ExportQuery), Looking(Operations(gate.desk, person))
        return await send_export(request, looking, query)

    return handle


def _try(gate: Gate, surroundings: Surroundings) -> Handler:
    """Send a request as one of a key, and hand on what comes as it comes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        operations = Operations(gate.desk, await gate.bearer(request))
        _query(request, NoQuery)
        wanted = msgspec.json.decode(await request.read() or b"{}", type=TrialRequest)
        body = msgspec.json.encode(wanted.request)  # which writes every number that was read, however large
        key = await operations.borrow_key(request.match_info["key_id"])
        async with trial(surroundings.api_url + PATHS[wanted.endpoint], key, body) as begun:
            headers = {**_NO_STORE, "x-request-id": begun.request_id, "Content-Type": begun.content_type}
            response = web.StreamResponse(status=begun.status, headers=headers)
            await response.prepare(request)
            try:
                async for piece in begun.pieces:
                    await response.write(piece)
                await response.write_eof()
            except OperationRefused:  # it has begun, so there is no other way to say that it is not whole
                if request.transport is not None:
                    request.transport.abort()
            return response

    return handle


async def send_export(request: web.Request, looking: Looking, query: ExportQuery) -> web.StreamResponse:
    """Write the rows into a file that has no name, then send it: a client that reads slowly holds no database."""
    chosen = looking.mine(read_filter(looking, msgspec.structs.asdict(query)))

    def to_file(ledger: Ledger) -> tempfile.SpooledTemporaryFile[bytes]:
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the sender closes it
        with ledger.reading() as connection:
            write(looking.told(rows(connection, chosen)), query.format, file)  # type: ignore[arg-type] # it is a BinaryIO but in name
        file.seek(0, io.SEEK_SET)
        return file

    try:
        ensure_available(query.format)
    except FormatUnavailable as why:
        raise OperationRefused(Reason.UNAVAILABLE, str(why)) from None
    with await looking.operations.desk.ledger.use(to_file) as file:
        name = f'attachment; filename="usage.{query.format.value}"'
        response = web.StreamResponse(headers={**_NO_STORE, "Content-Disposition": name})
        response.content_type = MEDIA_TYPES[query.format]
        await response.prepare(request)
        while piece := await asyncio.to_thread(file.read, _PIECE):
            await response.write(piece)
        await response.write_eof()
        return response


def _query(request: web.Request, kind: type[Any]) -> Any:  # noqa: ANN401 - of the route's type
    given = dict(request.query)
    if len(given) != len(request.query):
        raise OperationRefused(Reason.MALFORMED, "a word of the query stands twice: give each once")
    return msgspec.convert(given, kind, strict=False)


def _guarded(handle: Handler) -> Handler:
    """Turn every refusal into its status."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except Denied as denied:
            headers = {"WWW-Authenticate": "Bearer"} if not denied.wait else {"Retry-After": str(denied.wait)}
            return _refusal(429 if denied.wait else 401, denied.message, headers)
        except OperationRefused as refused:
            return _refusal(STATUS[refused.reason], refused.message)
        except StoreUnavailable as away:
            return _refusal(_UNAVAILABLE, f"The store cannot be asked: {away.detail}")
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as wrong:
            return _refusal(400, f"{wrong}; /admin/api/openapi.json says what is understood")

    return guarded


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": _KINDS.get(status, "invalid_request_error")}}
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        content_type="application/json",
        headers={**_NO_STORE, **(headers or {})},
    )
