"""A gateway with something on every page, and the list of its pages; for whoever looks at all of them."""

from dataclasses import dataclass

from installation import Installation, Issued

ACCOUNTS = ("harbour", "lighthouse", "quay")
NAMES = (
    *(
        "sign-in",
        "overview",
        "overview-hour",
        "overview-month",
        "accounts",
        "account",
        "account-disabled",
        "keys",
        "key",
    ),
    *("usage", "request", "models", "limits", "playground", "audit", "system", "trouble"),
)


@dataclass(frozen=True)
class Sight:
    """Where a page is, and its heading."""

    path: str
    heading: str


def furnish(made: Installation) -> Issued:
    """Make accounts with keys, requests that end in every way, and refusals; returns a key of the first account."""
    keys = {}
    for account in ACCOUNTS:
        assert made.admin("POST", "/accounts", {"account": account}).status == 201
        keys[account] = [made.new_key(account, name=name) for name in ("laptop", "batch jobs")]
    laptop, batch = keys["harbour"]
    made.new_key("harbour", name="for a month", expires="30d", models=["lab/second"])
    made.new_token("harbour", name="the harbour's people", expires="90d")
    made.admin("POST", f"/keys/{made.new_key('harbour', name='lost').key_id}/revoke")
    for number in range(12):
        key = (laptop, batch, keys["quay"][0])[number % 3]
        assert made.ask(key, "word " * (number + 1), ("lab/plain", "lab/second")[number % 2]).status == 200
    assert made.ask(laptop, "One more", metadata={"order": "4711", "stage": "trial"}).status == 200
    assert made.ask(batch, "fail: 400").status == 400
    made.recorded("harbour", 10)
    made.change("quay", budget_usd="0.001715", budget_per="day")
    made.change("lighthouse", requests_per_minute=2, plan="unlimited")
    assert 429 in [made.ask(keys["lighthouse"][0]).status for _ in range(4)]
    assert made.ask(keys["quay"][0]).status == 429
    assert made.admin("POST", "/accounts/lighthouse/disable").status == 200
    return laptop


def sights(made: Installation, key: Issued) -> dict[str, Sight]:
    """Every page that can be opened by its URL."""
    account, key_id = key.account, key.key_id
    request_id = next(row["request_id"] for row in made.recorded(account) if row["metadata"])
    found = (
        Sight("/sign-in", "Sign in"),
        Sight("/", "Overview"),
        Sight("/?window=hour", "Overview"),
        Sight("/?window=month", "Overview"),
        Sight("/accounts", "Accounts"),
        Sight(f"/accounts/{account}", f"Account {account}"),
        Sight("/accounts/lighthouse", "Account lighthouse"),
        Sight(f"/keys?account={account}", f"Keys of {account}"),
        Sight(f"/keys/{key_id}", f"Key {key_id}"),
        Sight("/usage", "Usage"),
        Sight(f"/usage/{request_id}", f"Request {request_id}"),
        Sight("/models", "Models"),
        Sight("/limits", "Limits"),
        Sight("/playground", "Playground"),
        Sight("/audit", "Audit log"),
        Sight("/system", "System"),
        Sight("/accounts/nobody", "Not found"),
    )
    return dict(zip(NAMES, found, strict=True))
