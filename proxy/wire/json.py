"""JSON objects taken apart at one level, every value kept as the bytes that came.

A gateway changes two or three fields of a body; the others must leave exactly as they arrived: big integers, key
order, lone surrogates. So a body is never decoded whole. Nothing here knows what a field means.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, product
from typing import Final

import msgspec
from msgspec import Raw

from proxy.wire.json_windows import windows

MAX_DEPTH: Final = 100
MAX_CONTAINERS: Final = 16_000
MAX_STRINGS: Final = 64_000
"""Bounds of what a body may hold, names of fields among the strings: beyond them, reading it would hold up everybody
else, and take many times its size. Long conversations with many tools have a tenth of it.
"""
MAX_SURROGATES: Final = 10_000
MAX_ESCAPES: Final = 200_000
"""Bounds of the bodies in which lone surrogates are taken care of; beyond them such a body is refused."""
_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = ord("\n")
_CR: Final = ord("\r")
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
"""As numbers, which are found in bytes faster than bytes are."""
_STRUCTURE: Final = b'[]{}"'
# Brackets as signed bytes: one level up, one level down.
_UP: Final = b"\x01"
_DOWN: Final = b"\xff"
_AS_STEPS: Final = bytes.maketrans(b"[{]}", _UP + _UP + _DOWN + _DOWN)
_PEELED: Final = 4
"""Levels of nesting that are taken off with a quick search before the rest is counted bracket by bracket."""
_SMALL: Final = 16 * 1024
"""Up to this size counting a character that is frequent is cheaper than looking for one after the other."""
_LOOKED_FOR: Final = 4
"""A character that occurs more often counts as frequent."""
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in _STRUCTURE)
_NOT_BRACKETS: Final = _NOT_STRUCTURE + b'"'
_SURROGATE: Final = re.compile(rb"\\[uU]?[dD][89a-fA-F]")
# One escape sequence of a JSON string: a surrogate pair, a lone surrogate, or anything else.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|(?P<other>u[0-9a-fA-F]{4})|.)",
    re.DOTALL,
)
_MARK: Final = "\ue000"
# What is written with the mark when a text is decoded whose lone surrogates have to survive: they, and the mark itself.
_TO_MARK: Final = re.compile(_ESCAPE.pattern + b"|" + _MARK.encode(), re.DOTALL)
_MARKED: Final = re.compile(f"{_MARK}(.)", re.DOTALL)
_SHIFT: Final = 0xD800 - 0x1000
"""From a lone surrogate down to the character that is written behind the mark."""
_HEX: Final = b"0123456789abcdefABCDEF"
_MASKS: Final = b"eEfFaAbBcC123456789"
"""First digits of the escapes that stand for lone surrogates: characters of three bytes, which nobody has to escape.
With case there are more such escapes (19 · 22³) than a body may hold.
"""

RawObject = dict[str, Raw]
_objects: Final = msgspec.json.Decoder(RawObject)
_lists: Final = msgspec.json.Decoder(list[RawObject])
_values: Final = msgspec.json.Decoder(Raw)
_anything: Final = msgspec.json.Decoder()

encode: Final = msgspec.json.encode


class Malformed(ValueError):  # noqa: N818 - what the bytes are
    """The bytes are not what JSON allows here; the text says why without quoting them."""


def split_object(body: bytes) -> RawObject:
    """Return the fields of a JSON object in order, each value as its own bytes; of duplicate keys the last wins."""
    try:
        return _objects.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(_why(error)) from None


def split_disguised(body: bytes) -> "tuple[RawObject, Disguise | None]":
    """Take an object apart as `split_object`; if it holds lone surrogates, in the disguise that is returned, which has
    to be taken off whatever is sent on.
    """
    try:
        return split_object(body), None
    except Malformed:
        disguise = Disguise(body)
        return split_object(disguise.put_on(body)), disguise


def check_document(body: bytes) -> None:
    """Raise `Malformed` for a body that nobody else may be sent, or that costs too much to read: nested too deep, of
    too many parts, or not in UTF-8.
    """
    steps = _steps(body)
    if len(steps) > 2 * MAX_CONTAINERS:
        raise Malformed(f"it holds more than {MAX_CONTAINERS:,} lists and objects")
    if steps_too_deep(steps):
        raise Malformed(f"it is nested deeper than {MAX_DEPTH} levels")
    if not is_utf8(body):
        raise Malformed("it is not valid UTF-8")


def split_list(body: bytes | Raw) -> list[RawObject]:
    """Return the objects of a JSON array, each as by `split_object`."""
    try:
        return _lists.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(_why(error)) from None


def decode(body: bytes | Raw) -> object:
    """Decode a small value whole (a usage object, an error); U+FFFD stands for what is not UTF-8 or half a pair."""
    try:
        return _anything.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mended = _mended(bytes(body))
        if mended == bytes(body):
            raise Malformed(_why(error)) from None
    try:
        return _anything.decode(mended)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(_why(error)) from None


def decode_worn(value: bytes | Raw, disguise: "Disguise | None") -> object:
    """Decode as `decode` what may wear a disguise, in which a mask looks like a character that somebody wrote: it comes
    off first, and lone surrogates are decoded as such.
    """
    if disguise is None:
        return decode(value)
    try:
        return _unmarked(decode(_TO_MARK.sub(_marked, disguise.take_off(bytes(value)))))
    except RecursionError as error:
        raise Malformed(_why(error)) from None


def is_value(value: bytes) -> bool:
    """Tell whether bytes are one JSON value, on one line and without blanks around it."""
    if _LF in value or _CR in value or value.strip() != value:
        return False
    try:
        _values.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def compact(value: bytes | Raw) -> bytes:
    """Return JSON without the blanks between its tokens, which stay as they are."""
    return msgspec.json.format(bytes(value), indent=-1)


def on_one_line(document: bytes) -> bytes:
    """Return JSON without line ends between its tokens, where each would end a line of an event."""
    return document.replace(b"\r", b" ").replace(b"\n", b" ") if _LF in document or _CR in document else document


def text_of(value: Raw | None) -> str | None:
    """Return the string that `value` encodes; None if it is absent or anything else."""
    if value is None:
        return None
    data = bytes(value)
    if not data.startswith(b'"'):
        return None
    decoded = decode(data)
    return decoded if isinstance(decoded, str) else None


def is_utf8(body: bytes) -> bool:
    """Tell whether bytes are UTF-8, as JSON that goes to somebody else has to be (RFC 8259, 8.1)."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_null(value: Raw | None) -> bool:
    """Tell whether a field is absent or null, which mean the same in an OpenAI body."""
    return value is None or bytes(value) == b"null"


