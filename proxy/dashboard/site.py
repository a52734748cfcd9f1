"""Puts the dashboard and the admin API together, on routes that the admin port adds to its own."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from proxy.admin.people import digest_of_token
from proxy.dashboard.api import Surroundings
from proxy.dashboard.api_server import api_routes
from proxy.dashboard.attempts import Attempts
from proxy.dashboard.gate import Gate
from proxy.dashboard.operations import Desk
from proxy.dashboard.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Site:
    """What the dashboard is made of."""

    gate: Gate
    surroundings: Surroundings

    def add_to(self, application: web.Application) -> None:
        """Add every route."""
        application.add_routes(api_routes(self.gate, self.surroundings))


def make_site(desk: Desk, admin_token: str, monotonic: Callable[[], float], surroundings: Surroundings) -> Site:
    """Build the dashboard; `monotonic` gives seconds that never go back."""
    gate = Gate(desk, Sessions(admin_token), Attempts(monotonic), digest_of_token(admin_token))
    return Site(gate, surroundings)
