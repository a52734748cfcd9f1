"""Every change between two words in the audit log: that it was begun, and what came of it.

The rule and the seam; where the log is kept belongs to whoever opens it. Secrets never stand in a detail.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import orjson

from proxy.admin.refused import OperationRefused
from proxy.errors import StoreUnavailable

DONE: Final = "done"
BEGUN: Final = "begun"
_LONGEST: Final = 100
_MOST: Final = 100
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for."""

    person: str
    action: str
    account: str
    """The account that it is about; empty where it is about none."""
    subject: str
    detail: Mapping[str, object]

    @property
    def told(self) -> str:
        """The detail as JSON, without what was not said."""
        said = {name: _legible(value) for name, value in self.detail.items() if value is not None}
        return orjson.dumps(said).decode()


def written(name: str) -> str:
    """Return a name that may be anything so that a database takes it and a page has room for it."""
    return name if name.isprintable() and len(name) <= _LONGEST else ascii(name)[:_LONGEST]


def _legible(value: object) -> object:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_legible(one) for one in value[:_MOST]]
    return written(value) if isinstance(value, str) else value


class AuditLog(Protocol):
    """Where it is written down."""

    async def begin(self, asked: Asked) -> str:
        """Write down that it was asked for; returns the entry's id. Raises `OperationRefused`: it must not be done."""

    async def end(self, entry_id: str, outcome: str, subject: str) -> None:
        """Write down what came of it, and what it made."""


async def audited(
    log: AuditLog,
    asked: Asked,
    work: Callable[[], Awaitable[_ResultT]],
    made: Callable[[_ResultT], str] | None = None,
) -> _ResultT:
    """Do it, and write it down before and after; `made` names the result."""
    entry_id = await log.begin(asked)
    outcome, subject = "failed", asked.subject
    try:
        result = await work()
        outcome = DONE
        subject = subject if made is None else made(result)
    except OperationRefused as refused:
        outcome = f"refused: {refused.message}"
        raise
    except StoreUnavailable as away:
        outcome = f"failed: {away.detail}"
        raise
    finally:
        await log.end(entry_id, outcome, subject)
    return result
