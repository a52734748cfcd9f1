"""What one client's connection is promised: framing, limits on what it sends, back-pressure, an answer to everything.

Every test speaks to a real server over a real socket, in bytes.
"""

import asyncio
import contextlib
import gzip
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from leftovers import nothing_to_collect
from proxy import client_request, http_server
from proxy.client_request import ClientRequest
from proxy.errors import Refusal
from proxy.http_server import GatewayServer
from proxy.refuse import malformed
from proxy.settings import Server
from waiting import WAIT, until

LIMIT = 1000
Story = Callable[[ClientRequest], Awaitable[None]]


class Served:
    """A gateway server with one handler, and what it was told."""

    def __init__(self, story: Story, *, closing: bool = False, **settings: object) -> None:
        self.story = story
        self.closing = closing
        self.port = 0
        self.malformed: list[BaseException | None] = []
        self.cancelled = 0
        self.ended = asyncio.Event()
        self.server = GatewayServer(self._handle, self._on_malformed, Server(**settings))

    async def _handle(self, client: ClientRequest) -> None:
        client.add_line(b"x-request-id: req_1\r\n")
        if self.closing:
            client.keep_alive = False
        try:
            await self.story(client)
        except Refusal as refusal:
            client.answer(refusal.fault.status, str(refusal.fault.code).encode())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.ended.set()

    def _on_malformed(self, error: BaseException | None) -> bytes:
        self.malformed.append(error)
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"


