"""Checks of the fields of a chat request: what is refused and where a refusal points, and what is taken (D1, D2).

A table, because each row is the same check of another field.
"""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import UNSET

from proxy.conformance.asks import CHAT_TOOL, NO_MODEL, each, encoded, probe, user, wrong
from proxy.conformance.check import Check, Verdict, check
from proxy.conformance.exchange import Reply
from proxy.conformance.refusals import each_refused_at, reached_the_model

Row = tuple[str, str, tuple[tuple[str, dict[str, Any]], ...]]
"""What is said of the field, where a refusal points, and the ways in which it is wrong: in words, and as fields."""

_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_METADATA: Final = {"text": "x" * 17_000}
_BOM: Final = b"\xef\xbb\xbf"


def _after(**message: object) -> dict[str, Any]:
    return {"messages": [*user("Hi."), message]}


def _calls(*calls: object) -> dict[str, Any]:
    return _after(role="assistant", content=None, tool_calls=list(calls))


REFUSED: Final[tuple[Row, ...]] = (
    ("`model` must be a text that is not empty", "model",
     (*each("model", ("empty", ""), ("a number", 5)), ("no `model`", {"model": UNSET}))),
    ("`messages` must be there, a list that is not empty", "messages",
     (*each("messages", ("empty", []), ("a text", "Hi.")), ("no `messages`", {"messages": UNSET}))),
    ("A message must be an object", "messages[0]", each("messages", ("a list of a text", ["Hi."]))),
    ("A message must have a role that is known", "messages[1].role",
     (("no role", _after(content="Hi.")), ("an unknown role", _after(role="robot", content="Hi.")),
      ("a role that is a number", _after(role=5, content="Hi.")))),
    ("A user's message must have content: a text or a list of parts", "messages[1].content",
     (("no content", _after(role="user")), ("content null", _after(role="user", content=None)),
      ("content 5", _after(role="user", content=5)), ("a part that is a text", _after(role="user", content=["Hi."])))),
    ("A part must have a type", "messages[1].content[0].type",
     (("a part without a type", _after(role="user", content=[{"text": "Hi."}])),)),
    ("A part of text must have a text", "messages[1].content[0].text",
     (("a part without its text", _after(role="user", content=[{"type": "text"}])),
      ("a part whose text is a number", _after(role="user", content=[{"type": "text", "text": 5}])))),
    ("`tool_calls` must be a list of objects", "messages[1].tool_calls",
     (("`tool_calls` a text", _after(role="assistant", content=None, tool_calls="f")),
      ("a call that is a text", _calls("f")))),
    ("A call must have an id", "messages[1].tool_calls[0].id", (("no id", _calls({**_CALL, "id": 5})),)),
    ("A call must have a function with a name", "messages[1].tool_calls[0].function",
     (("no function", _calls({"id": "call_1", "type": "function"})),
      ("no name", _calls({**_CALL, "function": {"arguments": "{}"}})))),
    ("A call's arguments must be a text", "messages[1].tool_calls[0].function.arguments",
     (("arguments that are an object", _calls({**_CALL, "function": {"name": "f", "arguments": {}}})),
      ("no arguments", _calls({**_CALL, "function": {"name": "f"}})))),
    ("A tool's message must name the call that it answers", "messages[1].tool_call_id",
     (("no tool_call_id", _after(role="tool", content="Rain.")),
      ("an empty one", _after(role="tool", content="Rain.", tool_call_id="")))),
    ("`temperature` must be a number", "temperature", each("temperature", ("a text", "hot"), ("true", True))),
    ("`max_tokens` must be a whole number of at least 1", "max_tokens",
     each("max_tokens", ("0", 0), ("-1", -1), ("1.0", 1.0), ("true", True), ("a text", "5"))),
    ("`max_completion_tokens` must be a whole number of at least 1", "max_completion_tokens",
     each("max_completion_tokens", ("0", 0), ("1.0", 1.0), ("true", True), ("a text", "5"))),
    ("`max_tokens` and `max_completion_tokens` must not differ", "max_tokens",
     (("5 and 6", {"max_tokens": 5, "max_completion_tokens": 6}),)),
    ("`stop` must be a text or a list of texts", "stop", each("stop", ("a number", 5), ("a list of a number", [1]))),
    ("`stream` must be true or false", "stream", each("stream", ("a text", "true"), ("1", 1))),
    ("`stream_options` must be an object", "stream_options", each("stream_options", ("a text", "x"), ("a list", []))),
    ("`tools` must be a list of objects with a type", "tools",
     each("tools", ("an object", {}), ("a list of a number", [5]), ("a tool without a type", [{"function": {}}]))),
    ("A tool that is a function must have a name", "tools[0].function",
     (("a tool without a function", {"tools": [{"type": "function"}]}),
      ("a tool without a name", {"tools": [{"type": "function", "function": {}}]}))),
    ("`reasoning_split` must be true or false", "reasoning_split",
     each("reasoning_split", ("a text", "yes"), ("1", 1))),
    ("`metadata` must be an object of at most 16 KiB", "metadata",
     each("metadata", ("a text", "x"), ("a list", []), ("17,000 bytes", _METADATA))),
    ("`n` must be a whole number from 1 to 128", "n",
     each("n", ("0", 0), ("129", 129), ("true", True), ("a text", "2"))),
)  # fmt: skip

