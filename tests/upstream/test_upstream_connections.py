"""What a connection to a provider makes of the bytes that come: framing, endings, and whether it may be used again."""

import asyncio
import contextlib
import gc
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable

import pytest

from leftovers import nothing_to_collect
from proxy.outbox import Outbox
from proxy.upstream.connections import IDLE_SECONDS, MAX_HEAD, MAX_INFORMATIONAL, UpstreamPool
from proxy.upstream.dialing import Dialer, Origin
from proxy.wire.upstream_error import UpstreamError
from raw_upstream import answering, chunk, closing, http, raw_upstream, read_request, reset, resetting, silent
from waiting import WAIT, until

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Taker:
    """A receiver that keeps what it is given, and how often it was told an end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.over = asyncio.Event()
        self.got_piece = asyncio.Event()
        self.on_body: Callable[[], None] = lambda: None

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        assert not self.status, "a head comes once"
        self.status, self.headers = status, headers

    def body(self, piece: bytes) -> None:
        assert self.status, "no body comes before its head"
        self.pieces.append(piece)
        self.got_piece.set()
        self.on_body()

    def complete(self) -> None:
        self._end(None)

    def broken(self, error: UpstreamError) -> None:
        self._end(error)

    def give_up(self, bug: Exception) -> None:
        self._end(bug)

    def _end(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.over.set()


class Pools:
    """Makes pools; closes them and their providers when the test is over."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self.stack = stack

    def __call__(self, port: int, host: str = "127.0.0.1", *, timeout: float = WAIT, tls=None) -> UpstreamPool:
        loop = asyncio.get_running_loop()
        pool = UpstreamPool(
            Dialer(Origin(tls is not None, host, port, "/v1"), timeout=timeout, loop=loop, tls=tls), Outbox(loop)
        )
        self.stack.callback(pool.close)
        return pool


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    async with contextlib.AsyncExitStack() as stack:
        yield Pools(stack)


async def ask(connection, taker: Taker | None = None) -> Taker:
    """Send a request and wait for the end of its answer."""
    taker = taker or Taker()
    connection.send(REQUEST, b"{}", taker)
    async with asyncio.timeout(WAIT):
        await taker.over.wait()
    return taker


async def answer_of(script, pools) -> tuple[Taker, UpstreamPool]:
    """Ask a provider that lives as long as the test."""
    upstream = await pools.stack.enter_async_context(raw_upstream(script))
    pool = pools(upstream.port)
    taker = await ask(await pool.connect())
    assert len(taker.ends) == 1
    return taker, pool


def kind(taker: Taker) -> str | None:
    return None if taker.ends[0] is None else taker.ends[0].kind


