"""A whole chat completion, written as a response.

What an item is and when one ends is decided where streams are made; only a stream that came in one piece is made here.
Pure.
"""

from collections.abc import Callable

from proxy.usage import Usage
from proxy.wire.chat_answer import ChatAnswer
from proxy.wire.json import Malformed
from proxy.wire.response_events import ResponseEvents
from proxy.wire.response_object import ResponseShape
from proxy.wire.response_source import said_in_answer
from proxy.wire.upstream_error import bad_answer


class _Unheard(ResponseEvents):
    """Writes no events: only what the response holds in the end is wanted."""

    def _event(self, kind: str, **fields: object) -> bytes:  # noqa: ARG002 - as the one that writes
        return b""


def write_response(answer: ChatAnswer, shape: ResponseShape, usage: Usage, new_id: Callable[[], str]) -> bytes:
    """Write the client's body; raises `UpstreamError` if the answer's choice cannot be read as one."""
    try:
        said = said_in_answer(answer.choices, answer.disguise)
    except Malformed:
        raise bad_answer("its choices are not those of a chat completion") from None
    events = _Unheard(shape, new_id)
    events.say(said)
    return bytes(events.response(usage))
