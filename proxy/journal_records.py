"""What a journal says of requests, and what the ledger is told because of it.

Pure: records in, rows out. A request whose end the journal knows becomes the row that it ended with; one whose end was
lost with its process becomes a row all the same, billed by the last that is known of it.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, Literal

import msgspec
from msgspec import Struct

from proxy.call import Ending
from proxy.pricing import Prices
from proxy.usage import UsageSource
from proxy.usage_record import UsageRecord

LARGEST_COST: Final = 2**63 - 1
"""In pUSD, some nine million dollars: what a journal and a database can write down as the cost of one request."""
CRASHED_STATUS: Final = 500
"""What a lost request's status is called: what its client was sent, nobody knows."""


class Started(Struct, frozen=True, gc=False, tag="start", array_like=True):
    """A request is about to be sent to a provider. The fields are those of `UsageRecord`, as far as they are known."""

    request_id: str
    account: str
    key_id: str
    endpoint: str
    model: str
    provider: str
    upstream_model: str
    stream: bool
    prompt_tokens: int
    """The estimate."""
    price_prompt: str
    price_completion: str
    price_input_cache_read: str | None
    started_at: int
    metadata: str | None = None


class Marked(Struct, frozen=True, tag="mark", array_like=True):
    """How far a long stream is: what it would be billed if it ended now, and who is answering."""

    request_id: str
    provider: str
    upstream_model: str
    upstream_id: str | None
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    first_byte_at: int | None
    """Unix ms, as is the next."""
    marked_at: int


class Ended(Struct, frozen=True, gc=False, tag="end", array_like=True):
    """A request that reached a provider is over, and this is its row."""

    record: UsageRecord


class Dropped(Struct, frozen=True, tag="drop", array_like=True):
    """A request is over and never reached a provider: it has no row."""

    request_id: str


class Carried(Struct, frozen=True, gc=False, tag="carry", array_like=True):
    """A request that was open when a segment of the journal began, as the segments before it told of it."""

    started: Started
    marked: Marked | None = None


class Opened(Struct, frozen=True, tag="open", array_like=True):
    """The end of the requests that were carried into a segment: there are so many of them, and no others are open."""

    carried: int


Record = Started | Marked | Ended | Dropped | Carried | Opened

_DECODER: Final = msgspec.msgpack.Decoder(Record)
_WITH_NAMES: Final = msgspec.msgpack.Decoder(tuple[Literal["end"], dict[str, bool | int | str | None]])
"""Rows as journals had them before their values stood there without the names of the fields."""


encode: Final[Callable[[Record], bytes]] = msgspec.msgpack.Encoder().encode
"""Write a record."""


def decode(payload: bytes) -> Record | None:
    """Read a record; None for one that cannot be read, which a newer version may have written.

    What begins has to have prices: if its end is lost, they are what it is billed by.
    """
    try:
        record: Record = _DECODER.decode(payload)
        if type(record) is Started:
            _prices_of(record)
        elif type(record) is Carried:
            _prices_of(record.started)
    except (msgspec.MsgspecError, ValueError):
        return _ended_with_names(payload)
    return record


class Replay:
    """Follows one journal from its oldest segment on and knows which requests are open."""

    def __init__(self) -> None:
        self._open: dict[str, Carried] = {}
        self._carried: set[str] = set()

    def take(self, record: Record) -> list[UsageRecord]:
        """Take the next record; returns the rows that are certain now."""
        match record:
            case Ended(row):
                self._open.pop(row.request_id, None)
                return [row]
            case Started(request_id):
                self._open[request_id] = Carried(record)
            case Marked(request_id):
                known = self._open.get(request_id)
                if known is not None:
                    self._open[request_id] = Carried(known.started, record)
            case Dropped(request_id):
                self._open.pop(request_id, None)
            case Carried(started):
                self._open[started.request_id] = record
                self._carried.add(started.request_id)
            case Opened(count):
                return self._opened(count)
        return []

    def lost(self) -> Iterator[UsageRecord]:
        """Return the rows of all that is still open: nobody will write to this journal any more."""
        return map(crashed, self._open.values())

    def _opened(self, count: int) -> list[UsageRecord]:
        """A request that is neither over nor carried on was over, in a record that could not be read."""
        carried, self._carried = self._carried, set()
        if len(carried) != count:
            return []
        return [crashed(self._open.pop(request_id)) for request_id in self._open.keys() - carried]


def crashed(known: Carried) -> UsageRecord:
    """Return the row of a request whose end is not known: billed at its last mark, else at its prompt's estimate."""
    started, marked = known.started, known.marked
    if marked is None:
        marked = Marked(
            request_id=started.request_id,
            provider=started.provider,
            upstream_model=started.upstream_model,
            upstream_id=None,
            attempts=1,
            prompt_tokens=started.prompt_tokens,
            cached_tokens=0,
            completion_tokens=0,
            reasoning_tokens=0,
            first_byte_at=None,
            marked_at=started.started_at,
        )
    prices = _prices_of(started)
    return UsageRecord(
        request_id=started.request_id,
        upstream_id=marked.upstream_id,
        account=started.account,
        key_id=started.key_id,
        endpoint=started.endpoint,
        model=started.model,
        provider=marked.provider,
        upstream_model=marked.upstream_model,
        stream=started.stream,
        status=CRASHED_STATUS,
        ending=Ending.CRASHED,
        usage_source=UsageSource.ESTIMATED,
        prompt_tokens=marked.prompt_tokens,
        cached_tokens=marked.cached_tokens,
        completion_tokens=marked.completion_tokens,
        reasoning_tokens=marked.reasoning_tokens,
        cost_pusd=min(prices.cost(marked.prompt_tokens, marked.cached_tokens, marked.completion_tokens), LARGEST_COST),
        price_prompt=started.price_prompt,
        price_completion=started.price_completion,
        price_input_cache_read=started.price_input_cache_read,
        attempts=marked.attempts,
        started_at=started.started_at,
        ttft_ms=None if marked.first_byte_at is None else max(0, marked.first_byte_at - started.started_at),
        duration_ms=max(0, marked.marked_at - started.started_at),
        metadata=started.metadata,
    )


def _ended_with_names(payload: bytes) -> Ended | None:
    try:
        _, fields = _WITH_NAMES.decode(payload)
        return Ended(msgspec.convert([fields[name] for name in UsageRecord.__struct_fields__], UsageRecord))
    except (msgspec.MsgspecError, KeyError, ValueError):
        return None


def _prices_of(started: Started) -> Prices:
    return _prices(started.price_prompt, started.price_completion, started.price_input_cache_read)


@lru_cache(maxsize=1_024)
def _prices(prompt: str, completion: str, input_cache_read: str | None) -> Prices:
    """Read prices, each once: a journal says those of a model again with every request."""
    return Prices.parse(prompt, completion, input_cache_read)
