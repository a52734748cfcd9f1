"""How records stand in a journal's bytes: each in a frame with its length and a checksum.

Pure. Whatever happened to the bytes (cut off anywhere, bits turned over, a piece missing), every frame that is whole is
found again, and what was passed over is counted; nothing is ever raised.
"""

from struct import Struct as Layout
from typing import Final
from zlib import crc32

from msgspec import Struct

MARK: Final = b"\xc1\xfe"
"""Begins every frame. Neither byte can occur in text, so that nothing a client or a provider says looks like one."""
LONGEST: Final = 256 * 1024
"""Bytes that a record may have: no frame is waited for longer than this."""
_HEAD: Final = Layout("<2sII")
_LENGTH: Final = Layout("<I")
HEAD_BYTES: Final = _HEAD.size


class Scanned(Struct, frozen=True):
    """What was found in a piece of a journal."""

    payloads: list[bytes]
    """The records, in order."""
    consumed: int
    """How many bytes are done with; what follows them may become a frame when more is written."""
    skipped: int
    """How many of these belonged to no whole frame."""


def frame(payload: bytes) -> bytes:
    """Wrap a record. ValueError if it is longer than any reader would believe."""
    size = len(payload)
    if size > LONGEST:
        raise ValueError(f"a record of {size} bytes does not fit into a journal")
    return _HEAD.pack(MARK, size, crc32(payload, crc32(_LENGTH.pack(size)))) + payload


def scan(data: bytes, *, final: bool) -> Scanned:
    """Find every whole frame in what follows the last consumed byte; `final`: nothing more will be written to it.

    An incomplete frame at the end is left for later, unless the data are final or a whole frame comes after it.
    """
    payloads: list[bytes] = []
    at, skipped = 0, 0
    while at < len(data):
        payload = _payload(data, at)
        if payload is not None:
            payloads.append(payload)
            at += HEAD_BYTES + len(payload)
            continue
        found = _next_frame(data, at + 1)
        if found is None:
            # What cannot even be the beginning of a frame any more is not kept.
            found = len(data) if final else max(at, len(data) - HEAD_BYTES - LONGEST)
            return Scanned(payloads, found, skipped + found - at)
        skipped += found - at
        at = found
    return Scanned(payloads, at, skipped)


def _next_frame(data: bytes, begin: int) -> int | None:
    at = data.find(MARK, begin)
    while at >= 0:
        if _payload(data, at) is not None:
            return at
        at = data.find(MARK, at + 1)
    return None


def _payload(data: bytes, at: int) -> bytes | None:
    """Return the record of the frame at this place; None if there is no whole one."""
    begin = at + HEAD_BYTES
    if begin > len(data):
        return None
    mark, size, checksum = _HEAD.unpack_from(data, at)
    if mark != MARK or begin + size > len(data):
        return None
    payload = data[begin : begin + size]
    return payload if crc32(payload, crc32(data[at + len(MARK) : begin - _LENGTH.size])) == checksum else None
