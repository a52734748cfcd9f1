"""Every fault in the list has a test that is there."""

import ast
import re
from pathlib import Path

import pytest
from fault_rows import ROWS

TESTS = Path(__file__).parents[1]
NUMBERS = {"U": 23, "C": 13, "P": 10, "R": 15, "B": 5, "L": 6}


def names_in(place: str) -> set[str]:
    """The names of the tests in a file, without their first word."""
    folder, _, name = place.rpartition("/")
    file = TESTS / folder / f"{name if name.startswith('test_') else f'test_{name}'}.py"
    tree = ast.parse(file.read_text("utf-8"))
    return {
        node.name.removeprefix("test_")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_no_number_is_left_out():
    named = {row.split()[0] for row in ROWS}
    assert len(named) == len(ROWS)
    wanted = {f"{letter}-{number:02}" for letter, last in NUMBERS.items() for number in range(1, last + 1)}
    assert named == wanted


@pytest.mark.parametrize("row", ROWS)
def test_its_tests_are_there(row):
    assert re.fullmatch(r"[A-Z]-\d\d [a-z5].*", row)
    for place in ROWS[row]:
        file, _, name = place.partition("::")
        assert name in names_in(file), place


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] in "UC"])
def test_a_table_of_bytes_that_names_a_number_is_among_its_tests(row):
    """Where a file names the number, the list knows that file."""
    number = row.split()[0]
    short = f"_{number.replace('-', '').lower()}"
    for file in (TESTS / "faults").glob("test_faults_*.py"):
        text = file.read_text("utf-8")
        if number in text or re.search(rf"def test_\w*{short}\b", text):
            known = {place.partition("::")[0] for place in ROWS[row]}
            assert f"faults/{file.stem.removeprefix('test_')}" in known, file.name
