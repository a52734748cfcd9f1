"""A stream that stands still in its middle until the test lets it go on."""

import threading

from gateway_process import Key
from provider_scripts import finish, role, usage, usage_chunk, word
from raw_client import RawClient, chat
from scripted_provider import DONE, Exchange


class Held:
    """A script that streams a word, waits until it may go on, and ends in order."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.chunk(role() + word("Once"))
        exchange.wait(self.go)
        exchange.chunk(word(" more.") + finish() + usage_chunk(usage(7, 3)) + DONE)
        exchange.end_stream()


def begin(client: RawClient, key: Key) -> None:
    """Ask for a stream and read its first word."""
    client.send(chat(key.secret, stream=True))
    client.head()
    client.body_until(b"Once")
