"""How a response's stream is played here, and how a client reads it that believes in nothing but the grammar."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace
from playing import CATALOG, NOW, plan
from provider_events import ROLE, lines, vllm

from proxy.wire.chat_stream import StreamPlan
from proxy.wire.response_echo import ResponseEcho
from proxy.wire.response_object import ResponseShape
from proxy.wire.response_stream import ResponseStream

LATER = NOW + 9
REQUEST = "req_1"
DONE = b"data: [DONE]\n\n"
STEMS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning": ("response.reasoning_text", "text"),
    "reasoning_text": ("response.reasoning_text", "text"),
}
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


def counted(prefix: str = "") -> Callable[[], str]:
    """Ids that can be told apart and foretold: 1, 2, 3, …"""
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers)}"


def shape(*, separate: bool = True, echo: ResponseEcho | None = None) -> ResponseShape:
    return ResponseShape("resp_0", CATALOG, NOW, echo or ResponseEcho(), separate, lambda: LATER)


def stream_plan(strip: tuple[str, ...] = ()) -> StreamPlan:
    return replace(plan(strip=strip), new_id=counted())


def chunks(*deltas: str, finish: str | None = "stop", done: bool = True) -> bytes:
    """A provider's stream that says these deltas, each a JSON object."""
    said = [vllm(ROLE), *(vllm(delta) for delta in deltas)]
    ending = [] if finish is None else [vllm("{}", f'"{finish}"')]
    return lines(*said, *ending, *(["data: [DONE]"] if done else []))


def respond(sent: bytes | Iterable[bytes], *, separate: bool = True) -> bytes:
    """Play a stream that ends as it should."""
    stream = ResponseStream(stream_plan(), shape(separate=separate))
    pieces = [sent] if isinstance(sent, bytes) else sent
    out = b"".join([stream.feed(piece) for piece in pieces]) + stream.end()
    assert stream.error is None
    assert stream.ended
    return out


def parse(out: bytes) -> list[dict]:
    """Read events as strictly as the strictest client does; without the closing [DONE], which has to be there."""
    assert out.endswith(DONE)
    return parse_begun(out.removesuffix(DONE))


def parse_begun(out: bytes) -> list[dict]:
    events = []
    for block in out.split(b"\n\n")[:-1]:
        assert b"\r" not in block
        kind, data = block.split(b"\n")
        assert kind.startswith(b"event: ")
        assert data.startswith(b"data: {")
        event = json.loads(data[6:])
        assert event["type"] == kind[7:].decode()
        events.append(event)
    return events


def ends_with_its_items(out: bytes) -> bool:
    """Tell whether the closing event has the items as they were done, byte for byte."""
    *events, last = out.removesuffix(DONE).split(b"\n\n")[:-1]
    done = {}
    for event in events:
        if event.startswith(b"event: response.output_item.done\n"):
            head, item = event.split(b',"item":', 1)
            done[int(head.rpartition(b":")[2])] = item[:-1]
    return b'"output":[%b],"usage":' % b",".join(done[index] for index in sorted(done)) in last


def damaged(sent: bytes, damage: list[tuple[int, bytes]]) -> bytes:
    """A stream in which a few bytes were written over."""
    for place, put in damage:
        start = place % (len(sent) + 1)
        sent = sent[:start] + put + sent[start + len(put) :]
    return sent


