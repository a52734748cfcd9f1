"""What a chat completion says, taken out of its chunks or its message: the source from which a response is made.

Nothing in it is trusted to be of the type that it should be: what cannot be read says nothing. Texts are insides of
JSON strings, as they came; only a text that comes in parts is put together anew. Pure.
"""

import re
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from proxy.wire import json
from proxy.wire.json import Disguise, Malformed, RawObject
from proxy.wire.large_json import LARGE
from proxy.wire.text_event import INSIDE

_NOTHING: Final = Raw(b"null")
_OF_OLD: Final = -1
"""The number of the one call that the older form can hold; all others have been numbered before they come here."""


class Call(Struct, frozen=True):
    """A tool call, or a piece of one; `index` says which of the answer's calls it is."""

    index: int
    id: bytes
    name: bytes
    arguments: bytes


class Said(Struct, frozen=True):
    """What one choice of a chunk says, or of a whole answer. Each text is the inside of a JSON string."""

    choice: int
    reasoning: list[tuple[str, bytes]]
    """By the place where it stood; of several places that hold any, the others repeat the first."""
    text: bytes
    refusal: bytes
    calls: list[Call]
    logprobs: list[Raw]
    """Of the text's tokens."""
    finish: str | None

    @property
    def size(self) -> int:
        """Tell how many bytes its texts have."""
        told = [len(text) for _, text in self.reasoning] + [len(call.arguments) for call in self.calls]
        return len(self.text) + len(self.refusal) + sum(told)


class _Function(Struct):
    name: Raw = _NOTHING
    arguments: Raw = _NOTHING


class _Call(Struct):
    index: int = _OF_OLD
    id: Raw = _NOTHING
    function: _Function | None = None


class _Words(Struct):
    """A delta, or a message."""

    content: Raw = _NOTHING
    reasoning: Raw = _NOTHING
    reasoning_content: Raw = _NOTHING
    reasoning_details: Raw = _NOTHING
    refusal: Raw = _NOTHING
    tool_calls: Raw = _NOTHING
    function_call: Raw = _NOTHING


class _Choice(Struct):
    index: object = 0
    delta: _Words | None = None
    message: _Words | None = None
    logprobs: Raw = _NOTHING
    finish_reason: object = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None


class _Logprobs(Struct):
    content: list[Raw] | None = None


_INSIDE: Final = re.compile(INSIDE).fullmatch
# As numbers, which are found in bytes faster than bytes are.
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_CONTENT: Final = "content"
_ARGUMENTS: Final = "arguments"
_WORDLESS: Final = _Words()
_chunks: Final = msgspec.json.Decoder(_Chunk)
_choices: Final = msgspec.json.Decoder(list[_Choice])
_calls: Final = msgspec.json.Decoder(list[_Call])
_calls_of_old: Final = msgspec.json.Decoder(_Function)
_logprobs: Final = msgspec.json.Decoder(_Logprobs)


