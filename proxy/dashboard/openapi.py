"""The OpenAPI document of the admin API, made of the same table and types that serve it."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy import __version__
from proxy.dashboard.api import Route
from proxy.dashboard.api_answers import ErrorAnswer
from proxy.dashboard.api_asks import ExportQuery, TrialRequest
from proxy.ledger.export import Format

PREFIX: Final = "/admin/api"
EXPORT: Final = "/export"
TRY: Final = "/keys/{key_id}/try"
MEDIA_TYPES: Final = {
    Format.CSV: "text/csv",
    Format.JSONL: "application/jsonl",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_TEMPLATE: Final = "#/components/schemas/{name}"
_REFUSALS: Final = {
    "400": "What was asked is wrong in itself.",
    "401": "No good token came along.",
    "403": "Only the operator may do that.",
    "404": "There is no such thing that may be seen.",
    "409": "It contradicts what is stored now.",
    "429": "Too many wrong tokens were tried.",
    "503": "The store or the ledger cannot be used now.",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Describe the API."""
    routes = list(routes)
    types: set[type[Struct]] = {
        ErrorAnswer,
        ExportQuery,
        TrialRequest,
        *(route.answer for route in routes),
        *(route.query for route in routes),
    }
    types |= {route.body for route in routes if route.body is not None}
    ordered = sorted(types, key=lambda one: one.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_TEMPLATE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths[EXPORT] = {"get": _export(schemas)}
    paths[TRY] = {"post": _try()}
    queries = {one.__name__ for one in ordered if one.__name__.endswith("Query")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "aion-proxy admin API",
            "version": __version__,
            "description": "What the commands and the dashboard do. Operators use the admin token; an account's own "
            "people a dashboard token, which shows and changes only what is theirs.",
        },
        "servers": [{"url": PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.work.__name__.strip("_"),
        "summary": route.what,
        "parameters": [*_in_path(route.path), *_in_query(route.query, schemas)],
        "responses": {str(route.status): {"description": "Done.", **_json(route.answer)}, **_refusals()},
    }
    if route.body is not None:
        needed = bool(schemas[route.body.__name__].get("required"))
        operation["requestBody"] = {"required": needed, **_json(route.body)}
    return operation


def _export(schemas: dict[str, Any]) -> dict[str, Any]:
    files = {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()}
    return {
        "operationId": "export",
        "summary": "Write the rows of the ledger out as a file",
        "parameters": _in_query(ExportQuery, schemas),
        "responses": {"200": {"description": "The file.", "content": files}, **_refusals()},
    }


def _try() -> dict[str, Any]:
    any_json = {"application/json": {"schema": {}}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "operationId": "try_key",
        "summary": "Send a request to this gateway as one of a key, and answer as the endpoint does",
        "parameters": _in_path(TRY),
        "requestBody": {"required": True, **_json(TrialRequest)},
        "responses": {
            "200": {"description": "The answer, as it comes.", "content": any_json},
            "default": {"description": "What the endpoint answers otherwise.", "content": any_json},
            **_refusals(),
        },
    }


def _in_path(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(query: type[Struct], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    schema = schemas[query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _said(one)}
        for name, one in schema["properties"].items()
    ]


def _said(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out null, which no query can say."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else {name: value for name, value in schema.items() if value is not None}


def _json(kind: type[Struct]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"$ref": _TEMPLATE.format(name=kind.__name__)}}}}


def _refusals() -> dict[str, Any]:
    return {status: {"description": what, **_json(ErrorAnswer)} for status, what in _REFUSALS.items()}
