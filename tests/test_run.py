"""The set-up: what `run.py` decides before it installs or starts anything.

Nothing here installs and nothing needs a network: the commands that would are written down instead.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import run

SCRIPT = Path(run.__file__)
PROJECT = '[project]\nname = "x"\n[build-system]\nrequires = []\n'
ONE = "one==1 \\\n    --hash=sha256:00\n"


def run_py(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Checkout:
    """A small checkout whose commands are written down instead of run; `uv` and `pip` are there or not as one says."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.commands: list[list[str]] = []
        self.fails: Callable[[list[str]], BaseException | None] = lambda _: None
        self.uv: str | None = "/somewhere/uv"
        (root / "pyproject.toml").write_text(PROJECT)
        for file in (run.RUN, run.TEST, run.REAL, run.UV, run.FUZZ):
            (root / file).write_text(ONE)
        monkeypatch.setattr(run, "ROOT", root)
        monkeypatch.setattr(run, "quietly", self.quietly)
        monkeypatch.setattr(run, "find_pip", lambda: "/somewhere/python")
        monkeypatch.setattr(run.shutil, "which", lambda _: self.uv)

    def quietly(self, command: list[str]) -> None:
        self.commands.append(command)
        if "venv" in command:
            (self.venv / "bin").mkdir()
            (self.venv / "bin" / "python").touch()
        if error := self.fails(command):
            raise error

    def prepare(self, *needs: str) -> list[list[str]]:
        """The commands that this takes."""
        self.commands.clear()
        run.prepare(self.venv, needs)
        return list(self.commands)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


def installs(commands: list[list[str]]) -> list[str]:
    """The requirement files that the commands install."""
    return [word for command in commands for before, word in itertools.pairwise(command) if before == "--requirement"]


def test_help_lists_every_word_with_its_line() -> None:
    done = run_py("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, word in run.WORDS.items():
        assert f"  {name:<12} {word.what}\n" in done.stdout
    assert "AION_PROXY_VENV" in done.stdout


def test_an_unknown_word_exits_2_and_shows_the_help() -> None:
    done = run_py("biuld")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown word 'biuld'" in done.stderr
    assert run.usage() in done.stderr


def test_no_word_means_the_demo_and_words_after_it_are_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = []
    monkeypatch.setattr(run, "prepare", lambda venv, needs: None)
    monkeypatch.setattr(run.os, "execv", lambda program, command: started.append(command) or sys.exit(0))
    for words in ([], ["demo", "--port", "9000"]):
        with pytest.raises(SystemExit):
            run.main(words, {"AION_PROXY_VENV": str(tmp_path)})
    program = str(tmp_path / "bin" / "aion-proxy")
    assert started == [[program, "demo"], [program, "demo", "--port", "9000"]]


def test_an_older_python_is_told_which_one_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "OLDEST_PYTHON", (99, 0))
    assert run.main([], {}) == 1
    assert "needs Python 3.11 or newer" in capsys.readouterr().err