def said_in_chunk(chunk: bytes) -> list[Said]:
    """Read what each choice of a chunk says; raises `Malformed`."""
    try:
        return [_said(choice) for choice in _chunks.decode(chunk).choices or ()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        disguise = Disguise(chunk)
    try:
        choices = _chunks.decode(disguise.put_on(chunk)).choices or ()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("it is no chunk of a chat completion") from None
    return [_revealed(_said(choice), disguise) for choice in choices]


def said_in_answer(choices: Raw, disguise: Disguise | None) -> Said:
    """Read what the first choice of a whole answer says, whose form has been seen to; raises `Malformed`."""
    try:
        said = _said(_choices.decode(choices)[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        raise Malformed("it holds no choice of a chat completion") from None
    said = replace(said, calls=[replace(call, index=number) for number, call in enumerate(said.calls)])
    return _revealed(said, disguise) if disguise else said


class TextChunk:
    """The form of one stream's chunks that say one text and nothing else: from one to the next, only that differs.

    Telling so costs a third of reading a chunk.
    """

    __slots__ = ("_before", "_behind", "_least", "_like", "_place")

    def __init__(self, before: bytes, behind: bytes, *, place: str, like: Said) -> None:
        """Know the form by what stands before and behind the text, which is `place`'s in what chunks `like` it say."""
        self._before = before
        self._behind = behind
        self._least = len(before) + len(behind)
        self._place = place
        self._like = like

    @classmethod
    def like(cls, chunk: bytes, said: Said) -> "TextChunk | None":
        """Learn the form from a chunk that has been read; None if it says more than one text, or none."""
        calls = [(_ARGUMENTS, call.arguments) for call in said.calls]
        texts = [*said.reasoning, *([(_CONTENT, said.text)] if said.text else []), *calls]
        if len(texts) != 1 or said.refusal or said.logprobs or said.finish is not None:
            return None
        if any(call.id or call.name for call in said.calls):
            return None
        place, text = texts[0]
        key = b'"%b":"' % place.encode()
        before, found, behind = chunk.partition(key + text + b'"')
        if not text or not found or found in behind:
            return None
        return cls(before + key, b'"' + behind, place=place, like=said)

    def read(self, chunk: bytes) -> Said | None:
        """Return what a chunk of this form says; None if it is of another one."""
        if len(chunk) <= self._least or not (chunk.startswith(self._before) and chunk.endswith(self._behind)):
            return None
        text = chunk[len(self._before) : len(chunk) - len(self._behind)]
        if (_QUOTE in text or _BACKSLASH in text) and _INSIDE(text) is None:
            return None  # the text may have ended earlier
        if self._place == _CONTENT:
            return Said(self._like.choice, [], text, b"", [], [], None)
        if self._place == _ARGUMENTS:
            return Said(self._like.choice, [], b"", b"", [Call(self._like.calls[0].index, b"", b"", text)], [], None)
        return Said(self._like.choice, [(self._place, text)], b"", b"", [], [], None)


def _said(choice: _Choice) -> Said:
    words = choice.delta or choice.message or _WORDLESS
    index = choice.index if isinstance(choice.index, int) else 0
    text = _inside(words.content)
    logprobs = [] if choice.logprobs is _NOTHING else _log_probabilities(choice.logprobs)
    finish = choice.finish_reason if isinstance(choice.finish_reason, str) and choice.finish_reason else None
    if text and _is_alone(words):
        return Said(index, [], text, b"", [], logprobs, finish)
    reasoning = _reasoning(words)
    text = text or _joined(words.content, "text")
    return Said(index, reasoning, text, _inside(words.refusal), _called(words), logprobs, finish)


def _is_alone(words: _Words) -> bool:
    """Tell whether there can be nothing but content, as in nearly every delta."""
    return (
        words.reasoning is _NOTHING
        and words.reasoning_content is _NOTHING
        and words.reasoning_details is _NOTHING
        and words.refusal is _NOTHING
        and words.tool_calls is _NOTHING
        and words.function_call is _NOTHING
    )


def _reasoning(words: _Words) -> list[tuple[str, bytes]]:
    places = [
        ("reasoning", _inside(words.reasoning)),
        ("reasoning_content", _inside(words.reasoning_content)),
        ("reasoning_details", _joined(words.reasoning_details, "text", "summary")),
        (_CONTENT, _joined(words.content, "thinking")),
    ]
    return [(place, text) for place, text in places if text]


def _called(words: _Words) -> list[Call]:
    try:
        if not _absent(words.tool_calls):
            return [_call(call) for call in _calls.decode(words.tool_calls)]
        if not _absent(words.function_call):
            return [_call(_Call(function=_calls_of_old.decode(words.function_call)))]
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return []


def _call(call: _Call) -> Call:
    function = call.function or _Function()
    return Call(call.index, _inside(call.id), _inside(function.name), _inside(function.arguments))


def _log_probabilities(raw: Raw) -> list[Raw]:
    if bytes(raw) == b"null":
        return []
    try:
        return _logprobs.decode(raw).content or []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _inside(text: Raw) -> bytes:
    if text is _NOTHING:
        return b""
    if len(text) > LARGE:
        inside = memoryview(text)
        return bytes(inside[1:-1]) if inside[0] == _QUOTE else b""
    data = bytes(text)
    return data[1:-1] if data.startswith(b'"') else b""


def _joined(value: Raw, *names: str) -> bytes:
    """Put together what the parts of a list say, each under the first of these names that says anything; that may be
    parts again.
    """
    said = ([text for name in names if (text := _words_of(part.get(name, _NOTHING)))] for part in _parts(value))
    return b"".join(texts[0] for texts in said if texts)


def _words_of(text: Raw) -> bytes:
    return _inside(text) or b"".join(_inside(part.get("text", _NOTHING)) for part in _parts(text))


def _parts(value: Raw) -> list[RawObject]:
    if value is _NOTHING or not bytes(value).startswith(b"["):
        return []
    try:
        return json.split_list(value)
    except Malformed:
        return []


def _absent(value: Raw) -> bool:
    return value is _NOTHING or bytes(value) == b"null"


def _revealed(said: Said, disguise: Disguise) -> Said:
    """Return it with the surrogates as they came."""
    show = disguise.take_off
    return replace(
        said,
        reasoning=[(place, show(text)) for place, text in said.reasoning],
        text=show(said.text),
        refusal=show(said.refusal),
        calls=[Call(call.index, show(call.id), show(call.name), show(call.arguments)) for call in said.calls],
        logprobs=[Raw(show(bytes(entry))) for entry in said.logprobs],
    )
