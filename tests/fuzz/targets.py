"""What is fuzzed: each target's invariants, and the inputs that every run begins with.

An input keeps an invariant if the function returns; whatever it raises is a finding.
"""

from collections.abc import Callable
from pathlib import Path

import answer_invariants
import chat_stream_invariants
import framer_invariants
import native_stream_invariants
import reasoning_invariants
import request_invariants
import response_stream_invariants
import scanner_invariants

Invariant = Callable[[bytes], None]

CORPUS = Path(__file__).with_name("corpus")
TARGETS: dict[str, tuple[Invariant, ...]] = {
    "framer": framer_invariants.INVARIANTS,
    "scanner": scanner_invariants.INVARIANTS,
    "chat_stream": chat_stream_invariants.INVARIANTS,
    "reasoning": reasoning_invariants.INVARIANTS,
    "requests": request_invariants.INVARIANTS,
    "answers": answer_invariants.INVARIANTS,
    "response_stream": response_stream_invariants.INVARIANTS,
    "native_stream": native_stream_invariants.INVARIANTS,
}


def inputs_of(target: str) -> list[Path]:
    """The target's part of the corpus, in order."""
    return sorted((CORPUS / target).iterdir())


def check(target: str, data: bytes) -> None:
    """Run one input through every invariant of a target."""
    for invariant in TARGETS[target]:
        invariant(data)
