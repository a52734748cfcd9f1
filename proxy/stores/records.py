"""How accounts and keys are written down in the store: hashes of short texts, and the way back.

Only the form. A missing number is empty text, never a zero; a record that was written by a newer release may have more
fields, so fields are asked for by name and read by position.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from proxy.accounts import Account, ApiKey

ACCOUNT_FIELDS: Final = ("name", "plan", "disabled", "version", "created", "overrides")
KEY_FIELDS: Final = (
    "digest",
    "key_id",
    "account",
    "name",
    "hint",
    "created",
    "expires",
    "revoked",
    "models",
    "last_used",
)


def account_fields(account: Account) -> list[str]:
    """Return the record as `field, value, field, value, …`."""
    values = (
        account.name,
        account.plan or "",
        "1" if account.disabled else "0",
        str(account.version),
        str(account.created_ms),
        orjson.dumps(account.overrides, option=orjson.OPT_SORT_KEYS).decode(),
    )
    return _pairs(ACCOUNT_FIELDS, values)


def account_from(values: Sequence[Any]) -> Account | None:
    """Read the values of ACCOUNT_FIELDS; None if there is no such account."""
    if values[0] is None or values[3] is None:
        return None
    name, plan, disabled, version, created, overrides = (_text(value) for value in values[:6])
    return Account(
        name=name,
        plan=plan or None,
        disabled=disabled == "1",
        version=int(version),
        created_ms=int(created),
        overrides=orjson.loads(overrides or "{}"),
    )


def key_fields(key: ApiKey, digest: str) -> list[str]:
    """Return the record as `field, value, …`. The digest is in it too, so that a record proves whose it is."""
    values = (
        digest,
        key.key_id,
        key.account,
        key.name,
        key.hint,
        str(key.created_ms),
        _optional(key.expires_ms),
        _optional(key.revoked_ms),
        "" if key.models is None else orjson.dumps(sorted(key.models)).decode(),
        _optional(key.last_used_ms),
    )
    return _pairs(KEY_FIELDS, values)


def key_from(values: Sequence[Any]) -> ApiKey | None:
    """Read the values of KEY_FIELDS; None if there is no such key."""
    if values[1] is None:
        return None
    _, key_id, account, name, hint, created, expires, revoked, models, last_used = (_text(value) for value in values)
    return ApiKey(
        key_id=key_id,
        account=account,
        name=name,
        hint=hint,
        created_ms=int(created),
        expires_ms=_number(expires),
        revoked_ms=_number(revoked),
        models=frozenset(orjson.loads(models)) if models else None,
        last_used_ms=_number(last_used),
    )


def _pairs(fields: Sequence[str], values: Sequence[str]) -> list[str]:
    return [word for pair in zip(fields, values, strict=True) for word in pair]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _number(text: str) -> int | None:
    return int(text) if text else None


def _optional(number: int | None) -> str:
    return "" if number is None else str(number)
