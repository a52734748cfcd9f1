"""Which routes of a model are worth asking: what each answered lately, and how many requests may be tried twice.

State machines: facts and the time go in, an order comes out. No clock, no connection, no chance. What a failure means
for the client that met it is said elsewhere (`wire/upstream_error.py`).
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from msgspec import Struct

from proxy.call import Target
from proxy.errors import ErrorType
from proxy.wire.upstream_error import UpstreamError, client_fault

PROBE_SECONDS: Final = 1.0
"""Between two requests that try what is passed over."""
PROBE_PATIENCE: Final = 10.0
"""How long the outcome of such a request is waited for before another one tries."""
WINDOW: Final = 20
WINDOW_FAILURES: Final = 10
"""So many failures among the last answers are too many, wherever between them the others lie."""
FORGET_SECONDS: Final = 30.0
"""Failures count no longer in the window when there was none for so long."""
LONGEST_COOLING: Final = 3600.0
_ALL: Final = (1 << WINDOW) - 1
_ONE: Final = 100  # budgets are counted in hundredths of a retry
_SLOW_DOWN: Final = frozenset({429, 529})
_NOT_FOUND: Final = 404
_MS: Final = 1000


class Policy(Struct, frozen=True):
    """How failover goes; times in seconds."""

    health: bool = True
    eject_after: int = 5
    cooling: float = 5.0
    retry_percent: int = 10
    retry_burst: int = 10


class Blame(Enum):
    """Whom a failure is laid to."""

    REQUEST = auto()
    """Nobody: the provider understood it and found it wrong."""
    ROUTE = auto()
    PROVIDER = auto()
    LOAD = auto()
    """The route works, and asks for a pause."""


def blame(error: UpstreamError) -> Blame:
    """Say what an attempt's failure tells of where it was made."""
    if error.status is None:
        unreached = error.kind == "upstream_unavailable" or (error.kind == "upstream_timeout" and not error.sent)
        return Blame.PROVIDER if unreached else Blame.ROUTE
    if error.status in _SLOW_DOWN or (error.status == 503 and error.retry_after_ms is not None):  # noqa: PLR2004
        return Blame.LOAD
    told = client_fault(error).type
    if told is ErrorType.INVALID_REQUEST:
        return Blame.REQUEST
    return Blame.PROVIDER if told is ErrorType.CONFIGURATION and error.status != _NOT_FOUND else Blame.ROUTE


class Circuit:
    """Closed while answers come; opens after too many failures in a row, or among the last; closes with the first
    success of a request that was sent while it was open.
    """

    __slots__ = ("_failed_at", "_in_a_row", "_lately", "_opened_at", "_probe_at", "_probed_at", "is_open")

    def __init__(self) -> None:
        """Begin closed."""
        self._in_a_row = 0
        self._lately = 0  # one bit for each of the last answers, set for failures
        self._failed_at = self._opened_at = self._probed_at = self._probe_at = 0.0
        self.is_open = False

    @property
    def clean(self) -> bool:
        """Tell whether nothing is remembered of it."""
        return not (self.is_open or self._lately)

    def failed(self, now: float, too_many: int) -> None:
        """Count a failure; `too_many` in a row open it."""
        if now - self._failed_at > FORGET_SECONDS:
            self._lately = 0
        self._failed_at = now
        self._in_a_row += 1
        self._lately = (self._lately << 1 | 1) & _ALL
        if self.is_open:
            self._probe_at = max(now, self._probed_at + PROBE_SECONDS)
        elif self._in_a_row >= too_many or self._lately.bit_count() >= WINDOW_FAILURES:
            self.is_open = True
            self._opened_at = self._probed_at = now
            self._probe_at = now + PROBE_SECONDS

    def succeeded(self, asked_at: float) -> None:
        """Count a success of a request that was sent at `asked_at`; an old one does not speak for what is now."""
        if not self.is_open:
            self._in_a_row = 0
            self._lately = self._lately << 1 & _ALL
        elif asked_at >= self._opened_at:
            self.is_open = False
            self._in_a_row = self._lately = 0

    def due(self, now: float) -> bool:
        """Tell whether a request may try it, although it is open."""
        return now >= self._probe_at

    def probe(self, now: float) -> None:
        """Take note that one does."""
        self._probed_at = now
        self._probe_at = now + PROBE_PATIENCE


Place = tuple[str, str | None]
"""A provider, and a model's name there; None for all that is there."""


