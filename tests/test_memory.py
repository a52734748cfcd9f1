"""How much memory is used and may be: from the files in which the kernel tells it."""

import os
from pathlib import Path

import pytest

from proxy.memory import MemoryWatch, group_memory, own_memory
from proxy.pressure import Pressure
from specimens import NotingLogger


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


@pytest.fixture
def own_group(tmp_path: Path) -> Path:
    file = tmp_path / "self"
    file.write_text("0::/slice/container\n")
    return file


def group(folder: Path, limit: str, current: int = 0, inactive: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    stat = "" if inactive is None else f"inactive_file {inactive}\n"
    (folder / "memory.stat").write_text(f"anon 7\n{stat}active_file 3\n")


def test_the_limit_of_the_own_group_holds_without_files_that_nobody_uses(groups: Path, own_group: Path):
    group(groups / "slice/container", "1000", current=700, inactive=250)
    memory = group_memory(groups, own_group)
    assert memory is not None
    assert memory() == (450, 1000)


def test_the_smallest_limit_of_all_groups_around_it_holds(groups: Path, own_group: Path):
    group(groups / "slice/container", "1000", current=700)
    group(groups / "slice", "800", current=750)
    memory = group_memory(groups, own_group)
    assert memory is not None
    assert memory() == (750, 800)


def test_inside_of_a_container_its_own_group_is_the_root(groups: Path, own_group: Path):
    own_group.write_text("0::/\n")
    group(groups, "1000", current=700)
    memory = group_memory(groups, own_group)
    assert memory is not None
    assert memory() == (700, 1000)


@pytest.mark.parametrize("limit", ["max", "", "0", "many"])
def test_a_group_without_a_limit_holds_nothing(groups: Path, own_group: Path, limit: str):
    group(groups / "slice/container", limit)
    assert group_memory(groups, own_group) is None


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path):
    assert group_memory(tmp_path, tmp_path / "none") is None


def test_what_cannot_be_read_later_is_an_error_that_the_caller_knows(groups: Path, own_group: Path):
    group(groups / "slice/container", "1000", current=700)
    memory = group_memory(groups, own_group)
    assert memory is not None
    (groups / "slice/container/memory.current").unlink()
    with pytest.raises(OSError, match=r"memory\.current"):
        memory()


def test_the_own_memory_is_what_is_resident_of_this_process():
    used, limit = own_memory(123)()
    assert limit == 123
    resident = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident / 2 < used < resident * 2


def test_a_change_of_state_is_logged_and_what_cannot_be_told_changes_nothing():
    logger = NotingLogger()
    told = iter([(10, 100), (90, 100), (90, 100), None, (10, 100)])

    def memory() -> tuple[int, int]:
        sizes = next(told)
        if sizes is None:
            raise OSError
        return sizes

    watch = MemoryWatch(memory, logger)
    none, high = Pressure.NONE, Pressure.HIGH
    assert [watch.look() for _ in range(5)] == [none, high, high, high, none]
    assert len(logger.lines) == 2
