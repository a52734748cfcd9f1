"""Finds the blocks of reasoning at the beginning of a model's text, however that text is cut into pieces.

A machine over decoded text, never over JSON: the same tag can be written in many ways there. It knows one text and
nothing of choices, fields or clients; what its findings mean is `reasoning.py`'s business.
"""

import re
from enum import Enum, auto
from typing import Final

_BLANKS: Final = " \t\r\n"
_BLANK_RUN: Final = re.compile(f"[{_BLANKS}]*")
_BETWEEN: Final = "\n\n"
"""What joins the reasoning of several blocks."""
MOST_AWAITED: Final = 256 * 1024
"""Characters that are held back until it is known whether their blocks only repeat what came elsewhere."""


class Blocks(Enum):
    """What becomes of the blocks at the beginning of a text."""

    TAKE = auto()
    """What stands in them is reasoning; tags and the blanks around them vanish."""
    LEAVE = auto()
    """They stay in the text as they came; one whose opening tag was not written gets it."""
    AWAIT = auto()
    """They stay, unless it is said before the text goes on behind them that they repeat what came elsewhere."""
    IGNORE = auto()
    """There are none: all text is content as it comes."""


class _State(Enum):
    START = auto()
    PREFILLED = auto()
    BLOCK = auto()
    AFTER = auto()
    CONTENT = auto()


# As names of this file: Python 3.11 looks the member of an enum up ten times as long (so in other files too).
_START, _PREFILLED, _BLOCK, _AFTER, _CONTENT = _State
_TAKE, _LEAVE, _AWAIT, _IGNORE = Blocks


