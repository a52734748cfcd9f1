"""The coverage-guided run: changes inputs as long as that reaches code which no input reached before.

`python3 run.py fuzz` tries each target for a minute. An input that breaks an invariant is written into the corpus,
where every later run and every run of the tests tries it again: mend what it shows, and commit it with the mend.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

FOLDER = Path(__file__).resolve().parent
CORPUS = FOLDER / "corpus"
NAMES = tuple(sorted(path.name for path in CORPUS.iterdir()))
LONGEST_INPUT = 4096
SLOWEST_INPUT = 10
MOST_MEMORY = 2048
PROGRESS = re.compile(r"^#(\d+)\s+(\w+).*?cov: (\d+).*?corp: (\d+).*?exec/s: (\d+)")
NOISE = re.compile(r"INFO|WARNING|MS:|0x|artifact_prefix|Base64|SUMMARY|\s*$")
WRITTEN = re.compile(r"Test unit written to (\S+)")


def main(arguments: list[str]) -> int:
    """Run the targets one after the other; 1 if any input broke an invariant."""
    parser = argparse.ArgumentParser(
        prog="run.py fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is tried (default: 60)")
    parser.add_argument("--replay", type=Path, help="run this one input through the target's invariants, and no more")
    parser.add_argument("target", nargs="*", type=name_of_a_target, help=f"of: {', '.join(NAMES)}")
    wanted = parser.parse_args(arguments)
    if wanted.replay is not None:
        return replay(wanted.replay)
    broken = [target for target in wanted.target or NAMES if not holds(target, wanted.seconds)]
    if broken:
        print(f"\nbroken: {', '.join(broken)}")
    return 1 if broken else 0


def name_of_a_target(name: str) -> str:
    """Accept the name of a target; argparse says what is wrong with another."""
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"{name!r} is no target; there are {', '.join(NAMES)}")
    return name


def holds(target: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own, and say how it goes; False if an input was found."""
    with tempfile.TemporaryDirectory() as grown:
        command = [
            *(sys.executable, __file__, "--child", target, grown, str(CORPUS / target)),
            *(f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={SLOWEST_INPUT}"),
            *(f"-rss_limit_mb={MOST_MEMORY}", f"-artifact_prefix={CORPUS / target}/"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            told = followed(target, seconds, process)
    if not process.returncode:
        return True
    print(*(line for line in told if not NOISE.match(line)), sep="")
    for written in WRITTEN.findall("".join(told)):
        print(f"{target}: the input is kept in the corpus; run it again with")
        print(f"  python3 run.py fuzz --replay {os.path.relpath(written)}")
    return False


def followed(target: str, seconds: int, process: subprocess.Popen[str]) -> list[str]:
    """Show how far a run is, in one line; return what it printed after its last progress."""
    began = shown = time.monotonic()
    line, told = f"{target}: nothing tried yet", []
    for printed in process.stdout or ():
        if not (progress := PROGRESS.match(printed)):
            told.append(printed)
            continue
        told.clear()
        tries, _, edges, inputs, rate = progress.groups()
        now = time.monotonic()
        line = (
            f"{target}: {now - began:.0f} of {seconds} s, {int(tries):,} inputs tried, {rate} a second,"
            f" {edges} branches reached, {inputs} inputs worth keeping"
        )
        if sys.stdout.isatty():
            print(f"\r\x1b[K{line}", end="", flush=True)
        elif now - shown > 10:
            shown = now
            print(line, flush=True)
    print(f"\r\x1b[K{line}" if sys.stdout.isatty() else line, flush=True)
    return told


def replay(path: Path) -> int:
    """Run one input through every invariant of the target whose part of the corpus it lies in."""
    import targets  # noqa: PLC0415 - the program is imported where it is run

    for invariant in targets.TARGETS[path.resolve().parent.name]:
        invariant(path.read_bytes())
        print(f"{invariant.__name__}: holds")
    return 0


def child(target: str, *arguments: str) -> None:
    """Be the process that libFuzzer runs in; it ends the process itself."""
    import atheris  # noqa: PLC0415 - needed here alone

    with atheris.instrument_imports(include=["proxy"]):
        import targets  # noqa: PLC0415 - so that what is imported is instrumented

    from mutation import mutated  # noqa: PLC0415

    def change(data: bytes, longest: int, seed: int) -> bytes:
        if seed % 2:
            return bytes(atheris.Mutate(data, longest))
        return mutated(data, Random(seed))[:longest]

    atheris.Setup([target, *arguments], lambda data: targets.check(target, data), custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.path[:0] = [str(FOLDER.parent.parent), str(FOLDER.parent / "wire")]
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)
