"""Key → account: who is calling. Form and checksum are checked here, from memory or with one look-up; limits come
later.
"""

import re
from collections.abc import Sequence
from typing import Final

from proxy.accounts import Identity, account_of_key, digest_of_key
from proxy.errors import ErrorType, Fault, Refusal, StoreUnavailable
from proxy.limits import KeyStore

REMEMBERED: Final = 10_000
"""Keys kept in memory; admission checks each again, so an old entry costs nothing but a refusal one step later."""
_CREDENTIALS: Final = re.compile(r"[ \t]*([A-Za-z-]+)[ \t]+([\x21-\x7e]{1,512})[ \t]*")
_SCHEMES: Final = frozenset({"bearer", "api-key"})


class Memory:
    """The keys that were seen good, by digest; the longest-known go first when it is full."""

    def __init__(self, most: int = REMEMBERED) -> None:
        """Remember at most `most` keys."""
        self._most = most
        self._known: dict[str, Identity] = {}

    def get(self, digest: str) -> Identity | None:
        """Return what is known of a key."""
        return self._known.get(digest)

    def put(self, identity: Identity) -> None:
        """Remember a key, or its account as it is now."""
        if len(self._known) >= self._most and identity.digest not in self._known:
            del self._known[next(iter(self._known))]
        self._known[identity.digest] = identity

    def forget(self, digest: str) -> None:
        """Look this key up again the next time."""
        self._known.pop(digest, None)


def remembered(authorizations: Sequence[str], memory: Memory, *, now_ms: int) -> Identity | None:
    """Return who is calling if the key is one that was seen before, else None. Raises `Refusal` as `authenticate`."""
    identity = memory.get(digest_of_key(_presented(authorizations)))
    return None if identity is None else _good(identity, memory, now_ms)


async def authenticate(authorizations: Sequence[str], memory: Memory, keys: KeyStore, *, now_ms: int) -> Identity:
    """Return who is calling. Raises `Refusal`: 401, 403 for a disabled account, 503 if an unknown key cannot be
    looked up.

    All that is wrong with a key is one answer, so that a probe cannot tell an unknown key from a revoked one.
    """
    key = _presented(authorizations)
    digest = digest_of_key(key)
    identity = memory.get(digest)
    if identity is None:
        account = account_of_key(key)
        if account is None:
            raise Refusal(invalid_key())
        identity = await _look_up(account, digest, keys)
        memory.put(identity)
    return _good(identity, memory, now_ms)


def _presented(authorizations: Sequence[str]) -> str:
    if not authorizations:
        raise Refusal(_missing())
    match = _CREDENTIALS.fullmatch(authorizations[0]) if len(authorizations) == 1 else None
    if match is None or match[1].lower() not in _SCHEMES:
        raise Refusal(invalid_key())
    return match[2]


def _good(identity: Identity, memory: Memory, now_ms: int) -> Identity:
    if identity.key.revoked_ms is not None or (
        identity.key.expires_ms is not None and identity.key.expires_ms <= now_ms
    ):
        raise Refusal(invalid_key())
    if identity.account.disabled:
        memory.forget(identity.digest)
        raise Refusal(account_disabled())
    return identity


async def _look_up(account: str, digest: str, keys: KeyStore) -> Identity:
    try:
        identity = await keys.identify(account, digest)
    except StoreUnavailable:
        # Not a 401: clients throw a key away that was refused.
        raise Refusal(_cannot_tell()) from None
    if identity is None:
        raise Refusal(invalid_key())
    return identity


def invalid_key() -> Fault:
    """Build the one answer for every key that is not good."""
    message = "The API key is not valid; check it, or ask for a new one."
    return Fault(401, ErrorType.AUTHENTICATION, "invalid_api_key", message, reason="authentication")


def account_disabled() -> Fault:
    """Build the answer for a good key of an account that was switched off."""
    message = "This account is disabled; ask the operator of this gateway."
    return Fault(403, ErrorType.PERMISSION, "account_disabled", message, reason="permission")


def _missing() -> Fault:
    message = "An API key is required: send the header `Authorization: Bearer YOUR_API_KEY`."
    return Fault(401, ErrorType.AUTHENTICATION, "missing_api_key", message, reason="authentication")


def _cannot_tell() -> Fault:
    message = "Keys cannot be checked at the moment; try again shortly."
    return Fault(503, ErrorType.INTERNAL, "overloaded", message, retry_after_ms=1_000, reason="store_unavailable")