class TagScanner:
    """One text. What cannot be told yet is held back: blanks, and what may be the beginning of a tag."""

    __slots__ = (
        "_begun", "_blank", "_blocks", "_closing", "_held", "_missing", "_opening", "_reasoned", "_size", "_state",
        "_unsaid", "found",
    )  # fmt: skip

    def __init__(self, opening: str, closing: str, blocks: Blocks, *, prefilled: bool) -> None:
        """Start before the text; `prefilled` says that it begins inside a block."""
        self._missing = opening
        self._opening = opening.lstrip(_BLANKS) or opening  # it is looked for behind blanks
        self._closing = closing
        self._blocks = blocks
        self._state = _PREFILLED if prefilled else _START
        self._held: list[str] = []
        self._blank = False  # what is held back is nothing but blanks
        self._unsaid: list[str] | None = []  # all of the text, until something of it has left
        self._size = 0
        self._begun = False
        self._reasoned = False
        self.found = prefilled
        """A block has begun, be it an empty one."""

    @property
    def done(self) -> bool:
        """True once nothing can be reasoning any more: all further text is content as it comes."""
        return self._state is _CONTENT

    @property
    def idle(self) -> bool:
        """True as long as no text has come: nothing is held back, and no block is open."""
        return self._state is _START and not self._held

    @property
    def left_block(self) -> bool:
        """True once a block was left in the content."""
        return self.found and self._state is _CONTENT and self._blocks is _LEAVE

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return the reasoning and then the content that is certain by now."""
        if self._blocks is _IGNORE:
            self._state = _CONTENT if text else self._state
            return "", text
        if self._unsaid is None:
            return self._scan(text)
        self._unsaid.append(text)
        self._size += len(text)
        reasoning, content = self._scan(text)
        if not content and (self._size <= MOST_AWAITED if self._blocks is _AWAIT else not reasoning):
            return "", ""
        if self._blocks is not _TAKE:
            return "", self._all_of_it()
        self._unsaid = None
        return reasoning, content

    def close(self) -> tuple[str, str]:
        """Take note that something else than text comes now, which ends an open block; return what was held back."""
        out = self.flush()
        if self._state in (_BLOCK, _PREFILLED):
            self._state = _CONTENT if self._blocks is _LEAVE else _AFTER
            self._unsaid = None
        return out

    def flush(self) -> tuple[str, str]:
        """Return what is held back, as what it is if nothing follows: reasoning and content."""
        if self._blocks is not _TAKE:
            return "", self._all_of_it()
        self._unsaid = None
        held = self._taken()
        if not held:
            return "", ""
        if self._state in (_BLOCK, _PREFILLED):
            self._state = _BLOCK
            return self._trimmed(held.rstrip(_BLANKS)), ""
        if self._state is _AFTER:
            held = held.lstrip(_BLANKS)
        if held:
            self._state = _CONTENT
        return "", held

    def repeats(self) -> None:
        """Take note that the reasoning comes elsewhere: a block, open or to come, only says it again, and the text does
        not begin inside of one.
        """
        if self._blocks is _IGNORE:
            return
        self._blocks = _TAKE
        text = "".join(self._unsaid or ())
        if text or self._state is _PREFILLED:
            self._state = _START
            self._hold("")
            _, content = self._scan(text)
            if content:  # a closing tag that nobody opened; it leaves when more comes
                self._state = _START
                self._hold(content)
        self._unsaid = None

    def _scan(self, text: str) -> tuple[str, str]:
        """Go through a piece of the text; return the reasoning and then the content that is certain by now."""
        if self._held:
            if self._blank and not text.strip(_BLANKS):
                self._held.append(text)  # it decides nothing, and what is held back is not looked at again
                return "", ""
            text = self._taken() + text
        found: list[str] = []
        at = 0
        while at < len(text) and self._state is not _CONTENT:
            if self._state is not _BLOCK:
                at = self._outside(text, at)
                continue
            end = text.find(self._closing, at)
            if end < 0:
                end = self._certain(text, at)
                if end < len(text):
                    self._hold(text[end:])
                last = self._trimmed(text[at:end])
                return "".join((*found, last)) if found else last, ""
            self._state = _AFTER
            found.append(self._trimmed(text[at:end].rstrip(_BLANKS)))
            at = end + len(self._closing)
        return "".join(found), text[at:]

    def _outside(self, text: str, at: int) -> int:
        """Decide what begins at a place outside of blocks; return the place of what is left to look at."""
        bare = self._bare(text, at)
        if text.startswith(self._opening, bare):
            self.found = True
            self._state, self._begun = _BLOCK, False
            return bare + len(self._opening)
        if self._opening.startswith(text[bare : bare + len(self._opening)]):
            self._hold(text[at:])
            return len(text)
        if self._state is _PREFILLED:
            self._state = _BLOCK
            return bare
        after, self._state = self._state is _AFTER, _CONTENT
        return bare if after else at

    def _all_of_it(self) -> str:
        """Let out the whole text as content, if nothing of it has left yet; nothing is looked for any more."""
        text = "".join(self._unsaid or ())
        if not text:
            return ""
        self._unsaid = None
        self._hold("")  # it was a part of that
        self._state = _CONTENT
        opens = self.found and not text.startswith(self._opening, self._bare(text, 0))
        return self._missing + text if opens else text

    def _hold(self, text: str) -> None:
        self._held = [text] if text else []
        self._blank = not text.strip(_BLANKS)

    def _taken(self) -> str:
        """Take out all that is held back."""
        held, self._held = "".join(self._held), []
        return held

    @staticmethod
    def _bare(text: str, at: int) -> int:
        """Return the place behind the blanks at a place."""
        found = _BLANK_RUN.match(text, at)
        return at if found is None else found.end()

    def _certain(self, text: str, at: int) -> int:
        """Return up to where the text of a block can be neither its closing tag nor the blanks at its end."""
        closing = self._closing
        end = text.find(closing[0], max(at, len(text) - len(closing) + 1))
        while end >= 0 and not closing.startswith(text[end:]):
            end = text.find(closing[0], end + 1)
        return at + len(text[at : end if end >= 0 else len(text)].rstrip(_BLANKS))

    def _trimmed(self, text: str) -> str:
        """Drop the blanks at the beginning of a block, and part it from the one before."""
        if self._begun:
            return text
        text = text.lstrip(_BLANKS)
        if not text:
            return ""
        self._begun = True
        between, self._reasoned = _BETWEEN if self._reasoned else "", True
        return between + text
