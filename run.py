"""One command from a fresh checkout to a running gateway, and the developers' words beside it.

Only the standard library, and only what it takes to make the environment and start a program in it: what the programs
do belongs to proxy/ and tests/. A new word is a row in WORDS; a new requirement file is a name in its row.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
OLDEST_PIP = (22, 3)  # the first with `pip --python`
STAMP = "aion-proxy.json"  # in the environment: each requirement file that is wholly installed, with its digest


class Word(NamedTuple):
    """What --help says, the requirement files that are installed first, the commands; the last takes what is left.

    `node` is a folder with a package-lock.json, whose packages npm installs there.
    """

    what: str
    needs: tuple[str, ...]
    commands: tuple[str, ...]
    node: str | None = None


RUN, TEST, REAL, UV = "requirements.txt", "requirements-test.txt", "requirements-real.txt", "requirements-uv.txt"
FUZZ, DEPLOY, PARQUET = "requirements-fuzz.txt", "requirements-deploy.txt", "requirements-parquet.txt"
AUDIT, OTEL, BROWSER = "requirements-audit.txt", "requirements-otel.txt", "requirements-browser.txt"
COMPILE = (
    "uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate"
    " --no-emit-index-url --no-emit-find-links --output-file "
)
WORDS = {
    "demo": Word("run the gateway with everything built in (so does no word at all)", (RUN,), ("aion-proxy demo",)),
    "demo-real": Word("the same with a small real model behind it", (RUN, REAL), ("aion-proxy demo --real",)),
    "test": Word(
        "check style, types and every test; words after it go to pytest",
        (RUN, TEST, OTEL, PARQUET),
        ("ruff check .", "ruff format --check .", "mypy", "python -m pytest"),
    ),
    "test-real": Word(
        "test with a small real model behind the gateway; words after it go to pytest",
        (RUN, TEST, REAL),
        ("python -m pytest tests/real",),
    ),
    "test-clients": Word(
        "test with client libraries of Node (needs node and npm); words after it go to pytest",
        (RUN, TEST),
        ("python -m pytest tests/clients/node",),
        node="tests/clients/node",
    ),
    "test-deploy": Word(
        "check the files for Docker and Kubernetes by their schemas, and try the image's steps",
        (RUN, TEST, DEPLOY, AUDIT, OTEL),
        ("python -m pytest tests/deploy/schemas",),
    ),
    "test-browser": Word(
        "test the dashboard in Chromium (has to be there) and the admin API; words after it go to pytest",
        (RUN, TEST, BROWSER, PARQUET),
        ("python -m pytest tests/browser",),
    ),
    "screenshots": Word(
        "take the pictures of the dashboard in docs/ anew (needs Chromium)",
        (RUN, TEST, BROWSER),
        ("python tests/browser/screenshots.py",),
    ),
    "fuzz": Word(
        "change inputs until one breaks what must hold; a target's name, or --seconds, may follow",
        (RUN, TEST, FUZZ),
        ("python tests/fuzz/fuzz.py",),
    ),
    "chaos": Word(
        "kill gateways and Redis under traffic, and compare the ledger with the provider's own account",
        (RUN, TEST),
        ("python tests/chaos/chaos.py",),
    ),
    "soak": Word(
        "run two gateways under mixed traffic for half an hour, and look for what grows or stays behind",
        (RUN, TEST),
        ("python tests/chaos/soak.py",),
    ),
    "audit": Word(
        "look for known weaknesses of every pinned package (needs a network); --sbom FILE: what is in the image",
        (RUN, AUDIT, OTEL),
        ("python deploy/audit.py",),
    ),
    "bench": Word("measure the gateway beside nginx", (RUN,), ("python tests/bench/bench.py",)),
    "lock": Word(
        "make the requirement files anew, with the newest versions (needs uv)",
        (),
        (
            f"{COMPILE}{RUN} --group build pyproject.toml",
            f"{COMPILE}{OTEL} --extra otel --group build pyproject.toml --constraints {RUN}",
            f"{COMPILE}{TEST} --group test --constraints {OTEL}",
            # The model's package asks for a library that must be compiled and that nothing here uses.
            f"{COMPILE}{REAL} --group real --no-deps",
            f"{COMPILE}{UV} --group installer",
            f"{COMPILE}{PARQUET} --group parquet",
            f"{COMPILE}{FUZZ} --group fuzz",
            f"{COMPILE}{AUDIT} --group audit --constraints {RUN} --constraints {TEST}",
            f"{COMPILE}{DEPLOY} --group deploy --constraints {RUN} --constraints {TEST} --constraints {AUDIT}",
            f"{COMPILE}{BROWSER} --group browser --constraints {RUN} --constraints {TEST}",
        ),
    ),
}


class SetupError(Exception):
    """The environment cannot be made; the message says what the person at the keyboard can do about it."""


def usage() -> str:
    """What --help prints: every word with a line."""
    words = "".join(f"  {name:<12} {word.what}\n" for name, word in WORDS.items())
    return (
        f"usage: python3 run.py [word] [the word's own arguments]\n\n{words}\n"
        "The environment is made in .venv, or in the folder that AION_PROXY_VENV names.\n"
    )


def say(text: str) -> None:
    """One line for the person who waits, on standard error."""
    print(text, file=sys.stderr, flush=True)


def digest(file: str, root: Path) -> str:
    """A hash of all that decides what installing this file gives, so that a change of any of it is noticed."""
    import tomllib  # noqa: PLC0415 - an older Python must live to say that it is too old

    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    # The settings of linters and tests are left out: they change nothing that is installed.
    decisive = [sys.version, str(root), *(repr(pyproject.get(table)) for table in ("build-system", "project"))]
    decisive.append((root / file).read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(decisive).encode()).hexdigest()


def installed(venv: Path) -> dict[str, str]:
    """The requirement files that are wholly installed, with their digests; none if the environment is half made."""
    try:
        found = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and (venv / "bin" / "python").exists() else {}


@contextmanager
def alone() -> Iterator[None]:
    """One set-up of a checkout at a time; ends with the process, however it ends."""
    import fcntl  # noqa: PLC0415 - not on Windows, where main() has said so by now

    with Path(__file__).open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(venv: Path, needs: tuple[str, ...]) -> None:
    """Make the environment hold these files' packages and the project; costs nothing when it does already."""
    wanted = {file: digest(file, ROOT) for file in needs}
    if wanted.items() <= installed(venv).items():
        return
    with alone():
        have = installed(venv)
        if any(have.get(file, found) != found for file, found in wanted.items()):
            have = {}  # what was installed from a file that has changed must not stay
        missing = [file for file in wanted if file not in have]
        if missing:
            began = time.monotonic()
            if not have:
                create(venv)
            (venv / STAMP).write_text("{}", encoding="utf-8")  # a set-up that is killed from here on begins anew
            install(venv, missing, project=not have)
            done = venv / f"{STAMP}.new"
            done.write_text(json.dumps(have | wanted), encoding="utf-8")
            done.replace(venv / STAMP)
            say(f"{venv} is ready after {time.monotonic() - began:.1f} s")


