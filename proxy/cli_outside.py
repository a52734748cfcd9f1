"""What a command takes from the world around it: environment, clock, randomness, and the way to the stores.

Only the seam, so that a test can put a command into a world of its own; the real one is made in `proxy/cli.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from proxy.limits import KeyStore, LimitStore

if TYPE_CHECKING:
    from proxy.settings import Settings  # costs time that `--help` should not take

_ResultT = TypeVar("_ResultT")


class WithStores(Protocol):
    """Opens the stores of the configuration, does the work with them, and closes them."""

    def __call__(
        self, settings: "Settings", work: Callable[[KeyStore, LimitStore], Awaitable[_ResultT]], /
    ) -> _ResultT:
        """Return what the work returns; raises what it raises, and `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The world around one command."""

    environ: Mapping[str, str]
    clock: Callable[[], int]
    """Unix time in milliseconds."""
    random: Callable[[int], bytes]
    """That many bytes fit for secrets."""
    with_stores: WithStores | None = None
    """Another way to the stores than the configuration's."""
    user: str = "unknown"
    """The name of the system's user, for the audit log."""
