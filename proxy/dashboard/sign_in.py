"""Signing in and out. A wrong token costs nothing but patience: see `attempts.py`."""

from aiohttp import web

from proxy.admin.people import Person
from proxy.admin.refused import OperationRefused
from proxy.dashboard.frame import SIGN_IN, Frame, UnreadableForm, Visit, is_same_site, read_form, redirect
from proxy.dashboard.gate import Denied
from proxy.dashboard.operations import Operations


def sign_in_routes(frame: Frame) -> list[web.RouteDef]:
    """Return the routes."""

    async def show(request: web.Request) -> web.Response:
        return frame.render(request, "sign_in.html", {})

    async def enter(request: web.Request) -> web.Response:
        if not is_same_site(request):
            return frame.render(request, "sign_in.html", {"wrong": "Sign in on this page, not from elsewhere."}, 403)
        try:
            token = (await read_form(request)).get("token", [""])[0].strip()
            person = await frame.gate.person_of(token, request.remote or "")
            await _noted(frame, person)
        except UnreadableForm as form_error:
            return frame.render(request, "sign_in.html", {"wrong": form_error.message}, form_error.status)
        except Denied as denied:
            page = frame.render(request, "sign_in.html", {"wrong": denied.message}, 429 if denied.wait else 401)
            if denied.wait:
                page.headers["Retry-After"] = str(denied.wait)
            return page
        except OperationRefused as refused:
            return frame.render(request, "sign_in.html", {"wrong": refused.message}, 503)
        response = redirect("/")
        frame.gate.begin(person, request, response)
        return response

    return [web.get(SIGN_IN, show), web.post(SIGN_IN, enter), web.post("/sign-out", frame.page(_leave))]


async def _noted(frame: Frame, person: Person) -> None:
    """Write down who signed in; an operator may come in to see why the ledger is away."""
    try:
        await Operations(frame.gate.desk, person).signed_in()
    except OperationRefused:
        if not person.is_operator:
            raise


async def _leave(visit: Visit) -> web.Response:
    response = redirect(SIGN_IN)
    visit.frame.gate.end(visit.session, response)
    return response
