"""What all pages have in common: who visits, the words of forms, the headers, and the pages that say no.

A page is a function from a `Visit` to a response. It raises `OperationRefused` or `StoreUnavailable` where it cannot
be shown; a form that was not asked for by this session never reaches it.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp_jinja2
import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler
from markupsafe import Markup

from proxy.admin.documents import rfc3339
from proxy.admin.people import Person
from proxy.admin.refused import OperationRefused
from proxy.admin.wording import date, good_until, key_state
from proxy.catalog import Catalog
from proxy.dashboard.api import Surroundings
from proxy.dashboard.api_server import STATUS
from proxy.dashboard.assets import Assets
from proxy.dashboard.gate import Gate
from proxy.dashboard.looking import Looking
from proxy.dashboard.operations import Operations
from proxy.dashboard.sessions import Session
from proxy.dashboard.watching import Watching
from proxy.errors import StoreUnavailable
from proxy.pricing import format_usd
from proxy.settings import Settings

FORM_WORD: Final = "form_word"
SIGN_IN: Final = "/sign-in"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
_TEMPLATES: Final = Path(__file__).parent / "templates"
_FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "number": lambda number: f"{number:,}",
    "usd": format_usd,
    "date": date,
    "moment": lambda ms: date(ms, seconds=True).removesuffix(" UTC"),
    "moment_ms": lambda ms: str(rfc3339(ms)).replace("T", " ").removesuffix("Z"),
    "key_state": key_state,
    "token_state": lambda token, now_ms: good_until(token.revoked_at, token.expires_at, now_ms),
}
_PAGES: Final = (
    ("Overview", "/"),
    ("Accounts", "/accounts"),
    ("Keys", "/keys"),
    ("Usage", "/usage"),
    ("Models", "/models"),
    ("Limits", "/limits"),
    ("Playground", "/playground"),
    ("Audit log", "/audit"),
)
_FOR_OPERATORS: Final = (("System", "/system"),)
_DONE: Final = {
    "disabled": "The account is disabled.",
    "enabled": "The account is enabled.",
    "changed": "Changed; it holds from the next request on.",
    "revoked": "Revoked.",
    "made": "Made.",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in."""

    frame: "Frame"
    request: web.Request
    session: Session
    form: Mapping[str, str]
    """What a form said, without spaces around it; empty for whatever it did not say."""
    chosen: Mapping[str, list[str]]
    """Every value of a form by its name, for those that may have several."""

    @property
    def me(self) -> Person:
        """Who it is."""
        return self.session.person

    @property
    def operations(self) -> Operations:
        """What they may do."""
        return Operations(self.frame.gate.desk, self.me)

    @property
    def looking(self) -> Looking:
        """What they may see of the ledger."""
        return Looking(self.operations)

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self.frame.gate.desk.configuration().settings

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self.frame.gate.desk.configuration().catalog

    @property
    def query(self) -> Mapping[str, str]:
        """What the URL asks for; empty for whatever it does not."""
        return defaultdict(str, {name: value.strip() for name, value in self.request.query.items()})

    @staticmethod
    def hour(at: int) -> str:
        """Name a moment in Unix seconds to the minute."""
        return date(at * 1_000).removesuffix(" UTC")

    def show(
        self, template: str, here: str, *, refused: OperationRefused | None = None, **context: object
    ) -> web.Response:
        """Return a page; one that says why something was refused, if it was."""
        word = Markup('<input type="hidden" name="{}" value="{}">').format(
            FORM_WORD, self.frame.gate.sessions.form_word(self.session)
        )
        common = {
            "me": self.me,
            "pages": _PAGES + (_FOR_OPERATORS if self.me.is_operator else ()),
            "here": here,
            "form_word": lambda: word,
            "now_ms": self.frame.gate.desk.now_ms,
            "typed": self.form,
            "done": _DONE.get(self.query["done"], ""),
            "wrong": "" if refused is None else refused.message,
        }
        status = 200 if refused is None else STATUS[refused.reason]
        return self.frame.render(self.request, template, {**common, **context}, status)


Page = Callable[[Visit], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Frame:
    """Makes handlers of pages."""

    gate: Gate
    surroundings: Surroundings
    assets: Assets
    watching: Watching

    def set_up(self, application: web.Application) -> None:
        """Let the application find the templates."""
        aiohttp_jinja2.setup(
            application,
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            filters=_FILTERS,
        )
        aiohttp_jinja2.get_env(application).globals["asset"] = self.assets.url

    def render(
        self, request: web.Request, template: str, context: Mapping[str, object], status: int = 200
    ) -> web.Response:
        """Return a page for anybody."""
        whole = {"me": None, "wrong": "", "done": "", **context}
        response = aiohttp_jinja2.render_template(template, request, whole, status=status)
        response.headers.update(HEADERS)
        return response

    def page(self, page: Page) -> Handler:
        """Let those who are signed in see a page; others sign in first."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                session = await self.gate.session(request)
                if session is None:
                    return to_sign_in(request)
                form = await read_form(request)
                word = form.get(FORM_WORD, [""])[0]
                if request.method == "POST" and not (
                    is_same_site(request) and self.gate.sessions.is_form_word(session, word)
                ):
                    return self._trouble(request, 403, "This form is not of this session: open its page again.")
                words = defaultdict(str, {name: values[0].strip() for name, values in form.items()})
                return await page(Visit(self, request, session, words, form))
            except UnreadableForm as form_error:
                return self._trouble(request, form_error.status, form_error.message)
            except OperationRefused as refused:
                return self._trouble(request, STATUS[refused.reason], refused.message)
            except StoreUnavailable as away:
                return self._trouble(request, 503, f"The store cannot be asked: {away.detail}")

        return handle

    def _trouble(self, request: web.Request, status: int, why: str) -> web.Response:
        what = {403: "Not allowed", 404: "Not found", 503: "Not available now"}.get(status, "That did not work")
        return self.render(request, "trouble.html", {"what": what, "wrong": why}, status)


class UnreadableForm(Exception):  # noqa: N818 - the state of a form
    """It is none, or too much; `status` is the answer's, `message` says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_form(request: web.Request) -> dict[str, list[str]]:
    """Return every value of a form by its name; empty if nothing was sent. Raises `UnreadableForm`."""
    if request.method != "POST":
        return {}
    try:
        form = await request.post()
    except (ValueError, LookupError):  # what aiohttp raises, for a form in parts or in letters that do not exist
        raise UnreadableForm(400, "This form cannot be read: open its page again.") from None
    except web.HTTPRequestEntityTooLarge:
        raise UnreadableForm(413, "This form is too large: say what you mean in less.") from None
    values: dict[str, list[str]] = {}
    for name, value in form.items():
        if isinstance(value, str):
            values.setdefault(name, []).append(value)
    return values


def to_sign_in(request: web.Request) -> web.Response:
    """Send somebody to the page where one signs in, also from inside of a page."""
    if "HX-Request" in request.headers:
        return web.Response(headers={**HEADERS, "HX-Redirect": SIGN_IN})
    return redirect(SIGN_IN)


def redirect(path: str) -> web.Response:
    """Send a browser elsewhere with GET."""
    return web.Response(status=303, headers={**HEADERS, "Location": path})


def is_same_site(request: web.Request) -> bool:
    """Tell whether a form was sent from a page of ours, as far as the browser says.

    `Origin` is compared only where a browser does not say it itself: a server in front may have changed the host.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("X-Forwarded-Host", request.host)
