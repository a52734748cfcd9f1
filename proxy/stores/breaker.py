"""When a server that answers too late is to be asked no more, and when again.

Counting only: no clock, no connection. A server that is gone is noticed by its connection; this is about one that is
there and slow, so slow that every request would wait in vain.
"""

from typing import Final

TOO_MANY: Final = 5


class Breaker:
    """Opens after five late answers in a row, or when half and more of a stretch of answers are late.

    Every late answer counts one up and every answer in time one down; a single one in time closes it again, because
    while it is open the server is asked nothing but whether it is quick.
    """

    __slots__ = ("_late", "is_open")

    def __init__(self) -> None:
        """Begin closed."""
        self._late = 0
        self.is_open = False

    def late(self, answers: int) -> None:
        """Count answers that did not come in time."""
        self._late += answers
        self.is_open = self.is_open or self._late >= TOO_MANY

    def in_time(self, answers: int) -> None:
        """Count answers that came in time."""
        if self.is_open:
            self.reset()
        elif self._late:
            self._late = max(0, self._late - answers)

    def reset(self) -> None:
        """Forget everything: the connection is another."""
        self._late = 0
        self.is_open = False
