"""What operators learn of requests and of calls to providers: counted in the metrics, told in the log, in one place."""

import traceback
from typing import Final

from structlog.typing import FilteringBoundLogger

from proxy.call import Call, Ending, Metered, RequestEnd, Target
from proxy.logs import RequestLog
from proxy.metrics import Metrics
from proxy.provider_health import Place
from proxy.wire.upstream_error import UpstreamError, apart_from, client_fault, scrub

_SERVER_ERROR: Final = 500
_UNREACHABLE: Final = frozenset({"upstream_unavailable", "upstream_timeout"})


class Report:
    """Counts and logs for one worker."""

    def __init__(self, metrics: Metrics, requests: RequestLog, logger: FilteringBoundLogger) -> None:
        """Write to these."""
        self._metrics = metrics
        self._requests = requests
        self._logger = logger

    def request_ended(self, end: RequestEnd, metered: Metered | None = None) -> None:
        """Count a request that is over, and leave its line; `metered` if it was admitted."""
        self._metrics.request_ended(end, metered)
        self._requests.request(end)

    def attempt(self, call: Call, target: Target, error: UpstreamError | None) -> None:
        """Count one call to a provider; a failed one is logged with what the provider said of itself."""
        provider = target.route.provider
        if error is None:
            self._metrics.attempt(provider, "ok", reachable=True)
            if call.trace is not None:
                call.trace.answered()
            return
        reachable = error.status is not None or error.kind not in _UNREACHABLE
        failure = client_fault(error).code or error.kind
        self._metrics.attempt(provider, failure, reachable=reachable)
        if call.trace is not None:
            call.trace.answered(failure, error.status)
        # What a provider says about a request that it found wrong may quote the request: that is for its client alone.
        # So may what it says of itself, and quote the answer besides.
        own_words = not error.begun and (error.status is None or error.status >= _SERVER_ERROR)
        hidden = (*target.provider.secrets(), *target.provider.whereabouts())
        asked = call.request.fields if call.response is None else call.response.fields
        said = apart_from(scrub(error.body.message, hidden), asked) if own_words else ""
        self._logger.warning(
            "upstream attempt failed",
            request_id=call.request_id,
            provider=provider,
            kind=failure,
            upstream_status=error.status,
            detail=error.detail,
            said=said,
        )

    def interrupted(self, call: Call, target: Target, ending: Ending) -> None:
        """Count a call to a provider that this side ended; the request's own line says the rest."""
        self._metrics.attempt(target.route.provider, ending.value, reachable=None)
        if call.trace is not None:
            call.trace.answered(ending.value)

    def passed_over(self, place: Place, out: bool) -> None:  # noqa: FBT001 - called back with one word
        """Log that requests pass a provider, or one model there, over; or do so no more."""
        provider, model = place
        where = {"provider": provider} if model is None else {"provider": provider, "upstream_model": model}
        if out:
            self._logger.warning("passed over, because it failed too often", **where)
        else:
            self._logger.info("asked again, because it answers", **where)

    def bug(self, request_id: str, error: BaseException) -> None:
        """Log a bug by its name and the places it passed; values could hold what a client sent."""
        self._logger.error("bug", request_id=request_id, error=type(error).__name__, where=where_of(error))


def where_of(error: BaseException) -> list[str]:
    """Name the places that a bug passed, without any value: a line of source never holds a secret, a local variable
    may.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames][-12:]
