"""The program `aion-proxy serve`: a supervisor on an event loop, and the exit code that says how it went."""

import asyncio
import sys
from pathlib import Path
from typing import Final

import uvloop

from proxy.dashboard.token_file import BadAdminToken
from proxy.listening import CannotStart
from proxy.logs import make_logger
from proxy.mistakes import ConfigurationError
from proxy.supervisor import OnReady, Supervisor

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2


def serve(
    config: Path, workers: int | None = None, on_ready: OnReady | None = None, *, in_terminal: bool = False
) -> int:
    """Run the gateway until it is told to stop (`in_terminal`: or its terminal is closed); returns the exit code."""

    async def run() -> None:
        await Supervisor(config, workers, make_logger(), in_terminal=in_terminal).run(on_ready)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        return WRONG
    except (CannotStart, BadAdminToken) as why:
        print(f"aion-proxy: {why}", file=sys.stderr)
        return FAILED
    return DONE
