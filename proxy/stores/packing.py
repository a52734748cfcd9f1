"""Commands as bytes, the way a server reads them: whole, as templates with room for some words, and with a script's
text in place of its digest.

Bytes alone, nothing about what they mean: this is the part of a call that is paid for with every request.
"""

from collections.abc import Sequence
from typing import Final

import hiredis

from proxy.stores.scripts import Script

Word = bytes | str | int

_BY_DIGEST: Final = "\r\n$7\r\nEVALSHA\r\n$40\r\n"
_BY_TEXT: Final = "\r\n$4\r\nEVAL\r\n"
_HEADS: Final = tuple(b"\r\n$%d\r\n" % size for size in range(128))
"""What stands before a word of so many bytes."""


class Command:
    """A command that is sent again and again with a few other words at its end: the rest of it is packed once.

    `pack` takes three times as long.
    """

    __slots__ = ("_before",)

    def __init__(self, before: Sequence[str | int], count: int) -> None:
        """Begin with `before`, and leave room for `count` words."""
        words = "".join([f"\r\n${len(word)}\r\n{word}" for word in map(str, before)])
        self._before = f"*{len(before) + count}{words}".encode("ascii")

    def packed(self, words: Sequence[bytes]) -> bytes:
        """Write the command with these words, exactly as many as there is room for."""
        try:
            packed = [_HEADS[len(word)] + word for word in words]
        except IndexError:
            packed = [b"\r\n$%d\r\n%b" % (len(word), word) for word in words]
        return b"".join((self._before, *packed, b"\r\n"))


def pack(words: Sequence[Word]) -> bytes:
    """Write a command: any number of words."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type] # its types say: exactly one word
    return packed


def with_text(packed: bytes, script: Script) -> bytes:
    """Write an EVALSHA of `script` as the EVAL that does the same on a server that does not know the digest."""
    count, _, rest = packed.partition(f"{_BY_DIGEST}{script.sha}\r\n".encode())
    text = script.text.encode()
    return b"%b%b$%d\r\n%b\r\n%b" % (count, _BY_TEXT.encode(), len(text), text, rest)
