"""Whether something grows: from samples of a process to a slope, and how far that may be off. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import fmean

HOUR_S = 3600.0
MINUTE_S = 60.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process has taken at a moment: seconds since the beginning, bytes of its own, open files."""

    at: float
    memory: int
    files: int


@dataclass(frozen=True, slots=True)
class Growth:
    """By how many MiB an hour something grows, and the standard error of that (NaN for fewer than three minutes)."""

    rate: float
    error: float


def growth(samples: Sequence[Sample], warm_up: float) -> Growth:
    """Return how memory grows, by least squares over the means of minutes that began after the warm-up in seconds.

    The means, because two samples in a row are nearly the same: taken for independent, they would make the error look
    smaller than it is. Fewer than two minutes have no slope: 0.
    """
    minutes = list(_minutes(samples, warm_up))
    if len(minutes) < 2:
        return Growth(0.0, nan)
    middle, level = fmean(at for at, _ in minutes), fmean(size for _, size in minutes)
    spread = sum((at - middle) ** 2 for at, _ in minutes)
    slope = sum((at - middle) * (size - level) for at, size in minutes) / spread
    off = sum((size - level - slope * (at - middle)) ** 2 for at, size in minutes)
    error = sqrt(off / (len(minutes) - 2) / spread) if len(minutes) > 2 else nan
    return Growth(slope * HOUR_S / MIB, error * HOUR_S / MIB)


def _minutes(samples: Sequence[Sample], warm_up: float) -> Iterator[tuple[float, float]]:
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.at >= warm_up:
            found[int(sample.at // MINUTE_S)].append(sample)
    for minute in found.values():
        yield fmean(sample.at for sample in minute), fmean(sample.memory for sample in minute)
