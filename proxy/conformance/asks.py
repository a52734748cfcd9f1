"""The requests that checks are made of: probes that end before a model is asked, and the few that need its answer.

A probe asks for a model that nobody has: everything that is looked at earlier is seen from what the refusal is about,
and it costs nothing. Requests for an answer are short and shared by as many checks as possible.
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from proxy.conformance.check import Asking
from proxy.conformance.exchange import CHAT, KEY, MODELS, RESPONSES, Ask, Cost, Header

BEARER: Final = ("Authorization", f"Bearer {KEY}")
JSON: Final = ("Content-Type", "application/json")
USUAL: Final = (BEARER, JSON)
NO_MODEL: Final = "conformance/no-such-model"
SHORT: Final = 32
"""Tokens of a greeting."""
LONGER: Final = 256
"""Tokens of an answer that comes after a thought or is a call."""
SHORTEST: Final = 16
"""Tokens at which an answer is cut on purpose; some providers take no smaller number."""

_HELLO: Final = "Say hello."
_THINK: Final = "Think: what is 6 times 7? Then answer with the number."
_WEATHER: Final = "What is the weather in Oslo? Use the tool."
_COUNT: Final = "Count from 1 upwards, at least as long: 99 numbers, as words."
_PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION: Final = {"name": "get_weather", "description": "The weather of a city.", "parameters": _PARAMETERS}
CHAT_TOOL: Final = {"type": "function", "function": _FUNCTION}
RESPONSE_TOOL: Final = {"type": "function", **_FUNCTION}
OTHER_TOOL: Final = "get_time"


def user(content: object) -> list[dict[str, object]]:
    """Return a conversation of one message."""
    return [{"role": "user", "content": content}]


def encoded(fields: dict[str, object]) -> bytes:
    """Write a body; fields that are UNSET are left out."""
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not UNSET})


def get(what: str, path: str, *headers: Header, method: str = "GET", raw_lines: bytes = b"") -> Asking:
    """Ask without a body; `{model}` in the path is the model's id with its slashes, `{quoted}` with none."""
    return lambda model: Ask(
        what,
        method,
        path.replace("{model}", quote(model, safe="/")).replace("{quoted}", quote(model, safe="")),
        headers,
        raw_lines=raw_lines,
    )


def probe(
    what: str,
    headers: tuple[Header, ...] = USUAL,
    *,
    path: str = CHAT,
    body: bytes | None = None,
    raw_lines: bytes = b"",
    **changes: object,
) -> Asking:
    """Ask for a model that nobody has; `changes` are fields of the body, and `body` replaces it."""
    fields = {"model": NO_MODEL, **_least(path), **changes}
    ask = Ask(what, "POST", path, headers, encoded(fields) if body is None else body, Cost.NOTHING, raw_lines)
    return lambda _: ask


def wrong(what: str, *, path: str = CHAT, **changes: object) -> Asking:
    """Ask the model for a very short answer with a body that is to be refused for these changes."""
    return lambda model: Ask(
        what, "POST", path, USUAL, encoded({"model": model, **_least(path), **changes}), Cost.IF_TAKEN
    )


def answer(what: str, *, path: str = CHAT, headers: tuple[Header, ...] = USUAL, **fields: object) -> Asking:
    """Ask the model for an answer."""
    return lambda model: Ask(what, "POST", path, headers, encoded({"model": model, **fields}), Cost.AN_ANSWER)


def _least(path: str) -> dict[str, object]:
    if path.startswith(RESPONSES):
        return {"input": "Hi.", "max_output_tokens": SHORTEST}
    return {"messages": user("Hi."), "max_tokens": SHORTEST}


# GET requests

models: Final = get("the listing", MODELS)
one_model: Final = get("the model", MODELS + "/{model}")
no_url: Final = get("an unknown URL", "/conformance-no-such-url")

# Refusals that many checks look at

no_key: Final = probe("no key", (JSON,))
bad_key: Final = probe("an unknown key", (("Authorization", "Bearer conformance-no-such-key"), JSON))
plain_text: Final = probe("a body said to be text/plain", (BEARER, ("Content-Type", "text/plain")))
broken_json: Final = probe("broken JSON", body=b'{"model": ')
unknown_model: Final = probe("an unknown model")
no_messages: Final = wrong("no messages", messages=UNSET)

# Chat completions that the model answers. `Accept` is what OpenAI's libraries send, also for streams.

