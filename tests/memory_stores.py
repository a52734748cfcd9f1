"""Stores that keep their records in memory, for tests of what stands above the stores.

They keep the promises of the two protocols and nothing else: no limits are enforced, and what an account has used is
set by the test. What the real stores do is tested in `tests/stores/`.
"""

from dataclasses import replace

from proxy.accounts import Account, ApiKey, Identity
from proxy.errors import StoreUnavailable
from proxy.limits import AccountUse, Limit, Limits, LimitUse


class MemoryKeys:
    """Accounts and keys; `fail_on` names the methods that find the store gone."""

    def __init__(self) -> None:
        self.by_name: dict[str, Account] = {}
        self.by_digest: dict[str, ApiKey] = {}
        self.lent: dict[str, ApiKey] = {}
        self.fail_on: set[str] = set()

    async def identify(self, account: str, digest: str) -> Identity | None:
        key = self.by_digest.get(digest)
        return None if key is None else Identity(self.by_name[account], key, digest)

    async def create_account(self, account: Account) -> bool:
        self._ask("create_account")
        return self.by_name.setdefault(account.name, account) is account

    async def account(self, name: str) -> Account | None:
        self._ask("account")
        return self.by_name.get(name)

    async def accounts(self) -> list[Account]:
        self._ask("accounts")
        return list(self.by_name.values())

    async def change_account(self, account: Account) -> Account | None:
        self._ask("change_account")
        stored = self.by_name.get(account.name)
        if stored is None or stored.version != account.version:
            return stored
        changed = replace(account, version=account.version + 1)
        self.by_name[account.name] = changed
        return changed

    async def create_key(self, key: ApiKey, digest: str) -> None:
        self._ask("create_key")
        self.by_digest[digest] = key

    async def lend_key(self, key: ApiKey, digest: str) -> None:
        self._ask("lend_key")
        self.lent[digest] = key

    async def keys(self, account: str) -> list[ApiKey]:
        self._ask("keys")
        return [key for key in self.by_digest.values() if key.account == account]

    async def key(self, key_id: str) -> ApiKey | None:
        self._ask("key")
        return next((key for key in self.by_digest.values() if key.key_id == key_id), None)

    async def change_key(
        self, key_id: str, *, revoked_ms: int | None = None, expires_ms: int | None = None
    ) -> ApiKey | None:
        self._ask("change_key")
        for digest, key in self.by_digest.items():
            if key.key_id == key_id:
                changed = replace(
                    key,
                    revoked_ms=key.revoked_ms if revoked_ms is None else revoked_ms,
                    expires_ms=key.expires_ms if expires_ms is None else expires_ms,
                )
                self.by_digest[digest] = changed
                return changed
        return None

    def _ask(self, method: str) -> None:
        if method in self.fail_on:
            raise StoreUnavailable("the store at nowhere:1 cannot be used: connection refused")


class MemoryLimits:
    """What accounts have used: the same `used` of every limit, and the money set by the test."""

    def __init__(self) -> None:
        self.used = 0
        self.spent_nusd = 0
        self.held_nusd = 0
        self.in_flight = 0
        self.resets_ms: int | None = None

    async def use(self, account: str, limits: Limits) -> AccountUse:
        allowed = {
            Limit.REQUESTS_PER_MINUTE: limits.requests_per_minute,
            Limit.TOKENS_PER_MINUTE: limits.tokens_per_minute,
            Limit.CONCURRENT_REQUESTS: limits.concurrent_requests,
            Limit.TOKENS_PER_DAY: limits.tokens_per_day,
        }
        uses = {
            limit: LimitUse(value, self.used, max(0, value - self.used), self.resets_ms)
            for limit, value in allowed.items()
            if value is not None
        }
        budget_resets_ms = None if limits.budget_nusd is None else self.resets_ms
        return AccountUse(uses, self.spent_nusd, self.held_nusd, budget_resets_ms, self.in_flight)
