"""What a gateway gives up when its memory is nearly used up: streams that nobody reads, the oldest first."""

from types import SimpleNamespace

import pytest

from proxy.gateway import DROPPED_AT_ONCE, Gateway
from proxy.upstream.pump import Pump


class Standing(Pump):
    """A stream whose client stopped to read at a moment, or reads."""

    def __init__(self, at: float | None) -> None:
        self.at = at
        self.dropped = False

    @property
    def stalled_at(self) -> float | None:
        return self.at

    def drop_client(self) -> None:
        self.dropped = True


@pytest.mark.parametrize(
    ("stalled", "reading", "dropped"),
    [(0, 3, 0), (1, 3, 1), (DROPPED_AT_ONCE, 0, DROPPED_AT_ONCE), (9, 40, DROPPED_AT_ONCE), (100, 5, 25)],
)
def test_clients_that_have_stalled_longest_are_dropped_first_p04(stalled: int, reading: int, dropped: int):
    standing = [Standing(float(at)) for at in reversed(range(stalled))]
    others = [Standing(None) for _ in range(reading)]
    Gateway.drop_stalled(SimpleNamespace(exchanges=dict.fromkeys([*others, *standing])))
    assert [one.at for one in standing if one.dropped] == [float(at) for at in reversed(range(dropped))]
    assert not [one for one in others if one.dropped]
