"""What the programs of this folder have in common: a folder, a voice that tells the time, and an exit code.

What a run does, and how its findings look, is its own.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from places import ChaosError

_FoundT = TypeVar("_FoundT")
Say = Callable[[str], None]
Run = Callable[[argparse.Namespace, Path, Say], Coroutine[Any, Any, _FoundT]]


def carry_out(name: str, options: argparse.Namespace, run: Run[_FoundT], is_good: Callable[[_FoundT], bool]) -> int:
    """Run with `options`, of which `seed` and `keep` are read here; 0 if what was found is good."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {text}", file=sys.stderr, flush=True)

    say(f"seed {options.seed}")
    with _folder(options.keep) as folder:
        try:
            found = uvloop.run(run(options, folder, say))
        except ChaosError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0 if is_good(found) else 1


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder of the run: thrown away at its end, or kept where the command line says."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="aion-chaos-") as folder:
        yield Path(folder)
