"""Whether something grows: from samples to a slope, and from two counts to what was left behind. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

HOUR_S = 3600.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process has taken at a moment: seconds since the beginning, resident bytes, open files."""

    at: float
    resident: int
    files: int


def mib_per_hour(samples: Sequence[Sample], warm_up: float) -> float:
    """Return by how much resident memory grows, by least squares over what came after the warm-up in seconds.

    Fewer than three samples have no slope: 0.
    """
    late = [sample for sample in samples if sample.at >= warm_up]
    if len(late) < 3:
        return 0.0
    middle = sum(sample.at for sample in late) / len(late)
    level = sum(sample.resident for sample in late) / len(late)
    spread = sum((sample.at - middle) ** 2 for sample in late)
    if not spread:
        return 0.0
    return sum((sample.at - middle) * (sample.resident - level) for sample in late) / spread * HOUR_S / MIB
