"""The README says what the code does: its tables are compared with the code, its commands, links and examples tried.

Where a table is made from the code, the failing test prints what to paste between its two markers. What a sentence
means is not tested here.
"""

import ast
import dataclasses
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import run
from proxy import providers, settings
from proxy.call import RequestEnd
from proxy.catalog import CatalogFile
from proxy.cli_parser import build_parser
from proxy.configuration import describe, load
from proxy.demo_script import SCRIPT
from proxy.errors import ErrorType, Fault
from proxy.health import OwnMetrics
from proxy.limits import Limit
from proxy.metrics import Metrics
from proxy.pricing import Prices, format_usd
from proxy.sections import Section
from proxy.store_url import read_store_url
from proxy.wire.chat_request import DROPPED
from test_layout import FLOORS, MODULES, floor_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = FENCE.sub("", README)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def between(name: str) -> str:
    """The text between the two markers of a part."""
    parts = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert len(parts) == 1, f"README.md needs exactly one part between <!-- {name} --> and <!-- /{name} -->"
    return str(parts[0]).strip()


def rows(name: str) -> list[list[str]]:
    """The cells of a part's tables, without their headings; a cell keeps its markup."""
    lines = [line for line in between(name).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    headings = {number - 1 for number in rules}
    return [row for number, row in enumerate(cells) if number not in headings and number not in rules]


def words(cell: str) -> list[str]:
    """What a cell has in code spans."""
    return CODE.findall(cell)


def section(title: str) -> str:
    """A chapter of the README, by its heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no chapter {title!r}"
    return found[1]


def blocks(title: str, language: str) -> list[str]:
    """The blocks of one language in a chapter."""
    return [block for name, block in FENCE.findall(section(title)) if name == language]


def commands() -> Iterator[str]:
    """Every command line in the README's blocks of shell, continued lines joined."""
    for language, block in FENCE.findall(README):
        if language == "sh":
            yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())


def reference(model: type[Section]) -> str:
    """The configuration reference of one file, as the README has to hold it."""
    lines = ["| key | type | default | what it is |", "| --- | --- | --- | --- |"]
    for path, kind, default, what in describe(model):
        shown = default if default in {"required", "none", "depends"} else f"`{default}`" if default else "empty"
        cells = (cell.replace("|", r"\|") for cell in (f"`{path}`", kind, shown, what))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize(("file", "model"), [("gateway.yaml", settings.Settings), ("catalog.yaml", CatalogFile)])
def test_the_configuration_reference_is_what_the_code_reads(file: str, model: type[Section]) -> None:
    wanted = reference(model)
    assert between(file) == wanted, f"paste this between the markers <!-- {file} -->:\n\n{wanted}\n"


def test_the_demo_provider_s_words_are_those_of_its_script() -> None:
    lines = ["| say | and it answers with |", "| --- | --- |", *(f"| `{word}` | {what} |" for word, what in SCRIPT)]
    wanted = "\n".join(lines)
    assert between("demo words") == wanted, f"paste this between the markers <!-- demo words -->:\n\n{wanted}\n"


