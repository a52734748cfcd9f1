"""A whole gateway as a browser meets it: a provider that says what it is told to, the embedded store and ledger or
Redis and PostgreSQL, and what an operator does by the admin API to have something to look at.

Nothing here knows the browser.
"""

import http.client
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_process import Gateway, eventually
from provider_scripts import talking, usage
from scripted_provider import PATIENCE, Exchange

ADMIN_TOKEN = "admin-token-of-the-browser-tests"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'--><svg onload=alert(3)>{{7*7}}"
"""What somebody would write who wants a page to run it."""
CONFIG = """\
server: {{listen: "127.0.0.1:0", admin_listen: "127.0.0.1:0"}}
catalog: catalog.yaml
store: "{store}"
ledger: "{ledger}"
providers:
  main: {{base_url: "{main}", api_key: prov-key-of-the-browser-tests}}
plans:
  standard: {{requests_per_minute: 600, tokens_per_day: 1000000, budget: {{usd: "25.00", per: month}}}}
  unlimited: {{}}
default_plan: standard
"""
ENTRY = """\
  - id: {id}
    name: {name}
    description: {name}
    date: "2026-01-31"
    context_length: 32768
    max_completion_tokens: 4096
    pricing: {{prompt: "0.0000008", completion: "0.0000016", input_cache_read: "0.0000002"}}
    routes: [{{provider: main, model: {upstream}}}]
"""
MODELS = {
    "lab/plain": ("A plain model", "plain-upstream"),
    "lab/second": ("A second model", "second-upstream"),
    "lab/marked": (MARKUP, MARKUP),
}
CATALOG = "models:\n" + "".join(
    ENTRY.format(id=model, name=json.dumps(name), upstream=json.dumps(upstream))
    for model, (name, upstream) in MODELS.items()
)
_numbers = itertools.count(1)


def obliging(exchange: Exchange) -> None:
    """A provider's answer: the last message back, word by word if it is a stream; `fail: 503` is a failure."""
    said = exchange.json["messages"][-1]["content"]
    if said.startswith("fail: "):
        exchange.answer({"error": {"message": f"no: {said}"}}, int(said.removeprefix("fail: ")))
    else:
        words = [word + " " for word in said.split(" ")]
        talking(words, usage(1_200, 5 * len(words), 1_000))(exchange)


@dataclass
class Answer:
    """What came back over HTTP."""

    status: int
    document: Any


@dataclass
class Issued:
    """A key that somebody may use."""

    account: str
    key_id: str
    secret: str


class Installation:
    """One gateway that runs, and its operator."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @property
    def url(self) -> str:
        """Where a browser goes."""
        return f"http://127.0.0.1:{self.gateway.admin}"

    def new_account(self, **limits: object) -> str:
        """An account that no other test knows."""
        name = f"account_{next(_numbers)}"
        assert self.admin("POST", "/accounts", {"account": name}).status == 201
        if limits:
            self.change(name, **limits)
        return name

    def change(self, account: str, **limits: object) -> None:
        """Give an account other limits."""
        changed = self.admin("PATCH", f"/accounts/{account}", limits)
        assert changed.status == 200, changed

    def new_key(self, account: str, **asked: object) -> Issued:
        """One more key of an account."""
        made = self.admin("POST", f"/accounts/{account}/keys", asked)
        assert made.status == 201, made
        return Issued(account, made.document["key_id"], made.document["key"])

    def new_token(self, account: str, **asked: object) -> str:
        """A dashboard token of an account."""
        made = self.admin("POST", f"/accounts/{account}/tokens", asked)
        assert made.status == 201, made
        return str(made.document["token"])

    def admin(self, method: str, path: str, body: object = None, token: str = ADMIN_TOKEN) -> Answer:
        """Ask the admin API."""
        return _ask(self.gateway.admin, method, f"/admin/api{path}", token, body)

    def ask(self, key: Issued | str, text: str = "Hi.", model: str = "lab/plain", **more: object) -> Answer:
        """Send a chat request as a client does, and read the whole answer."""
        secret = key if isinstance(key, str) else key.secret
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return _ask(self.gateway.api, "POST", "/v1/chat/completions", secret, body)

    def recorded(self, account: str, number: int = 1) -> list[dict[str, Any]]:
        """The rows of an account, the latest first, once there are so many."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.admin("GET", f"/requests?account={account}").document["requests"]
            return len(found) >= number

        assert eventually(there), f"the ledger has {len(found)} rows of {account} and not {number}"
        return found


def _ask(port: int, method: str, path: str, token: str, body: object) -> Answer:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return Answer(answer.status, json.loads(text) if is_json else text.decode())
    finally:
        connection.close()


@dataclass(frozen=True)
class Backends:
    """Where a gateway keeps what; `embedded` is a part of it."""

    store: str = "embedded"
    ledger: str = "embedded"


def make_gateway(folder: Path, provider_url: str, backends: Backends) -> Gateway:
    """The files of a gateway."""
    config = CONFIG.format(main=provider_url, store=backends.store, ledger=backends.ledger)
    return Gateway(folder, config, CATALOG, {"AION_PROXY_ADMIN_TOKEN": ADMIN_TOKEN})