class TestFraming:
    async def test_a_body_with_a_length_is_over_after_it(self, pools):
        taker, pool = await answer_of(answering(http(b'{"a":1}', "X-One: 1")), pools)
        assert (taker.status, taker.data, kind(taker)) == (200, b'{"a":1}', None)
        assert taker.headers[b"x-one"] == b"1"
        assert repr(pool).endswith("1 idle>")

    async def test_chunks_are_taken_apart(self, pools):
        answer = CHUNKED + chunk(b"one") + chunk(b"two") + chunk(b"")
        taker, pool = await answer_of(answering(answer), pools)
        assert (taker.data, kind(taker)) == (b"onetwo", None)
        assert pool.take_idle() is not None

    async def test_a_chunk_cut_anywhere_is_put_together(self, pools):
        answer = CHUNKED + chunk(b"one") + chunk(b"")

        async def byte_by_byte(reader, writer):
            await read_request(reader)
            for at in range(len(answer)):
                writer.write(answer[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            await read_request(reader)

        taker, _ = await answer_of(byte_by_byte, pools)
        assert (taker.data, kind(taker)) == (b"one", None)

    async def test_a_receiver_that_fails_is_told_so_in_place_of_the_transport(self, pools):
        bug = ZeroDivisionError()

        def fail() -> None:
            raise bug

        taker = Taker()
        taker.on_body = fail
        upstream = await pools.stack.enter_async_context(raw_upstream(answering(CHUNKED + chunk(b"piece"))))
        await ask(await pools(upstream.port).connect(), taker)
        assert taker.ends == [bug]

    async def test_what_came_as_one_chunk_in_one_read_is_handed_on_as_one_object(self, pools):
        taker, _ = await answer_of(answering(CHUNKED + chunk(b"x" * 1000) + chunk(b"")), pools)
        assert taker.pieces == [b"x" * 1000]

    async def test_a_body_without_length_lasts_until_the_provider_closes(self, pools):
        taker, pool = await answer_of(closing(http(b"all of it", length=False)), pools)
        assert (taker.data, kind(taker)) == (b"all of it", None)
        assert pool.take_idle() is None

    async def test_an_answer_without_a_body_is_over_with_its_head(self, pools):
        taker, pool = await answer_of(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), pools)
        assert (taker.status, taker.data, kind(taker)) == (204, b"", None)
        assert pool.take_idle() is not None

    async def test_an_empty_body_is_over_with_its_head(self, pools):
        taker, _ = await answer_of(answering(http(b"")), pools)
        assert (taker.status, taker.pieces, kind(taker)) == (200, [], None)

    async def test_trailers_are_no_part_of_the_body(self, pools):
        taker, _ = await answer_of(answering(CHUNKED + chunk(b"one") + b"0\r\nX-Sum: 1\r\n\r\n"), pools)
        assert (taker.data, kind(taker)) == (b"one", None)

    async def test_a_compressed_body_is_passed_on_as_it_is_with_its_header(self, pools):
        taker, _ = await answer_of(answering(http(b"\x1f\x8b", "Content-Encoding: gzip")), pools)
        assert (taker.data, taker.headers[b"content-encoding"]) == (b"\x1f\x8b", b"gzip")


class TestBeforeTheAnswer:
    async def test_informational_answers_are_not_the_answer(self, pools):
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        taker, pool = await answer_of(answering(early + http(b"{}")), pools)
        assert (taker.status, taker.data) == (200, b"{}")
        assert b"link" not in taker.headers
        assert pool.take_idle() is not None

    async def test_a_flood_of_informational_answers_is_given_up(self, pools):
        flood = b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INFORMATIONAL + 1)
        taker, _ = await answer_of(answering(flood), pools)
        assert kind(taker) == "upstream_bad_response"

    async def test_a_switch_of_protocols_nobody_asked_for_ends_the_connection(self, pools):
        switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nframes"
        taker, pool = await answer_of(answering(switch), pools)
        assert (taker.status, taker.data) == (101, b"")
        assert pool.take_idle() is None

    @pytest.mark.parametrize(
        "garbage", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02", b"HTTP/1.1 2x0 OK\r\n\r\n"]
    )
    async def test_what_is_not_http_is_a_bad_answer_that_is_not_quoted(self, pools, garbage):
        taker, _ = await answer_of(answering(garbage), pools)
        assert kind(taker) == "upstream_bad_response"
        assert "OpenSSH" not in taker.ends[0].detail

    async def test_a_head_that_does_not_end_is_given_up(self, pools):
        async def script(reader, writer):
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while True:
                writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
                await writer.drain()

        taker, _ = await answer_of(script, pools)
        assert kind(taker) == "upstream_bad_response"

    async def test_a_head_of_just_under_the_bound_is_taken(self, pools):
        line = "X-Long: " + "x" * (MAX_HEAD - 200)
        taker, _ = await answer_of(answering(http(b"{}", line)), pools)
        assert (taker.status, kind(taker)) == (200, None)

    async def test_a_provider_that_closes_without_a_word_is_unavailable(self, pools):
        taker, _ = await answer_of(closing(), pools)
        assert kind(taker) == "upstream_unavailable"

    async def test_a_provider_that_resets_without_a_word_is_unavailable(self, pools):
        taker, _ = await answer_of(resetting(), pools)
        assert kind(taker) == "upstream_unavailable"


