"""Questions to the ledger by somebody: their sums, their requests, how those went; never those of others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from proxy.admin.refused import OperationRefused, Reason
from proxy.dashboard.operations import Operations
from proxy.ledger import requests
from proxy.ledger.people import AuditEntry
from proxy.ledger.queries import By, Group, Selection, Sums, sums
from proxy.ledger.requests import Filter, Minute, Place, Qualities
from proxy.moments import parse_when
from proxy.usage_record import UsageRecord

LATEST: Final = 2_000
"""How many requests are looked at to say how they went."""
_OF_THE_GATEWAY: Final[Mapping[str, str | None]] = {"provider": "", "upstream_model": "", "upstream_id": None}
"""What of a row is nobody's business but the operator's: where the request ran. Left out, as it is in their pages."""
_PLACES: Final = {UsageRecord.__struct_fields__.index(name): value for name, value in _OF_THE_GATEWAY.items()}


@dataclass(frozen=True, slots=True)
class Looking:
    """What one person may see of the ledger."""

    operations: Operations

    async def sums(self, chosen: Selection, by: Sequence[By]) -> dict[Group, Sums]:
        """Return what was used, by group."""
        mine = replace(chosen, account=self.operations.person.scope(chosen.account))
        return await self.operations.desk.ledger.read(lambda connection: sums(connection, mine, by))

    async def requests(self, chosen: Filter, count: int, before: Place | None = None) -> list[UsageRecord]:
        """Return single requests, the latest first."""
        mine = self.mine(chosen)
        if mine.account is None and mine.key_id is not None:
            key = await self.operations.desk.records.key(mine.key_id)
            mine = replace(mine, account=None if key is None else key.account)  # there is an index by account
        found = await self.operations.desk.ledger.read(
            lambda connection: requests.newest(connection, mine, count, before)
        )
        return list(map(self._told, found))

    async def count(self) -> int:
        """Return how many requests have a row."""
        account = self.operations.person.account
        return await self.operations.desk.ledger.read(lambda connection: requests.counts(connection, account))

    async def request(self, request_id: str) -> UsageRecord:
        """Return one request."""
        found = None
        if request_id.isprintable():
            found = await self.operations.desk.ledger.read(lambda connection: requests.one(connection, request_id))
        if found is None or self.operations.person.account not in (None, found.account):
            raise OperationRefused(
                Reason.NOT_FOUND,
                "the ledger has no such request: it may have been refused before a provider was asked, "
                "or be a moment away",
            )
        return self._told(found)

    async def quality(self, chosen: Filter) -> Qualities:
        """Say how the latest requests went."""
        mine = self.mine(chosen)
        return await self.operations.desk.ledger.read(lambda connection: requests.quality(connection, mine, LATEST))

    async def by_minute(self, since: int) -> dict[int, Minute]:
        """Return what began in each minute since a moment, in Unix ms, which is not long ago."""
        mine = self.mine(Filter(since=since))
        return await self.operations.desk.ledger.read(lambda connection: requests.by_minute(connection, mine))

    def told(self, rows: Iterable[Sequence[Any]]) -> Iterable[Sequence[Any]]:
        """Return rows, the values of a record's fields each, without what this person may not see of them."""
        return rows if self.operations.person.is_operator else map(_of_an_account, rows)

    def _told(self, record: UsageRecord) -> UsageRecord:
        return record if self.operations.person.is_operator else msgspec.structs.replace(record, **_OF_THE_GATEWAY)

    def mine(self, chosen: Filter) -> Filter:
        """Return what of these requests this person may see."""
        return replace(chosen, account=self.operations.person.scope(chosen.account))

    def moment(self, text: str | None, name: str) -> int | None:
        """Read a moment that somebody wrote, in Unix ms."""
        if not text:
            return None
        try:
            return parse_when(text).seen_from(self.operations.desk.now_ms)
        except (ValueError, OverflowError) as wrong:
            raise OperationRefused(Reason.MALFORMED, f"{name}: {wrong}") from None


def _of_an_account(row: Sequence[Any]) -> Sequence[Any]:
    values = list(row)
    for place, value in _PLACES.items():
        values[place] = value
    return values


def columns(text: str) -> list[By]:
    """Read what is told apart, such as `account,day`."""
    names = [name.strip() for name in text.split(",")]
    known = [by.value for by in By]
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None or len(set(names)) != len(names):
        told = "names a column twice" if wrong is None else f"{wrong!r} is none of {', '.join(known)}"
        raise OperationRefused(Reason.MALFORMED, f"by: {told}; write such as account,day")
    return [By(name) for name in names]


def place_after(page: Sequence[UsageRecord], count: int) -> str | None:
    """Return what to ask for the page after this one; None if this one is not full."""
    return f"{page[-1].started_at}-{page[-1].request_id}" if len(page) == count else None


def audit_after(page: Sequence[AuditEntry], count: int) -> str | None:
    """Return what to ask for the page of the audit log after this one; None if this one is not full."""
    return f"{page[-1].at}-{page[-1].entry_id}" if len(page) == count else None


def read_audit_place(text: str | None) -> tuple[int, str] | None:
    """Read what `audit_after` wrote."""
    place = read_place(text)
    return None if place is None else (place.started_at, place.request_id)


def read_place(text: str | None) -> Place | None:
    """Read what `place_after` wrote."""
    if not text:
        return None
    moment, dash, request_id = text.partition("-")
    if not (dash and request_id and moment.isascii() and moment.isdigit() and len(moment) <= len("9" * 18)) or (
        not request_id.isprintable()
    ):
        raise OperationRefused(Reason.MALFORMED, "before: take the `next` of the page before")
    return Place(int(moment), request_id)


def read_filter(looking: Looking, given: Mapping[str, str | None]) -> Filter:
    """Read which requests are meant."""
    account, key_id, model, ending = (given.get(name) or None for name in ("account", "key_id", "model", "ending"))
    if not all(word is None or word.isprintable() for word in (account, key_id, model, ending)):
        raise OperationRefused(Reason.MALFORMED, "account, key_id, model and ending: must be printable characters")
    since, until = (looking.moment(given.get(name), name) for name in ("since", "until"))
    return Filter(account, key_id, model, ending, since, until)
