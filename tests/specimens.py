"""Calls, models, providers and accounts as most tests need them, each with a word for what a test changes."""

import datetime as dt
import json
from typing import Any

from proxy.accounts import Account, ApiKey, Identity
from proxy.call import Call, Endpoint, Target
from proxy.catalog import Catalog, Model, Route
from proxy.pricing import Prices
from proxy.providers import Provider
from proxy.wire.chat_request import read_chat_request

NOW = 1_800_000_000
PRICES = Prices.parse("0.0000008", "0.0000016", "0.0000002")
KEY = "sk-provider-secret-0123456789"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> float:
        self.now += seconds
        return self.now


def model(name: str = "lab/model", *routes: Route, **fields: Any) -> Model:
    return Model(
        **{
            "id": name,
            "name": "A model",
            "description": "",
            "date": dt.date(2026, 1, 2),
            "context_length": 8192,
            "max_completion_tokens": 4096,
            "is_moderated": False,
            "modality": "text->text",
            "prices": PRICES,
            "reasoning": False,
            "routes": routes or (Route("one", name),),
            **fields,
        }
    )


def catalog(*models: Model) -> Catalog:
    return Catalog(models or (model(aliases=("short",)), model("lab/gone", disabled=True)))


def provider(port: int = 1, **fields: Any) -> Provider:
    return Provider(**{"base_url": f"http://127.0.0.1:{port}/v1", "api_key": KEY, **fields})


def target(
    name: str = "one", provided: Provider | None = None, *, weight: int = 1, called: str = "lab/model"
) -> Target:
    return Target(Route(name, called, weight), provided or provider())


def body(**fields: Any) -> bytes:
    """Write a request of one message; a field that is None is left out."""
    whole = {"model": "lab/model", "messages": [{"role": "user", "content": "Say hello."}], **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def call(wanted: Model | None = None, **fields: Any) -> Call:
    asked = body(**fields)
    return Call("req_1", Endpoint.CHAT, read_chat_request(asked), wanted or model(), NOW, len(asked))


def account(name: str = "acme", **fields: Any) -> Account:
    return Account(**{"name": name, "plan": None, "disabled": False, "version": 1, "created_ms": 0, **fields})


def api_key(owner: str = "acme", **fields: Any) -> ApiKey:
    return ApiKey(
        **{"key_id": "key_1", "account": owner, "name": "", "hint": "sk-aion-acme-…abcd", "created_ms": 0, **fields}
    )


def identity(of: Account | None = None, key: ApiKey | None = None, digest: str = "d" * 64) -> Identity:
    of = of or account()
    return Identity(of, key or api_key(of.name), digest)


def event(delta: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """Write one chunk of a stream as a provider does."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": fields.pop("finish_reason", None)}
    chunk = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "lab/model", "choices": [choice],
        **fields,
    }  # fmt: skip
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
FINISH = event(finish_reason="stop")
USAGE = event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20})
DONE = b"data: [DONE]\n\n"


def text(content: str) -> bytes:
    return event({"content": content})


def answer(content: str = "Hello!", **fields: Any) -> bytes:
    """Write a whole completion as a provider does."""
    message = {"role": "assistant", "content": content}
    whole = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "lab/model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
        **fields,
    }  # fmt: skip
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


GATEWAY_FILE = """\
server: {listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}
providers: {one: {base_url: "http://127.0.0.1:1/v1"}}
"""
CATALOG_FILE = """\
models:
  - {id: m, name: m, date: "2026-01-02", context_length: 1, max_completion_tokens: 1,
     pricing: {prompt: "0", completion: "0"}, routes: [{provider: one, model: m}]}
"""
ECHO_CATALOG_FILE = """\
models:
  - id: demo/echo
    name: Echo
    date: "2025-12-21"
    context_length: 1000
    max_completion_tokens: 100
    pricing: {prompt: "0.1", completion: "0.2"}
    aliases: [echo]
    routes: [{provider: demo, model: echo}]
"""
"""One model of the provider that is built in, with prices that show."""


class NotingLogger:
    """Keeps what it is told instead of writing it."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict]] = []

    def info(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    error = warning = info
