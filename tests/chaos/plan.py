"""What one request of a chaos run does, and what its provider will do: pure, and a function of the seed alone.

A run is replayed from its seed; only the moments at which processes are killed meet other requests then.
"""

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

ACCOUNTS: Final = 6
TIGHT_ACCOUNT: Final = 0
"""The account whose budget does not last: it may be refused, and must never be overdrawn."""
WORDS: Final = ("tide", "harbour", "lantern", "oak", "grüße", "世界", "signal", "ember", "quiet", "north")


class Fault(StrEnum):
    """What goes wrong at the provider."""

    NONE = "none"
    REFUSES = "refuses"
    """500 before any byte of an answer."""
    NO_USAGE = "no_usage"
    CUT = "cut"
    """The connection ends in the middle of the stream."""
    ERROR = "error"
    """An error event in the middle of the stream."""


class Route(StrEnum):
    """The models of a run; each has its own provider, or two."""

    CANCELS = "cancels"
    DRAINS = "drains"
    FAILS_OVER = "fails-over"
    """Its first provider always refuses."""


FAULTS: Final = (Fault.NONE,) * 14 + (Fault.REFUSES, Fault.NO_USAGE, Fault.NO_USAGE, Fault.CUT, Fault.ERROR)


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, from both of its ends."""

    number: int
    account: int
    route: Route
    stream: bool
    fault: Fault
    words: tuple[str, ...]
    """The text of the answer, an event each."""
    pause: float
    """Seconds between two events."""
    leaves_after: int | None
    """The client leaves when it has read so many events; None: it stays to the end."""
    reported_prompt: int
    reported_completion: int
    max_tokens: int

    @property
    def prompt(self) -> str:
        """The text of its one message; the provider reads the number out of it."""
        return f"request {self.number} of a chaos run"

    @property
    def breaks_after(self) -> int:
        """After how many events a fault in mid-stream comes."""
        return len(self.words) // 2


def planned(seed: int, number: int) -> Planned:
    """Draw the request of this number."""
    dice = Random(f"{seed}:{number}")
    stream = dice.random() < 0.7
    words = tuple(dice.choice(WORDS) + " " for _ in range(dice.randint(1, 24)))
    leaves = dice.randint(0, len(words)) if dice.random() < 0.25 else None
    fault = dice.choice(FAULTS)
    if not stream and fault in (Fault.CUT, Fault.ERROR):
        fault = Fault.NONE
    return Planned(
        number=number,
        account=dice.randrange(ACCOUNTS),
        route=dice.choice(tuple(Route)),
        stream=stream,
        fault=fault,
        words=words,
        pause=dice.choice((0.0, 0.0, 0.005, 0.02, 0.1)),
        leaves_after=leaves,
        reported_prompt=dice.randint(5, 8),
        reported_completion=dice.randint(1, 64),
        max_tokens=128,
    )
