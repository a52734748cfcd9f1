"""Accounts and keys: `KeyStore` over the store's hashes.

Which names there are and how a record is found. No minting, no hashing, no decision who may do what. Whatever changes a
record together with an index of it is a script, so that a gateway killed in between leaves no half of either.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from proxy.accounts import SHARDS, Account, ApiKey, Identity, shard_of
from proxy.stores.limits import shard_prefix
from proxy.stores.records import ACCOUNT_FIELDS, KEY_FIELDS, account_fields, account_from, key_fields, key_from
from proxy.stores.scripts import load_script
from proxy.stores.store import Store


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a key's record is, and what it says."""

    record: str
    key: ApiKey


class RedisKeys:
    """`KeyStore` over a `Store`."""

    def __init__(self, connection: Store) -> None:
        """Read the scripts; the connection may be opened later."""
        self._connection = connection
        self._create_account = load_script("create_account")
        self._change_account = load_script("change_account")
        self._create_key = load_script("create_key")
        self._lend_key = load_script("lend_key")
        self._change_key = load_script("change_key")

    async def identify(self, account: str, digest: str) -> Identity | None:
        """Return the key's identity, revoked, expired and disabled ones included; None if it does not exist."""
        call = self._connection.call
        key_values, account_values = await asyncio.gather(
            call("HMGET", _key_name(account, digest), *KEY_FIELDS, urgent=True),
            call("HMGET", _account_name(account), *ACCOUNT_FIELDS, urgent=True),
        )
        key, owner = key_from(key_values), account_from(account_values)
        if key is None or owner is None:
            return None
        if (key_values[0].decode(), key.account, owner.name) != (digest, account, account):
            raise self._desync()
        return Identity(owner, key, digest)

    async def create_account(self, account: Account) -> bool:
        """Store a new account; False if the name is taken."""
        keys = (_account_name(account.name), f"{_prefix(account.name)}accounts")
        created: int = await self._connection.script(self._create_account, keys, account_fields(account))
        return created == 1

    async def account(self, name: str) -> Account | None:
        """Return one account's record."""
        account = account_from(await self._connection.call("HMGET", _account_name(name), *ACCOUNT_FIELDS))
        if account is not None and account.name != name:
            raise self._desync()
        return account

    async def accounts(self) -> list[Account]:
        """Return every account, by name."""
        call = self._connection.call
        shards = await asyncio.gather(*[call("SMEMBERS", f"{shard_prefix(shard)}accounts") for shard in range(SHARDS)])
        names = sorted(name.decode() for shard in shards for name in shard)
        found = await asyncio.gather(*[self.account(name) for name in names])
        return [account for account in found if account is not None]

    async def change_account(self, account: Account) -> Account | None:
        """Store `plan`, `disabled` and `overrides` under a new version, which the next admission of every gateway sees.

        Nothing is written if `version` is not the stored one. Returns the record as it is then; None if there is none.
        """
        args = account_fields(account)
        values = await self._connection.script(self._change_account, (_account_name(account.name),), args)
        return None if values is None else account_from(values)

    async def create_key(self, key: ApiKey, digest: str) -> None:
        """Store a new key under its digest."""
        prefix = _prefix(key.account)
        keys = (_key_name(key.account, digest), f"{prefix}keys:{key.account}", f"{prefix}keyids")
        await self._connection.script(self._create_key, keys, key_fields(key, digest))

    async def lend_key(self, key: ApiKey, digest: str) -> None:
        """Let another digest stand for a key until `key.expires_ms`; it is listed nowhere, and gone afterwards."""
        args = [str(key.expires_ms or 0), *key_fields(key, digest)]
        await self._connection.script(self._lend_key, (_key_name(key.account, digest),), args)

    async def keys(self, account: str) -> list[ApiKey]:
        """Return every key of the account, oldest first."""
        digests = await self._connection.call("HVALS", f"{_prefix(account)}keys:{account}")
        found = await asyncio.gather(*[self._read(_key_name(account, digest.decode())) for digest in digests])
        return sorted((key for key in found if key is not None), key=lambda key: (key.created_ms, key.key_id))

    async def key(self, key_id: str) -> ApiKey | None:
        """Return one key's record by its id."""
        found = await self._find(key_id)
        return None if found is None else found.key

    async def change_key(
        self, key_id: str, *, revoked_ms: int | None = None, expires_ms: int | None = None
    ) -> ApiKey | None:
        """Revoke a key or set its expiry; holds from the very next request of every gateway. None: no such key.

        The moment of a first revocation stays: a key that is revoked again was revoked when it was revoked.
        """
        found = await self._find(key_id)
        if found is None:
            return None
        args = ("" if revoked_ms is None else revoked_ms, "" if expires_ms is None else expires_ms)
        await self._connection.script(self._change_key, (found.record,), args)
        return await self._read(found.record)

    async def _find(self, key_id: str) -> _Found | None:
        """Ask all shards in one pipeline, because an id does not tell its account; only people and scripts do this."""
        call = self._connection.call
        shards = await asyncio.gather(
            *[call("HGET", f"{shard_prefix(shard)}keyids", key_id) for shard in range(SHARDS)]
        )
        for entry in shards:
            if entry is not None:
                account, _, digest = entry.decode().partition(" ")
                record = _key_name(account, digest)
                key = await self._read(record)
                if key is not None:
                    if key.key_id != key_id:
                        raise self._desync()
                    return _Found(record, key)
        return None

    async def _read(self, record: str) -> ApiKey | None:
        values: list[Any] = await self._connection.call("HMGET", record, *KEY_FIELDS)
        key = key_from(values)
        if key is not None and not record.endswith(values[0].decode()):
            raise self._desync()
        return key

    def _desync(self) -> Exception:
        return self._connection.distrust(
            "a reply of the store belonged to another question; the connection was dropped"
        )


def _prefix(account: str) -> str:
    return shard_prefix(shard_of(account))


def _account_name(account: str) -> str:
    return f"{_prefix(account)}acct:{account}"


def _key_name(account: str, digest: str) -> str:
    return f"{_prefix(account)}key:{digest}"
