"""Asks whether a pinned package has a known weakness, and says so only of packages that a service has judged.

pip-audit asks and this reads its answers, because pip-audit alone calls it well where its service knows none of the
packages (a mirror, a machine without a network). Exit code 0: all were judged, none has a known weakness; 1: some have;
2: not known, and the last line says why.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sbom

ROOT = Path(__file__).resolve().parents[1]
WEAK = "django==1.11"
"""Has a dozen known weaknesses: a service that knows none of them knows nothing of the others either."""
PATIENCE = 600.0
GOOD, BAD, UNKNOWN = 0, 1, 2
UNREACHED = re.compile(r"(Connection|Timeout|Service|HTTP|SSL|Proxy|JSONDecode)Error|Could not connect")
REMEDY = "Run this again where the service can be reached, or name the other one with --service."


class UnknownError(Exception):
    """Nothing can be said; the message says why, and what to do."""


class Weakness(NamedTuple):
    """One that is known."""

    package: str
    ident: str
    better: str
    """The versions that have it no more."""


class Verdict(NamedTuple):
    """What the service said."""

    judged: frozenset[str]
    """The packages that it knows, as `name==version`."""
    weak: tuple[Weakness, ...]


def main(arguments: Sequence[str]) -> int:
    """Do what the words say; returns the exit code."""
    words = parser().parse_args(arguments)
    if words.sbom is not None:
        words.sbom.write_text(json.dumps(sbom.bill(in_the_image()), indent=1) + "\n", "utf-8")
        print(f"{words.sbom}: what is in the image, as CycloneDX")
        return GOOD
    service = ["--vulnerability-service", words.service, "--timeout", str(words.timeout)]
    if words.osv_url:
        service += ["--osv-url", words.osv_url]
    files = sorted(ROOT.glob("requirements*.txt"))
    try:
        check(service)
        print(f"asking {words.service} about {', '.join(file.name for file in files)}", flush=True)
        told = told_of(service, [file.read_text("utf-8") for file in files])
    except UnknownError as why:
        print(f"Not known: {why}.\nNothing was found out about the packages. {REMEDY}", file=sys.stderr)
        return UNKNOWN
    return report(told, files)


def parser() -> argparse.ArgumentParser:
    """What may follow `run.py audit`."""
    words = argparse.ArgumentParser(prog="run.py audit", description=__doc__)
    words.add_argument("--sbom", type=Path, metavar="FILE", help="only write what is in the image, as CycloneDX")
    words.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="who is asked (default: pypi)")
    words.add_argument("--osv-url", metavar="URL", help="where --service osv is asked, if not at its own place")
    words.add_argument("--timeout", type=int, default=15, metavar="SECONDS", help="how long an answer may take")
    return words


def check(service: Sequence[str]) -> None:
    """See that the service knows of weaknesses at all. Raises `UnknownError` if it does not, or cannot be reached."""
    if not told_of(service, [f"{WEAK} --hash=sha256:{'0' * 64}\n"]).weak:
        raise UnknownError(f"the service does not even know that {WEAK} is weak, so it is no vulnerability service")


def told_of(service: Sequence[str], requirements: Sequence[str]) -> Verdict:
    """What the service says of these files' packages. Raises `UnknownError` if it does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        # No cache: an audit is of today.
        command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
        command += ["--disable-pip", "--require-hashes", "--aliases", "off", "--desc", "off"]
        command += ["--cache-dir", f"{folder}/cache", *service]
        for number, text in enumerate(requirements):
            Path(f"{folder}/{number}.txt").write_text(text, "utf-8")
            command += ["--requirement", f"{folder}/{number}.txt"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            raise UnknownError(f"the service did not answer within {PATIENCE:.0f} s") from None
    return read(done.stdout, done.stderr)


def read(printed: str, complained: str) -> Verdict:
    """What pip-audit printed. Raises `UnknownError` if it is no report, and says what its last complaint was."""
    try:
        packages: list[dict[str, Any]] = json.loads(printed)["dependencies"]
        judged = [package for package in packages if "skip_reason" not in package]
        return Verdict(
            frozenset(f"{package['name']}=={package['version']}" for package in judged),
            tuple(
                Weakness(f"{package['name']}=={package['version']}", weak["id"], ", ".join(weak["fix_versions"]))
                for package in judged
                for weak in package["vulns"]
            ),
        )
    except (ValueError, KeyError, TypeError):
        what = "the vulnerability service cannot be reached" if UNREACHED.search(complained) else "pip-audit failed"
        last = (complained.strip().splitlines() or ["it printed no report"])[-1]
        raise UnknownError(f"{what} ({last.strip()[:300].rstrip('.')})") from None


def report(told: Verdict, files: Sequence[Path]) -> int:
    """Print what is known; returns the exit code."""
    pins = {file.name: pinned(file.read_text("utf-8")) for file in files}
    for weakness in told.weak:
        where = ", ".join(name for name, packages in pins.items() if weakness.package in packages)
        print(f"{weakness.package} ({where}): {weakness.ident}; without it: {weakness.better or 'no version yet'}")
    missing = sorted(set().union(*pins.values()) - told.judged)
    if told.weak:
        print("Known weaknesses: run `python3 run.py lock`, or say in a constraint why one stays.", file=sys.stderr)
        return BAD
    if missing:
        print(f"Not known: the service has not judged {', '.join(missing)}. {REMEDY}", file=sys.stderr)
        return UNKNOWN
    print(f"{len(told.judged)} packages, no known weakness")
    return GOOD


def pinned(text: str) -> set[str]:
    """The packages that a requirement file installs here, as `name==version`."""
    lines = re.findall(r"^([a-z0-9-]+==[\w.]+)(?: ; ([^\\\n]+))?", text, re.MULTILINE)
    return {package for package, condition in lines if not condition or holds(condition.strip())}


def holds(condition: str) -> bool:
    """Whether a requirement's condition is true on this machine."""
    from packaging.markers import Marker  # noqa: PLC0415 - comes with pip-audit, and the bill alone needs none of it

    return Marker(condition).evaluate()


def in_the_image() -> set[str]:
    """The names of what deploy/Dockerfile leaves: the pins, but for what builds the project, and the project."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    builds = {sbom.normal(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in groups["build"]}
    names = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-otel.txt").read_text("utf-8"), re.MULTILINE)
    return {sbom.PROJECT, *names} - builds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
