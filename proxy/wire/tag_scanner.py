"""Finds the blocks of reasoning at the beginning of a model's text, however that text is cut into pieces.

A machine over decoded text, never over JSON: the same tag can be written in many ways there. It knows one text and
nothing of choices, fields or clients; what its findings mean is `reasoning.py`'s business.
"""

from enum import Enum, auto
from typing import Final

_BLANKS: Final = " \t\r\n"
_BETWEEN: Final = "\n\n"
"""What joins the reasoning of several blocks."""
MOST_AWAITED: Final = 256 * 1024
"""Characters of an open block that are held back until it is known whether they only repeat what came elsewhere."""


class Blocks(Enum):
    """What becomes of the blocks at the beginning of a text."""

    TAKE = auto()
    """What stands in them is reasoning; tags and the blanks around them vanish."""
    LEAVE = auto()
    """They stay in the text as they came; one whose opening tag was not written gets it."""
    AWAIT = auto()
    """They stay, unless it is said, while one is open, that it repeats what came elsewhere."""


class _State(Enum):
    START = auto()
    PREFILLED = auto()
    BLOCK = auto()
    AFTER = auto()
    AWAITED = auto()
    CONTENT = auto()


class TagScanner:
    """One text. What cannot be told yet is held back: blanks, and what may be the beginning of a tag."""

    __slots__ = (
        "_begun", "_blocks", "_closing", "_held", "_later", "_missing", "_opening", "_reasoned", "_size", "_state",
        "found",
    )  # fmt: skip

    def __init__(self, opening: str, closing: str, blocks: Blocks, *, prefilled: bool) -> None:
        """Start before the text; `prefilled` says that it begins inside a block."""
        self._missing = opening
        self._opening = opening.lstrip(_BLANKS) or opening  # it is looked for behind blanks
        self._closing = closing
        self._blocks = blocks
        self._state = _State.PREFILLED if prefilled else _State.START
        self._held = ""
        self._later: list[str] = []
        self._size = 0
        self._begun = False
        self._reasoned = False
        self.found = prefilled
        """A block has begun, be it an empty one."""

    @property
    def done(self) -> bool:
        """True once nothing can be reasoning any more: all further text is content as it comes."""
        return self._state is _State.CONTENT

    @property
    def idle(self) -> bool:
        """True as long as no text has come: nothing is held back, and no block is open."""
        return self._state is _State.START and not self._held

    @property
    def left_block(self) -> bool:
        """True once a block was left in the content."""
        return self.found and self._state is _State.CONTENT and self._blocks is Blocks.LEAVE

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return the reasoning and then the content that is certain by now."""
        if self._waits_on(text):
            return "", ""
        text = self._taken() + text
        reasoning = ""
        while text and self._state is not _State.CONTENT:
            if self._state is _State.BLOCK:
                found, text = self._inside(text)
                reasoning += found
            elif self._state is _State.AWAITED:
                text = self._awaited(text)
            else:
                text = self._outside(text)
        return reasoning, text

    def close(self) -> tuple[str, str]:
        """Take note that something else than text comes now, which ends an open block; return what was held back."""
        out = self.flush()
        if self._state is _State.BLOCK or self._state is _State.PREFILLED:
            self._state = _State.CONTENT if self._blocks is Blocks.LEAVE else _State.AFTER
        return out

    def flush(self) -> tuple[str, str]:
        """Return what is held back, as what it is if nothing follows: reasoning and content."""
        held = self._taken()
        if not held:
            return "", ""
        if self._state is _State.PREFILLED:
            held = self._not_opened(held, held.lstrip(_BLANKS))
        if self._state is _State.BLOCK:
            return self._trimmed(held.rstrip(_BLANKS)), ""
        if self._state is _State.AFTER:
            held = held.lstrip(_BLANKS)
        if held:
            self._state = _State.CONTENT
        return "", held

    def repeats(self) -> None:
        """Take note that the reasoning comes elsewhere: a block, open or to come, only says it again."""
        self._blocks = Blocks.TAKE
        if self._state is _State.PREFILLED:
            self._state = _State.START
            self.found = False
        elif self._state is _State.AWAITED:
            held = self._taken()
            self._state = _State.START
            self.feed(held)  # there is no closing tag in it, so that all of it is the block's

    def _waits_on(self, text: str) -> bool:
        """Put a piece behind what is held back if it decides nothing, without looking at all of that again."""
        if not self._held:
            return False
        if self._state is _State.AWAITED:
            most = len(self._closing)
            tail = "".join((self._held[-most:], *self._later[-most:]))[-most:]
            waits = self._closing not in tail + text and self._size < MOST_AWAITED
        else:
            waits = not text.strip(_BLANKS) and not (self._held if not self._later else "").strip(_BLANKS)
        if waits and text:
            self._later.append(text)
            self._size += len(text)
        return waits

    def _taken(self) -> str:
        """Take out all that is held back."""
        held = "".join((self._held, *self._later)) if self._later else self._held
        self._held, self._size = "", 0
        self._later.clear()
        return held

    def _inside(self, text: str) -> tuple[str, str]:
        """Return the reasoning at the beginning of a block's text, and the text that is left to look at."""
        inside, closed, behind = text.partition(self._closing)
        if closed:
            self._state = _State.AFTER
            return self._trimmed(inside.rstrip(_BLANKS)), behind
        end = self._certain(text)
        self._held = text[end:]
        return self._trimmed(text[:end]), ""

    def _awaited(self, text: str) -> str:
        if self._closing in text or len(text) > MOST_AWAITED:
            self._state = _State.CONTENT
            return text
        self._held = text
        return ""

    def _outside(self, text: str) -> str:
        bare = text.lstrip(_BLANKS)
        if bare.startswith(self._opening):
            return self._opened(text, bare)
        if self._opening.startswith(bare):
            self._held = text
            return ""
        return self._not_opened(text, bare)

    def _opened(self, text: str, bare: str) -> str:
        """Enter the block that begins at `bare`; return the text that is left to look at."""
        self.found = True
        if self._blocks is Blocks.TAKE:
            self._state = _State.BLOCK
            self._begun = False
            return bare[len(self._opening) :]
        self._state = _State.AWAITED if self._blocks is Blocks.AWAIT else _State.CONTENT
        return text

    def _not_opened(self, text: str, bare: str) -> str:
        if self._state is _State.PREFILLED and self._blocks is Blocks.TAKE:
            self._state = _State.BLOCK
            return bare
        missing = self._missing if self._state is _State.PREFILLED else ""
        after, self._state = self._state is _State.AFTER, _State.CONTENT
        return bare if after else missing + text

    def _certain(self, text: str) -> int:
        """Return how much of a block's text can be neither its closing tag nor the blanks at its end."""
        closing = self._closing
        end = text.find(closing[0], max(0, len(text) - len(closing) + 1))
        while end >= 0 and not closing.startswith(text[end:]):
            end = text.find(closing[0], end + 1)
        return len((text[:end] if end >= 0 else text).rstrip(_BLANKS))

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
