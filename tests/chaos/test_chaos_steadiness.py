"""The judge of soak runs: growth is found, and what only swings is none."""

import pytest
from steadiness import MIB, Sample, mib_per_hour


def samples(*resident: float, every: float = 60.0) -> list[Sample]:
    return [Sample(number * every, int(size * MIB), 10) for number, size in enumerate(resident)]


def test_a_mebibyte_a_minute_is_sixty_an_hour():
    assert mib_per_hour(samples(50, 51, 52, 53), 0) == pytest.approx(60)


def test_what_happens_while_it_warms_up_is_no_growth():
    assert mib_per_hour(samples(10, 40, 50, 50, 50, 50), 120) == 0


def test_what_only_swings_does_not_grow():
    assert abs(mib_per_hour(samples(*([50, 51] * 30 + [50])), 0)) < 1


@pytest.mark.parametrize("few", [[], [50], [50, 60]])
def test_too_few_samples_say_nothing(few):
    assert mib_per_hour(samples(*few), 0) == 0
