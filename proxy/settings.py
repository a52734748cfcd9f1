"""The models of the gateway's own file: server, store, ledger, plans, and the providers by name.

A model says what a key is called, what it may hold, what it is when left out, and what it is for; the reference in the
documentation is made from that. Nothing is read, looked up or opened here: that is `configuration.py`.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, PlainValidator

from proxy.addresses import EMBEDDED, CollectorUrl, LedgerUrl, StoreUrl
from proxy.limits import Limits, OnBudgetEnd, Period
from proxy.mistakes import Wrong, nearest
from proxy.pricing import PUSD_PER_USD, format_usd, nano_usd_ceil, parse_usd
from proxy.provider_health import Policy
from proxy.providers import Provider
from proxy.quantities import (
    Address,
    Count,
    Duration,
    Filled,
    Listen,
    Name,
    OptionalCount,
    OptionalSize,
    Portion,
    Share,
    Size,
    Wait,
    parse_filled,
)
from proxy.sections import Conflict, Kind, Section

_UNLIMITED: Final = "unlimited"
# The store counts budgets in 64-bit integers of nano-dollars; this leaves room to add.
_LARGEST_BUDGET: Final = 10**9 * PUSD_PER_USD


def _parse_budget(value: object) -> int:
    if isinstance(value, int | float):
        raise Wrong('must be text, because numbers drift: quote it, such as "25.00"')
    pusd = parse_usd(parse_filled(value))
    if not 0 < pusd <= _LARGEST_BUDGET:
        raise Wrong(f"must be more than 0 and at most {format_usd(_LARGEST_BUDGET)}")
    return pusd


def _period(budget: object) -> object:
    return budget.get("per") if isinstance(budget, Mapping) else None


def _parse_path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(parse_filled(value))


PicoUsd = Annotated[int, PlainValidator(_parse_budget), Kind("decimal text in USD", format_usd)]
File = Annotated[Path, PlainValidator(_parse_path), Kind("path")]


class OnStoreOutage(StrEnum):
    """What happens to requests while the store is away."""

    REFUSE = "refuse"
    DEGRADE = "degrade"


class Server(Section):
    """Where the gateway listens and how it runs."""

    listen: Listen = Field(Address("127.0.0.1", 8080), description="the API")
    admin_listen: Listen = Field(
        Address("127.0.0.1", 9090), description="metrics, health and administration; never on the API's port"
    )
    workers: Count = Field(1, description="processes that serve the API; one per core is plenty")
    max_body: Size = Field(20 * 2**20, description="the largest request body, after decompression")
    max_connections: Count = Field(10_000, description="connections of clients to one process; more are refused")
    header_timeout: Duration = Field(15.0, description="how long a client may take for the head of a request")
    body_timeout: Duration = Field(
        30.0, description="how long it may take for the body, and a second more for every 4 KiB that have come"
    )
    idle_timeout: Duration = Field(75.0, description="how long a connection is kept without a request")
    stall_timeout: Duration = Field(
        60.0, description="how long a client may take nothing of an answer that waits for it"
    )
    stop_delay: Duration = Field(
        5.0,
        description="after SIGTERM, how long requests are still accepted while `/readyz` already says 503: "
        "balancers need a moment to notice",
    )
    stop_grace: Duration = Field(25.0, description="how long open requests may go on after the signal to stop")

    memory_limit: OptionalSize = Field(
        None,
        description="how much memory one worker may take: from 85 % of it new requests are refused, from 95 % stalled "
        "streams are cut; left out, the limit of the control group (a container's) holds for all of them",
    )

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """The two ports are two."""
        api, admin = (str(raw.get(key, cls.model_fields[key].default)) for key in ("listen", "admin_listen"))
        if api == admin and not api.endswith(":0"):
            yield ("admin_listen",), admin, Wrong("must be an address of its own", "is {value}, the same as listen")


class Budget(Section):
    """How much money an account may spend in a period."""

    pusd: PicoUsd = Field(alias="usd", description='the amount, quoted: "25.00"')
    per: Period = Field(description="day, month (both UTC) or total")


class Plan(Section):
    """The limits of every account that has this plan; a limit left out does not apply."""

    requests_per_minute: OptionalCount = Field(None, description="requests a minute")
    tokens_per_minute: OptionalCount = Field(None, description="prompt and completion tokens a minute")
    concurrent_requests: OptionalCount = Field(None, description="requests at the same time, open streams included")
    tokens_per_day: OptionalCount = Field(None, description="prompt and completion tokens a UTC day")
    budget: Budget | None = Field(None, description="money in a period")
    more_budgets: tuple[Budget, ...] = Field((), description="money in other periods, which holds beside it")
    on_budget_end: OnBudgetEnd = Field(
        OnBudgetEnd.FINISH,
        description="a stream that needs more than is left goes on for another hold, or is cut",
    )

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """Budgets are of different periods, and further ones stand beside a first."""
        more = raw.get("more_budgets")
        if not isinstance(more, list | tuple) or not more:
            return
        if raw.get("budget") is None:
            yield ("more_budgets",), more, Wrong("must stand beside a budget: make one of them that", "has no first")
        periods = [_period(raw.get("budget"))]
        for number, budget in enumerate(more):
            period = _period(budget)
            if period is not None and period in periods:
                yield ("more_budgets", number, "per"), period, Wrong("must be a period of its own", "is {value} again")
            periods.append(period)

    def limits(self) -> Limits:
        """Return the plan as the limits of an account without overrides."""
        return Limits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
            tokens_per_day=self.tokens_per_day,
            budget_nusd=None if self.budget is None else nano_usd_ceil(self.budget.pusd),
            budget_per=Period.TOTAL if self.budget is None else self.budget.per,
            more_budgets=tuple((budget.per, nano_usd_ceil(budget.pusd)) for budget in self.more_budgets),
            on_budget_end=self.on_budget_end,
        )


class Metrics(Section):
    """What the metrics page shows."""

    account_label: bool = Field(default=True, description="tell tokens and cost apart by account")
    genai: bool = Field(default=False, description="also the families `gen_ai_…`, under OpenTelemetry's names")


class Tracing(Section):
    """Whether each request leaves a trace, and where."""

    enabled: bool = Field(
        default=False, description="send a trace of each request to a collector, and `traceparent` to providers"
    )
    endpoint: CollectorUrl = Field(
        None,
        description="the collector, by OTLP over HTTP: `http://127.0.0.1:4318`; left out, the variables "
        "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT` say it, else it is on this machine",
    )
    sample_ratio: Portion = Field(
        1.0, description="how many of the requests are recorded whose client sends no `traceparent`, which decides it"
    )


class StoreEviction(StrEnum):
    """What is done about a server that throws keys away when its memory is full."""

    REFUSE = "refuse"
    WARN = "warn"


class Holds(Section):
    """How much a request takes of its limits in advance."""

    default_hold: Count = Field(
        1024, description="output tokens held for a request that names no maximum, until the model's answers are known"
    )


class Failover(Section):
    """When another route of a model is tried, and which are passed over."""

    health: bool = Field(default=True, description="pass over routes that failed lately, while another is left")
    eject_after: Count = Field(
        5, description="so many failures in a row, and a route is passed over; so it is after 10 in 20 answers"
    )
    cooling: Duration = Field(
        5.0, description="a route that answers 429 or 529 is passed over for this long, unless it says how long itself"
    )
    retry_percent: Share = Field(
        10, description="of 100 requests for a model, so many may be tried again at another route of it"
    )
    retry_burst: Count = Field(10, description="so many more may be, after a time without")

    def policy(self) -> Policy:
        """Return it as the value that failover works with."""
        return Policy(self.health, self.eject_after, self.cooling, self.retry_percent, self.retry_burst)


class JournalSync(StrEnum):
    """When the disk is waited for."""

    GROUP = "group"
    ALWAYS = "always"


class JournalFull(StrEnum):
    """What happens to requests whose usage cannot be written down."""

    BLOCK = "block"
    CONTINUE = "continue"


class Settings(Section):
    """The whole of `gateway.yaml`."""

    server: Server = Field(default_factory=Server, description="where the gateway listens and how it runs")
    store: StoreUrl = Field(
        EMBEDDED, repr=False, description="accounts, keys and limits: a server started for you, or the URL of yours"
    )
    store_timeout: Wait = Field(
        0.1, description="how long a request waits for the store; five in a row in vain, and the store is away"
    )
    store_eviction: StoreEviction = Field(
        StoreEviction.REFUSE,
        description="`refuse` a server whose `maxmemory-policy` is not `noeviction`, or only `warn`",
    )
    on_store_outage: OnStoreOutage = Field(
        OnStoreOutage.DEGRADE,
        description="while the store is away: go on with keys that were good and a share of their limits, or refuse",
    )
    ledger: LedgerUrl = Field(
        EMBEDDED, repr=False, description="the record of usage: a file in `data_dir`, or a database of yours"
    )
    data_dir: File = Field(
        Path("data"),
        description="where the embedded store and ledger keep their files; relative to the working directory",
    )
    journal_sync: JournalSync = Field(
        JournalSync.GROUP,
        description="when a request's record reaches the disk: within 0.2 s, or always before a provider is asked",
    )
    journal_full: JournalFull = Field(
        JournalFull.BLOCK,
        description="while usage cannot be written to `data_dir`: refuse requests (503), or let them continue",
    )
    catalog: File = Field(Path("catalog.yaml"), description="the models; relative to this file")
    providers: Mapping[Name, Provider] = Field(description="at least one, such as `demo: {builtin: demo}`")
    plans: Mapping[Name, Plan] = Field(default_factory=lambda: {_UNLIMITED: Plan()}, description="limits by name")
    default_plan: Filled = Field(_UNLIMITED, description="the plan of accounts that name none")
    metrics: Metrics = Field(default_factory=Metrics, description="what the metrics page shows")
    tracing: Tracing = Field(default_factory=Tracing, description="whether each request leaves a trace, and where")
    failover: Failover = Field(default_factory=Failover, description="when another route of a model is tried")
    limits: Holds = Field(default_factory=Holds, description="how much a request takes in advance")

    @classmethod
    def conflicts(cls, raw: Mapping[str, object]) -> Iterator[Conflict]:
        """The default plan is one of the plans, and there is a provider."""
        plans, plan = raw.get("plans", {_UNLIMITED: {}}), raw.get("default_plan", _UNLIMITED)
        if isinstance(plans, Mapping) and isinstance(plan, str) and plan not in plans:
            yield ("default_plan",), plan, Wrong(nearest(plan, list(plans)), "is {value}, which is no plan")
        if raw.get("providers") == {}:
            yield ("providers",), {}, Wrong("must name at least one, such as demo: {builtin: demo}", "is empty")

    def limits_by_plan(self) -> dict[str, Limits]:
        """Return every plan as the limits of an account without overrides."""
        return {name: plan.limits() for name, plan in self.plans.items()}