class Health:
    """What is known of all routes of one worker. A route that never failed is not in it and costs nothing."""

    def __init__(
        self, policy: Policy | None = None, on_change: Callable[[Place, bool], None] = lambda _place, _out: None
    ) -> None:
        """Know nothing yet; `on_change` hears which place is passed over from now on, and which no more."""
        self._policy = policy or Policy()
        self._on_change = on_change
        self._circuits: dict[Place, Circuit] = {}
        self._cooling: dict[Place, float] = {}
        self._budgets: dict[str, int] = {}
        self.denied: dict[str, int] = {}
        """How many retries of a model's requests the budget did not allow, since somebody took note."""

    def renew(self, policy: Policy) -> None:
        """Forget everything: the configuration is another."""
        self._policy = policy
        for place, circuit in self._circuits.items():
            if circuit.is_open:
                self._on_change(place, False)  # noqa: FBT003 - called back with one word
        self._circuits.clear()
        self._cooling.clear()
        self._budgets.clear()

    def order(self, model: str, drawn: Sequence[Target], now: float) -> Sequence[Target]:
        """Leave out the targets that are passed over; call it once for each request to `model`.

        One that is due for a try stands first, if the budget allows another try after it. If all are passed over, one
        of them is asked all the same, and no second one: a client is never refused for what others met.
        """
        if len(drawn) < 2:  # noqa: PLR2004
            return drawn
        full = self._policy.retry_burst * _ONE
        budget = min(full, self._budgets.get(model, full) + self._policy.retry_percent)
        self._budgets[model] = budget
        if not (self._circuits or self._cooling) or not self._policy.health:
            return drawn
        usable = [target for target in drawn if self._is_usable(target, now)]
        if len(usable) == len(drawn):
            return drawn
        due = (target for target in drawn if (target.route.weight or not usable) and self._is_due(target, now))
        probe = next(due, None) if budget >= _ONE or not usable else None
        if probe is not None:
            for circuit in self._open(probe):
                circuit.probe(now)
            return [probe, *usable]
        return usable or [min(drawn, key=lambda target: self._cooling.get(_route(target), 0.0))]

    def may_retry(self, model: str) -> bool:
        """Take one retry out of the budget of a model, if there is one left."""
        budget = self._budgets.get(model, self._policy.retry_burst * _ONE)
        if budget < _ONE:
            self.denied[model] = self.denied.get(model, 0) + 1
            return False
        self._budgets[model] = budget - _ONE
        return True

    def succeeded(self, target: Target, asked_at: float) -> None:
        """Take note that a target answers requests, by one that was sent to it at `asked_at`."""
        if not self._circuits:
            return
        for place in _places(target):
            circuit = self._circuits.get(place)
            if circuit is not None:
                was_open = circuit.is_open
                circuit.succeeded(asked_at)
                if was_open and not circuit.is_open:
                    self._on_change(place, False)  # noqa: FBT003 - called back with one word
                if circuit.clean:
                    del self._circuits[place]

    def failed(self, target: Target, error: UpstreamError, asked_at: float, now: float) -> None:
        """Take note that an attempt failed that began at `asked_at`."""
        culprit = blame(error)
        if culprit is Blame.REQUEST:
            self.succeeded(target, asked_at)
        elif culprit is Blame.LOAD:
            wait = self._policy.cooling if error.retry_after_ms is None else error.retry_after_ms / _MS
            until = now + min(wait, LONGEST_COOLING)
            self._cooling[_route(target)] = max(until, self._cooling.get(_route(target), until))
        else:
            place = _route(target) if culprit is Blame.ROUTE else (target.route.provider, None)
            circuit = self._circuits.get(place)
            if circuit is None:
                circuit = self._circuits[place] = Circuit()
            was_open = circuit.is_open
            circuit.failed(now, self._policy.eject_after)
            if circuit.is_open and not was_open:
                self._on_change(place, True)  # noqa: FBT003 - called back with one word

    def passed_over(self, now: float) -> dict[str, int]:
        """Return how many places of each provider are passed over."""
        if not (self._circuits or self._cooling):
            return {}
        self._cooling = {place: until for place, until in self._cooling.items() if until > now}
        out = [place for place, circuit in self._circuits.items() if circuit.is_open]
        counted: dict[str, int] = {}
        for provider, _ in {*out, *self._cooling}:
            counted[provider] = counted.get(provider, 0) + 1
        return counted

    def _open(self, target: Target) -> list[Circuit]:
        circuits = (self._circuits.get(place) for place in _places(target))
        return [circuit for circuit in circuits if circuit is not None and circuit.is_open]

    def _is_cooling(self, target: Target, now: float) -> bool:
        return self._cooling.get(_route(target), now) > now

    def _is_usable(self, target: Target, now: float) -> bool:
        return not (self._is_cooling(target, now) or self._open(target))

    def _is_due(self, target: Target, now: float) -> bool:
        circuits = self._open(target)
        return bool(circuits) and not self._is_cooling(target, now) and all(circuit.due(now) for circuit in circuits)


def _route(target: Target) -> Place:
    return target.route.provider, target.route.model


def _places(target: Target) -> tuple[Place, Place]:
    return (target.route.provider, None), (target.route.provider, target.route.model)