class Line:
    """A client's end of a connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT)

    async def answer(self) -> tuple[bytes, bytes]:
        """Read one answer that has a length."""
        head = await self.head()
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        return head, await asyncio.wait_for(self.reader.readexactly(length), WAIT)

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        return await asyncio.wait_for(self.reader.read(-1), WAIT)


@contextlib.asynccontextmanager
async def serving(story: Story, *, closing: bool = False, **settings: object) -> AsyncIterator[Served]:
    served = Served(story, closing=closing, **settings)
    listener = await asyncio.get_running_loop().create_server(served.server, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listener.close()
        await served.server.close_connections()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def client_of(served: Served, *, buffer: int | None = None) -> AsyncIterator[Line]:
    options = {} if buffer is None else {"limit": buffer}
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, **options)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(story: Story, request: bytes, *, closing: bool = False) -> tuple[bytes, bytes]:
    """Send a request and return head and body of its answer."""
    async with serving(story, closing=closing) as served, client_of(served) as line:
        line.send(request)
        return await line.answer()


def post(body: bytes, *lines: str) -> bytes:
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: h", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", lines: str = "") -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{lines}Transfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


GET = b"GET /v1/models?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"


async def hello(client: ClientRequest) -> None:
    client.answer(200, b"hello", b"X-More: 1\r\n")


async def echo(client: ClientRequest) -> None:
    client.answer(200, await client.body(LIMIT))


class TestAnswers:
    async def test_an_answer_has_its_lines_its_length_and_its_body(self):
        head, body = await ask(hello, GET)
        assert head == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            b"x-request-id: req_1\r\nX-More: 1\r\n\r\n"
        )
        assert body == b"hello"

    async def test_a_connection_serves_one_request_after_another(self):
        async with serving(hello) as served, client_of(served) as line:
            for _ in range(3):
                line.send(GET)
                assert (await line.answer())[1] == b"hello"

    async def test_pipelined_requests_are_answered_in_their_order(self):
        async def story(client):
            await asyncio.sleep(0 if client.path == "/b" else 0.01)
            client.answer(200, client.path.encode())

        async with serving(story) as served, client_of(served) as line:
            line.send(b"".join(b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % name for name in (b"a", b"b", b"c")))
            assert [(await line.answer())[1] for _ in range(3)] == [b"/a", b"/b", b"/c"]

    async def test_head_gets_the_head_alone_and_the_connection_stays_in_step(self):
        async with serving(hello) as served, client_of(served) as line:
            line.send(b"HEAD /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"Content-Length: 5\r\n" in await line.head()
            line.send(GET)
            assert (await line.answer())[1] == b"hello"

    @pytest.mark.parametrize(
        ("request_bytes", "closing"),
        [
            (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\n\r\n", False),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
            (GET, True),
        ],
        ids=["the client says so", "1.0", "1.0 that asks for more", "the worker stops"],
    )
    async def test_a_connection_that_ends_says_so_and_ends(self, request_bytes, closing):
        async with serving(hello, closing=closing) as served, client_of(served) as line:
            line.send(request_bytes)
            head, body = await line.answer()
            assert b"Connection: close\r\n" in head
            assert (body, await line.rest()) == (b"hello", b"")

    async def test_the_status_that_was_sent_is_kept(self):
        seen = []

        async def story(client):
            seen.append(client.answered)
            client.answer(418, b"")
            seen.append(client.answered)

        await ask(story, GET)
        assert seen == [None, 418]

    async def test_a_line_that_was_added_is_in_the_answer(self):
        async def story(client):
            client.add_line(b"Allow: POST\r\n")
            client.answer(405, b"")

        head, _ = await ask(story, GET)
        assert b"\r\nAllow: POST\r\n" in head


class TestRequests:
    async def test_method_path_and_headers_are_the_clients(self):
        async def story(client):
            facts = (client.method, client.path, client.header("x-one"), client.header("x-none"))
            client.answer(200, repr(facts).encode())

        _, body = await ask(story, b"PATCH /v1/models/a%2Fb?q=/x HTTP/1.1\r\nHost: h\r\nx-One: 1\r\n\r\n")
        assert body.decode() == repr(("PATCH", "/v1/models/a%2Fb", "1", None))

    async def test_every_authorization_header_is_seen(self):
        async def story(client):
            client.answer(200, repr(list(client.head.authorizations)).encode())

        _, body = await ask(story, b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nauthorization: b\r\n\r\n")
        assert body.decode() == "['a', 'b']"
        _, body = await ask(story, GET)
        assert body == b"[]"

    @pytest.mark.parametrize(
        ("target", "path"),
        [
            ("/a/b?c=d", "/a/b"),
            ("/", "/"),
            ("/a?x=http://h/b", "/a"),
        ],
    )
    async def test_the_path_is_that_of_the_target(self, target, path):
        async def story(client):
            client.answer(200, client.path.encode())

        _, body = await ask(story, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert body.decode() == path


class TestBodies:
    @pytest.mark.parametrize(
        "request_bytes",
        [
            post(b"x" * LIMIT),
            chunked(b"x" * (LIMIT - 1), b"x"),
            post(gzip.compress(b"x" * LIMIT), "Content-Encoding: gzip"),
            post(gzip.compress(b"x" * LIMIT), "Content-Encoding: GZIP"),
            post(zlib.compress(b"x" * LIMIT), "Content-Encoding: deflate"),
            post(b"x" * LIMIT, "Content-Encoding: identity"),
        ],
        ids=["length", "chunks", "gzip", "GZIP", "deflate", "identity"],
    )
    async def test_a_body_of_just_the_limit_is_read_decoded(self, request_bytes):
        assert (await ask(echo, request_bytes))[1] == b"x" * LIMIT

    async def test_a_request_without_a_body_has_an_empty_one(self):
        assert (await ask(echo, GET))[1] == b""

    async def test_a_body_that_comes_byte_by_byte_is_put_together(self):
        async with serving(echo) as served, client_of(served) as line:
            for byte in post(b"0123456789"):
                line.send(bytes([byte]))
                await line.writer.drain()
                await asyncio.sleep(0)
            assert (await line.answer())[1] == b"0123456789"

    async def test_a_body_that_says_it_is_too_large_is_refused_unread(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(b"")[:-5] + b"%d\r\n\r\n" % (LIMIT + 1))
            head, body = await line.answer()
            assert (head[9:12], body) == (b"413", b"request_too_large")
            assert b"Connection: close\r\n" in head
            assert await line.rest() == b""

    async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(chunked(b"x" * LIMIT, b"x", end=b""))
            head, body = await line.answer()
            assert (head[9:12], body) == (b"413", b"request_too_large")
            assert await line.rest() == b""

    async def test_what_counts_is_the_decoded_size(self):
        bomb = gzip.compress(b"\0" * 50_000_000)
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(bomb, "Content-Encoding: gzip"))
            head, body = await line.answer()
            assert (head[9:12], body) == (b"413", b"request_too_large")

    async def test_a_small_bomb_that_came_whole_is_refused_too(self):
        small = gzip.compress(b"\0" * (LIMIT + 1))
        head, _ = await ask(echo, post(small, "Content-Encoding: gzip"))
        assert head[9:12] == b"413"

    @pytest.mark.parametrize("coding", ["compress", "x-unknown", "gzip, gzip", "sdch"])
    async def test_an_unknown_coding_is_refused(self, coding):
        head, body = await ask(echo, post(b"x", f"Content-Encoding: {coding}"))
        assert (head[9:12], body) == (b"415", b"unsupported_media_type")

    @pytest.mark.parametrize(
        "request_bytes",
        [
            post(b"not gzip at all", "Content-Encoding: gzip"),
            post(b"\xff\xff\xff\xff", "Content-Encoding: deflate"),
            chunked(b"not gzip at all", lines="Content-Encoding: gzip\r\n"),
        ],
        ids=["no gzip", "no deflate", "no gzip in chunks"],
    )
    async def test_a_body_that_cannot_be_decoded_is_a_bad_request(self, request_bytes, caplog):
        async with serving(echo) as served, client_of(served) as line:
            line.send(request_bytes)
            head, body = await line.answer()
            assert (head[9:12], body) == (b"400", b"invalid_body")
            assert await line.rest() == b""
            assert served.malformed == []
        assert caplog.records == []

    async def test_framing_that_breaks_behind_the_head_is_a_bad_request_at_once(self, caplog):
        async with serving(echo) as served, client_of(served) as line:
            line.send(chunked(b"abc", end=b""))
            await until(lambda: served.server.requests_count == 1)
            line.send(b"zz\r\nabc\r\n")
            head, body = await line.answer()
            assert (head[9:12], body) == (b"400", b"invalid_body")
            assert await line.rest() == b""
        assert caplog.records == []

    async def test_a_client_that_expects_to_be_told_is_told_to_go_on(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(b"", "Expect: 100-continue")[:-5] + b"2\r\n\r\n")
            assert await line.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            line.send(b"{}")
            assert (await line.answer())[1] == b"{}"

    async def test_a_client_that_expects_to_be_told_is_refused_without_its_body(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(b"", "Expect: 100-continue")[:-5] + b"%d\r\n\r\n" % (LIMIT + 1))
            head, _ = await line.answer()
            assert head[9:12] == b"413"

    async def test_a_body_that_came_and_nobody_read_does_not_disturb_the_next_request(self):
        async with serving(hello) as served, client_of(served) as line:
            line.send(post(b"x" * 500) + GET)
            assert [(await line.answer())[1] for _ in range(2)] == [b"hello", b"hello"]

    async def test_an_answer_before_the_body_has_come_ends_the_connection(self):
        """The client may send the body or not: where its next request would begin cannot be told."""
        async with serving(hello) as served, client_of(served) as line:
            line.send(post(b"x" * 500)[:-1])
            head, body = await line.answer()
            assert b"Connection: close\r\n" in head
            assert (body, await line.rest()) == (b"hello", b"")

    @pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
    async def test_a_body_that_does_not_come_in_time_is_given_up(self, drips, monkeypatch):
        monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.1)
        async with serving(echo, body_timeout="100ms") as served, client_of(served) as line:
            line.send(post(b"")[:-5] + b"900\r\n\r\n")
            answer = asyncio.get_running_loop().create_task(line.answer())
            while not answer.done():
                if drips:
                    line.send(b"x")
                await asyncio.sleep(0.01)
            head, body = await answer
            assert (head[9:12], body) == (b"408", b"request_timeout")
            assert b"Connection: close\r\n" in head

    async def test_the_more_has_come_the_more_time_there_is(self, monkeypatch):
        monkeypatch.setattr(client_request, "BODY_RATE", 1)
        async with serving(echo, body_timeout="50ms") as served, client_of(served) as line:
            line.send(post(b"x" * 100)[:-1])
            await until(lambda: served.server.requests_count == 1)
            await asyncio.sleep(0.1)
            line.send(b"x")
            assert (await line.answer())[1] == b"x" * 100

    async def test_a_client_that_leaves_in_its_body_ends_its_handler_and_is_no_bug(self, caplog):
        async with serving(echo) as served:
            async with client_of(served) as line:
                line.send(post(b"")[:-5] + b"900\r\n\r\nhalf")
                await until(lambda: served.server.requests_count == 1)
            await asyncio.wait_for(served.ended.wait(), WAIT)
            assert (served.cancelled, served.malformed) == (1, [])
        assert caplog.records == []


MALFORMED = {
    "no method": b"\r\n\r\n /v1/models HTTP/1.1\r\n\r\n",
    "no version": b"GET /secret-bytes\r\n\r\n",
    "a version of its own": b"GET /secret-bytes HTTP/1.7\r\nHost: h\r\n\r\n",
    "the next version": b"GET /secret-bytes HTTP/2.0\r\nHost: h\r\n\r\n",
    "broken chunks": chunked(b"secret-bytes", end=b"zz\r\n\r\n"),
    "no host": b"GET /secret-bytes HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /secret-bytes HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01secret-bytes\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: h\r\n: secret-bytes\r\n\r\n",
    "a header with a space in its name": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization : Bearer secret-bytes\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret-bytes\0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: secret-bytes\r\n\r\n",
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a line too long": b"GET /" + b"secret-bytes" * 2000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a header too long": b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"secret-bytes" * 2000 + b"\r\n\r\n",
}


class TestMalformed:
    @pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
    async def test_what_is_no_request_is_answered_by_us_and_ends_the_connection(self, request_bytes, caplog):
        caplog.set_level(logging.DEBUG)
        async with serving(hello) as served, client_of(served) as line:
            line.send(request_bytes)
            assert (await line.rest()).endswith(b"oops")
            assert len(served.malformed) == 1
            assert isinstance(served.malformed[0], Refusal)
        assert "secret" not in caplog.text
        assert "secret" not in malformed(served.malformed[0]).message

    async def test_the_answer_is_ours_and_the_last(self):
        async with serving(hello) as served, client_of(served) as line:
            line.send(MALFORMED["no version"] + GET)
            assert await line.rest() == (
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"
            )

    @pytest.mark.parametrize("what", ["a line too long", "a header too long"])
    async def test_a_line_that_is_too_long_is_told_apart(self, what):
        async with serving(hello) as served, client_of(served) as line:
            line.send(MALFORMED[what])
            await line.rest()
            assert malformed(served.malformed[0]).status in (414, 431)

    async def test_a_bug_is_answered_by_us_and_not_logged_with_what_it_holds(self, caplog):
        caplog.set_level(logging.DEBUG)

        async def story(_client):
            raise RuntimeError("secret")

        async with serving(story) as served, client_of(served) as line:
            line.send(GET)
            assert (await line.rest()).endswith(b"oops")
            assert served.malformed == [None]
        assert "secret" not in caplog.text


class TestStreams:
    async def test_a_stream_has_its_head_one_chunk_for_each_piece_and_an_end(self):
        async def story(client):
            client.stream_with(b"X-Later: 1\r\n")
            client.start()
            client.write(b"data: 1\n\n")
            client.write(b"data: " + b"2" * 20 + b"\n\n")
            client.finish(b"data: [DONE]\n\n")
            assert client.answered == 200

        async with serving(story) as served, client_of(served) as line:
            line.send(GET)
            assert await line.head() == (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
                b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\nx-request-id: req_1\r\nX-Later: 1\r\n\r\n"
            )
            expected = b"9\r\ndata: 1\n\n\r\n1c\r\ndata: " + b"2" * 20 + b"\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
            assert await asyncio.wait_for(line.reader.readexactly(len(expected)), WAIT) == expected
            line.send(GET)
            assert (await line.head()).startswith(b"HTTP/1.1 200 OK")

    async def test_a_stream_without_last_events_has_just_its_end(self):
        async def story(client):
            client.start()
            client.finish(b"")

        async with serving(story, closing=True) as served, client_of(served) as line:
            line.send(GET)
            await line.head()
            assert await line.rest() == b"0\r\n\r\n"

    async def test_a_client_of_http_1_0_gets_the_bytes_alone_until_the_connection_ends(self):
        async def story(client):
            client.start()
            client.write(b"data: 1\n\n")
            client.finish(b"data: [DONE]\n\n")

        async with serving(story) as served, client_of(served) as line:
            line.send(b"GET / HTTP/1.0\r\n\r\n")
            head = await line.head()
            assert b"chunked" not in head
            assert b"Connection: close\r\n" in head
            assert await line.rest() == b"data: 1\n\ndata: [DONE]\n\n"

    async def test_the_end_of_a_stream_is_written_to_nobody_if_the_client_has_gone(self, caplog):
        gone = asyncio.Event()

        async def story(client):
            client.start()
            try:
                await asyncio.sleep(WAIT)
            except asyncio.CancelledError:
                client.write(b"data: 1\n\n")
                client.finish(b"data: [DONE]\n\n")
                client.answer(500, b"")
                client.drop()
                gone.set()
                raise

        async with serving(story) as served:
            async with client_of(served) as line:
                line.send(GET)
                await line.head()
            await asyncio.wait_for(gone.wait(), WAIT)
        assert caplog.records == []


class TestFlow:
    @pytest.fixture(autouse=True)
    def _small_buffers(self, monkeypatch):
        monkeypatch.setattr(http_server, "WRITE_HIGH_WATER", 1024)

    async def fill(self, client: ClientRequest, told: list[str]) -> None:
        """Write until the kernel takes no more and the client is said to be slow."""
        async with asyncio.timeout(WAIT):
            while "pause" not in told:
                client.write(b"x" * 100_000)
                await asyncio.sleep(0)

    async def test_a_client_that_does_not_read_is_told_of_and_again_when_it_does(self):
        told: list[str] = []
        over = asyncio.Event()

        async def story(client):
            client.on_flow(lambda: told.append("pause"), lambda: told.append("resume"))
            client.start()
            await self.fill(client, told)
            assert told == ["pause"]
            await asyncio.wait_for(over.wait(), WAIT)
            client.finish(b"")

        async with serving(story, closing=True) as served, client_of(served) as line:
            line.send(GET)
            await until(lambda: "pause" in told)
            while "resume" not in told:
                await asyncio.wait_for(line.reader.read(1 << 20), WAIT)
            over.set()
            await line.rest()
        assert told == ["pause", "resume"]

    async def test_one_who_comes_later_hears_at_once_that_the_client_is_slow(self):
        told: list[str] = []

        async def story(client):
            client.on_flow(lambda: told.append("pause"), lambda: None)
            client.start()
            await self.fill(client, told)
            client.on_flow(lambda: told.append("second"), lambda: None)
            client.drop()

        async with serving(story) as served, client_of(served) as line:
            line.send(GET)
            await asyncio.wait_for(served.ended.wait(), WAIT)
        assert told == ["pause", "second"]

    @pytest.mark.parametrize("end", ["finish", "answer"])
    async def test_after_the_end_nobody_is_told_any_more(self, end):
        """The provider's connection serves another client by then."""
        told: list[str] = []

        async def story(client):
            client.on_flow(lambda: told.append("pause"), lambda: told.append("resume"))
            if end == "finish":
                client.start()
                client.finish(b"")
            else:
                client.answer(502, b"")
            client._transport.write(b"x" * 10_000_000)

        async with serving(story, closing=True) as served, client_of(served) as line:
            line.send(GET)
            await asyncio.wait_for(served.ended.wait(), WAIT)
            await line.rest()
        assert told == []

    async def test_a_client_can_be_dropped_with_what_it_did_not_read(self):
        told: list[str] = []

        async def story(client):
            client.on_flow(lambda: told.append("pause"), lambda: None)
            client.start()
            await self.fill(client, told)
            client.drop()
            await asyncio.sleep(WAIT)

        async with serving(story) as served, client_of(served) as line:
            line.send(GET)
            await asyncio.wait_for(served.ended.wait(), WAIT)
            assert served.cancelled == 1


