"""JSON objects taken apart at one level, every value kept as the bytes that came.

A gateway changes two or three fields of a body; the others must leave exactly as they arrived: big integers, key
order, lone surrogates. So a body is never decoded whole. Nothing here knows what a field means.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

import msgspec
from msgspec import Raw

from proxy.wire import large_json
from proxy.wire.json_windows import windows
from proxy.wire.large_json import LARGE, MAX_DEPTH

MAX_SURROGATES: Final = 10_000
MAX_ESCAPES: Final = 200_000
"""Bounds of the bodies in which lone surrogates are taken care of; beyond them such a body is refused."""
_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = ord("\n")
_CR: Final = ord("\r")
_BACKSLASH: Final = ord("\\")
"""As numbers, which are found in bytes faster than bytes are."""
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
Malformed = large_json.Malformed
is_utf8: Final = large_json.is_utf8


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


def split_list(body: bytes | Raw) -> list[RawObject]:
    """Return the objects of a JSON array, each as by `split_object`."""
    try:
        return _lists.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(_why(error)) from None


def decode(body: bytes | Raw) -> object:
    """Decode a value whole (a usage object, an error, a text); U+FFFD stands for what is not UTF-8 or half a pair. A
    large value must be one that a client's body may hold.
    """
    if len(body) > LARGE:
        large_json.check_body(body)
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
        parts = windows(disguise.take_off(bytes(value)))
        return _unmarked(decode(b"".join([_TO_MARK.sub(_marked, part) for part in parts])))
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


def text_size(text: bytes | Raw) -> int:
    """Return the UTF-8 bytes of a JSON string that is decoded."""
    inside = memoryview(text)[1:-1]
    return sum(_size(window) for window in windows(bytes(inside)))


def is_null(value: Raw | None) -> bool:
    """Tell whether a field is absent or null, which mean the same in an OpenAI body."""
    return value is None or bytes(value) == b"null"


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
    parts = [part if is_utf8(part) else part.decode(errors="replace").encode() for part in windows(text)]
    return b"".join([_ESCAPE.sub(_replaced, part) if _SURROGATE.search(part) else part for part in parts])


def _replaced(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["lone"] else escape[0]


def _size(window: bytes) -> int:
    if _BACKSLASH not in window:
        return len(window)
    text = str(decode(b'"%b"' % window))
    return len(text) if text.isascii() else len(text.encode())


def _why(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not valid UTF-8"
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    return str(error).removeprefix("JSON is malformed: ")
