"""The operations on API keys: make, list, revoke, rotate.

The only place outside authentication that ever holds a whole key: it is minted here, returned once in `MintedKey`, and
stored as a digest. Time and randomness come in as arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.accounts import ALPHABET, ApiKey, account_of_key, digest_of_key, hint_of_key, mint_key
from proxy.admin.accounts import find_account
from proxy.admin.refused import OperationRefused, Reason, nearest
from proxy.catalog import Catalog
from proxy.errors import StoreUnavailable
from proxy.limits import KeyStore

Random = Callable[[int], bytes]
"""Returns that many random bytes fit for secrets."""

_KEY_BYTES: Final = 32
_ID_BYTES: Final = 16
_ID_DIGITS: Final = 16
_NAME_LONGEST: Final = 100
_LENT_MS: Final = 60_000
"""Enough for a request to be let in; whatever it then does ends by itself."""
_LONGEST_MS: Final = 100 * 366 * 86_400_000
"""A century: no key is meant to live longer, and every date within it can be written."""


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key's record and, this once, the key itself."""

    record: ApiKey
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RotatedKey:
    """The new key, and the record of the old one with its end."""

    minted: MintedKey
    replaced: ApiKey


@dataclass(frozen=True, slots=True)
class Keys:
    """The operations on keys, over the store of records and the catalog.

    Every operation raises `OperationRefused` with the remedy, or `StoreUnavailable`.
    """

    records: KeyStore
    catalog: Catalog

    async def create(
        self,
        account: str,
        *,
        name: str,
        lifetime_ms: int | None,
        models: Sequence[str] | None,
        now_ms: int,
        random: Random,
    ) -> MintedKey:
        """Make a key, good for `lifetime_ms` (None: until revoked) and for `models` (ids or aliases; None: all)."""
        if not name.isprintable() or len(name) > _NAME_LONGEST:
            raise OperationRefused(
                Reason.MALFORMED,
                f"a key's name is at most {_NAME_LONGEST} printable characters on one line; choose another name",
            )
        if lifetime_ms is not None and not 0 < lifetime_ms <= _LONGEST_MS:
            raise OperationRefused(
                Reason.MALFORMED,
                "a key lives for more than nothing and at most 100 years: give a duration such as 90d, "
                "or leave it out for a key that is good until it is revoked",
            )
        allowed = None if models is None else frozenset(map(self._model_id, models))
        await find_account(self.records, account)
        expires_ms = None if lifetime_ms is None else now_ms + lifetime_ms
        return await self._mint(account, name, expires_ms, allowed, now_ms, random)

    async def of(self, account: str) -> list[ApiKey]:
        """Return every key of the account, oldest first, revoked and expired ones included."""
        await find_account(self.records, account)
        return await self.records.keys(account)

    async def revoke(self, key_id: str, *, now_ms: int) -> ApiKey:
        """Refuse the key from the very next request on; a key revoked before keeps the time at which it was."""
        record = await self.find(key_id)
        if record.revoked_ms is not None:
            return record
        revoked = await self.records.change_key(key_id, revoked_ms=now_ms)
        if revoked is None:
            raise no_such_key(key_id)
        return revoked

    async def rotate(self, key_id: str, *, grace_ms: int, now_ms: int, random: Random) -> RotatedKey:
        """Make a key with the same account, name, models and length of life; the old one is good for `grace_ms` more.

        No grace revokes it. The new key is stored first, so that there is always a good one; a grace never prolongs the
        old key's own life.
        """
        if not 0 <= grace_ms <= _LONGEST_MS:
            raise OperationRefused(
                Reason.MALFORMED, "a grace is at most 100 years: give one such as 24h, or 0s for none"
            )
        old = await self.find(key_id)
        if not old.good(now_ms):
            raise _ended(old, "there is nothing to rotate")
        expires_ms = None if old.expires_ms is None else now_ms + old.expires_ms - old.created_ms
        minted = await self._mint(old.account, old.name, expires_ms, old.models, now_ms, random)
        try:
            replaced = await self._retire(old, grace_ms, now_ms)
        except StoreUnavailable as unavailable:
            raise OperationRefused(
                Reason.CONFLICT,
                f"the store went away half way ({unavailable.detail}): {key_id} is as it was; when the store is back, "
                f"revoke the new key, which nobody has seen, with `aion-proxy keys revoke {minted.record.key_id}` "
                "and rotate again",
            ) from unavailable
        return RotatedKey(minted, replaced)

    async def lend(self, key: ApiKey, *, now_ms: int, random: Random) -> str:
        """Return a key that stands for this one for a minute and is in no list; refuses one that is not good."""
        if not key.good(now_ms):
            raise _ended(key, "it cannot be used")
        end_ms = now_ms + _LENT_MS if key.expires_ms is None else min(key.expires_ms, now_ms + _LENT_MS)
        lent = mint_key(key.account, random(_KEY_BYTES))
        await self.records.lend_key(replace(key, expires_ms=end_ms), digest_of_key(lent))
        return lent

    async def _retire(self, old: ApiKey, grace_ms: int, now_ms: int) -> ApiKey:
        if grace_ms == 0:
            retired = await self.records.change_key(old.key_id, revoked_ms=now_ms)
        else:
            end_ms = now_ms + grace_ms
            if old.expires_ms is not None and old.expires_ms <= end_ms:
                return old
            retired = await self.records.change_key(old.key_id, expires_ms=end_ms)
        if retired is None:
            raise no_such_key(old.key_id)
        return retired

    async def _mint(
        self,
        account: str,
        name: str,
        expires_ms: int | None,
        models: frozenset[str] | None,
        now_ms: int,
        random: Random,
    ) -> MintedKey:
        key = mint_key(account, random(_KEY_BYTES))
        record = ApiKey(
            key_id=mint_key_id(random(_ID_BYTES)),
            account=account,
            name=name,
            hint=hint_of_key(key, account),
            created_ms=now_ms,
            expires_ms=expires_ms,
            models=models,
        )
        await self.records.create_key(record, digest_of_key(key))
        return MintedKey(record, key)

    async def find(self, key_id: str) -> ApiKey:
        """Return a key's record by its id."""
        account = account_of_key(key_id)
        if account is not None:
            raise OperationRefused(
                Reason.MALFORMED,
                f"that is the key itself, not its id: `aion-proxy keys list {account}` "
                f"shows the id beside {hint_of_key(key_id, account)}",
            )
        record = await self.records.key(key_id)
        if record is None:
            raise no_such_key(key_id)
        return record

    def _model_id(self, name: str) -> str:
        model = self.catalog.find(name)
        if model is None:
            known = [word for model in self.catalog.enabled() for word in (model.id, *model.aliases)]
            raise OperationRefused(Reason.NOT_FOUND, f"the catalog has no model {name!r}; {nearest(name, known)}")
        return model.id


def mint_key_id(random: bytes) -> str:
    """Make a key's id, `key_` and 16 base62 digits, from at least 12 random bytes; it is no secret."""
    number = int.from_bytes(random, "big")
    digits = []
    for _ in range(_ID_DIGITS):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "key_" + "".join(digits)


def _ended(key: ApiKey, therefore: str) -> OperationRefused:
    ended = "expired" if key.revoked_ms is None else "been revoked"
    return OperationRefused(
        Reason.CONFLICT,
        f"{key.key_id} has {ended}, so {therefore}: make a new key with `aion-proxy keys create {key.account}`",
    )


def no_such_key(key_id: str) -> OperationRefused:
    """Return what is said of a key that is not there, or not for whoever asks."""
    # What begins like a key may be one, mistyped or cut off: it is not repeated.
    shown = "with that id (it looks like a key)" if key_id.startswith("sk-") else repr(key_id)
    return OperationRefused(
        Reason.NOT_FOUND,
        f"there is no key {shown}: `aion-proxy keys list ACCOUNT` shows the ids of an account's keys",
    )