class TestLeaving:
    async def test_a_client_that_leaves_ends_its_handler_at_once(self):
        async def story(_client):
            await asyncio.sleep(WAIT)

        async with serving(story) as served:
            async with client_of(served) as line:
                line.send(GET)
                await until(lambda: served.server.requests_count == 1)
            await asyncio.wait_for(served.ended.wait(), WAIT)
            assert served.cancelled == 1

    async def test_closing_closes_what_is_idle_and_what_is_busy(self, monkeypatch):
        monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.05)

        async def story(client):
            if client.path == "/busy":
                await asyncio.sleep(WAIT)
            client.answer(200, b"hello")

        async with serving(story) as served, client_of(served) as idle, client_of(served) as busy:
            idle.send(GET)
            await idle.answer()
            busy.send(b"GET /busy HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: served.server.requests_count == 2)
            await served.server.close_connections()
            assert (await idle.rest(), await busy.rest()) == (b"", b"")
            assert served.cancelled == 1


class TestRepeatedHeads:
    """A client that keeps its connection repeats its head; what it asks must not depend on what was asked before."""

    async def test_a_head_that_repeats_but_for_its_length_is_read_as_the_first(self):
        async with serving(echo) as served, client_of(served) as line:
            for body in (b"first", b"x" * LIMIT, b"", b"last"):
                line.send(post(body, "X-A: b"))
                assert (await line.answer())[1] == body

    @pytest.mark.parametrize(
        ("second", "body"),
        [
            (post(b"22", "Authorization: other"), b"22 ['other']"),
            (post(b"22"), b"22 []"),
            (chunked(b"22", lines="Authorization: key\r\n"), b"22 ['key']"),
            (post(gzip.compress(b"22"), "Authorization: key", "Content-Encoding: gzip"), b"22 ['key']"),
            (post(b"22", "Authorization: key").replace(b"Length: 2", b"Length: 002"), b"22 ['key']"),
            (post(b"22", "Authorization: key").replace(b"Content-L", b"content-l"), b"22 ['key']"),
        ],
    )
    async def test_a_head_that_differs_is_read_anew(self, second, body):
        async def story(client):
            said = await client.body(LIMIT)
            client.answer(200, said + b" " + repr(list(client.head.authorizations)).encode())

        first = post(b"1", "Authorization: key")
        async with serving(story) as served, client_of(served) as line:
            for request, expected in ((first, b"1 ['key']"), (second, body), (first, b"1 ['key']")):
                line.send(request)
                assert (await line.answer())[1] == expected

    @pytest.mark.parametrize("cut", [1, 20, 60, 103, 104, 105, 110])
    async def test_a_request_that_comes_in_two_pieces_is_whole_again(self, cut):
        """The pieces of the second are cut anywhere: in its head, at its end, in its body."""
        request = post(b"0123456789", "X-A: b")
        async with serving(echo) as served, client_of(served) as line:
            for pieces in ((request,), (request[:cut], request[cut:]), (request,)):
                before = served.server.requests_count
                for piece in pieces:
                    line.send(piece)
                    await line.writer.drain()
                    await asyncio.sleep(0.01)
                assert (await line.answer())[1] == b"0123456789"
                assert served.server.requests_count == before + 1

    async def test_requests_in_advance_keep_their_order_and_their_bodies(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(b"0"))
            await line.answer()
            bodies = [b"%d" % number for number in range(1, 200)]
            line.send(b"".join(post(body) for body in bodies[:150]))
            for body in bodies[150:]:
                await line.writer.drain()
                await asyncio.sleep(0)
                line.send(post(body))
            assert [(await line.answer())[1] for _ in bodies] == bodies

    async def test_the_length_of_a_repeated_head_is_a_length_or_the_request_is_malformed(self):
        async with serving(echo) as served, client_of(served) as line:
            line.send(post(b"1"))
            await line.answer()
            line.send(post(b"1").replace(b"Length: 1", b"Length: +1"))
            assert (await line.rest()).endswith(b"oops")
            assert len(served.malformed) == 1

    async def test_a_request_without_a_body_in_between_changes_nothing(self):
        async with serving(echo) as served, client_of(served) as line:
            for request, body in ((GET, b""), (post(b"1"), b"1"), (GET, b""), (post(b"22"), b"22")):
                line.send(request)
                assert (await line.answer())[1] == body


class TestWaiting:
    async def test_no_more_than_some_requests_are_read_in_advance(self):
        go = asyncio.Event()

        async def story(client):
            await go.wait()
            client.answer(200, client.path.encode())

        count = 5 * http_server.MOST_WAITING
        async with serving(story) as served, client_of(served) as line:
            line.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count)))
            await until(lambda: served.server.requests_count == 1)
            await asyncio.sleep(0.05)
            (connection,) = served.server._connections
            assert len(connection._waiting) <= http_server.MOST_WAITING
            go.set()
            assert [(await line.answer())[1] for _ in range(count)] == [b"/%d" % number for number in range(count)]

    async def test_an_offer_of_another_protocol_is_passed_over(self):
        offer = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        async with serving(hello) as served, client_of(served) as line:
            line.send(offer + GET)
            assert [(await line.answer())[1] for _ in range(2)] == [b"hello", b"hello"]
            line.send(GET)
            assert (await line.answer())[1] == b"hello"

    async def test_a_body_that_breaks_while_it_waits_for_its_turn_is_a_bad_request(self):
        go = asyncio.Event()

        async def story(client):
            if client.path == "/first":
                await go.wait()
                client.answer(200, b"first")
            else:
                client.answer(200, await client.body(LIMIT))

        async with serving(story) as served, client_of(served) as line:
            line.send(b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n")
            line.send(chunked(b"abc", end=b""))
            await until(lambda: served.server.requests_count == 1)
            await asyncio.sleep(0.05)
            line.send(b"zz\r\n")
            await asyncio.sleep(0.05)
            go.set()
            assert (await line.answer())[1] == b"first"
            head, body = await line.answer()
            assert (head[9:12], body) == (b"400", b"oops")
            assert await line.rest() == b""

    @pytest.mark.parametrize("said", [b"", b"POST / HT", GET], ids=["nothing", "half a head", "a request"])
    async def test_a_connection_on_which_nothing_more_comes_is_closed(self, said, monkeypatch):
        monkeypatch.setattr(http_server, "SWEEP_SECONDS", 0.02)
        async with serving(hello, idle_timeout="50ms") as served, client_of(served) as line:
            line.send(said)
            assert (await line.rest())[-5:] == (b"hello" if said == GET else b"")

    async def test_a_connection_that_is_served_is_not_closed_however_long_that_takes(self, monkeypatch):
        monkeypatch.setattr(http_server, "SWEEP_SECONDS", 0.01)

        async def story(client):
            await asyncio.sleep(0.2)
            client.answer(200, b"late")

        async with serving(story, idle_timeout="20ms") as served, client_of(served) as line:
            line.send(GET)
            assert (await line.answer())[1] == b"late"


class TestNothingWaitsForACollector:
    """A connection that has ended is gone, with what its client had sent."""

    async def test_of_one_that_served(self):
        async with serving(echo) as served:
            with nothing_to_collect():
                async with client_of(served) as line:
                    for request in (post(b"whole"), post(b"whole"), chunked(b"in", b"chunks")):
                        line.send(request)
                        await line.answer()
                await until(lambda: not served.server._connections)

    @pytest.mark.parametrize("request_sent", [GET, post(b"whole"), chunked(b"not all", end=b"")])
    async def test_of_one_whose_client_left_while_it_was_served(self, request_sent):
        began = asyncio.Event()

        async def story(client):
            began.set()
            await client.body(LIMIT)
            await asyncio.Event().wait()

        async with serving(story) as served:
            with nothing_to_collect():
                async with client_of(served) as line:
                    line.send(request_sent)
                    await asyncio.wait_for(began.wait(), WAIT)
                await until(lambda: served.cancelled)
                await until(lambda: not served.server._connections)
