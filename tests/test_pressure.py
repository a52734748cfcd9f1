"""When memory counts as short: at fixed shares, and not any more some way below them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pressure import Pressure, pressure

NONE, HIGH, CRITICAL = Pressure


@pytest.mark.parametrize(
    ("used", "before", "now"),
    [
        (849, NONE, NONE),
        (850, NONE, HIGH),
        (949, NONE, HIGH),
        (950, NONE, CRITICAL),
        (2000, NONE, CRITICAL),
        (800, HIGH, HIGH),
        (799, HIGH, NONE),
        (950, HIGH, CRITICAL),
        (900, CRITICAL, CRITICAL),
        (899, CRITICAL, HIGH),
        (800, CRITICAL, HIGH),
        (799, CRITICAL, NONE),
    ],
)
def test_of_a_thousand_bytes(used: int, before: Pressure, now: Pressure):
    assert pressure(used, 1000, before) is now


@given(st.integers(0, 2000), st.sampled_from(Pressure))
def test_a_second_look_at_the_same_changes_nothing(used: int, before: Pressure):
    once = pressure(used, 1000, before)
    assert pressure(used, 1000, once) is once


@given(st.integers(0, 2000), st.integers(0, 2000), st.sampled_from(Pressure))
def test_more_memory_taken_is_never_less_pressure(one: int, other: int, before: Pressure):
    less, more = sorted((one, other))
    assert pressure(less, 1000, before) <= pressure(more, 1000, before)