def test_lock_without_uv_says_what_is_missing(tmp_path: Path) -> None:
    done = run_py("lock", PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "uv is not on the PATH: install it" in done.stderr


@pytest.mark.parametrize("word", run.WORDS)
def test_every_word_needs_files_that_exist(word: str) -> None:
    for file in run.WORDS[word].needs:
        assert (SCRIPT.parent / file).is_file()


def test_the_digest_changes_with_a_requirement(checkout: Checkout) -> None:
    before = run.digest(run.RUN, checkout.root)
    (checkout.root / run.RUN).write_text(ONE.replace("1", "2"))
    assert run.digest(run.RUN, checkout.root) != before


def test_the_digest_changes_with_what_the_project_is(checkout: Checkout) -> None:
    before = run.digest(run.RUN, checkout.root)
    (checkout.root / "pyproject.toml").write_text(PROJECT.replace('"x"', '"y"'))
    assert run.digest(run.RUN, checkout.root) != before


def test_the_digest_changes_with_the_python(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.digest(run.RUN, checkout.root)
    monkeypatch.setattr(run.sys, "version", "3.99.0")
    assert run.digest(run.RUN, checkout.root) != before


def test_the_digest_does_not_change_with_the_settings_of_a_linter(checkout: Checkout) -> None:
    before = run.digest(run.RUN, checkout.root)
    (checkout.root / "pyproject.toml").write_text(PROJECT + "[tool.ruff]\nline-length = 100\n")
    assert run.digest(run.RUN, checkout.root) == before


def test_a_first_start_makes_the_environment_and_installs_the_project(checkout: Checkout) -> None:
    made, packages, project = checkout.prepare(run.RUN)
    assert made[1:] == ["-m", "venv", "--without-pip", str(checkout.venv)]
    assert installs([packages]) == [run.RUN]
    assert project[-2:] == ["--editable", "."]


def test_a_second_start_runs_nothing(checkout: Checkout) -> None:
    checkout.prepare(run.RUN, run.TEST)
    assert checkout.prepare(run.RUN, run.TEST) == []
    assert checkout.prepare(run.RUN) == []


def test_more_needs_are_added_to_what_is_there(checkout: Checkout) -> None:
    checkout.prepare(run.RUN)
    commands = checkout.prepare(run.RUN, run.TEST)
    assert installs(commands) == [run.TEST]
    assert len(commands) == 1
    assert checkout.prepare(run.RUN) == []


def test_a_changed_requirement_makes_the_environment_anew(checkout: Checkout) -> None:
    checkout.prepare(run.RUN, run.TEST)
    leftover = checkout.venv / "leftover"
    leftover.touch()
    (checkout.root / run.TEST).write_text(ONE.replace("1", "2"))
    assert installs(checkout.prepare(run.RUN, run.TEST)) == [run.RUN, run.TEST]
    assert not leftover.exists()


class NodeFolder:
    """A folder with a lock file; npm's command is written down, and does what npm does to what was there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root / "web"
        self.root.mkdir()
        for name in ("package.json", "package-lock.json", ".npmrc"):
            (self.root / name).write_text(name)
        self.commands: list[list[str]] = []
        self.fails: BaseException | None = None
        self.programs = {"node": "/somewhere/node", "npm": "/somewhere/npm"}
        monkeypatch.setattr(run, "ROOT", root)
        monkeypatch.setattr(run, "quietly", self.quietly)
        monkeypatch.setattr(run.shutil, "which", self.programs.get)

    def quietly(self, command: list[str]) -> None:
        self.commands.append(command)
        (self.root / "node_modules").mkdir(exist_ok=True)
        if self.fails:
            raise self.fails

    def prepare(self) -> list[list[str]]:
        """The commands that this takes."""
        self.commands.clear()
        run.prepare_node(self.root)
        return list(self.commands)


@pytest.fixture
def node_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeFolder:
    return NodeFolder(tmp_path, monkeypatch)


def test_packages_of_node_are_installed_from_the_lock_file_and_none_of_their_code_runs(node_folder: NodeFolder) -> None:
    folder = str(node_folder.root)
    assert node_folder.prepare() == [["/somewhere/npm", "ci", "--ignore-scripts", "--prefix", folder]]


def test_packages_of_node_are_installed_once(node_folder: NodeFolder) -> None:
    node_folder.prepare()
    assert node_folder.prepare() == []


@pytest.mark.parametrize("name", ["package.json", "package-lock.json", ".npmrc"])
def test_packages_of_node_are_installed_anew_when_a_file_changes(node_folder: NodeFolder, name: str) -> None:
    node_folder.prepare()
    (node_folder.root / name).write_text("other")
    assert len(node_folder.prepare()) == 1


def test_a_set_up_of_node_s_packages_that_was_killed_is_begun_anew(node_folder: NodeFolder) -> None:
    node_folder.prepare()
    (node_folder.root / ".npmrc").write_text("other")
    node_folder.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        node_folder.prepare()
    (node_folder.root / ".npmrc").write_text(".npmrc")  # as it was when all was well
    node_folder.fails = None
    assert len(node_folder.prepare()) == 1


@pytest.mark.parametrize("missing", ["node", "npm"])
def test_a_machine_without_node_is_told_so_in_a_sentence(node_folder: NodeFolder, missing: str) -> None:
    del node_folder.programs[missing]
    with pytest.raises(run.SetupError, match=r"install Node\.js 18 or newer"):
        node_folder.prepare()


def test_a_word_that_needs_no_node_asks_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(run, "prepare_node", asked.append)
    monkeypatch.setattr(run, "prepare", lambda venv, needs: None)
    monkeypatch.setattr(run, "run", lambda word, rest, venv: 0)
    for word in run.WORDS:
        assert run.main([word], {"AION_PROXY_VENV": str(tmp_path)}) == 0
    assert asked == [SCRIPT.parent / "tests" / "clients" / "node"]


@pytest.mark.parametrize("moment", ["venv", "--requirement", "--editable"])
def test_a_set_up_that_was_killed_is_begun_anew(checkout: Checkout, moment: str) -> None:
    checkout.fails = lambda command: KeyboardInterrupt() if moment in command else None
    with pytest.raises(KeyboardInterrupt):
        checkout.prepare(run.RUN)
    checkout.fails = lambda _: None
    assert installs(checkout.prepare(run.RUN)) == [run.RUN]
    assert checkout.prepare(run.RUN) == []


def test_an_addition_that_was_killed_makes_all_of_it_anew(checkout: Checkout) -> None:
    """A package may be half there, and an installer that finds its description believes the rest."""
    checkout.prepare(run.RUN)
    checkout.fails = lambda command: KeyboardInterrupt() if "--requirement" in command else None
    with pytest.raises(KeyboardInterrupt):
        checkout.prepare(run.RUN, run.TEST)
    checkout.fails = lambda _: None
    assert installs(checkout.prepare(run.RUN)) == [run.RUN]


def test_an_environment_without_its_python_is_made_anew(checkout: Checkout) -> None:
    checkout.prepare(run.RUN)
    (checkout.venv / "bin" / "python").unlink()
    assert installs(checkout.prepare(run.RUN)) == [run.RUN]


def test_a_folder_that_is_no_environment_is_left_alone(checkout: Checkout) -> None:
    checkout.venv.mkdir()
    precious = checkout.venv / "thesis.tex"
    precious.touch()
    with pytest.raises(run.SetupError, match="AION_PROXY_VENV"):
        checkout.prepare(run.RUN)
    assert precious.exists()


def test_an_empty_folder_is_used(checkout: Checkout) -> None:
    checkout.venv.mkdir()
    assert installs(checkout.prepare(run.RUN)) == [run.RUN]


def test_uv_installs_when_it_is_on_the_path(checkout: Checkout) -> None:
    _, *rest = checkout.prepare(run.RUN)
    assert {tuple(command[:3]) for command in rest} == {("uv", "pip", "install")}


def test_without_uv_pip_fetches_it_into_the_environment(checkout: Checkout) -> None:
    checkout.uv = None
    _, fetch, packages, project = checkout.prepare(run.RUN)
    python = str(checkout.venv / "bin" / "python")
    assert fetch[:5] == ["/somewhere/python", "-m", "pip", "--python", python]
    assert installs([fetch]) == [run.UV]
    assert packages[0] == project[0] == str(checkout.venv / "bin" / "uv")


def test_pip_installs_everything_where_uv_cannot(checkout: Checkout) -> None:
    checkout.uv = None
    checkout.fails = lambda command: run.SetupError("no") if command[0].endswith("/uv") else None
    *_, packages, project = checkout.prepare(run.RUN)
    assert packages[:3] == project[:3] == ["/somewhere/python", "-m", "pip"]
    assert installs([packages]) == [run.RUN]


@pytest.mark.parametrize("uv", ["/somewhere/uv", None])
def test_packages_are_installed_by_hash_and_from_wheels_only(checkout: Checkout, uv: str | None) -> None:
    checkout.uv = uv
    for command in checkout.prepare(run.RUN, run.TEST):
        if installs([command]):
            assert {"--require-hashes", "--no-deps", "--only-binary"} < set(command)


def test_a_python_without_pip_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pythonless = tmp_path / "python"
    pythonless.write_text("#!/bin/sh\nexit 1\n")
    pythonless.chmod(0o755)
    monkeypatch.setattr(run.sys, "executable", str(pythonless))
    with pytest.raises(run.SetupError, match="apt-get install python3-pip"):
        run.find_pip()


@pytest.mark.parametrize(("version", "enough"), [("22.2.2", False), ("22.3", True), ("23.0.1", True), ("101.0", True)])
def test_pip_counts_from_the_version_that_can_install_elsewhere(
    version: str, enough: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    monkeypatch.setattr(run.sys, "executable", str(python))
    if enough:
        assert run.find_pip() == str(python)
    else:
        with pytest.raises(run.SetupError, match=r"older than 22\.3"):
            run.find_pip()


def test_a_command_that_fails_shows_what_it_printed() -> None:
    with pytest.raises(run.SetupError, match="the reason"):
        run.quietly([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"])


def test_a_command_that_works_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    run.quietly([sys.executable, "-c", "print('Collecting dust')"])
    assert capfd.readouterr() == ("", "")


RUN_ALL = """
import json, sys
sys.path.insert(0, {folder!r})
import run
sys.exit(run.run_all(json.loads(sys.argv[1])))
"""


def run_all(*codes: str) -> subprocess.Popen[str]:
    """A process that runs these pieces of Python as the commands of one word."""
    commands = [[sys.executable, "-c", code] for code in codes]
    script = RUN_ALL.format(folder=str(SCRIPT.parent))
    return subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(commands)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_failure_is_told_by_the_exit_code_and_the_others_run_all_the_same() -> None:
    with run_all("print('one'); raise SystemExit(3)", "print('two')") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "one\ntwo\n")
    assert "raise SystemExit(3)" in err.splitlines()[-1]


def test_all_well_exits_0() -> None:
    with run_all("print('one')", "print('two')") as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "one\ntwo\n")


def test_sigterm_reaches_the_command_that_runs_and_ends_the_rest() -> None:
    waits = "import signal; print('ready', flush=True); signal.pause()"
    with run_all(waits, "print('never')") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "")