def whole(text: str) -> str:
    """Halves of surrogate pairs that came one after the other as the character that they are."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@dataclass
class Item:
    added: dict
    parts: list[dict] = field(default_factory=list)
    part: dict | None = None
    text: str = ""
    logprobs: list = field(default_factory=list)
    part_said: bool = False
    arguments: str = ""
    argued: bool = False
    done: dict | None = None


class Grammar:
    """Accepts the streams that are well-formed and no others: an assertion fails at the first event that is not."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.response: dict | None = None
        self.expected: tuple[str, int] | None = None
        self.error: dict | None = None
        self.over = False

    def take_all(self, events: list[dict]) -> dict:
        """Return the response as the closing event has it."""
        for number, event in enumerate(events):
            assert event["sequence_number"] == number
            self.take(number, event)
        assert self.over
        assert self.response is not None
        return self.response

    def take(self, number: int, event: dict) -> None:
        kind = event["type"]
        assert not self.over
        if self.expected is not None:
            assert (kind, event.get("output_index")) == self.expected or kind == "error"
            self.expected = None
        if self.error is not None:
            assert kind == "response.failed"
        if number < 2:
            assert kind == ("response.created", "response.in_progress")[number]
            self.begun(event["response"])
        elif kind == "error":
            assert {name: event[name] for name in ("code", "message", "param")} == {
                name: event["error"][name] for name in ("code", "message", "param")
            }
            assert event["message"]
            self.error = event
        elif kind in TERMINAL:
            self.ended(kind, event["response"])
        elif kind == "response.output_item.added":
            self.added(event)
        else:
            assert event.get("output_index", len(self.items)) < len(self.items)
            item = self.items[event["output_index"]]
            assert item.done is None
            if kind != "response.output_item.done":
                assert event["item_id"] == item.added["id"]
            self.within(kind, event, item)

    def begun(self, response: dict) -> None:
        assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
        assert self.response in (None, response)
        self.response = response

    def added(self, event: dict) -> None:
        item = event["item"]
        assert event["output_index"] == len(self.items)
        assert item["status"] == "in_progress"
        assert item["id"] not in [other.added["id"] for other in self.items]
        rest = {name: value for name, value in item.items() if name not in {"id", "type", "status"}}
        if item["type"] == "message":
            assert item["id"].startswith("msg_")
            assert rest == {"role": "assistant", "content": []}
        elif item["type"] == "reasoning":
            assert item["id"].startswith("rs_")
            assert rest == {"summary": [], "content": []}
        else:
            assert item["type"] == "function_call"
            assert item["id"].startswith("fc_")
            assert rest.keys() == {"call_id", "name", "arguments"}
            assert item["call_id"]
            assert item["call_id"] not in [other.added.get("call_id") for other in self.items]
            assert item["arguments"] == ""
        assert not [other for other in self.items if other.done is None and other.added["type"] != "function_call"]
        self.items.append(Item(item))

    def within(self, kind: str, event: dict, item: Item) -> None:
        if kind == "response.output_item.done":
            self.done(event["item"], item)
        elif item.added["type"] == "function_call":
            self.argued(kind, event, item)
        elif kind == "response.content_part.added":
            assert item.part is None
            assert event["content_index"] == len(item.parts)
            allowed = {"message": {"output_text", "refusal", "reasoning"}, "reasoning": {"reasoning_text"}}
            assert event["part"]["type"] in allowed[item.added["type"]]
            assert event["part"] == part_of(event["part"]["type"], "", [])
            item.part, item.text, item.logprobs, item.part_said = event["part"], "", [], False
        else:
            self.said(kind, event, item)

    def said(self, kind: str, event: dict, item: Item) -> None:
        assert item.part is not None
        assert event["content_index"] == len(item.parts)
        stem, key = STEMS[item.part["type"]]
        has_logprobs = item.part["type"] == "output_text"
        names = {"type", "sequence_number", "item_id", "output_index", "content_index"}
        if kind == f"{stem}.delta":
            assert not item.part_said
            assert event["delta"]
            assert event.keys() == names | {"delta"} | ({"logprobs"} if has_logprobs else set())
            item.text += event["delta"]
            item.logprobs += event.get("logprobs", [])
        elif kind == f"{stem}.done":
            assert not item.part_said
            assert event.keys() == names | {key} | ({"logprobs"} if has_logprobs else set())
            assert event[key] == whole(item.text)
            assert event.get("logprobs", []) == item.logprobs
            item.part_said = True
            self.expected = ("response.content_part.done", event["output_index"])
        else:
            assert kind == "response.content_part.done"
            assert item.part_said
            assert event["part"] == part_of(item.part["type"], whole(item.text), item.logprobs)
            item.parts.append(event["part"])
            item.part = None

    def argued(self, kind: str, event: dict, item: Item) -> None:
        assert not item.argued
        if kind == "response.function_call_arguments.delta":
            assert event["delta"]
            item.arguments += event["delta"]
        else:
            assert kind == "response.function_call_arguments.done"
            assert (event["name"], event["arguments"]) == (item.added["name"], whole(item.arguments))
            assert item.arguments
            item.argued = True
            self.expected = ("response.output_item.done", event["output_index"])

    def done(self, written: dict, item: Item) -> None:
        assert item.part is None
        assert written["status"] in {"completed", "incomplete"}
        is_call = item.added["type"] == "function_call"
        assert item.argued if is_call else item.parts
        content = {"arguments": whole(item.arguments)} if is_call else {"content": item.parts}
        assert written == {**item.added, **content, "status": written["status"]}
        item.done = written

    def ended(self, kind: str, response: dict) -> None:
        assert kind == f"response.{response['status']}"
        assert self.response is not None
        assert self.response["id"] == response["id"]
        if kind == "response.failed":
            assert self.error is not None
            assert response["error"]["message"] == self.error["message"]
            assert response["output"] == [item.done or left(item) for item in self.items]
        else:
            assert response["error"] is None
            assert response["usage"]["input_tokens"] >= 0
            assert response["output"] == [item.done for item in self.items]
            statuses = {item["status"] for item in response["output"]}
            assert statuses <= ({"completed"} if kind == "response.completed" else {"completed", "incomplete"})
        assert (response["incomplete_details"] is not None) == (kind == "response.incomplete")
        assert ("completed_at" in response) == (kind == "response.completed")
        self.response = response
        self.over = True


def part_of(kind: str, text: str, logprobs: list) -> dict:
    part = {"type": kind, STEMS[kind][1]: text}
    return {**part, "annotations": [], "logprobs": logprobs} if kind == "output_text" else part


def left(item: Item) -> dict:
    """An item that was being said when the stream failed."""
    if item.added["type"] == "function_call":
        return {**item.added, "arguments": whole(item.arguments), "status": "incomplete"}
    said = [] if item.part is None else [part_of(item.part["type"], whole(item.text), item.logprobs)]
    return {**item.added, "content": [*item.parts, *said], "status": "incomplete"}


def read(out: bytes) -> dict:
    """Check a whole stream; return the response that it ends with."""
    response = Grammar().take_all(parse(out))
    assert response["status"] == "failed" or ends_with_its_items(out)
    return response


def said_by(response: dict, *kinds: str) -> str:
    """The text of all parts of these kinds."""
    parts = [part for item in response["output"] for part in item.get("content", ())]
    return "".join(part[STEMS[part["type"]][1]] for part in parts if part["type"] in kinds)
