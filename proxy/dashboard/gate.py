"""Who is at the door: a bearer token of the admin API, or the cookie of somebody who signed in with a browser.

Cookies open no door of the API, so that no page elsewhere can use it; tokens are compared as digests, in a time that
tells nothing, and wrong ones only so often.
"""

import hmac
from dataclasses import dataclass

from aiohttp import web

from proxy.admin.people import OPERATOR, Person, digest_of_token
from proxy.dashboard.attempts import Attempts
from proxy.dashboard.operations import Desk
from proxy.dashboard.sessions import COOKIE, LIFETIME, Session, Sessions

_SCHEME = "bearer "
_NONCE_BYTES = 16


class Denied(Exception):  # noqa: N818 - an answer
    """Nobody is let in; `wait` seconds before the next try, if there were too many."""

    def __init__(self, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Gate:
    """Knows the admin token only as a digest."""

    desk: Desk
    sessions: Sessions
    attempts: Attempts
    admin_digest: str

    async def bearer(self, request: web.Request) -> Person:
        """Return who calls the admin API. Raises `Denied`."""
        given = request.headers.get("Authorization", "")
        if not given.lower().startswith(_SCHEME):
            raise Denied("Send `Authorization: Bearer TOKEN` with the admin token or a dashboard token of an account.")
        return await self.person_of(given[len(_SCHEME) :].strip(), request.remote or "")

    async def person_of(self, token: str, address: str) -> Person:
        """Return who has this token. Raises `Denied`."""
        wait = self.attempts.wait(address)
        if wait:
            raise Denied(f"Too many wrong tokens were tried: try again in {wait} seconds.", wait)
        if hmac.compare_digest(digest_of_token(token), self.admin_digest):
            return OPERATOR
        person = await self.desk.person_of(token)
        if person is None:
            self.attempts.failed(address)
            raise Denied(
                "That token is not good: use the admin token (AION_PROXY_ADMIN_TOKEN, else the file admin-token in "
                "data_dir), or a dashboard token of your account that is neither revoked nor expired."
            )
        return person

    async def session(self, request: web.Request) -> Session | None:
        """Return the session of a browser, if it has one that is still good."""
        session = self.sessions.read(request.cookies.get(COOKIE, ""), self.desk.clock())
        return session if session is not None and await self.desk.still_good(session.person) else None

    def begin(self, person: Person, request: web.Request, response: web.StreamResponse) -> None:
        """Sign somebody in: give their browser a cookie that scripts cannot read and other sites cannot send."""
        session = Session(person, self.desk.random(_NONCE_BYTES).hex(), int(self.desk.clock()) + LIFETIME)
        response.set_cookie(
            COOKIE,
            self.sessions.write(session),
            max_age=LIFETIME,
            httponly=True,
            samesite="Lax",
            secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
        )

    def end(self, session: Session, response: web.StreamResponse) -> None:
        """Sign somebody out."""
        self.sessions.sign_out(session, self.desk.clock())
        response.del_cookie(COOKIE, httponly=True, samesite="Lax")