def prepare_node(folder: Path) -> None:
    """Make this folder hold the packages of its lock file, none of whose code runs; costs nothing when it does."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise SetupError("node and npm are not on the PATH: install Node.js 18 or newer and run the same command again")
    files = [folder / name for name in ("package.json", "package-lock.json", ".npmrc")]
    wanted = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    stamp = folder / "node_modules" / STAMP
    with alone():
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return
        stamp.unlink(missing_ok=True)  # a set-up that is killed from here on begins anew
        say(f"installing {folder.relative_to(ROOT)}/package-lock.json with npm")
        quietly([npm, "ci", "--ignore-scripts", "--prefix", str(folder)])
        stamp.write_text(wanted, encoding="utf-8")


def create(venv: Path) -> None:
    """An empty environment in place of the one that was there, if any; a folder of another kind is left alone."""
    python = os.path.realpath(sys.executable)  # before it goes, should this run from the environment itself
    if venv.exists():
        if any(venv.iterdir()) and not (venv / STAMP).exists() and not (venv / "pyvenv.cfg").exists():
            raise SetupError(f"{venv} is no environment: move it away, or name another folder in AION_PROXY_VENV")
        shutil.rmtree(venv)
    venv.mkdir(parents=True)
    (venv / STAMP).touch()  # first of all, so that the folder is known as ours if this is killed
    say(f"making {venv} with Python {sys.version.split()[0]}")
    # Without pip, because Debian keeps what is needed for it in a package of its own.
    quietly([python, "-m", "venv", "--without-pip", str(venv)])


def install(venv: Path, files: list[str], *, project: bool) -> None:
    """Install these files' packages, and the project itself as a link to the checkout."""
    python = str(venv / "bin" / "python")
    uv = ["pip", "install", "--quiet", "--python", python]
    if shutil.which("uv"):
        install_with(["uv", *uv], files, project=project)
        return
    pip = [find_pip(), "-m", "pip", "--python", python, "--disable-pip-version-check", "--no-input"]
    pip += ["install", "--no-compile", "--progress-bar", "off"]
    try:  # pip needs 20 seconds for the packages, most of them to read the index; it can fetch uv in 3, which needs 1
        install_with(pip, [UV], project=False)
        install_with([str(venv / "bin" / "uv"), *uv], files, project=project)
    except SetupError:  # no uv for this platform, or settings that only pip knows
        install_with(pip, files, project=project)


