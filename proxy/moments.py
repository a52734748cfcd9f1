"""Moments as people write them: how long ago, or a date or time.

Values only: what time it is comes in as an argument. The command line, the admin API and the dashboard read the same.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from proxy.quantities import parse_duration

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class When:
    """A moment as it was written: in Unix ms, or so many ms before it is looked at."""

    at_ms: int | None = None
    ago_ms: int = 0

    def seen_from(self, now_ms: int) -> int:
        """Return it in Unix ms."""
        return now_ms - self.ago_ms if self.at_ms is None else self.at_ms


def parse_when(text: str) -> When:
    """Read `7d` (ago), `2026-01-31` or `2026-01-31T08:00Z`, in UTC unless it says otherwise; ValueError otherwise."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return When(ago_ms=round(parse_duration(text) * 1_000))
        except ValueError:
            raise ValueError(
                f"{text!r} is neither how long ago (7d, 12h) nor a date or time (2026-01-31, 2026-01-31T08:00Z)"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return When(at_ms=(moment - _EPOCH) // timedelta(milliseconds=1))
