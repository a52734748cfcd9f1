"""A run of checks: which requests they need, how many of them cost money, and asking them one after the other.

Each request is sent once, whoever needs its answer. How it is sent, and what the time is, comes in.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from proxy.conformance.asks import models, unknown_model
from proxy.conformance.check import Check, Verdict
from proxy.conformance.exchange import Ask, Cost, NoReply, Reply, Violation

MOST_WAITS: Final = 3
LONGEST_WAIT: Final = 60.0
"""How often, and how long at most, a run waits when the endpoint limits its key."""
_ANY_WAIT: Final = 5.0
_SECONDS: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class CannotRun(Exception):  # noqa: N818 - what the endpoint did
    """There is no point in going on; the text says why and what to do."""


class Asker(Protocol):
    """Sends a request; raises what says that the endpoint cannot be reached."""

    async def ask(self, ask: Ask, /) -> Reply | NoReply:
        """Return the answer."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    check: Check
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """Checks and the requests that they need for one model."""

    model: str
    steps: tuple[tuple[Check, tuple[Ask, ...]], ...]
    """Each check with its requests."""

    @classmethod
    def of(cls, checks: Iterable[Check], model: str) -> "Plan":
        """Write the requests of these checks for a model."""
        return cls(model, tuple((check, tuple(asking(model) for asking in check.asks)) for check in checks))

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Every request once, in the order in which it is needed first."""
        return tuple(dict.fromkeys(ask for _, asks in self.steps for ask in asks))

    def cost(self, cost: Cost) -> int:
        """How many requests cost this."""
        return sum(ask.cost is cost for ask in self.asks)


class Runner:
    """Asks and judges."""

    def __init__(self, asker: Asker, sleep: Callable[[float], Awaitable[None]], tell: Callable[[str], None]) -> None:
        """Ask with `asker`; `tell` shows a line of progress."""
        self._asker = asker
        self._sleep = sleep
        self._tell = tell
        self._replies: dict[Ask, Reply | NoReply] = {}

    async def find_model(self) -> str:
        """Return the first model of the listing; raises `CannotRun` if that cannot be read."""
        reply = await self._ask(models(""))
        try:
            if isinstance(reply, Reply):
                return str(reply.document["data"][0]["id"])
        except (Violation, LookupError, TypeError):
            pass
        raise CannotRun("GET /models lists no model that could be asked: name one with --model")

    async def prove_key(self, model: str) -> None:
        """Raise `CannotRun` if the endpoint does not know the key: nothing else could be judged then."""
        reply = await self._ask(unknown_model(model))
        if isinstance(reply, Reply) and reply.status == HTTPStatus.UNAUTHORIZED:
            raise CannotRun(f"the endpoint refuses the key ({reply.summary}): give it a good one")

    async def run(self, plan: Plan) -> list[Line]:
        """Judge every check of a plan. Raises `CannotRun` if the endpoint goes on limiting the key."""
        lines = []
        for number, (check, asks) in enumerate(plan.steps, 1):
            self._tell(f"{number}/{len(plan.steps)}  {check.clause}  {check.sentence}")
            replies = [await self._ask(ask) for ask in asks]
            lines.append(Line(check, check.verdict(replies)))
        return lines

    async def _ask(self, ask: Ask) -> Reply | NoReply:
        if ask not in self._replies:
            self._replies[ask] = await self._answer(ask)
        return self._replies[ask]

    async def _answer(self, ask: Ask) -> Reply | NoReply:
        """Ask, and once more after each wait that the endpoint demands."""
        waits = 0
        while True:
            reply = await self._asker.ask(ask)
            if isinstance(reply, NoReply) or reply.status != HTTPStatus.TOO_MANY_REQUESTS:
                return reply
            seconds = _wait(reply)
            if waits == MOST_WAITS or seconds > LONGEST_WAIT:
                hint = "raise its limits, or run less with --only"
                raise CannotRun(f"the endpoint limits this key ({reply.summary}): {hint}")
            self._tell(f"the endpoint limits this key; going on in {seconds:g} s")
            await self._sleep(seconds)
            waits += 1


def _wait(reply: Reply) -> float:
    """Return the seconds that a 429 demands; more than is ever waited if it says that waiting is useless."""
    if reply.header("x-should-retry") == "false":
        return LONGEST_WAIT + 1
    seconds = reply.header("retry-after") or ""
    return max(float(seconds), 1.0) if _SECONDS.fullmatch(seconds) else _ANY_WAIT
