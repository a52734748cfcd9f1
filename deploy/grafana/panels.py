"""What the dashboards show, as tables: a panel is its title, its form, its unit and its queries.

Grafana's JSON is made from this by `make_dashboards.py`, because nobody can review 2,000 lines of it. A dashboard is a
list of rows; the panels of a row share its width. No query here names a metric, label or account that a reader of the
gateway's metrics table would not find there; tests run every one of them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """Grafana's names of the forms in use."""

    STAT = "stat"
    LINES = "timeseries"
    BARS = "bargauge"


@dataclass(frozen=True)
class Query:
    """One expression; `legend` names its lines by their labels."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel; `unit` is Grafana's name of it, `what` the sentence behind its title."""

    title: str
    form: Form
    unit: str
    queries: tuple[Query, ...]
    what: str
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: rows of panels. The uid is what links point at; it never changes."""

    uid: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]


HERE = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
ASKED = 'endpoint=~"chat|responses"'
FAILED, NO_ANSWER = f'{ASKED}, status=~"5.."', 'status=~"[45].."'
PROMPT, CACHED, BOTH_KINDS = 'kind="prompt"', 'kind="cached"', 'kind=~"prompt|completion"'
ESTIMATED, METERED = 'source="estimated"', 'source=~"upstream|estimated"'


def rate(family: str, labels: str = "") -> str:
    """How fast a counter grows on the chosen instances."""
    return f"rate({family}{{{HERE}{', ' * bool(labels)}{labels}}}{RATE})"


def stat(title: str, unit: str, expr: str, what: str) -> Panel:
    """One number."""
    return Panel(title, Form.STAT, unit, (Query(expr),), what)


def lines(title: str, unit: str, what: str, *queries: tuple[str, str], stacked: bool = False) -> Panel:
    """Lines over time; a query is its expression and its legend."""
    return Panel(title, Form.LINES, unit, tuple(Query(*query) for query in queries), what, stacked)


def bars(title: str, unit: str, what: str, expr: str, legend: str) -> Panel:
    """One bar for each of the series as they are now."""
    return Panel(title, Form.BARS, unit, (Query(expr, legend),), what)


def quantiles(
    title: str, family: str, what: str, *, at: tuple[float, ...] = (0.5, 0.95, 0.99), unit: str = "s"
) -> Panel:
    """Quantiles of a histogram over all models."""
    buckets = f"sum by (le) ({rate(f'{family}_bucket')})"
    queries = [(f"histogram_quantile({one}, {buckets})", f"p{one * 100:g}") for one in at]
    return lines(title, unit, what, *queries)


GATEWAY = Dashboard(
    "aion-gateway",
    "aion-proxy: Gateway",
    (
        (
            stat("Requests", "reqps", f"sum({rate('aion_requests_total')})", "Requests that end, a second."),
            stat(
                "Failed",
                "percentunit",
                f"(sum({rate('aion_requests_total', FAILED)}) or vector(0))"
                f" / sum({rate('aion_requests_total', ASKED)})",
                "The part of requests that are answered with 5xx.",
            ),
            stat(
                "p95 duration",
                "s",
                f"histogram_quantile(0.95, sum by (le) ({rate('aion_request_duration_seconds_bucket')}))",
                "19 of 20 requests are over by then.",
            ),
            stat("Tokens", "short", f"sum({rate('aion_tokens_total', BOTH_KINDS)})", "Tokens a second."),
            stat("In flight", "short", f"sum(aion_in_flight_requests{{{HERE}}})", "Requests under way now."),
            stat("Streams", "short", f"sum(aion_open_streams{{{HERE}}})", "Those of them that are streams."),
        ),
        (
            lines(
                "Traffic",
                "reqps",
                "Requests a second by endpoint and model.",
                (f"sum by (endpoint, model) ({rate('aion_requests_total')})", "{{endpoint}} {{model}}"),
                stacked=True,
            ),
            lines(
                "Errors by type",
                "reqps",
                "What clients are told instead of an answer: 4xx is theirs, 5xx ours or a provider's, 499 left early.",
                (f"sum by (status) ({rate('aion_requests_total', NO_ANSWER)})", "{{status}}"),
                stacked=True,
            ),
        ),
        (
            quantiles("Latency", "aion_request_duration_seconds", "From a request's arrival to its end."),
            quantiles(
                "Time to first token", "aion_time_to_first_token_seconds", "From arrival to the first byte of a stream."
            ),
        ),
        (
            quantiles(
                "Tokens a second of a stream",
                "aion_tokens_per_second",
                "How fast streams come, after their first byte; p10 is the slow end.",
                at=(0.1, 0.5, 0.9),
                unit="short",
            ),
            quantiles(
                "Overhead",
                "aion_overhead_seconds",
                "What the gateway itself takes before a provider is asked.",
            ),
        ),
        (
            lines(
                "Under way",
                "short",
                "Requests and streams at the same time.",
                (f"sum(aion_in_flight_requests{{{HERE}}})", "requests"),
                (f"sum(aion_open_streams{{{HERE}}})", "streams"),
            ),
            lines(
                "How requests end",
                "reqps",
                "complete is good; upstream_truncated and upstream_error are providers, client_gone are clients.",
                (f"sum by (ending) ({rate('aion_usage_source_total')})", "{{ending}}"),
                stacked=True,
            ),
        ),
    ),
)

MONEY = Dashboard(
    "aion-money",
    "aion-proxy: Money",
    (
        (
            stat("Cost an hour", "currencyUSD", f"3600 * sum({rate('aion_cost_usd_total')})", "At the pace of now."),
            stat(
                "Cost of 24 hours",
                "currencyUSD",
                f"sum(increase(aion_cost_usd_total{{{HERE}}}[24h]))",
                "For looking at; exact amounts are in the ledger.",
            ),
            stat(
                "Cached",
                "percentunit",
                f"sum({rate('aion_tokens_total', CACHED)}) / sum({rate('aion_tokens_total', PROMPT)})",
                "The part of prompt tokens that the provider had in its cache.",
            ),
            stat(
                "Estimated",
                "percentunit",
                f"(sum({rate('aion_usage_source_total', ESTIMATED)}) or vector(0))"
                f" / sum({rate('aion_usage_source_total', METERED)})",
                "The part of requests that are charged by estimate, because the provider told no usage.",
            ),
            stat(
                "Refused",
                "reqps",
                f"sum({rate('aion_refused_total')}) or vector(0)",
                "Requests a second that the gateway refused, by a limit or for their key.",
            ),
            stat("Held", "currencyUSD", f"sum(aion_held_usd{{{HERE}}})", "What requests under way hold of budgets."),
        ),
        (
            lines(
                "Cost by account",
                "currencyUSD",
                "USD an hour, the ten that spend most.",
                (f"topk(10, 3600 * sum by (account) ({rate('aion_cost_usd_total')}))", "{{account}}"),
                stacked=True,
            ),
            lines(
                "Cost by model",
                "currencyUSD",
                "USD an hour.",
                (f"3600 * sum by (model) ({rate('aion_cost_usd_total')})", "{{model}}"),
                stacked=True,
            ),
        ),
        (
            lines(
                "Tokens by account",
                "short",
                "Prompt and completion tokens a second, the ten that use most.",
                (
                    f"topk(10, sum by (account) ({rate('aion_tokens_total', BOTH_KINDS)}))",
                    "{{account}}",
                ),
                stacked=True,
            ),
            lines(
                "Tokens by model",
                "short",
                "Prompt and completion tokens a second.",
                (f"sum by (model) ({rate('aion_tokens_total', BOTH_KINDS)})", "{{model}}"),
                stacked=True,
            ),
            lines(
                "Tokens by kind",
                "short",
                "Tokens a second; cached are a part of prompt, reasoning of completion.",
                (f"sum by (kind) ({rate('aion_tokens_total')})", "{{kind}}"),
            ),
        ),
        (
            lines(
                "Refusals by limit",
                "reqps",
                "Requests that the gateway refused, by the limit or the check that did.",
                (f"sum by (reason) ({rate('aion_refused_total')})", "{{reason}}"),
                stacked=True,
            ),
            bars(
                "Budget remaining",
                "percentunit",
                "The part of budgets that is left, the ten with the least.",
                f"bottomk(10, max by (account, period) (aion_budget_remaining_usd{{{HERE}}})"
                f" / max by (account, period) (aion_budget_usd{{{HERE}}}))",
                "{{account}} ({{period}})",
            ),
        ),
    ),
)

HEALTH = Dashboard(
    "aion-health",
    "aion-proxy: Health",
    (
        (
            stat("Gateways", "short", f'sum(up{{job="aion-proxy", {HERE}}})', "Gateways that answer Prometheus."),
            stat("Workers", "short", f"sum(aion_workers{{{HERE}}})", "Workers that would serve a request now."),
            stat("Store", "short", f"min(aion_store_up{{{HERE}}})", "1 while every gateway reaches the store."),
            stat("Ledger lag", "s", f"max(aion_ledger_lag_seconds{{{HERE}}})", "How long the oldest row has waited."),
            stat("Journal", "short", f"min(aion_journal_writable{{{HERE}}})", "1 while usage can be written down."),
            stat(
                "Configuration",
                "short",
                f"min(aion_config_reload_success{{{HERE}}})",
                "1 while the files on disk are in force everywhere.",
            ),
        ),
        (
            lines(
                "Calls to the store",
                "s",
                "p50 and p99; every request waits for one of them.",
                (
                    f"histogram_quantile(0.5, sum by (le) ({rate('aion_store_call_seconds_bucket')}))",
                    "p50",
                ),
                (
                    f"histogram_quantile(0.99, sum by (le, call) ({rate('aion_store_call_seconds_bucket')}))",
                    "p99 {{call}}",
                ),
            ),
            lines(
                "Providers",
                "short",
                "1 if the provider could be reached when it was last called.",
                (f"min by (provider) (aion_upstream_up{{{HERE}}})", "{{provider}}"),
            ),
            lines(
                "Calls to providers",
                "reqps",
                "By provider and outcome.",
                (f"sum by (provider, outcome) ({rate('aion_upstream_attempts_total')})", "{{provider}} {{outcome}}"),
                stacked=True,
            ),
        ),
        (
            lines(
                "Ledger",
                "s",
                "How long the oldest row has waited, by gateway.",
                (f"max by (instance) (aion_ledger_lag_seconds{{{HERE}}})", "{{instance}}"),
            ),
            lines(
                "Rows that the ledger took",
                "short",
                "Rows a second by where their usage came from, and rows that it refused.",
                (f"sum by (source) ({rate('aion_ledger_rows_total')})", "{{source}}"),
                (f"sum({rate('aion_ledger_set_aside_total')})", "refused"),
            ),
            lines(
                "Journal",
                "bytes",
                "What the journals have on disk; it grows while the ledger is away.",
                (f"sum by (instance) (aion_journal_bytes{{{HERE}}})", "{{instance}}"),
            ),
        ),
        (
            lines(
                "Loop lag",
                "s",
                "How late workers come to a timer that is due: what every stream waits.",
                (
                    f"histogram_quantile(0.99, sum by (instance, le) ({rate('aion_loop_lag_seconds_bucket')}))",
                    "p99 {{instance}}",
                ),
            ),
            lines(
                "Memory",
                "bytes",
                "Memory that is resident.",
                (f"sum by (instance, process) (aion_memory_bytes{{{HERE}}})", "{{instance}} {{process}}"),
            ),
            lines(
                "Room for the journal",
                "percentunit",
                "The free part of data_dir's disk.",
                (
                    f"aion_journal_disk_free_bytes{{{HERE}}} / aion_journal_disk_bytes{{{HERE}}}",
                    "{{instance}}",
                ),
            ),
        ),
        (
            lines(
                "What was mended",
                "short",
                "Of the last hour: workers replaced, requests let in without the store, counters moved to the ledger.",
                (f"sum(changes(aion_worker_restarts{{{HERE}}}[1h]))", "workers replaced"),
                (f"sum(increase(aion_local_admissions_total{{{HERE}}}[1h]))", "let in alone"),
                (f"sum(increase(aion_counter_corrections_total{{{HERE}}}[1h]))", "counters moved"),
            ),
            lines(
                "What is odd in providers' answers",
                "short",
                "Of the last hour; the metrics' labels tell whose.",
                (
                    f"sum(increase(aion_usage_inconsistent_total{{{HERE}}}[1h])) or vector(0)",
                    "wrong sums",
                ),
                (f"sum(increase(aion_dropped_events_total{{{HERE}}}[1h])) or vector(0)", "unreadable events"),
                (f"sum(increase(aion_stray_close_tags_total{{{HERE}}}[1h])) or vector(0)", "stray closing tags"),
            ),
        ),
    ),
)

DASHBOARDS = {"gateway": GATEWAY, "money": MONEY, "health": HEALTH}
