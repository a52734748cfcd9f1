"""Reading beside the loop: what one exchange does not do in the loop because it is large, and what has to wait for it.

At most one piece of work of an exchange is under way, so that nothing is read or asked while it changes. What the work
is, nobody here knows.
"""

import asyncio
from collections.abc import Callable

Start = Callable[[Callable[[], bytes]], "asyncio.Future[bytes]"]
"""Begins a piece of work in another thread."""


class Beside:
    """One exchange's work beside the loop."""

    __slots__ = ("_later", "_start")

    def __init__(self, start: Start) -> None:
        """Begin with nothing under way."""
        self._start = start
        self._later: list[Callable[[], None]] | None = None

    @property
    def busy(self) -> bool:
        """Tell whether work is under way."""
        return self._later is not None

    def run(self, work: Callable[[], bytes], then: Callable[["asyncio.Future[bytes]"], None]) -> None:
        """Do some work; `then` is told when it is done, and after that what had to wait is done."""

        def done(future: "asyncio.Future[bytes]") -> None:
            later, self._later = self._later or [], None
            then(future)
            for action in later:
                self.after(action)

        future = self._start(work)
        self._later = []
        future.add_done_callback(done)

    def after(self, action: Callable[[], None]) -> None:
        """Do something now, or as soon as no work is under way."""
        if self._later is None:
            action()
        else:
            self._later.append(action)


class Parted:
    """Stands for the connection of an exchange whose answer has come to its end: it may serve another one by now."""

    def pause(self) -> None:
        """Nothing comes any more."""

    def resume(self) -> None:
        """Nothing comes any more."""

    def abort(self) -> None:
        """It is somebody else's."""

    def let_finish(self, _loop: asyncio.AbstractEventLoop) -> None:
        """It has finished."""
