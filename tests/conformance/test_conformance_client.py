"""The client of the checks: it shows an answer as it came, and says in half a sentence why there is none."""

import asyncio
import ssl
import time

import pytest

from proxy.conformance.client import MOST_BODY, Client, Unreachable
from proxy.conformance.exchange import KEY, SWAPPED_KEY, Ask, NoReply, Reply
from proxy.upstream.dialing import Origin
from raw_upstream import answering, chunk, closing, http, raw_upstream, resetting, silent
from waiting import WAIT, until

GET = Ask("a question", "GET", "/models")
POST = Ask("a question", "POST", "/chat", (("Authorization", f"Bearer {KEY}"), ("x-key", SWAPPED_KEY)), b'{"a":1}')


def client(port: int, timeout: float = WAIT, key: str = "sk-Secret") -> Client:
    return Client(Origin.of(f"http://127.0.0.1:{port}/v1"), key, timeout, None)


async def ask(*pieces: bytes, ask: Ask = GET) -> Reply | NoReply:
    async with raw_upstream(closing(*pieces)) as upstream:
        return await client(upstream.port).ask(ask)


def why(reply: Reply | NoReply) -> str:
    assert isinstance(reply, NoReply)
    return reply.why


async def test_an_answer_comes_as_it_was_sent():
    found = await ask(http(b"hello", "X-One: a", "x-one:  b ", "Content-Type: text/plain", status="404 Not Found"))
    assert isinstance(found, Reply)
    assert (found.asked, found.status, found.body) == (GET, 404, b"hello")
    assert [pair for pair in found.headers if pair[0] == "x-one"] == [("x-one", "a"), ("x-one", "b")]


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_answer_does_not_depend_on_where_it_is_cut(size):
    whole = http(b"", "Transfer-Encoding: chunked", length=False) + chunk(b"data: a\n\n") + chunk(b"\r\n") + chunk(b"")
    found = await ask(*(whole[at : at + size] for at in range(0, len(whole), size)))
    assert isinstance(found, Reply)
    assert found.body == b"data: a\n\n\r\n"


async def test_an_answer_without_a_length_ends_with_its_connection():
    found = await ask(http(b"data: a\n\n", length=False))
    assert isinstance(found, Reply)
    assert found.body == b"data: a\n\n"


async def test_an_answer_that_goes_before_the_real_one_is_passed_over():
    found = await ask(b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + http(b"real"))
    assert isinstance(found, Reply)
    assert (found.status, found.body, found.header("x-early")) == (200, b"real", None)


async def test_an_answer_to_a_request_that_was_not_read_is_still_read():
    async def refusing(reader, writer):
        await reader.reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"too large", status="413 Too Large"))
        await writer.drain()

    large = Ask("a large one", "POST", "/chat", body=b" " * 8_000_000)
    async with raw_upstream(refusing) as upstream:
        found = await client(upstream.port).ask(large)
    # What the kernel has thrown away of an answer when a connection is reset cannot be had back.
    assert isinstance(found, NoReply) or (found.status, found.body) == (413, b"too large")


async def test_the_key_is_put_in_when_a_request_is_sent():
    async with raw_upstream(answering(http(b"{}"))) as upstream:
        await client(upstream.port).ask(POST)
        head, body = upstream.asked[0]
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat HTTP/1.1"
    assert lines[1] == b"Host: 127.0.0.1:%d" % upstream.port
    assert {b"Authorization: Bearer sk-Secret", b"x-key: SK-sECRET", b"Content-Length: 7"} <= set(lines)
    assert body == b'{"a":1}'


async def test_broken_header_lines_are_sent_as_they_are():
    async with raw_upstream(answering(http(b"{}"))) as upstream:
        await client(upstream.port).ask(Ask("", "GET", "/models", raw_lines=b"no header\r\n"))
        assert b"\r\nno header\r\n\r\n" in upstream.asked[0][0]


async def test_each_request_has_a_connection_of_its_own():
    async with raw_upstream(answering(http(b"{}"))) as upstream:
        one = client(upstream.port)
        await one.ask(GET)
        await one.ask(GET)
        assert upstream.connections == 2


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((), "the connection ended and there was no answer"),
        ((b"HTTP/1.1 200 OK\r\nContent-Le",), "the connection ended and there was no answer"),
        ((http(b"hello")[:-1],), "the connection ended and the answer was not complete"),
        (
            (http(b"", "Transfer-Encoding: chunked", length=False) + chunk(b"data"),),
            "the connection ended and the answer was not complete",
        ),
        ((b"SSH-2.0-OpenSSH\r\n",), "the answer is not HTTP"),
        ((http(b"", "Transfer-Encoding: chunked", length=False) + b"zz\r\n",), "the answer is not HTTP"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n",), "the connection ended and there was no answer"),
    ],
)
async def test_what_is_no_whole_answer_is_none(pieces, said):
    assert why(await ask(*pieces)) == said


async def test_a_connection_that_breaks_is_no_answer():
    async with raw_upstream(resetting(http(b"hello")[:-1])) as upstream:
        said = why(await client(upstream.port).ask(GET))
    assert said in {
        "the connection broke: the answer was not complete",
        "the connection broke: there was no answer",
        "the connection ended and the answer was not complete",
    }


async def test_an_answer_that_does_not_come_in_time_is_none():
    async with raw_upstream(silent) as upstream:
        began = time.monotonic()
        assert why(await client(upstream.port, timeout=0.05).ask(GET)) == "there was no answer within 0.05 s"
    assert time.monotonic() - began < WAIT


async def test_an_answer_that_never_ends_is_none():
    async def endless(reader, writer):
        await reader.reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"", length=False))
        for _ in range(MOST_BODY // 2**20 + 2):
            writer.write(b"x" * 2**20)
            await writer.drain()

    async with raw_upstream(endless) as upstream:
        assert why(await client(upstream.port).ask(GET)) == "the connection ended and the answer was not complete"


async def test_a_port_on_which_nobody_listens_cannot_be_reached():
    async with raw_upstream(silent) as upstream:
        port = upstream.port
    with pytest.raises(Unreachable, match=rf"cannot connect to 127\.0\.0\.1:{port}: "):
        await client(port).ask(GET)


async def test_a_name_that_nobody_has_cannot_be_reached():
    endpoint = Origin.of("http://conformance.invalid:1/v1")
    with pytest.raises(Unreachable, match=r"cannot connect to conformance\.invalid:1: "):
        await Client(endpoint, "sk", WAIT, None).ask(GET)


async def test_a_server_without_tls_cannot_be_reached_by_https():
    async def plain(reader, writer):
        await reader.reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_upstream(plain) as upstream:
        endpoint = Origin.of(f"https://127.0.0.1:{upstream.port}/v1")
        with pytest.raises(Unreachable, match=rf"cannot connect to 127\.0\.0\.1:{upstream.port}: "):
            await Client(endpoint, "sk", WAIT, ssl.create_default_context()).ask(GET)


async def test_nothing_of_a_client_shows_its_key():
    assert "sk-Secret" not in repr(client(1))


async def test_a_request_that_is_cancelled_leaves_no_connection():
    async with raw_upstream(silent) as upstream:
        task = asyncio.ensure_future(client(upstream.port).ask(GET))
        await until(lambda: upstream.asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(upstream.left.is_set)
