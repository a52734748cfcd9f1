"""The numbers that operators watch, under fixed names with labels from closed sets.

Children are resolved once and kept: resolving one costs more than counting. Nothing here decides anything, and no
label is ever a key, a free text or a model that is not in the catalog.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from proxy.call import Metered, RequestEnd
from proxy.metrics_genai import GenAiMetrics
from proxy.usage import UsageSource

ACCOUNTS_SHOWN: Final = 1_000
"""Accounts beyond these are counted together as `other`, so that the page cannot grow without end."""
OTHER: Final = "other"
NO_PROVIDER: Final = "none"
_KINDS: Final = ("prompt", "cached", "completion", "reasoning")
_MS: Final = 1_000
_PUSD_PER_USD: Final = 10**12
_NUSD_PER_USD: Final = 10**9
_DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_OVERHEADS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_SPEEDS: Final = (1, 2.5, 5, 10, 20, 40, 60, 80, 100, 150, 200, 400, 800)
_LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_CALLS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class _Observed:
    """Values for one histogram child, counted in memory; written with those of the last moment at once.

    Writing into the child's buckets costs the same for one value as for a thousand.
    """

    __slots__ = ("_bounds", "_child", "_counts", "_total")

    def __init__(self, child: Histogram) -> None:
        self._child = child
        self._bounds: list[float] = child._upper_bounds  # noqa: SLF001 - the library has no way to add many values
        self._counts = [0] * len(self._bounds)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def write(self) -> None:
        """Write what was counted since the last time."""
        for bucket, count in zip(self._child._buckets, self._counts, strict=True):  # noqa: SLF001 - as above
            if count:
                bucket.inc(count)
        if any(self._counts):
            self._child._sum.inc(self._total)  # noqa: SLF001 - as above
            self._counts = [0] * len(self._bounds)
            self._total = 0.0


class _OfRequest:
    """What requests of one kind (endpoint, model, provider, status, stream, source, ending) are counted in.

    Counts are kept here and written ten times a second: ten times cheaper than each into the file that the page is
    made of.
    """

    __slots__ = ("_children", "counted", "duration", "metered", "overhead", "ttft")

    def __init__(self, families: "Metrics", end: RequestEnd) -> None:
        provider = end.provider or NO_PROVIDER
        self._children = (
            families.requests.labels(end.endpoint, end.model, provider, str(end.status), str(end.stream).lower()),
            families.sources.labels(end.usage_source or UsageSource.NONE, end.ending),
        )
        self.counted = self.metered = 0
        self.duration = families.observed(families.duration, end.endpoint, end.model)
        self.ttft = families.observed(families.ttft, end.endpoint, end.model)
        self.overhead = families.observed(families.overhead, end.endpoint, end.model)

    def write(self) -> None:
        """Write what was counted since the last time."""
        _write(self._children, (self.counted, self.metered))
        self.counted = self.metered = 0


class _OfAccount:
    """What requests of one account for one model are counted in; the cost in pico-dollars."""

    __slots__ = ("_children", "cached", "completion", "cost", "fresh", "prompt", "reasoning", "speed")

    def __init__(self, families: "Metrics", account: tuple[str, ...], model: str) -> None:
        self._children = (
            *(families.tokens.labels(*account, model, kind) for kind in _KINDS),
            families.cost.labels(*account, model),
        )
        self.prompt = self.cached = self.completion = self.reasoning = self.cost = 0
        self.fresh = True
        """Nothing is counted that was not written."""
        self.speed = families.observed(families.speed, model)

    def write(self) -> None:
        """Write what was counted since the last time."""
        tokens = (self.prompt, self.cached, self.completion, self.reasoning)
        _write(self._children, (*tokens, self.cost / _PUSD_PER_USD))
        self.prompt = self.cached = self.completion = self.reasoning = self.cost = 0
        self.fresh = True


def _write(children: Sequence[Counter], amounts: Sequence[float]) -> None:
    for child, amount in zip(children, amounts, strict=True):
        if amount:
            child.inc(amount)


class Metrics:
    """The metrics of one worker."""

    def __init__(
        self, registry: CollectorRegistry | None = None, *, account_label: bool = True, genai: bool = False
    ) -> None:
        """Create the families; `account_label` False leaves the account out of those that have it, `genai` adds those
        under OpenTelemetry's names.
        """
        by_account = ("account",) if account_label else ()
        registry = registry or CollectorRegistry()
        self._account_label = account_label
        self._accounts: set[str] = set()
        self._of_request: dict[tuple[object, ...], _OfRequest] = {}
        self._of_account: dict[tuple[str, str], _OfAccount] = {}
        self._of_call: dict[str, _Observed] = {}
        self._observed: dict[tuple[Histogram, tuple[str, ...]], _Observed] = {}
        self._of_attempt: dict[tuple[str, str], Counter] = {}
        self._attempted: dict[Counter, int] = {}
        self._used: list[_OfAccount] = []
        self._reachable: dict[str, bool] = {}
        self._passed_over: Mapping[str, int] = {}
        self._flight = (-1, -1)
        self._held = (-1, -1)
        request_labels, model_labels = ("endpoint", "model", "provider", "status", "stream"), ("endpoint", "model")

        def counter(name: str, text: str, labels: Sequence[str]) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, mode: Literal["livesum", "livemin"], labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self.requests = counter("aion_requests", "Requests.", request_labels)
        self.refused = counter("aion_refused", "Requests that the gateway refused.", ("reason",))
        self.tokens = counter(
            "aion_tokens", "Tokens; cached are part of prompt, reasoning of completion.", (*by_account, "model", "kind")
        )
        self.cost = counter("aion_cost_usd", "Cost by catalog prices.", (*by_account, "model"))
        self.sources = counter("aion_usage_source", "Where the usage of requests came from.", ("source", "ending"))
        self.duration = histogram("aion_request_duration_seconds", "Arrival to end.", model_labels, _DURATIONS)
        self.ttft = histogram("aion_time_to_first_token_seconds", "Arrival to first byte.", model_labels, _DURATIONS)
        self.overhead = histogram(
            "aion_overhead_seconds", "Arrival to a provider being asked.", model_labels, _OVERHEADS
        )
        self.speed = histogram(
            "aion_tokens_per_second", "Completion tokens a second, after the first.", ("model",), _SPEEDS
        )
        self._in_flight = gauge("aion_in_flight_requests", "Requests under way.", "livesum")
        self._streams = gauge("aion_open_streams", "Streams under way.", "livesum")
        self._held_tokens = gauge("aion_held_tokens", "Tokens that requests under way hold.", "livesum")
        self._held_usd = gauge("aion_held_usd", "What requests under way hold of budgets.", "livesum")
        self._attempts = counter("aion_upstream_attempts", "Calls to providers.", ("provider", "outcome"))
        self._upstream_up = gauge(
            "aion_upstream_up", "Whether the provider could be reached last.", "livemin", ("provider",)
        )
        self._out = gauge("aion_upstream_passed_over", "Routes that requests pass over.", "livesum", ("provider",))
        self._retries_denied = counter(
            "aion_retries_denied", "Retries that the retry budget did not allow.", ("model",)
        )
        self._store_up = gauge("aion_store_up", "Whether the store answers.", "livemin")
        self._gateways = gauge("aion_gateways", "Workers of all gateways that share the limits.", "livemin")
        self._let_in_alone = counter("aion_local_admissions", "Requests let in while the store was away.", ())
        self._store_calls = histogram("aion_store_call_seconds", "Calls to the store.", ("call",), _CALLS)
        self._loop_lag = histogram(
            "aion_loop_lag_seconds", "How late the loop of a worker came to a timer that was due.", (), _LAGS
        )
        self._tasks = gauge("aion_tasks", "Tasks of the workers' loops.", "livesum")
        self._journal = gauge("aion_journal_writable", "Whether usage can be written down.", "livemin")
        self._inconsistent = counter("aion_usage_inconsistent", "Usage whose total exceeds its parts.", ("provider",))
        self._dropped = counter("aion_dropped_events", "Events of streams that could not be read.", ("provider",))
        self._stray_tags = counter(
            "aion_stray_close_tags", "Closing tags of reasoning with no opening one: see `reasoning_style`.", ("model",)
        )
        self._spans = counter("aion_trace_spans", "Spans of traces, by what became of them.", ("outcome",))
        self._genai = GenAiMetrics(registry, self.observed) if genai else None
        self._show_a_beginning()

    def request_ended(self, end: RequestEnd, metered: Metered | None = None) -> None:
        """Count a request that is over; `metered` says what it used, if it was admitted."""
        kind = (end.endpoint, end.model, end.provider, end.status, end.stream, end.usage_source, end.ending)
        child = self._of_request.get(kind)
        if child is None:
            child = self._of_request[kind] = _OfRequest(self, end)
        child.counted += 1
        if end.reason is not None:
            self.refused.labels(end.reason).inc()
        if self._genai is not None:
            self._genai.request_ended(end)
        if metered is None:
            return
        child.metered += 1
        child.duration.observe(end.duration_ms / _MS)
        if end.overhead_ms is not None:
            child.overhead.observe(end.overhead_ms / _MS)
        if end.ttft_ms is not None:
            child.ttft.observe(end.ttft_ms / _MS)
        self._count_usage(end, metered)

    def flight(self, requests: int, streams: int) -> None:
        """Show how many requests, and how many of them streams, are under way."""
        if self._flight != (requests, streams):
            self._flight = (requests, streams)
            self._in_flight.set(requests)
            self._streams.set(streams)

    def held(self, tokens: int, nusd: int) -> None:
        """Show what requests under way hold of their limits."""
        if self._held != (tokens, nusd):
            self._held = (tokens, nusd)
            self._held_tokens.set(tokens)
            self._held_usd.set(nusd / _NUSD_PER_USD)

    def attempt(self, provider: str, outcome: str, *, reachable: bool | None) -> None:
        """Count one call to a provider; `outcome` is `ok`, the code of its failure, or an ending of ours, which tells
        nothing (None) of whether it can be reached.
        """
        child = self._of_attempt.get((provider, outcome))
        if child is None:
            child = self._of_attempt[provider, outcome] = self._attempts.labels(provider, outcome)
        self._attempted[child] = self._attempted.get(child, 0) + 1
        if reachable is not None and self._reachable.get(provider) is not reachable:
            self._reachable[provider] = reachable
            self._upstream_up.labels(provider).set(reachable)

    def passed_over(self, counted: Mapping[str, int]) -> None:
        """Show how many routes of each provider requests pass over."""
        if counted != self._passed_over:
            for provider in self._passed_over.keys() - counted.keys():
                self._out.labels(provider).set(0)
            for provider, number in counted.items():
                self._out.labels(provider).set(number)
            self._passed_over = counted

    def retries_denied(self, counted: Mapping[str, int]) -> None:
        """Count retries that the budget did not allow, by model."""
        for model, number in counted.items():
            self._retries_denied.labels(model).inc(number)

    def spans(self, outcome: str, number: int) -> None:
        """Count spans that were exported or not; from any thread."""
        self._spans.labels(outcome).inc(number)

    def store_up(self, *, up: bool) -> None:
        """Show whether the store answers."""
        self._store_up.set(up)

    def journal_writable(self, *, writable: bool) -> None:
        """Show whether what requests use can be written down."""
        self._journal.set(writable)

    def gateways(self, count: int) -> None:
        """Show how many share the limits."""
        self._gateways.set(count)

    def let_in_alone(self) -> None:
        """Count a request that was let in while the store was away."""
        self._let_in_alone.inc()

    def store_call(self, call: str, seconds: float) -> None:
        """Note how long a call to the store took."""
        child = self._of_call.get(call)
        if child is None:
            child = self._of_call[call] = self.observed(self._store_calls, call)
        child.observe(seconds)

    def tasks(self, count: int) -> None:
        """Show how many tasks the loop has."""
        self._tasks.set(count)

    def loop_lag(self, seconds: float) -> None:
        """Note how late a timer was."""
        self.observed(self._loop_lag).observe(seconds)

    def observed(self, family: Histogram, *labels: str) -> _Observed:
        """Return where to put the values of one child of a family, or of one without labels."""
        key = (family, labels)
        if key not in self._observed:
            self._observed[key] = _Observed(family.labels(*labels) if labels else family)
        return self._observed[key]

    def _show_a_beginning(self) -> None:
        self.flight(0, 0)
        self.held(0, 0)
        self.store_up(up=False)
        self.journal_writable(writable=True)

    def flush(self) -> None:
        """Write what was counted since the last time to the page; what is not written yet is lost if the process is
        killed.
        """
        attempted, self._attempted = self._attempted, {}
        for child, amount in attempted.items():
            child.inc(amount)
        for kind in self._of_request.values():
            if kind.counted:
                kind.write()
        used, self._used = self._used, []
        for account in used:
            account.write()
        for observed in self._observed.values():
            observed.write()

    def _count_usage(self, end: RequestEnd, metered: Metered) -> None:
        usage = metered.usage
        child = self._of_account.get((end.account or OTHER, end.model)) or self._account_child(
            end.account or OTHER, end.model
        )
        if child.fresh:
            child.fresh = False
            self._used.append(child)
        child.prompt += usage.prompt
        child.cached += usage.cached
        child.completion += usage.completion
        child.reasoning += usage.reasoning or 0
        child.cost += metered.cost_pusd
        if usage.completion and end.ttft_ms is not None and end.duration_ms > end.ttft_ms:
            child.speed.observe(usage.completion / (end.duration_ms - end.ttft_ms) * _MS)
        if usage.inconsistent and end.provider is not None:
            self._inconsistent.labels(end.provider).inc()
        if end.dropped_events and end.provider is not None:
            self._dropped.labels(end.provider).inc(end.dropped_events)
        if end.stray_close_tags:
            self._stray_tags.labels(end.model).inc(end.stray_close_tags)

    def _account_child(self, account: str, model: str) -> _OfAccount:
        shown = account if account in self._accounts or len(self._accounts) < ACCOUNTS_SHOWN else OTHER
        self._accounts.add(shown)
        child = self._of_account.get((shown, model)) or _OfAccount(self, (shown,) if self._account_label else (), model)
        self._of_account[shown, model] = child
        return child
