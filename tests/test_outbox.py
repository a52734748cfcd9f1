"""What a turn of the loop sends goes out at its end: all, in order, and nothing is lost when a connection ends."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.client_request import ClientRequest
from proxy.http_server import Connection, GatewayServer
from proxy.outbox import AT_ONCE, Outbox
from proxy.settings import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written, as the very objects."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = self.closing = False

    def write(self, data: bytes) -> None:
        if self.ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        self.written.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            self.write(piece)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def turn() -> None:
    """Go on when the turn's end is over that was asked for before."""
    await asyncio.sleep(0)


async def test_nothing_goes_out_before_the_end_of_the_turn():
    outbox, transport = Outbox(asyncio.get_running_loop()), Transport()
    outbox.send(transport, b"one")
    assert transport.written == []
    await turn()
    assert transport.written == [b"one"]


async def test_what_goes_out_is_in_order_and_the_very_objects():
    outbox, first, second = Outbox(asyncio.get_running_loop()), Transport(), Transport()
    head, body = bytes(bytearray(b"head")), bytes(bytearray(b"body"))
    outbox.send(first, head, body)
    outbox.send(second, b"other")
    outbox.send(first, b"next")
    await turn()
    assert first.written == [head, body, b"next"]
    assert first.written[0] is head
    assert first.written[1] is body
    assert second.written == [b"other"]


async def test_so_much_as_may_wait_goes_out_at_once():
    outbox, transport = Outbox(asyncio.get_running_loop()), Transport()
    for _ in range(2):
        first, second, last = bytes(AT_ONCE // 2), bytes(AT_ONCE // 2 - 1), b"1"
        outbox.send(transport, first, second)
        assert transport.written == []
        outbox.send(transport, last)
        assert transport.written == [first, second, last]
        transport.written.clear()
    outbox.send(transport, b"next")
    await turn()
    assert transport.written == [b"next"]


async def test_every_turn_has_an_end():
    outbox, transport = Outbox(asyncio.get_running_loop()), Transport()
    for number in range(3):
        outbox.send(transport, b"%d" % number)
        await turn()
        assert len(transport.written) == number + 1


async def test_what_was_flushed_goes_out_once():
    outbox, transport = Outbox(asyncio.get_running_loop()), Transport()
    outbox.send(transport, b"one")
    outbox.flush()
    assert transport.written == [b"one"]
    await turn()
    assert transport.written == [b"one"]


async def test_a_connection_that_was_closed_meanwhile_keeps_nothing_from_the_others():
    outbox, gone, there = Outbox(asyncio.get_running_loop()), Transport(), Transport()
    outbox.send(gone, b"in vain")
    outbox.send(there, b"one")
    gone.close()
    await turn()
    assert gone.written == []
    assert there.written == [b"one"]


async def test_a_connection_whose_sending_side_is_over_is_cut_off_and_the_others_get_theirs():
    outbox, half, there = Outbox(asyncio.get_running_loop()), Transport(), Transport()
    half.write_eof()
    outbox.send(half, b"one too many")
    outbox.send(there, b"one")
    await turn()
    assert half.closing
    assert there.written == [b"one"]


async def test_a_request_behind_the_last_that_is_answered_is_never_served():
    served: list[bytes] = []

    async def answering(client: ClientRequest) -> None:
        served.append(client.path.encode())
        client.keep_alive = False
        client.answer(200, b"the last")

    server = GatewayServer(answering, lambda _error: b"malformed", Server())
    connection, transport = server(), Transport()
    connection.connection_made(transport)
    connection.data_received(2 * REQUEST)
    connection.pause_writing()  # the client is slow to read, so that the connection is still there when it goes on
    while not transport.closing:
        await turn()
    connection.resume_writing()
    await turn()
    assert served == [b"/"]
    connection.connection_lost(None)
    await server.close_connections()


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: connection.close(),
        lambda connection: connection.transport.close() if not connection.eof_received() else None,
        lambda connection: connection.data_received(b"no request at all\r\n\r\n"),
    ],
    ids=["closed", "the-client-sends-no-more", "the-client-breaks-the-rules"],
)
async def test_an_answer_that_waits_for_the_end_of_the_turn_goes_out_before_its_connection_ends(
    end: Callable[[Connection], None],
):
    async def answering(client: ClientRequest) -> None:
        client.answer(200, b"whole")

    server = GatewayServer(answering, lambda _error: b"malformed", Server())
    connection, transport = server(), Transport()
    connection.connection_made(transport)
    connection.data_received(REQUEST)
    await turn()  # behind the answer, and before the end of the turn in which it was made
    assert transport.written == []
    end(connection)
    assert transport.ended
    assert b"".join(transport.written).startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"whole" in b"".join(transport.written)
    connection.connection_lost(None)
    await server.close_connections()
