"""Puts the dashboard and the admin API together, on routes that the admin port adds to its own."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from aiohttp import web

from proxy.admin.people import digest_of_token
from proxy.dashboard.api import Surroundings
from proxy.dashboard.api_server import api_routes
from proxy.dashboard.assets import read_assets
from proxy.dashboard.attempts import Attempts
from proxy.dashboard.frame import Frame
from proxy.dashboard.gate import Gate
from proxy.dashboard.live import Live, live_routes
from proxy.dashboard.marks import Marks
from proxy.dashboard.operations import Desk
from proxy.dashboard.pages_accounts import account_routes
from proxy.dashboard.pages_gateway import gateway_routes
from proxy.dashboard.pages_keys import key_routes
from proxy.dashboard.pages_usage import usage_routes
from proxy.dashboard.playground import playground_routes
from proxy.dashboard.sessions import Sessions
from proxy.dashboard.sign_in import sign_in_routes
from proxy.dashboard.watching import ReadSamples, Watching


@dataclass(frozen=True, slots=True)
class Site:
    """What the dashboard is made of."""

    frame: Frame
    live: Live

    def add_to(self, application: web.Application) -> None:
        """Add every route, and what runs beside them."""
        frame = self.frame
        frame.set_up(application)
        application.add_routes(api_routes(frame.gate, frame.surroundings, frame.watching))
        for routes in (sign_in_routes, account_routes, key_routes, usage_routes, gateway_routes, playground_routes):
            application.add_routes(routes(frame))
        application.add_routes(live_routes(frame, self.live))
        application.add_routes([web.get("/static/{version}/{name}", frame.assets.serve)])
        application.cleanup_ctx.append(self.live.run)
        application.cleanup_ctx.append(frame.watching.run)
        application.on_shutdown.append(self.live.hang_up)


def make_site(
    desk: Desk, admin_token: str, monotonic: Callable[[], float], surroundings: Surroundings, samples: ReadSamples
) -> Site:
    """Build the dashboard; `monotonic` gives seconds that never go back, `samples` the metrics."""
    gate = Gate(desk, Sessions(admin_token), Attempts(monotonic), digest_of_token(admin_token))
    watching = Watching(samples, desk.clock)

    def gateway() -> Hashable:
        ready, reasons = surroundings.readiness()
        return ready, tuple(reasons), surroundings.last_reload()

    return Site(Frame(gate, surroundings, read_assets(), watching), Live(Marks(desk, watching, gateway)))