class TestBrokenOff:
    @pytest.mark.parametrize(
        "half",
        [
            b"HTTP/1.1 200 OK\r\nContent-",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
            CHUNKED + chunk(b"one"),
            CHUNKED + b"ff\r\nabc",
        ],
        ids=["in the head", "in a body of known length", "between chunks", "in a chunk"],
    )
    @pytest.mark.parametrize("how", [closing, resetting])
    async def test_half_an_answer_is_truncated(self, pools, half, how):
        taker, pool = await answer_of(how(half), pools)
        assert kind(taker) == "upstream_truncated"
        assert pool.take_idle() is None

    async def test_a_body_without_length_that_ends_with_a_reset_is_truncated(self, pools):
        """Its end would be the only sign that it is whole."""

        async def script(reader, writer):
            await read_request(reader)
            writer.write(http(b"some of it", length=False))
            await writer.drain()
            await reader.reader.read(1)  # the test says when
            reset(writer)

        async with raw_upstream(script) as upstream:
            connection = await pools(upstream.port).connect()
            taker = Taker()
            taker.on_body = lambda: connection._transport.write(b"!")
            await ask(connection, taker)
            assert kind(taker) == "upstream_truncated"

    @pytest.mark.parametrize("garbage", [b"zz\r\nabc\r\n", b"-1\r\n", b"3\r\nabcXX"])
    async def test_broken_chunks_are_a_bad_answer(self, pools, garbage):
        taker, pool = await answer_of(answering(CHUNKED + chunk(b"one") + garbage), pools)
        assert kind(taker) == "upstream_bad_response"
        assert taker.data.startswith(b"one")
        assert pool.take_idle() is None