_TAKEN: Final = tuple(
    probe(what, **changes)
    for what, changes in (
        ("`stop` a text", {"stop": "x"}),
        ("`stop` a list", {"stop": ["x", "y", "z", "u", "v"]}),
        ("temperature 99", {"temperature": 99}),
        ("both maximums, equal", {"max_completion_tokens": 16}),
        ("`n` 128", {"n": 128}),
        ("stream_options without a stream", {"stream_options": {"include_usage": True}}),
        ("metadata with a list in it", {"metadata": {"a": [1, {"b": None}]}}),
        ("a tool of an unknown type", {"tools": [CHAT_TOOL, {"type": "conformance", "x": 1}]}),
        ("fields that nobody knows", {"conformance": {"x": [1]}, "top_k": 5, "chat_template_kwargs": {}}),
        ("the role developer", {"messages": [{"role": "developer", "content": "Be brief."}, *user("Hi.")]}),
        ("content in parts", {"messages": user([{"type": "text", "text": "Hi."}, {"type": "conformance", "x": 1}])}),
        ("a call without content, and its answer", {"messages": [
            *user("Hi."), {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}]}),
    )
)  # fmt: skip
_NULLS: Final = dict.fromkeys((
    *("temperature", "max_tokens", "max_completion_tokens", "stop", "stream", "stream_options", "tools"),
    *("reasoning_split", "metadata", "n", "top_p", "seed", "user"),
))  # fmt: skip
_PLAIN_PROBE: Final = b'{"model":"%b","messages":[{"role":"user","content":"Hi."}]' % NO_MODEL.encode()
_odd: Final = probe(
    "half a surrogate pair and a number of 30 digits",
    body=_PLAIN_PROBE + b',"user":"\\ud83d","seed":%b}' % (b"9" * 30),
)


def _refusals() -> Iterator[Check]:
    for sentence, param, ways in REFUSED:

        def judge(*replies: Reply, param: str = param) -> Verdict:
            return each_refused_at(replies, param)

        judge.__doc__ = f"{sentence}; else 400 with its place, `{param}`."
        yield check("D2", *(wrong(what, **changes) for what, changes in ways))(judge)


@check("D2.1", *_TAKEN, _odd)
def taken_fields(*replies: Reply) -> Verdict:
    """What the gateway has no rule about is taken: unknown fields, roles and parts, odd text, any temperature."""
    return reached_the_model(*replies)


@check("D1.1", probe("a byte order mark", body=_BOM + _PLAIN_PROBE + b"}"))
def byte_order_mark(reply: Reply) -> Verdict:
    """A byte order mark before the body is passed over."""
    return reached_the_model(reply)


@check("D1.1", probe("`temperature` twice", body=_PLAIN_PROBE + b',"temperature":"hot","temperature":1}'))
def duplicate_keys(reply: Reply) -> Verdict:
    """Of a field that comes twice the last one counts."""
    return reached_the_model(reply)


@check(
    "D1.2", probe("null in every optional field", body=encoded({"model": NO_MODEL, "messages": user("Hi."), **_NULLS}))
)
def nulls(reply: Reply) -> Verdict:
    """`null` in an optional field is the same as no field."""
    return reached_the_model(reply)


CHECKS: Final = (byte_order_mark, duplicate_keys, nulls, *_refusals(), taken_fields)
