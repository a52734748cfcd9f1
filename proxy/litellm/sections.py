"""What stands beside `model_list`: the few settings that become ours, and what to do about all the others.

Notes name places and remedies, never a value.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.litellm.deployments import duration, literally
from proxy.litellm.document import Entry, Notes
from proxy.litellm.models import Catalog, is_name

_SECTIONS: Final = ("litellm_settings", "router_settings", "general_settings")
_TIMEOUTS: Final = {
    "request_timeout": "total_timeout",
    "timeout": "total_timeout",
    "stream_timeout": "first_byte_timeout",
}
_MOST_FAILS: Final = 10**6
_REDIS: Final = (
    "has no counterpart here: what gateways share is the `store`; give it a database of its own that never evicts, as "
    "`store: redis://:${REDIS_PASSWORD}@HOST:6379/0`"
)
_METRICS: Final = "has no counterpart: the admin port has metrics for Prometheus, and the ledger has every request"
_RETRIES: Final = "is not needed: a failed request is tried at other routes, within `failover.retry_percent`"
_PEOPLE: Final = "has no counterpart: make accounts, keys and budgets with `aion-proxy accounts` and `aion-proxy keys`"
_ADVICE: Final[Mapping[str, str]] = {
    "master_key": "was not copied: make keys with `aion-proxy keys create`; operators have AION_PROXY_ADMIN_TOKEN",
    "database_url": "was not copied, because its tables are others: name an empty database as `ledger: postgresql://…`",
    "environment_variables": "was not copied: set these in the environment of the gateway",
    "include": "was not followed: import each of these files too, and join what comes of them",
    "drop_params": "has no counterpart: name fields that a provider refuses under its `drop_params`",
    "num_retries": _RETRIES,
    "max_retries": _RETRIES,
    "retry_after": _RETRIES,
    "retry_policy": _RETRIES,
    "model_group_retry_policy": _RETRIES,
    "redis_host": _REDIS,
    "redis_port": _REDIS,
    "redis_password": _REDIS,
    "redis_url": _REDIS,
    "cache": "has no counterpart: answers are not cached",
    "cache_params": "has no counterpart: answers are not cached",
    "callbacks": _METRICS,
    "success_callback": _METRICS,
    "failure_callback": _METRICS,
    "service_callbacks": _METRICS,
    "routing_strategy": "has no counterpart: routes are drawn by weight, and those that fail are passed over",
    "context_window_fallbacks": "has no counterpart: a request that is too long is refused as its provider refuses it",
    "content_policy_fallbacks": "has no counterpart: a request that is refused for its content is not tried elsewhere",
    "max_budget": _PEOPLE,
    "budget_duration": _PEOPLE,
    "default_team_settings": _PEOPLE,
    "default_internal_user_params": _PEOPLE,
    "max_parallel_requests": "has no counterpart for all: limit accounts with `concurrent_requests` of a plan",
    "global_max_parallel_requests": "has no counterpart for all: limit accounts with `concurrent_requests` of a plan",
    "set_verbose": "is not needed: each request leaves one line in the log",
    "json_logs": "is not needed: the log is JSON unless a terminal shows it",
    "guardrails": "has no counterpart: nothing reads or changes what goes through",
    "pass_through_endpoints": "has no counterpart: only chat completions, responses and models are served",
    "allowed_routes": "has no counterpart: only chat completions, responses and models are served",
    "mcp_servers": "has no counterpart: tools are the client's",
}
_DEFAULT_ADVICE: Final = "has no counterpart and was left out"


def settings(
    document: Entry, catalog: Catalog, providers: Mapping[str, dict[str, Any]], notes: Notes
) -> dict[str, Any]:
    """Take everything but `model_list`: change catalog and providers, and return further sections of gateway.yaml."""
    failover: dict[str, Any] = {}
    for section in _SECTIONS:
        entry = document.get(section)
        for key, value in notes.fields(entry).items():
            if value.value is not None:
                _setting(key, value, catalog, providers, failover, notes)
    for key, value in document.fields().items():
        if key not in (*_SECTIONS, "model_list") and value.value is not None:
            notes.add(value, _ADVICE.get(key, _DEFAULT_ADVICE))
    return {"failover": failover} if failover else {}


def _setting(
    key: str,
    value: Entry,
    catalog: Catalog,
    providers: Mapping[str, dict[str, Any]],
    failover: dict[str, Any],
    notes: Notes,
) -> None:
    match key:
        case "fallbacks":
            for name, others in [pair for one in notes.items(value) for pair in notes.fields(one).items()]:
                _fall_back(name, others, catalog, notes)
        case "default_fallbacks":
            for name in list(catalog):
                _fall_back(name, value, catalog, notes)
        case "model_group_alias":
            _aliases(value, catalog, notes)
        case "cooldown_time" | "allowed_fails":
            failover.update(_failover(key, value, notes))
        case _ if key in _TIMEOUTS:
            found = duration(value, _TIMEOUTS[key], notes)
            for provider in providers.values():
                provider.update({**found, **provider})
        case "routing_strategy" if value.text() == "simple-shuffle":
            pass
        case _:
            notes.add(value, _ADVICE.get(key, _DEFAULT_ADVICE))


def _failover(key: str, value: Entry, notes: Notes) -> dict[str, Any]:
    if key == "cooldown_time":
        return duration(value, "cooling", notes)
    fails = 0 if value.text() == "0" else value.whole()
    if fails is None or fails > _MOST_FAILS:
        notes.add(value, "is no whole number, and was left out")
        return {}
    notes.add(value, "became `failover.eject_after`, which counts failures in a row, one more than are allowed")
    return {"eject_after": fails + 1}


def _fall_back(name: str, others: Entry, catalog: Catalog, notes: Notes) -> None:
    """Add the routes of other models to a model, for when its own have failed."""
    model = catalog.get(name)
    if model is None:
        notes.add(others, "is about a model that is not in the catalog, and was left out")
        return
    known = {(route["provider"], route["model"]) for route in model["routes"]}
    for other in others.items() or (others,):
        if isinstance(other.value, Mapping):
            notes.add(other, "is a fallback with values of its own, which has no counterpart, and was left out")
            continue
        target = catalog.get(other.text() or "")
        if target is None:
            notes.add(other, "is a model that is not in the catalog, and was left out")
            continue
        for route in list(target["routes"]):
            if (route["provider"], route["model"]) not in known:
                known.add((route["provider"], route["model"]))
                model["routes"].append({**route, "weight": 0})
                notes.add(
                    other, "became routes of weight 0: they are asked when the others failed, at this model's prices"
                )


def _aliases(value: Entry, catalog: Catalog, notes: Notes) -> None:
    names = {name for model in catalog.values() for name in (model["id"], *model.get("aliases", ()))}
    for alias, target in notes.fields(value).items():
        given = target.get("model") or target
        model = catalog.get(given.text() or "")
        if model is None:
            notes.add(target, "is an alias of a model that is not in the catalog, and was left out")
        elif literally(alias) in names or not is_name(alias):
            notes.add(target, "is an alias that another model has, or that no model can have: it was left out")
        else:
            names.add(alias)
            model.setdefault("aliases", []).append(alias)
