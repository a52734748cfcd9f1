"""The row that the ledger keeps of a request: what was used, what it cost and by which prices.

A noun only: who writes it to disk and to SQL is in `ledger/`, how it is made of a request in `steps/record.py`. Its
field names are the columns' names everywhere: in SQL, in exports, in the journal.
"""

from msgspec import Struct


class UsageRecord(Struct, frozen=True, gc=False, kw_only=True, array_like=True):
    """One request that reached a provider. Never a text of the prompt or the answer.

    Journals have the values alone, in this order: with their names a row would be more than twice as long, and writing
    it take a fifth longer. A new field stands last and has a default.
    """

    request_id: str
    upstream_id: str | None
    """The provider's own id of it, if it told one that can be written down."""
    account: str
    key_id: str
    endpoint: str
    model: str
    """The catalog's id."""
    provider: str
    upstream_model: str
    stream: bool
    status: int
    """The HTTP status that the client got; 499: it left before one, 500: the gateway died."""
    ending: str
    """A word of `Ending`."""
    usage_source: str
    """A word of `UsageSource`."""
    prompt_tokens: int
    cached_tokens: int
    """A part of `prompt_tokens`."""
    completion_tokens: int
    reasoning_tokens: int
    """A part of `completion_tokens`; 0 also if the provider does not tell."""
    cost_pusd: int
    price_prompt: str
    """Decimal text in USD per token, as the catalog had it when the request was accepted; so are the next two."""
    price_completion: str
    price_input_cache_read: str | None
    attempts: int
    started_at: int
    """When it arrived, in Unix milliseconds."""
    ttft_ms: int | None
    """From its arrival to the first byte of its stream."""
    duration_ms: int
    metadata: str | None
    """The JSON object that the client gave, as it gave it."""
