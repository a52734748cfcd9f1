"""The reasoning of earlier answers that a client sends back, put where its provider looks for it, or left out.

Some providers refuse a conversation without it, others refuse the field. All that has nothing to do with it leaves as
the bytes that came. Pure.
"""

from typing import Final

import msgspec
from msgspec import Raw

from proxy.providers import ReasoningHistory
from proxy.wire import json
from proxy.wire.chat_text import is_text, says
from proxy.wire.json import RawObject
from proxy.wire.reasoning import DETAILS, FIELDS

_PASS: Final = ReasoningHistory.PASS
_PLACEHOLDER: Final = ReasoningHistory.PLACEHOLDER
_NEEDLE: Final = b'"reasoning'
_CALLS: Final = b'"tool_calls"'
_EMPTY: Final = Raw(b'""')
_ALL: Final = frozenset({*FIELDS, DETAILS})
_lists: Final = msgspec.json.Decoder(list[Raw])


def send_back(messages: bytes, history: ReasoningHistory, field: str) -> bytes:
    """Return a request's messages, which the decoder takes, with the assistant's reasoning under `field` alone or
    without it; the same object where nothing has to change.
    """
    waits = history is _PLACEHOLDER
    if history is _PASS or (messages.find(_NEEDLE) < 0 and not (waits and _CALLS in messages)):
        return messages
    came = [bytes(message) for message in _lists.decode(messages)]
    sent = [_message(message, history, field) for message in came]
    return messages if sent == came else b"[%b]" % b",".join(sent)


def _message(message: bytes, history: ReasoningHistory, field: str) -> bytes:
    fields = json.split_object(message)
    if json.text_of(fields.get("role")) != "assistant":
        return message
    if history is ReasoningHistory.DROP:
        sent = {name: value for name, value in fields.items() if name not in _ALL}
    else:
        sent = _renamed(fields, field, placeholder=history is ReasoningHistory.PLACEHOLDER)
    return message if list(sent.items()) == list(fields.items()) else json.encode(sent)


def _renamed(fields: RawObject, field: str, *, placeholder: bool) -> RawObject:
    """Put the first text that says something under `field`, where the first of the fields stood, and drop the others.

    An empty text is a text: providers that insist on the field take it.
    """
    texts = [fields[name] for name in FIELDS if name in fields and is_text(fields[name])]
    text = next((text for text in texts if says(text)), texts[0] if texts else None)
    sent: RawObject = {}
    for name, value in fields.items():
        if name not in FIELDS or not (is_text(value) or json.is_null(value)):
            sent[name] = value
        elif text is not None and field not in sent:
            sent[field] = text
    if text is None and placeholder and says(fields.get("tool_calls")):
        sent.setdefault(field, _EMPTY)
    return sent
