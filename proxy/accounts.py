"""Who calls: accounts, their keys, and the form a key has.

The whole key exists only where it is minted and where it is presented; everything else knows its digest. No I/O:
records are read and written by `proxy/stores/keys.py`.
"""

import hashlib
import re
import string
from binascii import crc32
from dataclasses import dataclass, field
from typing import Final

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
SHARDS: Final = 64
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_KEY: Final = re.compile(r"sk-aion-([a-z0-9][a-z0-9_]{0,31})-[0-9A-Za-z]{38}")
_CHECK_DIGITS: Final = 6
_RANDOM_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Account:
    """One paying customer. `version` grows with every change, so that a gateway knows when its copy is old."""

    name: str
    plan: str | None
    """The plan's name; None means the configuration's `default_plan`, whatever it is at the time."""
    disabled: bool
    version: int
    created_ms: int
    overrides: dict[str, int | str] = field(default_factory=dict)
    """Limits of this account alone, by the names of `limits.OVERRIDABLE`."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's record. `hint` is all of it that may be shown: `sk-aion-<account>-…` and its last four characters."""

    key_id: str
    account: str
    name: str
    hint: str
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    models: frozenset[str] | None = None
    """Catalog ids this key may ask for; None means all."""
    last_used_ms: int | None = None

    def good(self, now_ms: int) -> bool:
        """Tell whether it has neither been revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or self.expires_ms > now_ms)


@dataclass(frozen=True, slots=True)
class Identity:
    """What authentication learned: which account and key, by digest, and the account record as last seen."""

    account: Account
    key: ApiKey
    digest: str


def valid_account_name(name: str) -> bool:
    """Tell whether `name` may name an account: `[a-z0-9][a-z0-9_]{0,31}`."""
    return _ACCOUNT.fullmatch(name) is not None


def mint_key(account: str, random: bytes) -> str:
    """Make the key `sk-aion-<account>-<32 base62><6 base62>` from at least 24 random bytes (190 bits are used)."""
    number = int.from_bytes(random, "big") % 62**_RANDOM_DIGITS
    body = f"sk-aion-{account}-{_base62(number, _RANDOM_DIGITS)}"
    return body + _checksum(body)


def account_of_key(key: str) -> str | None:
    """Read the account out of a well-formed key; None if the form or the checksum is wrong (no store is asked then)."""
    match = _KEY.fullmatch(key)
    if match is None or key[-_CHECK_DIGITS:] != _checksum(key[:-_CHECK_DIGITS]):
        return None
    return match.group(1)


def digest_of_key(key: str) -> str:
    """Return the SHA-256 of the key in hex, the only form in which a key is stored or compared."""
    return hashlib.sha256(key.encode()).hexdigest()


def hint_of_key(key: str, account: str) -> str:
    """Return what of the key may be shown and logged."""
    return f"sk-aion-{account}-…{key[-4:]}"


def shard_of(account: str) -> int:
    """Return the account's shard, 0–63: all its records and counters share this hash tag (and so one cluster slot)."""
    return crc32(account.encode()) % SHARDS


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECK_DIGITS)


def _base62(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, rest = divmod(number, 62)
        out.append(ALPHABET[rest])
    return "".join(reversed(out))
