"""One request on its way: what was asked, where it may go, and how it ended. Values only; each step makes the next
one's.

Values that every request makes are msgspec structs: frozen like the dataclasses elsewhere, and ten times cheaper to
make.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from proxy.catalog import Model, Route
from proxy.errors import Fault
from proxy.providers import Provider
from proxy.trace import Trace
from proxy.usage import Usage, UsageSource, tokens_of
from proxy.wire.chat_request import ChatRequest
from proxy.wire.response_request import ResponseRequest


class Endpoint(StrEnum):
    """The endpoints that reach a provider, by the names that metrics and logs use."""

    CHAT = "chat"
    RESPONSES = "responses"


class Ending(StrEnum):
    """How a request ended. Each ends once, and its ending is a word here."""

    COMPLETE = "complete"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    CLIENT_GONE = "client_gone"
    CANCELLED = "cancelled"
    CUT = "cut"
    REFUSED = "refused"
    CRASHED = "crashed"
    """The gateway died before the end; only the ledger has such requests."""


class Call(Struct, frozen=True, gc=False):
    """An accepted request: well-formed, for a model that exists and that its key may use. Not admitted yet."""

    request_id: str
    endpoint: Endpoint
    request: ChatRequest
    model: Model
    accepted_at: int
    """Unix seconds."""
    size: int
    """Bytes of the client's body."""
    response: ResponseRequest | None = None
    """What was asked of the Responses API; `request` is then its translation, or stands in for what needs none."""
    native_only: bool = False
    """It cannot be translated: only providers that speak the Responses API themselves can serve it."""
    trace: Trace | None = None
    """Set while tracing is on."""

    def estimate(self, output_bytes: int) -> Usage:
        """Return what is billed for this call if the provider tells no usage: its prompt, and the bytes that came
        back.
        """
        completion = tokens_of(output_bytes, self.model.estimate_bytes_per_token)
        return Usage(prompt=self.estimate_prompt(), completion=completion)

    def estimate_prompt(self) -> int:
        """Return the tokens of the prompt in that estimate."""
        return self.request.estimate_prompt(self.model.estimate_bytes_per_token)


class Target(Struct, frozen=True, gc=False):
    """One place to send a call to: a route of its model, and what is known of the provider there."""

    route: Route
    provider: Provider


class Underway(Struct, frozen=True, gc=False):
    """A call that a target is being asked."""

    call: Call
    target: Target
    attempts: int
    """This one included."""


class Outcome(Struct, frozen=True, gc=False):
    """What forwarding a call led to. `fault` is set if the client has been sent nothing yet."""

    ending: Ending
    target: Target | None
    """The target that answered, or the last that was tried."""
    attempts: int
    reached: bool
    """A provider began to work on it, so that it may cost something."""
    sent: bool = False
    """A provider was sent it, and has refused it or failed at least: it has a row in the ledger, if only of zeros."""
    usage: Usage | None = None
    source: UsageSource = UsageSource.NONE
    upstream_id: str | None = None
    asked_at: float | None = None
    """When the first target was asked, on the monotonic clock, in seconds."""
    first_byte_at: float | None = None
    """When the first byte went to the client."""
    fault: Fault | None = None
    ignored: tuple[str, ...] = ()
    """Of a fault: the paths of what the client sent and the target was not."""
    dropped_events: int = 0
    """Events of a stream that could not be read."""
    stray_close_tags: int = 0
    """Choices with a closing tag of reasoning and no block: the provider may leave out the opening one."""


class Metered(Struct, frozen=True, gc=False):
    """What a request used and costs, and how sure that is; the cost in pico-dollars."""

    usage: Usage
    source: UsageSource
    cost_pusd: int


UNUSED: Final = Metered(Usage(), UsageSource.NONE, 0)
"""Of a request for which no provider did anything."""


class RequestEnd(Struct, frozen=True, gc=False, omit_defaults=True):
    """All that is known of a request when it is over; its fields are, under these names, the fields of its log line."""

    request_id: str
    endpoint: str
    model: str
    """A catalog id, or `unknown`."""
    stream: bool
    status: int
    ending: Ending
    duration_ms: float
    account: str | None = None
    key_id: str | None = None
    provider: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: UsageSource | None = None
    cost_usd: str | None = None
    ttft_ms: float | None = None
    """From the request's arrival to the first byte of a stream."""
    overhead_ms: float | None = None
    """What the gateway itself took before a provider was asked."""
    attempts: int | None = None
    code: str | None = None
    reason: str | None = None
    """Why the gateway refused it, by the label of the metric."""
    param: str | None = None
    """Where the gateway found the request wrong, in names of the API; what a provider names may quote the request."""
    upstream_id: str | None = None
    dropped_events: int | None = None
    stray_close_tags: int | None = None
    client_request_id: str | None = None
    retry_count: str | None = None
