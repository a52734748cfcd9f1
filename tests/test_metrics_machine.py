"""What the admin page tells of processes, the disk and budgets, beside what requests count."""

import math
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from proxy.limits import AccountUse, BudgetUse, Period
from proxy.metrics import ACCOUNTS_SHOWN, Metrics
from proxy.metrics_budgets import BudgetMetrics
from proxy.metrics_machine import MachineMetrics, resident_bytes

NUSD = 10**9


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def use(limit: int, spent: int, *, held: int = 0, per: Period = Period.MONTH) -> AccountUse:
    return AccountUse({}, spent, held, None, 0, (BudgetUse(per, limit, spent, None),))


def test_workers_that_do_not_serve_are_not_counted(registry, tmp_path):
    MachineMetrics(registry).watch(tmp_path, lambda: [(os.getpid(), True), (os.getpid(), False)])
    assert registry.get_sample_value("aion_workers") == 1


def test_the_room_on_the_journal_s_disk_is_what_this_user_may_write(registry, tmp_path):
    MachineMetrics(registry).watch(tmp_path, list)
    disk = os.statvfs(tmp_path)
    size, free = (registry.get_sample_value(f"aion_journal_disk_{name}") for name in ("bytes", "free_bytes"))
    assert size == disk.f_blocks * disk.f_frsize
    assert free == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2)


def test_a_folder_that_cannot_be_looked_at_is_not_taken_for_a_full_disk(registry):
    MachineMetrics(registry).watch(Path("/nonexistent"), list)
    value = registry.get_sample_value("aion_journal_disk_free_bytes")
    assert value is not None
    assert math.isnan(value)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc")
def test_memory_is_added_up_and_a_process_that_has_ended_counts_nothing():
    one = resident_bytes([os.getpid()])
    assert one > 1_000_000
    assert resident_bytes([os.getpid(), os.getpid(), 2**22 + 1]) == pytest.approx(2 * one, rel=0.2)


def test_memory_of_no_process_is_unknown():
    assert math.isnan(resident_bytes([]))


def test_what_is_held_is_no_longer_left_of_a_budget(registry):
    BudgetMetrics(registry).show([("acme", use(25 * NUSD, 5 * NUSD, held=NUSD))])
    labels = {"account": "acme", "period": "month"}
    assert registry.get_sample_value("aion_budget_usd", labels) == 25
    assert registry.get_sample_value("aion_budget_remaining_usd", labels) == 19


def test_an_overdrawn_budget_is_below_zero(registry):
    BudgetMetrics(registry).show([("acme", use(NUSD, 2 * NUSD, per=Period.DAY))])
    assert registry.get_sample_value("aion_budget_remaining_usd", {"account": "acme", "period": "day"}) == -1


def test_an_account_whose_budget_was_lifted_is_no_longer_shown(registry):
    metrics = BudgetMetrics(registry)
    metrics.show([("acme", use(NUSD, 0)), ("other", use(NUSD, 0))])
    metrics.show([("other", use(NUSD, 0)), ("free", AccountUse({}, 0, 0, None, 0))])
    shown = {sample.labels["account"] for family in registry.collect() for sample in family.samples}
    assert shown == {"other"}


def test_of_too_many_accounts_those_with_the_least_left_are_shown(registry):
    many = [(f"rich_{number}", use(NUSD, 0)) for number in range(ACCOUNTS_SHOWN)]
    BudgetMetrics(registry).show([*many, ("poor", use(NUSD, NUSD))])
    shown = {sample.labels["account"] for family in registry.collect() for sample in family.samples}
    assert len(shown) == ACCOUNTS_SHOWN
    assert "poor" in shown


def test_a_late_timer_is_counted_when_it_is_flushed(registry):
    metrics = Metrics(registry)
    metrics.loop_lag(0.3)
    metrics.flush()
    assert registry.get_sample_value("aion_loop_lag_seconds_bucket", {"le": "0.25"}) == 0
    assert registry.get_sample_value("aion_loop_lag_seconds_bucket", {"le": "0.5"}) == 1
