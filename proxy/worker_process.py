"""One worker as its supervisor sees it: a process, what it said last, and a way to tell it something."""

import asyncio
from typing import Final

from proxy.control import Reload, State, Stop, write

SILENT_SECONDS: Final = 5.0
"""A worker that has said nothing for so long would not answer a client either."""


class WorkerProcess:
    """One worker as its supervisor sees it."""

    def __init__(
        self, slot: int, process: asyncio.subprocess.Process, commands: asyncio.StreamWriter, now: float
    ) -> None:
        """Wrap a process that was just started."""
        self.slot = slot
        self.process = process
        self.state = State(ready=False, reasons=["the worker is starting"])
        self._heard_at = now
        self._commands = commands

    def heard(self, state: State, now: float) -> None:
        """Take note of what it says, which it repeats every second."""
        self.state, self._heard_at = state, now

    def state_at(self, now: float) -> State:
        """Return its last word, unless it has been silent since: then it serves nobody."""
        silence = now - self._heard_at
        if not self.state.ready or silence < SILENT_SECONDS:
            return self.state
        return State(ready=False, reasons=[f"worker {self.slot} is busy or stuck: silent for {silence:.0f} s"])

    def tell(self, message: Reload | Stop) -> None:
        """Send an order; a worker that has gone hears nothing."""
        if not self._commands.is_closing():
            self._commands.write(write(message))
