"""The commands, the pages and the admin API do the same: whatever one of the first two can do, the API can."""

import argparse
import re
from collections.abc import Iterator

from dashboard_bench import Bench

from proxy.cli_parser import build_parser
from proxy.dashboard.api import ROUTES
from proxy.dashboard.openapi import EXPORT, TRY

BY_COMMAND = {
    "accounts create": ("POST", "/accounts"),
    "accounts list": ("GET", "/accounts"),
    "accounts show": ("GET", "/accounts/{account}"),
    "accounts set": ("PATCH", "/accounts/{account}"),
    "accounts disable": ("POST", "/accounts/{account}/disable"),
    "accounts enable": ("POST", "/accounts/{account}/enable"),
    "keys create": ("POST", "/accounts/{account}/keys"),
    "keys list": ("GET", "/accounts/{account}/keys"),
    "keys revoke": ("POST", "/keys/{key_id}/revoke"),
    "keys rotate": ("POST", "/keys/{key_id}/rotate"),
    "usage": ("GET", "/usage"),
    "ledger verify": ("POST", "/ledger/verify"),
    "ledger export": ("GET", EXPORT),
}
OF_NO_GATEWAY = {"serve", "demo", "check", "conformance", "import litellm", "migrate"}
"""Commands that start one, ask nothing of one that runs, or want none to run."""
BY_PAGE = {
    ("GET", "/"): [("GET", "/overview")],
    ("GET", "/accounts"): [("GET", "/accounts"), ("GET", "/plans")],
    ("POST", "/accounts"): [("POST", "/accounts")],
    ("GET", "/accounts/{account}"): [
        ("GET", "/accounts/{account}"),
        ("GET", "/accounts/{account}/keys"),
        ("GET", "/accounts/{account}/tokens"),
    ],
    ("POST", "/accounts/{account}/limits"): [("PATCH", "/accounts/{account}")],
    ("POST", "/accounts/{account}/disable"): [("POST", "/accounts/{account}/disable")],
    ("POST", "/accounts/{account}/enable"): [("POST", "/accounts/{account}/enable")],
    ("POST", "/accounts/{account}/tokens"): [("POST", "/accounts/{account}/tokens")],
    ("POST", "/tokens/{token_id}/revoke"): [("POST", "/tokens/{token_id}/revoke")],
    ("GET", "/keys"): [("GET", "/accounts/{account}/keys")],
    ("POST", "/accounts/{account}/keys"): [("POST", "/accounts/{account}/keys")],
    ("GET", "/keys/{key_id}"): [("GET", "/keys/{key_id}")],
    ("POST", "/keys/{key_id}/rotate"): [("POST", "/keys/{key_id}/rotate")],
    ("POST", "/keys/{key_id}/revoke"): [("POST", "/keys/{key_id}/revoke")],
    ("GET", "/usage"): [("GET", "/requests")],
    ("GET", "/usage/{request_id}"): [("GET", "/requests/{request_id}")],
    ("GET", "/usage/export"): [("GET", EXPORT)],
    ("GET", "/models"): [("GET", "/models"), ("GET", "/routes")],
    ("GET", "/limits"): [("GET", "/limits")],
    ("GET", "/playground"): [("GET", "/accounts/{account}/keys"), ("GET", "/models")],
    ("POST", "/playground"): [("POST", TRY)],
    ("POST", "/playground/stream"): [("POST", TRY)],
    ("GET", "/audit"): [("GET", "/audit")],
    ("GET", "/system"): [("GET", "/system"), ("GET", "/configuration")],
}
OF_BROWSERS = {("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out"), ("GET", "/live")}
"""What only somebody with a browser needs: the API is asked with a token, each time anew."""
OPERATIONS = {(route.method, route.path) for route in ROUTES} | {("GET", EXPORT), ("POST", TRY)}


def commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """Every command, by its words."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield before.strip()
    for action in below:
        for word, inner in action.choices.items():
            yield from commands(inner, f"{before} {word}")


def test_every_command_is_an_operation_of_the_api():
    assert set(commands(build_parser())) == set(BY_COMMAND) | OF_NO_GATEWAY
    assert set(BY_COMMAND.values()) <= OPERATIONS


async def test_every_page_and_form_is_an_operation_of_the_api(bench: Bench):
    assert bench.pages == set(BY_PAGE) | OF_BROWSERS
    assert {operation for needed in BY_PAGE.values() for operation in needed} <= OPERATIONS


async def test_every_form_of_a_page_is_sent_to_a_page(operator: Bench):
    key = await operator.key()
    await operator.token()
    sent = {
        ("POST", re.sub(r"(?<=/accounts/)acme|(?<=/keys/)key_\w+|(?<=/tokens/)dt_\w+", "{}", action))
        for path in ("/accounts", "/accounts/acme", "/keys?account=acme", f"/keys/{key['key_id']}", "/playground")
        for action in re.findall(r'<form method="post" action="([^"]+)"', (await operator.page(path)).text)
    }
    assert sent <= {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in operator.pages}