ACCEPT: Final = ("Accept", "application/json")
_CALL: Final = {"type": "function", "function": {"name": "get_weather"}}
plain: Final = answer("a chat answer", messages=user(_HELLO), max_tokens=SHORT)
streamed: Final = answer(
    "a chat stream", headers=(*USUAL, ACCEPT), messages=user(_HELLO), max_tokens=SHORT, stream=True
)
streamed_usage: Final = answer(
    "a chat stream with usage", messages=user(_HELLO), max_tokens=SHORT, stream=True,
    stream_options={"include_usage": True},
)  # fmt: skip
streamed_running: Final = answer(
    "a chat stream with the usage so far", messages=user(_HELLO), max_tokens=SHORT, stream=True,
    stream_options={"include_usage": True, "continuous_usage_stats": True},
)  # fmt: skip
squeezed: Final = answer(
    "a chat stream for a client that takes gzip", headers=(*USUAL, ("Accept-Encoding", "gzip, deflate")),
    messages=user(_HELLO), max_tokens=SHORT, stream=True,
)  # fmt: skip
two: Final = answer("a chat stream of two choices", messages=user(_HELLO), max_tokens=SHORT, stream=True, n=2)
dropping: Final = answer(
    "a chat answer with fields that are not sent on", messages=user(_HELLO), max_tokens=SHORT,
    store=False, metadata={"purpose": {"nested": [1]}}, service_tier="auto", temperature=None,
)  # fmt: skip
call: Final = answer(
    "a forced tool call", messages=user(_WEATHER), max_tokens=LONGER, tools=[CHAT_TOOL], tool_choice=_CALL
)
streamed_call: Final = answer(
    "a forced tool call in a stream", messages=user(_WEATHER), max_tokens=LONGER, stream=True, tools=[CHAT_TOOL],
    tool_choice=_CALL,
)  # fmt: skip
split: Final = answer("reasoning_split true", messages=user(_THINK), max_tokens=LONGER, reasoning_split=True)
unsplit: Final = answer("reasoning_split false", messages=user(_THINK), max_tokens=LONGER, reasoning_split=False)
streamed_split: Final = answer(
    "reasoning_split true in a stream", messages=user(_THINK), max_tokens=LONGER, stream=True, reasoning_split=True
)
streamed_unsplit: Final = answer(
    "reasoning_split false in a stream", messages=user(_THINK), max_tokens=LONGER, stream=True, reasoning_split=False
)

# Responses that the model answers

_MIXED: Final = [RESPONSE_TOOL, {"type": "web_search"}]
_NAMED: Final = {"type": "function", "name": "get_weather"}
response: Final = answer("a response", path=RESPONSES, input=_HELLO, max_output_tokens=SHORT)
rich_response: Final = answer(
    "a response to a list with instructions", path=RESPONSES, input=user([{"type": "input_text", "text": _HELLO}]),
    instructions="Be brief.", metadata={"purpose": "conformance"}, temperature=1, max_output_tokens=SHORT,
    store=True, truncation="auto", text={"format": {"type": "text"}},
)  # fmt: skip
response_to_messages: Final = answer(
    "a response to messages", path=RESPONSES, messages=user(_HELLO), max_output_tokens=SHORT
)
response_to_history: Final = answer(
    "a response to a conversation with a call and a search",
    path=RESPONSES,
    input=[
        *user(_WEATHER),
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "Rain."}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        *user("Thank you. Now say hello."),
    ],
    tools=[RESPONSE_TOOL],
    max_output_tokens=LONGER,
)
response_call: Final = answer(
    "a forced call in a response", path=RESPONSES, input=_WEATHER, max_output_tokens=LONGER, tools=_MIXED,
    tool_choice=_NAMED,
)  # fmt: skip
response_no_call: Final = answer(
    "a response with tool_choice none", path=RESPONSES, input=_WEATHER, max_output_tokens=LONGER,
    tools=[RESPONSE_TOOL], tool_choice="none",
)  # fmt: skip
response_allowed: Final = answer(
    "a response with one of two tools allowed", path=RESPONSES, input=_WEATHER, max_output_tokens=LONGER,
    tools=[RESPONSE_TOOL, {**RESPONSE_TOOL, "name": OTHER_TOOL, "description": "The time in a city."}],
    tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": OTHER_TOOL}]},
)  # fmt: skip
response_toolless: Final = answer(
    "a response of whose tools none is left", path=RESPONSES, input=_HELLO, max_output_tokens=SHORT,
    tools=[{"type": "web_search"}], tool_choice="auto", parallel_tool_calls=True,
)  # fmt: skip
response_split: Final = answer(
    "a response with reasoning_split true", path=RESPONSES, input=_THINK, max_output_tokens=LONGER,
    reasoning_split=True,
)  # fmt: skip
streamed_response: Final = answer(
    "a response's stream", path=RESPONSES, headers=(*USUAL, ACCEPT), input=_HELLO, max_output_tokens=SHORT,
    stream=True,
)  # fmt: skip
streamed_response_call: Final = answer(
    "a forced call in a response's stream", path=RESPONSES, input=_WEATHER, max_output_tokens=LONGER, stream=True,
    tools=_MIXED, tool_choice=_NAMED,
)  # fmt: skip
streamed_response_thought: Final = answer(
    "a response's stream that may reason", path=RESPONSES, input=_THINK, max_output_tokens=LONGER, stream=True
)
streamed_response_split: Final = answer(
    "a response's stream with reasoning_split true", path=RESPONSES, input=_THINK, max_output_tokens=LONGER,
    stream=True, reasoning_split=True,
)  # fmt: skip
cut_response: Final = answer(
    "a response's stream that is cut short", path=RESPONSES, input=_COUNT, max_output_tokens=SHORTEST, stream=True
)


def each(field: str, *values: tuple[str, object]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return for each value of a field what it is called, and the fields of a request that has it."""
    return tuple((f"`{field}`: {what}", {field: value}) for what, value in values)
