"""Sessions of people who signed in with a browser: a signed cookie, and the word that every form must bring along.

Values only; the time and the nonce come in. The signing key follows from the admin token: all gateways that share it
share sessions, and whoever changes it signs everybody out.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec

from proxy.admin.people import Person

COOKIE: Final = "aion_session"
LIFETIME: Final = 12 * 3_600
"""Seconds after which one signs in again."""
_PURPOSE: Final = b"aion-proxy dashboard session"


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in, until a moment in Unix seconds; `nonce` tells this session from every other."""

    person: Person
    nonce: str
    expires: int


class _Written(msgspec.Struct, frozen=True, array_like=True):
    name: str
    account: str | None
    token_id: str | None
    nonce: str
    expires: int


class Sessions:
    """Writes and reads cookies."""

    def __init__(self, admin_token: str) -> None:
        """Derive the key."""
        self._key = hmac.digest(admin_token.encode(), _PURPOSE, "sha256")
        self._signed_out: dict[str, int] = {}

    def write(self, session: Session) -> str:
        """Return the cookie of a session."""
        person = session.person
        written = _Written(person.name, person.account, person.token_id, session.nonce, session.expires)
        body = urlsafe_b64encode(msgspec.json.encode(written)).decode()
        return f"{body}.{self._mac('cookie', body)}"

    def read(self, cookie: str, now: float) -> Session | None:
        """Return the session of a cookie; None if it is not of our making, is over, or was signed out of here."""
        body, _, mac = cookie.partition(".")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac("cookie", body).encode()):
            return None
        try:
            written = msgspec.json.decode(urlsafe_b64decode(body), type=_Written)
        except (Error, msgspec.MsgspecError):  # signed by a version of ours that wrote it in another way
            return None
        if written.expires <= now or written.nonce in self._signed_out:
            return None
        return Session(Person(written.name, written.account, written.token_id), written.nonce, written.expires)

    def sign_out(self, session: Session, now: float) -> None:
        """Let a session end before its time; its cookie may have been copied."""
        self._signed_out = {nonce: end for nonce, end in self._signed_out.items() if end > now}
        self._signed_out[session.nonce] = session.expires

    def form_word(self, session: Session) -> str:
        """Return what every form of this session brings along, and nobody else can know."""
        return self._mac("form", session.nonce)

    def is_form_word(self, session: Session, word: str) -> bool:
        """Tell whether a form is one of ours."""
        return hmac.compare_digest(word.encode(errors="replace"), self.form_word(session).encode())

    def _mac(self, use: str, text: str) -> str:
        return hmac.new(self._key, f"{use} {text}".encode(errors="replace"), sha256).hexdigest()
