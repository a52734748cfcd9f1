"""Commands as bytes, the way a server reads them: whole, as templates with room for some words, and with a script's
text in place of its digest.

Bytes alone, nothing about what they mean: this is the part of a call that is paid for with every request.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import hiredis

from proxy.stores.scripts import Script

Word = bytes | str | int

_BY_DIGEST: Final = "\r\n$7\r\nEVALSHA\r\n$40\r\n"
_BY_TEXT: Final = "\r\n$4\r\nEVAL\r\n"


class Command:
    """A command that is sent again and again with a few other words in the middle: the rest of it is packed once.

    For ASCII alone, whose characters are its bytes; `pack` takes three times as long.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, before: Sequence[str | int], count: int, after: Sequence[str | int] = ()) -> None:
        """Begin with `before`, leave room for `count` words, and end with `after`."""
        self._before = f"*{len(before) + count + len(after)}\r\n{_bulks(map(str, before))}"
        self._after = _bulks(map(str, after))

    def packed(self, words: Sequence[str]) -> bytes:
        """Write the command with these words, exactly as many as there is room for."""
        return f"{self._before}{_bulks(words)}{self._after}".encode("ascii")


def pack(words: Sequence[Word]) -> bytes:
    """Write a command: any number of words."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type] # its types say: exactly one word
    return packed


def with_text(packed: bytes, script: Script) -> bytes:
    """Write an EVALSHA of `script` as the EVAL that does the same on a server that does not know the digest."""
    count, _, rest = packed.partition(f"{_BY_DIGEST}{script.sha}\r\n".encode())
    text = script.text.encode()
    return b"%b%b$%d\r\n%b\r\n%b" % (count, _BY_TEXT.encode(), len(text), text, rest)


def _bulks(words: Iterable[str]) -> str:
    return "".join([f"${len(word)}\r\n{word}\r\n" for word in words])
