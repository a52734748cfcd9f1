"""The judge of soak runs: growth is found, what only swings is none, and it is told how sure that is."""

from math import isnan

import pytest
from steadiness import MIB, Sample, growth


def samples(*memory: float, every: float = 60.0) -> list[Sample]:
    return [Sample(number * every, int(size * MIB), 10) for number, size in enumerate(memory)]


def test_a_mebibyte_a_minute_is_sixty_an_hour_without_an_error():
    found = growth(samples(50, 51, 52, 53), 0)
    assert (found.rate, found.error) == (pytest.approx(60), pytest.approx(0, abs=1e-6))


def test_what_happens_while_it_warms_up_is_no_growth():
    assert growth(samples(10, 40, 50, 50, 50, 50), 120).rate == 0


def test_what_only_swings_does_not_grow():
    found = growth(samples(*([50, 51] * 30 + [50])), 0)
    assert abs(found.rate) < found.error * 2 < 1


def test_samples_of_the_same_moment_make_it_no_surer():
    sizes = (50, 52, 51, 53, 52, 55)
    often = [size for size in sizes for _ in range(12)]
    assert growth(samples(*often, every=5), 0).error == pytest.approx(growth(samples(*sizes), 0).error)


@pytest.mark.parametrize("few", [[], [50], [50, 60]])
def test_few_samples_say_little(few):
    found = growth(samples(*few), 0)
    assert isnan(found.error)
    assert found.rate == (pytest.approx(600) if len(few) == 2 else 0)