def too_deep(body: bytes) -> bool:
    """Tell whether arrays and objects are nested deeper than `MAX_DEPTH`, in a time that grows with the size alone."""
    return steps_too_deep(_steps(body))


def _steps(body: bytes) -> bytes:
    """Return the brackets that stand outside of strings as steps up and down; none at all for so few that no bound on
    them can be passed.
    """
    if _few(body, b"[", MAX_DEPTH // 2) and _few(body, b"{", MAX_DEPTH // 2):
        return b""
    if _few(body, b'"', 2 * MAX_STRINGS):
        return b"".join(_outside_strings(body)).translate(_AS_STEPS, _NOT_BRACKETS)
    # In this order: pairs of backslashes first, so that what is left of `\"` really is an escaped quote.
    skeleton = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_STEPS, _NOT_STRUCTURE)
    return b"".join(skeleton.split(b'"')[::2])


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """Yield what stands between the strings; quicker for long texts than looking at each byte."""
    begin, within = 0, False
    end = body.find(_QUOTE)
    while end >= 0:
        if not within:
            yield body[begin:end]
            within = True
        elif body[end - 1] != _BACKSLASH or _is_even(body[begin:end]):
            within = False
        begin = end + 1
        end = body.find(_QUOTE, begin)
    if not within:
        yield body[begin:]


