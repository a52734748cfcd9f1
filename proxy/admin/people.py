"""Who asks: the operator, or somebody of one account; what each may see and do, and the form of a dashboard token.

Rules only. Whatever belongs to another account does not exist for an account's people: they are told the same as of a
name that nobody has, so that nothing can be learned by asking.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from proxy.accounts import ALPHABET
from proxy.admin.refused import OperationRefused, Reason

_TOKEN: Final = re.compile(r"aion-dash-[a-z0-9][a-z0-9_]{0,31}-[0-9A-Za-z]{32}")
_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was let in. `account` None: the operator, who may do everything."""

    name: str
    """What the audit log calls them: `operator`, or the account and the token's id."""
    account: str | None = None
    token_id: str | None = None

    @property
    def is_operator(self) -> bool:
        """Tell whether nothing is closed to them."""
        return self.account is None

    def must_be_operator(self, what: str) -> None:
        """Refuse whatever only the operator may do."""
        if not self.is_operator:
            raise OperationRefused(Reason.FORBIDDEN, f"only the operator of the gateway may {what}: ask them")

    def must_own(self, account: str) -> None:
        """Refuse an account of others as if there was none."""
        if self.account not in (None, account):
            raise OperationRefused(
                Reason.NOT_FOUND,
                f"there is no account {account!r} that you may see: yours is {self.account!r}",
            )

    def scope(self, account: str | None) -> str | None:
        """Return whose figures are meant: the account that was asked for, else all that this person may see."""
        if account is None:
            return self.account
        self.must_own(account)
        return account


OPERATOR: Final = Person("operator")


def person_of_token(account: str, token_id: str) -> Person:
    """Return who signs in with a token of an account."""
    return Person(f"{account} ({token_id})", account, token_id)


def mint_token(account: str, random: bytes) -> str:
    """Make a token `aion-dash-<account>-<32 base62>` from at least 24 random bytes."""
    number, digits = int.from_bytes(random, "big"), []
    for _ in range(_DIGITS):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return f"aion-dash-{account}-{''.join(digits)}"


def looks_like_token(text: str) -> bool:
    """Tell whether it has the form of a dashboard token, so that it is worth asking for."""
    return _TOKEN.fullmatch(text) is not None


def digest_of_token(token: str) -> str:
    """Return the SHA-256 in hex, the only form in which a token is stored or compared."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