def families() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric family of the code by its name on the page, with its type and labels."""
    workers = CollectorRegistry()
    Metrics(workers, genai=True)
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for registry in (workers, OwnMetrics("0").registry):
        for family in list(registry._collector_to_names):
            one: Any = family
            name = f"{one._name}_total" if one._type == "counter" else one._name
            found[name] = (one._type, tuple(one._labelnames))
    return found


def test_the_metrics_table_has_every_family_with_its_type_and_labels_and_no_other() -> None:
    told = [(words(name)[0], (kind, tuple(words(labels)))) for name, kind, labels, _ in rows("metrics")]
    assert sorted(told) == sorted(families().items())


def test_the_log_s_fields_are_those_of_a_request_s_line() -> None:
    told = [name for row in rows("log fields") for name in words(row[0])]
    assert sorted(told) == sorted({"event", "level", "timestamp", "worker", *RequestEnd.__struct_fields__})


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for path in MODULES.values():
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def texts() -> set[str]:
    return {node.value for _, node in sources() if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def codes_of_faults() -> set[str]:
    """The `code` of every refusal that is written out in the source."""
    found: set[str] = set()
    position = [field.name for field in dataclasses.fields(Fault)].index("code")
    for _, node in sources():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            places = {"Fault": position, "_refused": 1}
            place = places.get(node.func.id, len(node.args))
            given = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg == "code")]
            found |= {one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_the_error_table_has_every_code_that_the_code_can_send_and_no_other() -> None:
    told = {code for row in rows("errors") for code in words(row[2])}
    assert not told - texts(), "the README names codes that the source does not know"
    assert not codes_of_faults() - told, "the source has codes that the README does not name"


def test_the_error_table_has_every_type() -> None:
    assert {kind for row in rows("errors") for kind in words(row[1])} == {kind.value for kind in ErrorType}


def test_every_limit_is_explained() -> None:
    assert [words(row[0])[0] for row in rows("limits")] == [limit.value for limit in Limit]


def test_the_dropped_parameters_are_named() -> None:
    assert sorted(words(between("dropped"))) == sorted(DROPPED)


def test_every_word_of_run_py_is_named_and_no_other() -> None:
    named = set(re.findall(r"python3 run\.py ([a-z][a-z-]*)", README))
    assert named == set(run.WORDS)


def test_every_command_line_is_one_that_the_command_takes() -> None:
    tried = 0
    for line in commands():
        if line.startswith("aion-proxy "):
            arguments = shlex.split(line, comments=True)[1:]
            build_parser().parse_args(arguments)  # SystemExit says what it does not take
            tried += 1
    assert tried > 10


def test_the_cost_example_adds_up() -> None:
    prices = Prices.parse("0.0000008", "0.0000016", "0.0000002")
    pusd = prices.cost(1_200, 1_000, 300)
    assert f"{pusd:,} pico-dollars" in README
    assert f'`"{format_usd(pusd)}"`' in README


def test_the_first_provider_s_five_lines_are_a_good_configuration(tmp_path: Path) -> None:
    provider, model = blocks("A first real provider", "yaml")
    assert len((provider + model).splitlines()) == 5
    shipped = (ROOT / "config" / "gateway.yaml").read_text(encoding="utf-8")
    (tmp_path / "gateway.yaml").write_text(shipped.replace("providers:\n", f"providers:\n{provider}"), "utf-8")
    shipped = (ROOT / "config" / "catalog.yaml").read_text(encoding="utf-8")
    (tmp_path / "catalog.yaml").write_text(shipped.replace("models:\n", f"models:\n{model}"), "utf-8")
    configuration = load(tmp_path / "gateway.yaml", {"LOCAL_API_KEY": "secret"})
    assert providers.AuthHeader.BEARER is configuration.settings.providers["local"].auth_header
    assert configuration.catalog.models[0].routes[0].provider == "local"


def test_every_example_of_configuration_in_the_readme_is_yaml_that_this_program_reads(tmp_path: Path) -> None:
    examples = blocks("Configuration reference", "yaml")
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text((ROOT / "config" / "catalog.yaml").read_text(encoding="utf-8"), "utf-8")
    assert examples
    for number, example in enumerate(examples):
        file = tmp_path / f"{number}.yaml"
        file.write_text(example, "utf-8")
        load(file, {"LOCAL_API_KEY": "secret"})


def test_every_configuration_on_the_page_about_many_machines_is_one_that_this_program_reads(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "from-one-machine-to-many.md").read_text(encoding="utf-8")
    (tmp_path / "catalog.yaml").write_text((ROOT / "config" / "catalog.yaml").read_text(encoding="utf-8"), "utf-8")
    stores = []
    for language, block in FENCE.findall(page):
        if language == "yaml":
            file = tmp_path / "gateway.yaml"
            # The catalog that ships has models of the provider that ships.
            file.write_text(block.replace("providers:\n", "providers:\n  demo: {builtin: demo}\n"), "utf-8")
            environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "secret")
            stores.append(
                read_store_url(store) if (store := load(file, environ).settings.store) != "embedded" else None
            )
        for line in block.splitlines() if language == "sh" else ():
            build_parser().parse_args(shlex.split(line)[1:])
    assert [store and store.topology.name for store in stores] == [None, "SINGLE", "SINGLE", "SENTINEL", "CLUSTER"]


def test_every_link_of_the_pages_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            assert (page.parent / path).exists(), link
            assert not anchor or anchor in anchors, link


def test_every_link_into_the_project_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PROSE) if "://" not in link]
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    wrong = [link for link in links if link not in anchors and (link.startswith("#") or not (ROOT / link).exists())]
    assert links
    assert not wrong


def test_every_file_that_is_named_exists() -> None:
    named = {name for name in CODE.findall(PROSE) if re.fullmatch(r"(proxy|tests|config|deploy|\.ci)/[\w./-]*", name)}
    assert named
    assert not sorted(name for name in named if not (ROOT / name).exists())


def test_the_map_names_every_file_and_folder_of_the_program() -> None:
    files = [path for path in (ROOT / "proxy").rglob("*") if path.suffix in {".py", ".lua"}]
    code = [path for path in files if path.name != "__init__.py"]
    folders = {path.parent for path in code if path.parent != ROOT / "proxy"}
    wanted = {path.relative_to(ROOT).as_posix() for path in code}
    wanted |= {f"{folder.relative_to(ROOT).as_posix()}/" for folder in folders} | {"proxy/__init__.py"}
    named = {name for row in rows("map") for name in words(row[0])}
    assert sorted(wanted - named) == []
    assert sorted(name for name in named - wanted if name.startswith("proxy/")) == []


def test_the_map_puts_every_file_on_its_floor() -> None:
    floors = re.findall(r"\*\*Floor (\d)[^\n]*\n(.*?)(?=\*\*Floor |\Z)", between("map"), re.DOTALL)
    assert [int(floor) for floor, _ in floors] == sorted(FLOORS, reverse=True)
    wrong = []
    for floor, text in floors:
        for name in re.findall(r"^\| `(proxy/[\w/]+)\.py`", text, re.MULTILINE):
            module = name.removesuffix("/__init__").replace("/", ".")
            wrong += [f"{name}.py is on floor {floor_of(module)}"] if floor_of(module) != int(floor) else []
    assert not wrong


def test_every_dependency_is_named_with_its_reason_and_no_other() -> None:
    groups = PYPROJECT["dependency-groups"].values()
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    listed = [PYPROJECT["project"]["dependencies"], *groups, *extras]
    declared = [requirement for group in listed for requirement in group]
    wanted = {re.split(r"[\[<>=~! ]", requirement)[0] for requirement in declared}
    told = [name for row in rows("dependencies") for name in words(row[0])]
    assert sorted(set(told)) == sorted(wanted)
    assert all(row[1] for row in rows("dependencies"))


def test_there_is_a_place_for_the_figures() -> None:
    assert between("figures")