def _is_even(text: bytes) -> bool:
    """Tell whether the backslashes at the end of a text are pairs: then none escapes what follows."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 0


def steps_too_deep(steps: bytes) -> bool:
    """Tell the same of brackets alone, as steps up and down."""
    for _ in range(_PEELED):
        steps = steps.replace(_UP + _DOWN, b"")  # one level less, everywhere
    left = MAX_DEPTH - _PEELED
    return _UP * (left + 1) in steps or max(accumulate(memoryview(steps).cast("b")), default=0) > left


def _few(body: bytes, character: bytes, most: int) -> bool:
    """Tell whether a character occurs at most so often: for bodies that are nearly all text, many times faster than
    counting.
    """
    at, found = body.find(character), 0
    while at >= 0 and found < most:
        if found == _LOOKED_FOR and len(body) - at <= _SMALL:
            return body.count(character, at) <= most - found
        at = body.find(character, at + 1)
        found += 1
    return at < 0


class Disguise:
    r"""Lone surrogates (`\ud83d` with no partner) stand in JSON but not in UTF-8, and the decoder refuses them.

    They are swapped for unused escapes of the same length before decoding, and back in whatever is sent on.
    """

    def __init__(self, body: bytes) -> None:
        """Choose for each lone surrogate of `body` an escape that does not occur in it.

        A body with more escapes than text ever has is left as it is: looking at each would hold up everybody else.
        """
        lone: set[bytes] = set()
        others: set[bytes] = set()
        for escape in _escapes(body):
            if escape["lone"]:
                lone.add(escape["lone"])
            elif escape["other"]:
                others.add(escape["other"])
        unused = (mask for mask in _masks() if mask not in others)
        self._there: Mapping[bytes, bytes] = dict(zip(sorted(lone), unused, strict=False))
        self._back: Mapping[bytes, bytes] = {mask: real for real, mask in self._there.items()}

    def put_on(self, body: bytes) -> bytes:
        """Return `body` as the decoder takes it; the same object where nothing has to change."""
        return self._swap(body, self._there) if self._there else body

    def take_off(self, body: bytes) -> bytes:
        """Return `body` with the surrogates as they came."""
        return self._swap(body, self._back) if self._back else body

    def take_off_each(self, fields: RawObject) -> RawObject:
        """Return the fields with the surrogates as they came: to be sent on, because they cannot be read any more."""
        return {name: Raw(self.take_off(bytes(value))) for name, value in fields.items()}

    def __bool__(self) -> bool:
        """Tell whether there is anything to swap."""
        return bool(self._there)

    @staticmethod
    def _swap(body: bytes, table: Mapping[bytes, bytes]) -> bytes:
        def one(match: re.Match[bytes]) -> bytes:
            escape = match[0]
            return b"\\" + table[escape[1:]] if escape[1:] in table else escape

        return b"".join([_ESCAPE.sub(one, window) if _BACKSLASH in window else window for window in windows(body)])


def _escapes(body: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the escapes of a body that holds surrogates, if there are not too many of them to look at each."""
    parts = [window for window in windows(body) if _BACKSLASH in window]
    surrogates = sum(window.count(b"\\ud") + window.count(b"\\uD") for window in parts)
    few = surrogates <= MAX_SURROGATES and sum(window.count(b"\\") for window in parts) <= MAX_ESCAPES
    if few and any(_SURROGATE.search(window) for window in parts):
        for window in parts:
            yield from _ESCAPE.finditer(window)


def _masks() -> Iterator[bytes]:
    return (b"u" + bytes(digits) for digits in product(_MASKS, _HEX, _HEX, _HEX))


def without_bom(body: bytes) -> bytes:
    """Return `body` without the UTF-8 byte order mark that some clients put in front."""
    return body.removeprefix(_BOM)


def _marked(found: re.Match[bytes]) -> bytes:
    if found["lone"]:
        return f"{_MARK}{chr(int(found['lone'][1:], 16) - _SHIFT)}".encode()
    return f"{_MARK}{_MARK}".encode() if found[0].lower() in {_MARK.encode(), rb"\ue000"} else found[0]


def _unmarked(value: object) -> object:
    if isinstance(value, str):
        return _MARKED.sub(lambda mark: _MARK if mark[1] == _MARK else chr(ord(mark[1]) + _SHIFT), value)
    if isinstance(value, list):
        return [_unmarked(one) for one in value]
    return {name: _unmarked(one) for name, one in value.items()} if isinstance(value, dict) else value


def _mended(text: bytes) -> bytes:
    text = text.decode(errors="replace").encode()
    if not _SURROGATE.search(text):
        return text
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["lone"] else escape[0], text)


def _why(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not valid UTF-8"
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    return str(error).removeprefix("JSON is malformed: ")
