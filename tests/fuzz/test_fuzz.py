"""Every invariant of `tests/fuzz/`, over the corpus and over changes of it; the longer run is `python3 run.py fuzz`.

The invariants are said at the top of each `*_invariants.py`, the changes are those of `mutation.py`.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import streams_read
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import mutated
from targets import TARGETS, inputs_of

import fuzz

FILES = [pytest.param(target, path, id=f"{target}-{path.name}") for target in TARGETS for path in inputs_of(target)]
EACH = [
    pytest.param(target, invariant, id=f"{target}-{invariant.__name__}")
    for target, invariants in TARGETS.items()
    for invariant in invariants
]


@pytest.mark.parametrize(("target", "path"), FILES)
def test_every_input_of_the_corpus_keeps_every_invariant(target: str, path: Path) -> None:
    for invariant in TARGETS[target]:
        invariant(path.read_bytes())


@pytest.mark.parametrize(("target", "invariant"), EACH)
def test_changed_inputs_keep(target: str, invariant: Callable[[bytes], None]) -> None:
    seeds = [path.read_bytes() for path in inputs_of(target)]

    @settings(deadline=None, max_examples=40)
    @given(st.sampled_from(seeds), st.randoms(use_true_random=False))
    def holds(seed: bytes, random: Random) -> None:
        invariant(mutated(seed, random))

    holds()


@given(st.binary(), st.randoms(use_true_random=False))
def test_a_change_can_be_made_to_anything(data: bytes, random: Random) -> None:
    assert isinstance(mutated(data, random), bytes)


def test_the_targets_are_the_folders_of_the_corpus() -> None:
    assert set(fuzz.NAMES) == set(TARGETS)


def test_a_target_s_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fuzz.main(["framr"])
    assert "framer" in capsys.readouterr().err


def test_an_input_is_tried_again_by_its_file() -> None:
    [first, *_] = inputs_of("framer")
    command = [sys.executable, fuzz.__file__, "--replay", str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{invariant.__name__}: holds" for invariant in TARGETS["framer"]]


def test_an_input_that_breaks_an_invariant_is_not_said_to_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(data: bytes) -> None:
        raise AssertionError(data)

    monkeypatch.setitem(TARGETS, "framer", (broken,))
    with pytest.raises(AssertionError):
        fuzz.main(["--replay", str(inputs_of("framer")[0])])
    assert capsys.readouterr().out == ""


def test_the_plain_reading_of_events_follows_the_rules() -> None:
    """The measure itself, once, against what the rules say."""
    sent = b"\xef\xbb\xbfdata: a\rdata:b\r\n\r\n\n: c\n\ndata\nid: 1\n\ndata: last"
    assert streams_read.events_of(sent) == [
        ([b"data: a", b"data:b"], [b"a", b"b"]),
        ([b": c"], []),
        ([b"data", b"id: 1"], [b""]),
        ([b"data: last"], [b"last"]),
    ]
