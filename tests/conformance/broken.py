"""How an endpoint is broken in one place: a rule, what is done instead, and in answer to which requests.

A change takes the right answer and gives the wrong one; everything else stays right.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from fake_answers import MODEL, dumped
from fake_endpoint import FakeEndpoint

from proxy.conformance.check import Asking, Check
from proxy.conformance.exchange import Ask, NoReply, Reply

Change = Callable[[FakeEndpoint, Reply], Reply | NoReply]
Edit = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Broken:
    """One wrong way. `breaks` is the check that has to find it."""

    breaks: Check
    what: str
    change: Change
    asks: tuple[Asking, ...]

    def respond(self, right: FakeEndpoint, ask: Ask) -> Reply | NoReply:
        """Answer as the right endpoint does, but for the one change."""
        reply = right.respond(ask)
        return self.change(right, reply) if ask in {asking(MODEL) for asking in self.asks} else reply


def broken(
    breaks: Check, *ways: tuple[str, Change] | tuple[str, Change, Asking], at: Asking | None = None
) -> list[Broken]:
    """Ways to break what one check checks; in answer to all its requests, to `at`, or to the one that a way names."""
    asks = breaks.asks if at is None else (at,)
    return [Broken(breaks, what, change, tuple(where) or asks) for what, change, *where in ways]


def each(breaks: Check, what: str, change: Change) -> list[Broken]:
    """The same way for each request of a check, one at a time."""
    return [Broken(breaks, f"{what}: {asking(MODEL).what}", change, (asking,)) for asking in breaks.asks]


# Changes


def instead(asking: Asking) -> Change:
    """Answer as if something else had been asked."""

    def change(right: FakeEndpoint, reply: Reply) -> Reply:
        return msgspec.structs.replace(right.respond(asking(MODEL)), asked=reply.asked)

    return change


def status(number: int) -> Change:
    return lambda _, reply: msgspec.structs.replace(reply, status=number)


def header(name: str, value: str | None) -> Change:
    """Set a header, or leave it out."""

    def change(_: FakeEndpoint, reply: Reply) -> Reply:
        others = tuple(pair for pair in reply.headers if pair[0] != name)
        return msgspec.structs.replace(reply, headers=others if value is None else (*others, (name, value)))

    return change


def twice(name: str) -> Change:
    def change(_: FakeEndpoint, reply: Reply) -> Reply:
        return msgspec.structs.replace(reply, headers=(*reply.headers, (name, reply.header(name) or "x")))

    return change


def text(old: bytes, new: bytes) -> Change:
    """Replace bytes of the body, which have to be there."""

    def change(_: FakeEndpoint, reply: Reply) -> Reply:
        assert old in reply.body, (old, reply.body)
        return msgspec.structs.replace(reply, body=reply.body.replace(old, new))

    return change


def body(new: bytes) -> Change:
    return lambda _, reply: msgspec.structs.replace(reply, body=new)


def rewritten(edit: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the body."""
    return lambda right, reply: body(edit(reply.body))(right, reply)


def edited(edit: Edit) -> Change:
    """Change the JSON of a whole answer in place, or replace it by what is returned as a dict."""

    def change(_: FakeEndpoint, reply: Reply) -> Reply:
        document = json.loads(reply.body)
        result = edit(document)
        return msgspec.structs.replace(reply, body=dumped(result if isinstance(result, dict) else document))

    return change


def put(path: str, value: object) -> Change:
    """Set a value at a path such as `choices.0.message.content`; a key that is there keeps its place."""

    def edit(document: dict[str, Any]) -> None:
        *way, last = (int(word) if word.isdigit() else word for word in path.split("."))
        place: Any = document
        for word in way:
            place = place[word]
        place[last] = value

    return edited(edit)


def drop(path: str) -> Change:
    """Remove what is at a path."""

    def edit(document: dict[str, Any]) -> None:
        *way, last = (int(word) if word.isdigit() else word for word in path.split("."))
        place: Any = document
        for word in way:
            place = place[word]
        del place[last]

    return edited(edit)


def streamed(edit: Callable[[list[dict[str, Any]]], object]) -> Change:
    """Change the documents of a stream in place, or replace them by a list that is returned."""

    def change(_: FakeEndpoint, reply: Reply) -> Reply:
        lines = [line[6:] for line in reply.body.split(b"\n") if line.startswith(b"data: {")]
        documents = [json.loads(line) for line in lines]
        result = edit(documents)
        return msgspec.structs.replace(reply, body=written(result if isinstance(result, list) else documents))

    return change


def written(documents: Iterable[dict[str, Any]]) -> bytes:
    """A stream of these documents, numbered anew where they have numbers."""
    out = b""
    for number, document in enumerate(documents):
        if "sequence_number" in document:
            document["sequence_number"] = number
        name = b"event: %b\n" % document["type"].encode() if "type" in document else b""
        out += name + b"data: %b\n\n" % dumped(document)
    return out + b"data: [DONE]\n\n"


def first(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The first event of a type, `response.` left out."""
    return next(document for document in documents if document["type"] == f"response.{kind}")


def event(kind: str, edit: Edit) -> Change:
    """Change the first event of a type."""

    def change(documents: list[dict[str, Any]]) -> None:
        edit(first(documents, kind))

    return streamed(change)


def without(*kinds: str) -> Change:
    """Leave out all events of these types."""
    names = {f"response.{kind}" for kind in kinds}
    return streamed(lambda documents: [document for document in documents if document["type"] not in names])


def moved(kind: str, before: str) -> Change:
    """Put the first event of one type directly before the first of another."""

    def edit(documents: list[dict[str, Any]]) -> None:
        one = first(documents, kind)
        documents.remove(one)
        documents.insert(documents.index(first(documents, before)), one)

    return streamed(edit)


def gone(_: FakeEndpoint, reply: Reply) -> NoReply:
    """Do not answer."""
    return NoReply(reply.asked, "the connection ended and there was no answer")