class TestUsedAgain:
    async def test_a_connection_serves_one_request_after_another(self, pools):
        async with raw_upstream(answering(http(b"first"), http(b"second"))) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            first = await ask(connection)
            assert pool.take_idle() is connection
            assert connection.used
            second = await ask(connection)
            assert (first.data, second.data, upstream.connections) == (b"first", b"second", 1)

    async def test_a_provider_that_says_close_is_taken_at_its_word(self, pools):
        taker, pool = await answer_of(answering(http(b"{}", "Connection: close")), pools)
        assert (taker.data, kind(taker)) == (b"{}", None)
        assert pool.take_idle() is None

    async def test_a_provider_of_http_1_0_is_not_kept(self, pools):
        taker, pool = await answer_of(answering(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"), pools)
        assert (taker.data, kind(taker)) == (b"{}", None)
        assert pool.take_idle() is None

    async def test_an_answer_nobody_asked_for_in_the_same_read_is_dropped_with_the_connection(self, pools):
        """Neither its status nor its body may reach the request before it, or the one after."""
        poison = http(b"POISON", "X-Poison: 1", status="500 Poison")
        taker, pool = await answer_of(answering(http(b"good", "X-Good: 1") + poison), pools)
        assert (taker.status, taker.data, kind(taker)) == (200, b"good", None)
        assert taker.headers.keys() == {b"x-good", b"content-length"}
        assert pool.take_idle() is None

    async def test_garbage_behind_an_answer_is_dropped_with_the_connection(self, pools):
        taker, pool = await answer_of(answering(http(b"good") + b"\x00garbage"), pools)
        assert (taker.data, kind(taker)) == (b"good", None)
        assert pool.take_idle() is None

    async def test_bytes_that_come_while_it_is_idle_close_it(self, pools):
        go = asyncio.Event()

        async def script(reader, writer):
            await read_request(reader)
            writer.write(http(b"good"))
            await go.wait()
            writer.write(http(b"POISON"))
            await writer.drain()
            await reader.reader.read(1)

        async with raw_upstream(script) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            await ask(connection)
            go.set()
            await until(lambda: connection.closed)
            assert pool.take_idle() is None

    async def test_one_that_the_provider_closed_while_it_was_idle_is_not_handed_out(self, pools):
        async with raw_upstream(closing(http(b"good"))) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            await ask(connection)
            await until(lambda: connection.closed)
            assert pool.take_idle() is None

    async def test_one_that_was_aborted_tells_its_receiver_nothing_more(self, pools):
        async with raw_upstream(silent) as upstream:
            connection = await pools(upstream.port).connect()
            taker = Taker()
            connection.send(REQUEST, b"{}", taker)
            connection.abort()
            await asyncio.wait_for(upstream.left.wait(), WAIT)
            assert taker.ends == []
            assert connection.closed

    async def test_a_receiver_that_aborts_in_the_middle_hears_nothing_more(self, pools):
        async with raw_upstream(answering(CHUNKED + chunk(b"one") + chunk(b""))) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            taker = Taker()
            taker.on_body = connection.abort
            connection.send(REQUEST, b"{}", taker)
            await asyncio.wait_for(taker.got_piece.wait(), WAIT)
            await until(lambda: connection.closed)
            assert taker.ends == []
            assert pool.take_idle() is None

    async def test_paused_it_reads_nothing_until_it_is_resumed(self, pools):
        async with raw_upstream(answering(http(b"x" * 10))) as upstream:
            connection = await pools(upstream.port).connect()
            taker = Taker()
            connection.pause()
            connection.send(REQUEST, b"{}", taker)
            await until(lambda: upstream.asked)
            for _ in range(20):
                await asyncio.sleep(0)
            assert not connection.answered
            connection.resume()
            await asyncio.wait_for(taker.over.wait(), WAIT)


class TestLettingFinish:
    """The content of a stream is known to be complete before its framing is."""

    async def test_the_end_of_the_framing_makes_the_connection_idle(self, pools):
        go = asyncio.Event()

        async def script(reader, writer):
            await read_request(reader)
            writer.write(CHUNKED + chunk(b"last"))
            await go.wait()
            writer.write(chunk(b""))
            await reader.reader.read(1)

        async with raw_upstream(script) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            taker = Taker()
            taker.on_body = lambda: connection.let_finish(asyncio.get_running_loop())
            connection.send(REQUEST, b"{}", taker)
            await asyncio.wait_for(taker.got_piece.wait(), WAIT)
            assert pool.take_idle() is None
            go.set()
            await until(lambda: "idle" in repr(connection))
            assert pool.take_idle() is connection
            assert taker.ends == []

    async def test_with_the_end_in_the_same_read_it_is_idle_at_once(self, pools):
        async with raw_upstream(answering(CHUNKED + chunk(b"last") + chunk(b""))) as upstream:
            pool = pools(upstream.port)
            connection = await pool.connect()
            taker = Taker()
            taker.on_body = lambda: connection.let_finish(asyncio.get_running_loop())
            connection.send(REQUEST, b"{}", taker)
            await asyncio.wait_for(taker.got_piece.wait(), WAIT)
            assert pool.take_idle() is connection

    async def test_a_provider_that_goes_on_talking_is_cut_off(self, pools):
        async def script(reader, writer):
            await read_request(reader)
            writer.write(CHUNKED + chunk(b"last"))
            while True:
                writer.write(chunk(b"and another thing"))
                await writer.drain()
                await asyncio.sleep(0)

        async with raw_upstream(script) as upstream:
            connection = await pools(upstream.port).connect()
            taker = Taker()
            taker.on_body = lambda: connection.let_finish(asyncio.get_running_loop())
            connection.send(REQUEST, b"{}", taker)
            await until(lambda: connection.closed)
            assert len(taker.pieces) == 1

    async def test_a_provider_that_never_ends_its_framing_is_given_up(self, pools, monkeypatch):
        monkeypatch.setattr("proxy.upstream.connections.FINISH_SECONDS", 0.01)

        async def script(reader, writer):
            await read_request(reader)
            writer.write(CHUNKED + chunk(b"last"))
            await reader.reader.readexactly(1)

        async with raw_upstream(script) as upstream:
            connection = await pools(upstream.port).connect()
            taker = Taker()
            taker.on_body = lambda: connection.let_finish(asyncio.get_running_loop())
            connection.send(REQUEST, b"{}", taker)
            await asyncio.wait_for(upstream.left.wait(), WAIT)
            await until(lambda: connection.closed)


class TestPool:
    async def test_the_connection_that_was_used_last_is_handed_out_first(self, pools):
        async with raw_upstream(answering(http(b"{}"))) as upstream:
            pool = pools(upstream.port)
            one, two = await pool.connect(), await pool.connect()
            await ask(one)
            await ask(two)
            assert pool.take_idle() is two
            assert pool.take_idle() is one
            assert pool.take_idle() is None

    async def test_a_sweep_closes_what_was_idle_for_too_long_and_nothing_else(self, pools):
        async with raw_upstream(answering(http(b"{}"))) as upstream:
            pool = pools(upstream.port)
            old, young = await pool.connect(), await pool.connect()
            await ask(old)
            await ask(young)
            young.idle_since = old.idle_since + 10
            pool.sweep(old.idle_since + IDLE_SECONDS + 1)
            assert (old.closed, young.closed) == (True, False)
            assert pool.take_idle() is young
            assert pool.take_idle() is None

    async def test_a_closed_pool_closes_idle_connections_and_keeps_none_that_come_back(self, pools):
        async with raw_upstream(answering(http(b"{}"))) as upstream:
            pool = pools(upstream.port)
            idle, busy = await pool.connect(), await pool.connect()
            await ask(idle)
            pool.close()
            assert idle.closed
            taker = await ask(busy)
            assert (taker.data, busy.closed) == (b"{}", True)
            assert pool.take_idle() is None

    @pytest.mark.parametrize("unread", [http(b"POISON"), b"x", None], ids=["an answer", "a byte", "the end"])
    async def test_one_with_something_that_nobody_has_read_yet_is_not_handed_out(self, pools, unread):
        """The loop had no time to look: what has come has to be noticed all the same."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            pool = pools(listener.getsockname()[1])
            connection = await pool.connect()
            server, _ = listener.accept()
            with server:
                taker = Taker()
                connection.send(REQUEST, b"{}", taker)
                server.sendall(http(b"{}"))
                await taker.over.wait()
                if unread is None:
                    server.shutdown(socket.SHUT_WR)
                else:
                    server.sendall(unread)
                assert not connection.closed
                assert pool.take_idle() is None

    async def test_a_refused_port_is_unavailable_and_the_address_is_for_nobody(self, pools):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            with pytest.raises(UpstreamError) as error:
                await pools(port).connect()
        assert error.value.kind == "upstream_unavailable"
        assert "refused" in error.value.detail
        assert str(port) not in error.value.detail
        assert "127.0.0.1" not in error.value.detail

    async def test_a_name_that_does_not_exist_is_unavailable(self, pools):
        with pytest.raises(UpstreamError) as error:
            await pools(1, "no-such-host.invalid").connect()
        assert error.value.kind == "upstream_unavailable"

    @pytest.mark.parametrize("name", ["a" * 64 + ".invalid", "a..invalid"])
    async def test_a_name_that_cannot_be_a_name_is_unavailable(self, pools, name):
        with pytest.raises(UpstreamError) as error:
            await pools(1, name).connect()
        assert error.value.kind == "upstream_unavailable"

    async def test_a_port_that_does_not_accept_is_given_up_in_time(self, pools):
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            try:
                with pytest.raises(UpstreamError) as error:
                    await pools(address[1], timeout=0.1).connect()
            finally:
                for filler in fillers:
                    filler.close()
        assert error.value.kind == "upstream_timeout"

    async def test_an_address_of_ipv6_is_reached(self, pools):
        async with raw_upstream(answering(http(b"{}")), host="::1") as upstream:
            pool = pools(upstream.port, "::1")
            taker = await ask(await pool.connect())
            assert taker.data == b"{}"
            assert repr(pool) == f"<UpstreamPool [::1]:{upstream.port}: 1 idle>"

    async def test_a_host_name_is_looked_up(self, pools):
        async with raw_upstream(answering(http(b"{}"))) as upstream:
            taker = await ask(await pools(upstream.port, "localhost").connect())
            assert taker.data == b"{}"

    async def test_a_connection_that_is_not_wanted_any_more_is_closed(self, pools):
        """Its opener was cancelled while TLS was still being agreed on."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

        async def never(reader, _writer):
            await reader.reader.read(-1)
            reader.upstream.left.set()

        async with raw_upstream(never) as upstream:
            opening = asyncio.get_running_loop().create_task(pools(upstream.port, "127.0.0.1", tls=tls).connect())
            await until(lambda: upstream.connections == 1)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await asyncio.wait_for(upstream.left.wait(), WAIT)
        gc.collect()  # a socket that is left open would be heard of here


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "origin", "authority"),
        [
            ("http://h/v1", Origin(tls=False, host="h", port=80, path="/v1"), "h"),
            ("https://h", Origin(tls=True, host="h", port=443, path=""), "h"),
            ("https://h:80/a/b/", Origin(tls=True, host="h", port=80, path="/a/b"), "h:80"),
            ("http://[::1]:8000/v1", Origin(tls=False, host="::1", port=8000, path="/v1"), "[::1]:8000"),
        ],
    )
    def test_a_base_url_is_taken_apart(self, url, origin, authority):
        assert Origin.of(url) == origin
        assert origin.authority == authority


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[ssl.SSLContext, str]:
    """A server's context for `localhost`, and the file of the certificate that nobody else has signed."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=WAIT,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, str(cert)


class TestTls:
    async def test_a_provider_with_a_trusted_certificate_is_spoken_to(self, pools, certificate):
        server, file = certificate
        async with raw_upstream(answering(http(b"secret")), tls=server) as upstream:
            trusting = ssl.create_default_context(cafile=file)
            taker = await ask(await pools(upstream.port, "localhost", tls=trusting).connect())
            assert taker.data == b"secret"

    async def test_a_certificate_that_nobody_trusts_is_refused(self, pools, certificate):
        server, _ = certificate
        async with raw_upstream(answering(http(b"secret")), tls=server) as upstream:
            origin = Origin.of(f"https://localhost:{upstream.port}/v1")
            loop = asyncio.get_running_loop()
            pool = UpstreamPool(Dialer(origin, timeout=WAIT, loop=loop), Outbox(loop))
            with pytest.raises(UpstreamError) as error:
                await pool.connect()
            assert error.value.kind == "upstream_unavailable"
            assert "CERTIFICATE_VERIFY_FAILED" in error.value.detail
            assert upstream.asked == []

    async def test_a_certificate_for_another_name_is_refused(self, pools, certificate):
        server, file = certificate
        async with raw_upstream(answering(http(b"secret")), tls=server) as upstream:
            trusting = ssl.create_default_context(cafile=file)
            with pytest.raises(UpstreamError) as error:
                await pools(upstream.port, "127.0.0.1", tls=trusting).connect()
            assert error.value.kind == "upstream_unavailable"

    async def test_a_provider_that_does_not_speak_tls_is_unavailable(self, pools, certificate):
        async with raw_upstream(closing(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as upstream:
            trusting = ssl.create_default_context(cafile=certificate[1])

            async def plain(reader, writer):
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await writer.drain()

            upstream._scripts = (plain,)
            with pytest.raises(UpstreamError) as error:
                await pools(upstream.port, "localhost", tls=trusting).connect()
            assert error.value.kind == "upstream_unavailable"


async def test_time_of_idleness_is_the_monotonic_clocks(pools):
    async with raw_upstream(answering(http(b"{}"))) as upstream:
        connection = await pools(upstream.port).connect()
        before = time.monotonic()
        await ask(connection)
        assert before <= connection.idle_since <= time.monotonic()


async def test_a_connection_that_was_closed_does_not_wait_for_a_collector(pools):
    upstream = await pools.stack.enter_async_context(raw_upstream(answering(http(b"{}"))))
    pool = pools(upstream.port)
    with nothing_to_collect():
        await ask(await pool.connect())
        pool.sweep(time.monotonic() + IDLE_SECONDS)
        await asyncio.wait_for(upstream.left.wait(), WAIT)
