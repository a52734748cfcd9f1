"""What the gateway's own file may say, what it means when it says nothing, and what it keeps to itself."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from proxy.limits import Limits, OnBudgetEnd, Period
from proxy.providers import (
    AuthHeader,
    Builtin,
    DeveloperRole,
    MaxTokensParam,
    OnDisconnect,
    Provider,
    ReasoningHistory,
    ReasoningStyle,
    StreamUsage,
)
from proxy.quantities import Address
from proxy.settings import Plan, Settings

EVERYTHING = {
    "server": {
        "listen": "0.0.0.0:80",
        "admin_listen": "[::1]:9000",
        "workers": 4,
        "max_body": "1MiB",
        "stop_grace": "1m",
    },
    "store": "rediss://user:store-secret@10.0.0.1:6380/1",
    "ledger": "postgresql://user:ledger-secret@10.0.0.2/usage",
    "data_dir": "/var/lib/gateway",
    "catalog": "models.yaml",
    "providers": {
        "demo": {"builtin": "demo"},
        "local": {
            "base_url": "http://127.0.0.1:8000/v1/",
            "api_key": "key-secret",
            "auth_header": "api-key",
            "headers": {"X-Token": "header-secret"},
            "connect_timeout": "250ms",
            "first_byte_timeout": "10s",
            "idle_timeout": 7,
            "on_disconnect": "drain",
            "drain_max": "0s",
            "max_drains": 1,
            "continuous_usage_stats": True,
            "reasoning_style": "prefilled",
            "reasoning_tags": ["<r>", "</r>"],
            "reasoning_field": "reasoning_content",
            "reasoning_history": "placeholder",
            "stream_usage": "always",
            "max_tokens_param": "max_completion_tokens",
            "developer_role": "system",
            "drop_params": ["seed"],
            "extra_body": {"reasoning_split": True, "token": "body-secret"},
            "strip_fields": ["system_fingerprint"],
            "native_responses": True,
            "fix_deltas": True,
            "completion_from_total": True,
        },
    },
    "plans": {
        "standard": {
            "requests_per_minute": 600,
            "tokens_per_minute": 200000,
            "concurrent_requests": 32,
            "tokens_per_day": 5000000,
            "budget": {"usd": "25.000000000001", "per": "month"},
            "more_budgets": [{"usd": "2", "per": "day"}],
            "on_budget_end": "cut",
        },
        "none": {},
    },
    "default_plan": "standard",
    "metrics": {"account_label": False},
    "limits": {"default_hold": 64},
}
SECRETS = ("store-secret", "ledger-secret", "key-secret", "header-secret", "body-secret")


def provider(**keys: object) -> Provider:
    return Provider.model_validate({"base_url": "http://127.0.0.1/v1", **keys})


def test_every_key_of_the_server_and_the_stores_is_read():
    settings = Settings.model_validate(EVERYTHING)
    assert settings.server.listen == Address("0.0.0.0", 80)
    assert settings.server.admin_listen == Address("::1", 9000)
    assert (settings.server.workers, settings.server.max_body, settings.server.stop_grace) == (4, 2**20, 60)
    assert settings.store == "rediss://user:store-secret@10.0.0.1:6380/1"
    assert settings.ledger == "postgresql://user:ledger-secret@10.0.0.2/usage"
    assert (settings.data_dir, settings.catalog) == (Path("/var/lib/gateway"), Path("models.yaml"))
    assert settings.metrics.account_label is False
    assert settings.limits.default_hold == 64


def test_every_key_of_a_provider_is_read():
    local = Settings.model_validate(EVERYTHING).providers["local"]
    assert local.base_url == "http://127.0.0.1:8000/v1"
    assert local.api_key == SecretStr("key-secret")
    assert local.auth_header is AuthHeader.API_KEY
    assert local.headers == {"X-Token": SecretStr("header-secret")}
    assert (local.connect_timeout, local.first_byte_timeout, local.idle_timeout, local.drain_max) == (0.25, 10, 7, 0)
    assert (local.on_disconnect, local.max_drains) == (OnDisconnect.DRAIN, 1)
    assert local.continuous_usage_stats is True
    assert local.reasoning_style is ReasoningStyle.PREFILLED
    assert local.reasoning_tags == ("<r>", "</r>")
    assert local.reasoning_field == "reasoning_content"
    assert local.reasoning_history is ReasoningHistory.PLACEHOLDER
    assert local.stream_usage is StreamUsage.ALWAYS
    assert local.max_tokens_param is MaxTokensParam.MAX_COMPLETION_TOKENS
    assert local.developer_role is DeveloperRole.SYSTEM
    assert (local.drop_params, local.strip_fields) == (("seed",), ("system_fingerprint",))
    assert local.extra_body == {"reasoning_split": True, "token": "body-secret"}
    assert (local.native_responses, local.fix_deltas, local.completion_from_total) == (True, True, True)


def test_a_builtin_provider_has_no_url():
    demo = Settings.model_validate(EVERYTHING).providers["demo"]
    assert (demo.builtin, demo.base_url) == (Builtin.DEMO, None)


def test_nothing_secret_shows_in_a_representation():
    settings = Settings.model_validate(EVERYTHING)
    shown = f"{settings!r} {settings} {settings.providers['local']!r}"
    assert not any(secret in shown for secret in SECRETS)


def test_nothing_secret_shows_in_a_validation_error():
    local = {**EVERYTHING["providers"]["local"], "api_key": "key-secret\n"}
    bad = {**EVERYTHING, "plans": {}, "store": "redis://:store-secret@", "providers": {"local": local}}
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(bad)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_what_is_left_out_has_the_documented_defaults():
    settings = Settings.model_validate({"providers": {"demo": {"builtin": "demo"}}})
    assert settings.server.listen == Address("127.0.0.1", 8080)
    assert settings.server.admin_listen == Address("127.0.0.1", 9090)
    assert (settings.server.workers, settings.server.max_body, settings.server.stop_grace) == (1, 20 * 2**20, 25)
    assert (settings.store, settings.ledger) == ("embedded", "embedded")
    assert (settings.data_dir, settings.catalog) == (Path("data"), Path("catalog.yaml"))
    assert settings.plans == {"unlimited": Plan()}
    assert settings.default_plan == "unlimited"
    assert settings.metrics.account_label is True
    assert settings.limits.default_hold == 1024


def test_a_provider_of_which_only_the_url_is_known_is_like_openais():
    plain = provider()
    assert (plain.connect_timeout, plain.first_byte_timeout, plain.idle_timeout, plain.drain_max) == (5, 300, 120, 60)
    assert plain.on_disconnect is OnDisconnect.CANCEL
    assert plain.auth_header is AuthHeader.BEARER
    assert plain.reasoning_style is ReasoningStyle.AUTO
    assert plain.reasoning_tags == ("<think>", "</think>")
    assert plain.reasoning_field is None
    assert plain.stream_usage is StreamUsage.INCLUDE_USAGE
    assert plain.max_tokens_param is MaxTokensParam.AS_SENT
    assert plain.developer_role is DeveloperRole.PASS
    assert (plain.drop_params, plain.extra_body, plain.strip_fields, plain.headers) == ((), {}, (), {})
    assert (plain.native_responses, plain.fix_deltas, plain.completion_from_total) == (False, False, False)


@pytest.mark.parametrize(
    ("style", "history"),
    [("auto", "rename"), ("field", "rename"), ("tags", "drop"), ("prefilled", "drop"), ("none", "drop")],
)
def test_reasoning_is_sent_back_only_where_it_has_a_field(style, history):
    assert provider(reasoning_style=style).reasoning_history == history


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        ("https://openrouter.ai/api/v1", ("provider",)),
        ("https://eu.openrouter.ai/api/v1", ("provider",)),
        ("https://notopenrouter.ai/api/v1", ()),
        ("http://127.0.0.1/openrouter.ai", ()),
    ],
)
def test_a_router_that_names_its_own_providers_is_hidden_by_default(url, stripped):
    assert provider(base_url=url).strip_fields == stripped


@pytest.mark.parametrize("keys", [{}, {"base_url": "http://127.0.0.1/v1", "builtin": "demo"}, {"base_url": None}])
def test_a_provider_has_exactly_one_place_to_send_requests_to(keys):
    with pytest.raises(ValidationError):
        Provider.model_validate(keys)


def test_both_ports_may_be_chosen_by_the_system():
    listen = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
    assert Settings.model_validate({"providers": {"demo": {"builtin": "demo"}}, "server": listen})


def test_values_may_be_given_as_what_they_become():
    """Code that has an address, a path or a secret in hand does not have to write it as text first."""
    settings = Settings.model_validate(
        {
            "server": {"listen": Address("::1", 0)},
            "data_dir": Path("/srv"),
            "providers": {"demo": {"builtin": "demo", "api_key": SecretStr("key")}},
        }
    )
    assert (settings.server.listen, settings.data_dir) == (Address("::1", 0), Path("/srv"))
    assert settings.providers["demo"].api_key == SecretStr("key")


def test_a_plan_is_the_limits_of_an_account():
    plans = Settings.model_validate(EVERYTHING).plans
    assert plans["standard"].limits() == Limits(
        requests_per_minute=600,
        tokens_per_minute=200_000,
        concurrent_requests=32,
        tokens_per_day=5_000_000,
        budget_nusd=25_000_000_001,
        budget_per=Period.MONTH,
        more_budgets=((Period.DAY, 2_000_000_000),),
        on_budget_end=OnBudgetEnd.CUT,
    )


def test_a_plan_without_limits_limits_nothing():
    assert Plan().limits() == Limits()


def test_settings_cannot_be_changed():
    settings = Settings.model_validate(EVERYTHING)
    with pytest.raises(ValidationError, match="frozen"):
        settings.default_plan = "none"  # type: ignore[misc]