def install_with(installer: list[str], files: list[str], *, project: bool) -> None:
    """Install exactly what the files name, from wheels only, so that no package's code runs on the way."""
    count = sum(len(re.findall(r"^\S+==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)) for file in files)
    tool = "pip" if "-m" in installer else "uv"
    say(f"installing {' and '.join(files)} with {tool} ({count} package{'s' * (count > 1)})")
    exactly = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    quietly([*installer, *exactly, *(word for file in files for word in ("--requirement", file))])
    if project:
        quietly([*installer, "--no-build-isolation", "--no-deps", "--editable", "."])


def find_pip() -> str:
    """A Python whose pip can install elsewhere: this one or, if it has none, the one that this one was made from."""
    for python in dict.fromkeys((sys.executable, os.path.realpath(sys.executable))):
        asked = subprocess.run(
            [python, "-c", "import pip; print(pip.__version__)"], capture_output=True, text=True, check=False
        )
        version = re.match(r"(\d+)\.(\d+)", asked.stdout)
        if version and (int(version[1]), int(version[2])) >= OLDEST_PIP:
            return python
    raise SetupError(
        f"{sys.executable} has no pip, or one older than 22.3, and uv is not on the PATH. Install one of them:\n"
        "  Debian, Ubuntu: apt-get install python3-pip\n  Fedora: dnf install python3-pip\n  Alpine: apk add py3-pip"
    )


def quietly(command: list[str]) -> None:
    """Run a command and show only which package it is at, or all that it printed if it fails."""
    # uv trusts what the machine trusts, as pip does; a person's own PIP_USER would be an error in an environment.
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ, "PIP_USER": "0"}
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    printed = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            printed.append(line)
            if clear and line.startswith("Collecting "):
                print(f"{clear}  {line.split()[1]}", end="", file=sys.stderr, flush=True)
    print(clear, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise SetupError(
            f"{''.join(printed)}\nThis failed, and the lines above say why: {' '.join(command)}\n"
            "If the package index cannot be reached, check the network and the settings of pip, uv or npm.\n"
            "The same command run again begins the set-up anew."
        )


def run_all(commands: list[list[str]]) -> int:
    """Run every command, whatever became of the others; 1 if any failed. Signals reach the one that runs."""
    received: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def pass_on(signum: int, _frame: FrameType | None) -> None:
        received.append(signum)
        if signum == signal.SIGTERM:  # Ctrl-C reaches it from the terminal; a second one would cut its clean-up short
            for process in running[-1:]:
                process.terminate()

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, pass_on)
    failed = []
    for command in commands:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        say(f"\n$ {shown}")
        with subprocess.Popen(command, cwd=ROOT) as process:
            running.append(process)
            if received:  # before there was anything to pass it on to
                process.terminate()
        if received:
            return 128 + received[0]
        if process.returncode:
            failed.append(shown)
    if failed:
        say(f"\nfailed: {'; '.join(failed)}")
    return 1 if failed else 0


def run(word: Word, rest: list[str], venv: Path) -> int:
    """Run a word's commands; a single one takes this process's place, so that signals and exit code are its own."""
    commands = []
    for line in word.commands:
        name, *arguments = line.split()
        program = str(venv / "bin" / name) if word.needs else shutil.which(name)
        if not program:
            raise SetupError(f"{name} is not on the PATH: install it and run the same command again")
        commands.append([program, *arguments])
    commands[-1] += rest
    if len(commands) == 1:
        sys.stdout.flush()
        os.execv(commands[0][0], commands[0])  # noqa: S606 - no shell is wanted
    return run_all(commands)


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Do what the words say; 0 done, 1 failed, 2 not understood."""
    if sys.version_info < OLDEST_PYTHON or os.name != "posix":
        say(
            f"run.py needs Python 3.11 or newer on Linux or macOS; this is {sys.version.split()[0]} "
            f"({sys.executable}) on {sys.platform}.\nInstall a newer one and run it by its name: python3.11 run.py"
        )
        return 1
    name, *rest = arguments or ["demo"]
    if name in {"-h", "--help"}:
        print(usage(), end="")
        return 0
    if name not in WORDS:
        say(f"run.py: unknown word {name!r}\n\n{usage()}")
        return 2
    venv = Path(environ.get("AION_PROXY_VENV") or ROOT / ".venv").absolute()
    os.chdir(ROOT)  # the paths of the configuration and of the words are meant from here
    try:
        if folder := WORDS[name].node:
            prepare_node(ROOT / folder)
        prepare(venv, WORDS[name].needs)
        return run(WORDS[name], rest, venv)
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("\nstopped; run the same command again to finish the set-up")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
