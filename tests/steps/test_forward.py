"""How a call is served by the first target that answers, over real sockets: failover, clients that leave, and what is
known of it afterwards.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import pytest

from leftovers import nothing_to_collect
from proxy.aside import Aside
from proxy.call import Call, Ending, Outcome, Target, Underway
from proxy.errors import ErrorType
from proxy.holds import Allowance, watched
from proxy.limits import Hold, Limit, Limits, OnBudgetEnd
from proxy.provider_health import WINDOW_FAILURES, Policy
from proxy.steps import forward as step
from proxy.steps.forward import MAX_ATTEMPTS, Exchange, Forwarder, drain, forward
from proxy.translation import Surroundings
from proxy.upstream.providers import Upstream, open_upstreams
from proxy.usage import UsageSource
from proxy.wire.large_json import LARGE
from proxy.wire.upstream_error import UpstreamError
from raw_upstream import RawUpstream, Script, answering, chunk, closing, http, raw_upstream, read_request, silent
from specimens import DONE, FINISH, KEY, NOW, ROLE, USAGE, Clock, answer, call, event, provider, target, text
from waiting import WAIT, until

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES = b"x-ratelimit-limit-requests: 1\r\n"
OK = answering(http(answer()))


def failing(status: int, *lines: str, body: bytes = b'{"error":{"message":"no"}}') -> Script:
    return answering(http(body, *lines, status=f"{status} Status"))


def streaming(*pieces: bytes) -> Script:
    """Answer each request with a whole stream of these events."""
    return answering(SSE + b"".join(chunk(piece) for piece in pieces) + chunk(b""))


STREAM = streaming(ROLE, text("Hello"), FINISH, USAGE, DONE)


def halting(*pieces: bytes, then: Sequence[bytes] = (), go: asyncio.Event | None = None) -> Script:
    """Send `pieces`, wait for `go` (or for ever), send the rest and end the body."""

    async def script(reader, writer):
        await read_request(reader)
        writer.write(SSE + b"".join(chunk(piece) for piece in pieces))
        if go is None:
            await reader.reader.readexactly(1)
            return
        await go.wait()
        writer.write(b"".join(chunk(piece) for piece in then) + chunk(b""))
        await reader.reader.readexactly(1)

    return script


def waiting(go: asyncio.Event, data: bytes) -> Script:
    """Take a request and answer it when the test says so."""

    async def script(reader, writer):
        await read_request(reader)
        await go.wait()
        writer.write(data)
        await reader.reader.readexactly(1)

    return script


class Client:
    """What a client gets, and a word for each moment a test waits for."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, bytes]] = []
        self.lines = b""
        self.started = False
        self.finished = 0
        self.data = b""
        self.got = asyncio.Event()

    def answer(self, status: int, body: bytes, lines: bytes = b"") -> None:
        assert not self.started
        self.answers.append((status, body, lines))

    def stream_with(self, lines: bytes) -> None:
        self.lines = lines

    def start(self) -> None:
        assert not self.started
        assert not self.answers
        self.started = True

    def write(self, piece: bytes) -> None:
        assert self.started
        assert not self.finished
        self.data += piece
        self.got.set()

    def finish(self, last: bytes) -> None:
        if last:
            self.write(last)
        self.finished += 1

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.flow = (pause, resume)

    def drop(self) -> None:
        raise AssertionError("no client here is slow")


class Watch:
    """The attempts, each as one word."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def attempt(self, call: Call, target: Target, error: UpstreamError | None) -> None:
        self.told.append((target.route.provider, "ok" if error is None else error.kind))

    def interrupted(self, call: Call, target: Target, ending: Ending) -> None:
        self.told.append((target.route.provider, ending.value))


class Bench:
    """Providers by name, each a socket, and what forwarding to them needs."""

    def __init__(self) -> None:
        self.client = Client()
        self.watch = Watch()
        self.clock = Clock()
        self.servers: dict[str, RawUpstream] = {}
        self.targets: list[Target] = []
        self.upstreams: dict[str, Upstream] = {}
        self.open: dict[Exchange, Underway] = {}
        self.loop = asyncio.get_running_loop()
        self.forwarder = Forwarder(
            self.open, self.watch, self.clock, Surroundings(lambda: "new", lambda: NOW), self.loop, Aside(self.loop)
        )

    def add(self, name: str, port: int, **fields: object) -> None:
        self.targets.append(target(name, provider(port, **fields), called=f"{name}-model"))
        providers = {one.route.provider: one.provider for one in self.targets}
        self.upstreams = open_upstreams(providers, {}, self.loop, self.upstreams)

    async def run(self, **fields: object) -> tuple[Outcome, Exchange | None]:
        async with asyncio.timeout(WAIT):
            return await self.begin(**fields)

    def begin(self, **fields: object) -> "asyncio.Task[tuple[Outcome, Exchange | None]]":
        self.call = call(**fields)
        return self.loop.create_task(
            forward(self.call, self.targets, self.client, LINES, self.upstreams, self.forwarder)
        )

    async def leave(self, task: "asyncio.Task[tuple[Outcome, Exchange | None]]") -> tuple[Outcome, Exchange | None]:
        """The client goes: aiohttp cancels whoever serves it."""
        task.cancel()
        async with asyncio.timeout(WAIT):
            return await task

    def time_out(self) -> None:
        """Let more time pass than any deadline allows."""
        now = self.clock.pass_by(1000)
        for exchange in list(self.open):
            exchange.check(now)


@contextlib.asynccontextmanager
async def bench(*scripts: Script | Sequence[Script], **fields: object) -> AsyncIterator[Bench]:
    """One provider for each script (a list: for each of its connections), named one, two, three…"""
    made = Bench()
    async with contextlib.AsyncExitStack() as stack:
        for name, script in zip(("one", "two", "three", "four"), scripts, strict=False):
            several = script if isinstance(script, list) else [script]
            made.servers[name] = await stack.enter_async_context(raw_upstream(*several))
            made.add(name, made.servers[name].port, **fields)
        yield made
        assert made.open == {}, "every exchange is over"
        for upstream in made.upstreams.values():
            upstream.pool.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class TestAnswers:
    async def test_a_whole_answer_is_served_and_known(self):
        async with bench(OK) as one:
            outcome, unread = await one.run()
            assert unread is None
            ((status, body, lines),) = one.client.answers
            assert (status, lines) == (200, LINES)
            assert json.loads(body)["choices"][0]["message"]["content"] == "Hello!"
            assert (outcome.ending, outcome.target, outcome.attempts) == (Ending.COMPLETE, one.targets[0], 1)
            assert (outcome.usage.prompt, outcome.usage.completion, outcome.source) == (12, 8, UsageSource.UPSTREAM)
            assert (outcome.reached, outcome.fault, outcome.upstream_id) == (True, None, "chatcmpl-1")
            assert one.watch.told == [("one", "ok")]

    async def test_without_usage_it_is_estimated_and_shown_so(self):
        async with bench(answering(http(answer(usage=None)))) as one:
            outcome, _ = await one.run()
            assert outcome.source is UsageSource.ESTIMATED
            assert outcome.usage.completion == 2
            assert json.loads(one.client.answers[0][1])["usage"]["completion_tokens"] == 2

    async def test_the_provider_is_asked_for_its_model_with_its_key_and_nothing_of_the_clients_head(self):
        async with bench(OK, headers={"X-Own": "1"}) as one:
            await one.run(store=True, seed=10**30)
            ((head, body),) = one.servers["one"].asked
            port = one.servers["one"].port
            assert (
                head
                == (
                    f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                    "Content-Type: application/json\r\n"
                    f"Accept: application/json\r\nAccept-Encoding: identity\r\nContent-Length: {len(body)}\r\n"
                    f"Authorization: Bearer {KEY}\r\nX-Own: 1\r\n\r\n"
                ).encode()
            )
            assert json.loads(body)["model"] == "one-model"
            assert b'"seed":1000000000000000000000000000000' in body
            assert b"store" not in body

    async def test_times_are_those_of_the_first_question_and_the_first_byte(self):
        go = asyncio.Event()
        async with bench(failing(500), waiting(go, http(answer()))) as one:
            begun = one.clock()
            task = one.begin()
            await until(lambda: one.servers["two"].asked)
            one.clock.pass_by(3)
            go.set()
            outcome, _ = await task
            assert (outcome.asked_at, outcome.first_byte_at) == (begun, begun + 3)

    @pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"error":{"message":"no","code":400}}', answer()[:-1]])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_g3_1_a_provider_whose_answer_cannot_be_served_had_the_request(self, body, stream):
        async with bench(answering(http(body))) as one:
            outcome, _ = await one.run(stream=stream)
            assert (outcome.ending, outcome.reached, outcome.sent) == (Ending.UPSTREAM_ERROR, False, True)

    async def test_a_connection_is_used_again(self):
        async with bench(OK) as one:
            await one.run()
            one.client = Client()
            await one.run()
            assert one.servers["one"].connections == 1


class TestStreams:
    async def test_a_stream_is_served_and_known(self):
        async with bench(STREAM) as one:
            outcome, unread = await one.run(stream=True)
            assert unread is None
            assert one.client.lines == LINES
            assert one.client.data.endswith(DONE)
            assert b'"usage"' not in one.client.data
            assert one.client.finished == 1
            assert (outcome.ending, outcome.usage.prompt, outcome.source) == (
                Ending.COMPLETE,
                12,
                UsageSource.UPSTREAM,
            )
            assert (outcome.upstream_id, outcome.first_byte_at) == ("chatcmpl-1", one.clock())
            assert one.watch.told == [("one", "ok")]

    async def test_usage_is_asked_for_although_the_client_did_not(self):
        async with bench(STREAM) as one:
            await one.run(stream=True)
            head, body = one.servers["one"].asked[0]
            assert json.loads(body)["stream_options"] == {"include_usage": True}
            assert b"\r\nAccept: text/event-stream\r\n" in head

    async def test_a_stream_that_breaks_off_is_told_to_the_client_and_not_tried_elsewhere(self):
        async with bench(closing(SSE + chunk(ROLE + text("Hello"))), STREAM) as one:
            outcome, _ = await one.run(stream=True)
            assert outcome.ending is Ending.UPSTREAM_TRUNCATED
            assert outcome.source is UsageSource.ESTIMATED
            assert outcome.usage.completion == 2
            assert outcome.fault is None
            assert one.client.data.endswith(DONE)
            assert b'"code":"upstream_truncated"' in one.client.data
            assert one.watch.told == [("one", "upstream_truncated")]
            assert one.servers["two"].connections == 0

    async def test_an_error_event_after_the_first_output_is_told_in_our_words(self):
        boom = b'data: {"error":{"message":"secret detail","code":429}}\n\n'
        async with bench(streaming(ROLE, text("Hello"), boom), STREAM) as one:
            outcome, _ = await one.run(stream=True)
            assert outcome.ending is Ending.UPSTREAM_ERROR
            assert b'"code":"upstream_rate_limited"' in one.client.data
            assert b"secret" not in one.client.data
            assert b"req_1" in one.client.data
            assert one.watch.told == [("one", "upstream_error")]

    async def test_an_error_before_the_first_output_is_tried_elsewhere(self):
        boom = b'data: {"error":{"message":"no","code":503}}\n\n'
        async with bench(streaming(ROLE, boom), STREAM) as one:
            outcome, _ = await one.run(stream=True)
            assert (outcome.ending, outcome.attempts) == (Ending.COMPLETE, 2)
            assert one.watch.told == [("one", "upstream_error"), ("two", "ok")]
            assert b"error" not in one.client.data

    async def test_a_silent_provider_in_mid_stream_is_a_timeout(self):
        async with bench(halting(ROLE, text("Hello"))) as one:
            task = one.begin(stream=True)
            await asyncio.wait_for(one.client.got.wait(), WAIT)
            one.time_out()
            outcome, _ = await task
            assert outcome.ending is Ending.UPSTREAM_ERROR
            assert b'"code":"upstream_timeout"' in one.client.data
            assert one.watch.told == [("one", "upstream_timeout")]


class TestFailover:
    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            (failing(500), "upstream_error"),
            (failing(401), "upstream_error"),
            (failing(404), "upstream_error"),
            (failing(429, "Retry-After: 7"), "upstream_error"),
            (failing(301, "Location: http://127.0.0.1:1/"), "upstream_error"),
            (answering(http(b"<html>")), "upstream_bad_response"),
            (answering(http(b"")), "upstream_bad_response"),
            (answering(http(b'{"error":{"message":"no"}}')), "upstream_error"),
            (answering(http(b"\x1f\x8b", "Content-Encoding: gzip")), "upstream_bad_response"),
            (answering(b"SSH-2.0-x\r\n"), "upstream_bad_response"),
            (closing(), "upstream_unavailable"),
            (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123"), "upstream_truncated"),
        ],
        ids=[
            "500", "401", "404", "429", "redirect", "HTML", "nothing", "an error in a 200", "compressed", "no HTTP",
            "closed", "cut off",
        ],
    )  # fmt: skip
    async def test_a_target_that_fails_before_the_first_byte_is_followed_by_the_next(self, script, kind):
        async with bench(script, OK) as one:
            outcome, _ = await one.run()
            assert (outcome.ending, outcome.target, outcome.attempts) == (Ending.COMPLETE, one.targets[1], 2)
            assert one.watch.told == [("one", kind), ("two", "ok")]
            assert len(one.client.answers) == 1
            assert len(one.servers["one"].asked) == 1

    @pytest.mark.parametrize("status", [400, 413, 422])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_request_that_one_provider_finds_wrong_is_not_tried_elsewhere(self, status, stream):
        async with bench(failing(status), OK) as one:
            outcome, unread = await one.run(stream=stream)
            assert unread is None
            assert (outcome.ending, outcome.attempts) == (Ending.UPSTREAM_ERROR, 1)
            assert (outcome.fault.status, outcome.fault.type) == (400, ErrorType.INVALID_REQUEST)
            assert one.servers["two"].connections == 0
            assert one.watch.told == [("one", "upstream_error")]
            assert not one.client.started

    async def test_a_port_that_refuses_is_followed_by_the_next(self, closed_port):
        async with bench() as one, raw_upstream(OK) as two:
            one.add("one", closed_port)
            one.add("two", two.port)
            outcome, _ = await one.run()
            assert (outcome.ending, outcome.attempts) == (Ending.COMPLETE, 2)
            assert one.watch.told == [("one", "upstream_unavailable"), ("two", "ok")]

    async def test_a_provider_that_never_answers_is_followed_by_the_next(self):
        async with bench(silent, OK) as one:
            task = one.begin()
            await until(lambda: one.servers["one"].asked and one.open)
            one.time_out()
            outcome, _ = await task
            assert (outcome.ending, outcome.attempts) == (Ending.COMPLETE, 2)
            assert one.watch.told == [("one", "upstream_timeout"), ("two", "ok")]
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)

    async def test_when_all_fail_the_last_failure_is_told_and_nothing_counts_as_used(self):
        async with bench(failing(500), failing(429, "Retry-After: 7")) as one:
            outcome, _ = await one.run()
            assert (outcome.ending, outcome.target, outcome.attempts) == (Ending.UPSTREAM_ERROR, one.targets[1], 2)
            assert (outcome.fault.status, outcome.fault.code) == (502, "upstream_rate_limited")
            assert outcome.fault.retry_after_ms == 7000
            assert outcome.usage is None
            assert one.client.answers == []

    async def test_no_more_targets_are_tried_than_makes_sense(self):
        async with bench(failing(500), failing(500), failing(500), OK) as one:
            outcome, _ = await one.run()
            assert outcome.attempts == MAX_ATTEMPTS == len(one.watch.told)
            assert one.servers["four"].connections == 0

    async def test_a_model_without_a_target_is_a_mistake_of_the_operators(self):
        async with bench() as one:
            outcome, _ = await one.run()
            assert (outcome.fault.status, outcome.fault.type, outcome.fault.code) == (
                400,
                ErrorType.CONFIGURATION,
                "no_route",
            )
            assert (outcome.ending, outcome.reached, outcome.attempts) == (Ending.REFUSED, False, 0)

    async def test_what_a_provider_says_reaches_the_client_without_the_key_and_the_host(self):
        async with bench() as one:
            said = {}

            async def telling(reader, writer):
                await read_request(reader)
                writer.write(said["answer"])
                await reader.reader.readexactly(1)

            async with raw_upstream(telling) as server:
                one.add("one", server.port)
                message = f"key {KEY} is bad at http://127.0.0.1:{server.port}/v1: 127.0.0.1:{server.port}"
                said["answer"] = http(json.dumps({"error": {"message": message}}).encode(), status="400 Bad")
                outcome, _ = await one.run()
            assert KEY not in outcome.fault.message
            assert "127.0.0.1" not in outcome.fault.message


class TestStaleConnections:
    """A provider may close an idle connection in the very moment in which a request is sent on it."""

    async def used(self, one: Bench) -> None:
        await one.run()
        one.client, one.watch.told = Client(), one.watch.told
        one.watch.told.clear()

    async def once_then(self, then: Script) -> Script:
        async def script(reader, writer):
            await read_request(reader)
            writer.write(http(answer()))
            await then(reader, writer)

        return script

    @pytest.mark.parametrize("stream", [False, True])
    async def test_the_request_is_sent_once_more_on_a_new_one(self, stream):
        script = await self.once_then(closing())
        async with bench([script, STREAM if stream else OK]) as one:
            await self.used(one)
            outcome, _ = await one.run(stream=stream)
            assert (outcome.ending, outcome.attempts) == (Ending.COMPLETE, 1)
            assert one.watch.told == [("one", "ok")]
            assert one.servers["one"].connections == 2
            assert len(one.servers["one"].asked) == 3

    async def test_but_only_once(self):
        script = await self.once_then(closing())
        async with bench([script, closing()]) as one:
            await self.used(one)
            outcome, _ = await one.run()
            assert (outcome.fault.code, outcome.attempts) == ("upstream_unavailable", 1)
            assert one.watch.told == [("one", "upstream_unavailable")]
            assert len(one.servers["one"].asked) == 3

    async def test_and_not_if_the_provider_had_begun_to_answer(self):
        script = await self.once_then(closing(b"HTTP/1.1 200 OK\r\nContent-"))
        async with bench([script, OK]) as one:
            await self.used(one)
            outcome, _ = await one.run()
            assert outcome.fault.code == "upstream_truncated"
            assert len(one.servers["one"].asked) == 2

    async def test_nor_if_it_was_just_slow(self):
        script = await self.once_then(silent)
        async with bench([script, OK]) as one:
            await self.used(one)
            task = one.begin()
            await until(lambda: len(one.servers["one"].asked) == 2 and one.open)
            one.time_out()
            outcome, _ = await task
            assert outcome.fault.code == "upstream_timeout"
            assert len(one.servers["one"].asked) == 2

    async def test_a_new_connection_that_closes_is_a_failure(self):
        async with bench([closing(), OK]) as one:
            outcome, _ = await one.run()
            assert outcome.fault.code == "upstream_unavailable"
            assert len(one.servers["one"].asked) == 1


class TestClientsThatLeave:
    async def test_while_connecting_no_provider_began(self):
        with socket.socket() as full, contextlib.ExitStack() as fillers:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(3):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            async with bench() as one:
                one.add("one", full.getsockname()[1])
                task = one.begin()
                for _ in range(5):
                    await asyncio.sleep(0)
                outcome, unread = await one.leave(task)
                assert (outcome.ending, outcome.reached, unread) == (Ending.CLIENT_GONE, False, None)
                assert one.watch.told == [("one", "client_gone")]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_while_the_provider_is_silent_it_is_left_at_once_and_its_prompt_is_owed(self, stream):
        async with bench(silent, OK) as one:
            task = one.begin(stream=stream)
            await until(lambda: one.servers["one"].asked and one.open)
            outcome, unread = await one.leave(task)
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)
            assert (outcome.ending, outcome.reached, outcome.fault, unread) == (Ending.CLIENT_GONE, True, None, None)
            assert outcome.usage is None or outcome.usage.completion == 0
            assert one.servers["two"].connections == 0
            assert one.watch.told == [("one", "client_gone")]

    async def test_in_mid_stream_the_provider_is_left_and_what_came_is_owed(self):
        async with bench(halting(ROLE, text("Hello"), text(" world"))) as one:
            task = one.begin(stream=True)
            await until(lambda: b"world" in one.client.data)
            outcome, unread = await one.leave(task)
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)
            assert (outcome.ending, unread) == (Ending.CLIENT_GONE, None)
            assert (outcome.usage.completion, outcome.source) == (3, UsageSource.ESTIMATED)
            assert one.client.finished == 0
            assert one.watch.told == [("one", "client_gone")]

    async def test_behind_the_finish_reason_the_usage_is_waited_for(self):
        go = asyncio.Event()
        async with bench(halting(ROLE, text("Hello"), FINISH, then=(USAGE, DONE), go=go)) as one:
            task = one.begin(stream=True)
            await until(lambda: b'"stop"' in one.client.data)
            outcome, unread = await one.leave(task)
            assert unread is not None
            draining = one.loop.create_task(drain(unread, one.call, outcome, one.upstreams, one.forwarder))
            go.set()
            outcome = await asyncio.wait_for(draining, WAIT)
            assert (outcome.ending, outcome.source) == (Ending.CLIENT_GONE, UsageSource.UPSTREAM)
            assert (outcome.usage.prompt, outcome.usage.completion) == (12, 8)
            assert one.watch.told == [("one", "client_gone")]

    async def test_but_not_for_long(self, monkeypatch):
        monkeypatch.setattr(step, "FINISHED_SECONDS", 0.02)
        async with bench(halting(ROLE, text("Hello"), FINISH)) as one:
            task = one.begin(stream=True)
            await until(lambda: b'"stop"' in one.client.data)
            outcome, unread = await one.leave(task)
            outcome = await drain(unread, one.call, outcome, one.upstreams, one.forwarder)
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)
            assert (outcome.ending, outcome.source, outcome.usage.completion) == (
                Ending.CLIENT_GONE,
                UsageSource.ESTIMATED,
                2,
            )

    @pytest.mark.parametrize("moment", ["silent", "role", "output"])
    async def test_a_provider_that_charges_anyway_is_read_to_its_end(self, moment):
        go = asyncio.Event()
        sent = {"silent": (), "role": (ROLE,), "output": (ROLE, text("Hello"))}[moment]
        rest = (ROLE, text("Hello"))[len(sent) :]
        script = halting(*sent, then=(*rest, text(" world"), FINISH, USAGE, DONE), go=go)
        async with bench(script, on_disconnect="drain") as one:
            task = one.begin(stream=True)
            await until(lambda: one.open)
            if moment == "output":
                await until(lambda: one.client.data)
            outcome, unread = await one.leave(task)
            draining = one.loop.create_task(drain(unread, one.call, outcome, one.upstreams, one.forwarder))
            go.set()
            outcome = await asyncio.wait_for(draining, WAIT)
            assert (outcome.ending, outcome.source) == (Ending.CLIENT_GONE, UsageSource.UPSTREAM)
            assert (outcome.usage.prompt, outcome.usage.completion) == (12, 8)
            assert b"world" not in one.client.data
            assert one.watch.told == [("one", "client_gone")]

    @pytest.mark.parametrize("usage", [{"prompt_tokens": 12, "completion_tokens": 8}, None])
    async def test_a_whole_answer_is_drained_too(self, usage):
        go = asyncio.Event()

        async def script(reader, writer):
            await read_request(reader)
            await go.wait()
            writer.write(http(answer(usage=usage)))
            await reader.reader.readexactly(1)

        async with bench(script, on_disconnect="drain") as one:
            task = one.begin()
            await until(lambda: one.servers["one"].asked and one.open)
            outcome, unread = await one.leave(task)
            draining = one.loop.create_task(drain(unread, one.call, outcome, one.upstreams, one.forwarder))
            go.set()
            outcome = await asyncio.wait_for(draining, WAIT)
            assert outcome.ending is Ending.CLIENT_GONE
            assert outcome.usage.completion == (8 if usage else 2)
            assert outcome.source is (UsageSource.UPSTREAM if usage else UsageSource.ESTIMATED)
            assert one.client.answers == []

    async def test_no_more_are_drained_at_once_than_the_provider_may_be_asked_for(self):
        go = asyncio.Event()
        scripts = [halting(ROLE, text("Hello"), then=(FINISH, USAGE, DONE), go=go) for _ in range(3)]
        async with bench(scripts, on_disconnect="drain", max_drains=2) as one:
            left = []
            for _ in range(3):
                one.client = Client()
                task = one.begin(stream=True)
                await until(lambda: one.client.data)
                left.append(await one.leave(task))
            assert [unread is not None for _, unread in left] == [True, True, False]
            assert left[2][0].usage.completion == 2
            go.set()
            for outcome, unread in left[:2]:
                drained = await drain(unread, one.call, outcome, one.upstreams, one.forwarder)
                assert drained.source is UsageSource.UPSTREAM
            assert one.upstreams["one"].drains == 0

    async def test_draining_has_an_end(self):
        async with bench(halting(ROLE, text("Hello")), on_disconnect="drain", drain_max=0.02) as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data)
            outcome, unread = await one.leave(task)
            outcome = await drain(unread, one.call, outcome, one.upstreams, one.forwarder)
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)
            assert (outcome.ending, outcome.usage.completion) == (Ending.CLIENT_GONE, 2)

    async def test_what_is_read_beside_the_loop_is_billed_however_long_that_takes(self, monkeypatch):
        monkeypatch.setattr(step, "FINISHED_SECONDS", 0)
        go, may_read = asyncio.Event(), threading.Event()
        said = text("word " * LARGE)
        async with bench(halting(ROLE, text("Hello"), said[:-9], then=(said[-9:],), go=go)) as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data)
            [pump] = one.open
            await until(lambda: pump.stream._reader.waits == len(said) - 9 and not pump.busy)
            one.forwarder.aside.start(partial(may_read.wait, WAIT))
            go.set()
            await until(lambda: pump.busy)
            outcome, unread = await one.leave(task)
            draining = one.loop.create_task(drain(unread, one.call, outcome, one.upstreams, one.forwarder))
            await until(unread.done.cancelled)
            may_read.set()
            outcome = await asyncio.wait_for(draining, WAIT)
            assert outcome.ending is Ending.CLIENT_GONE
            assert outcome.usage.completion > LARGE

    async def test_a_provider_that_fails_while_it_is_drained_changes_nothing_for_the_worse(self):
        go = asyncio.Event()
        async with bench(halting(ROLE, text("Hello"), then=(), go=go), on_disconnect="drain") as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data)
            outcome, unread = await one.leave(task)
            draining = one.loop.create_task(drain(unread, one.call, outcome, one.upstreams, one.forwarder))
            go.set()
            outcome = await asyncio.wait_for(draining, WAIT)
            assert (outcome.ending, outcome.usage.completion) == (Ending.CLIENT_GONE, 2)
            assert one.watch.told == [("one", "client_gone")]

    def leave_with_the_end(
        self, one: Bench, task: "asyncio.Task[tuple[Outcome, Exchange | None]]", monkeypatch: pytest.MonkeyPatch
    ) -> Exchange:
        """Let the client go when the exchange is over, but before the one who waits for it has heard of it."""
        (exchange,) = one.open
        resolve = exchange._resolve

        def both(_exchange: Exchange, result: object) -> None:
            resolve(result)
            task.cancel()

        monkeypatch.setattr(type(exchange), "_resolve", both)
        return exchange

    @pytest.mark.parametrize("stream", [False, True])
    async def test_in_the_very_moment_of_the_end_all_is_known_and_the_connection_stays_good(self, stream, monkeypatch):
        go = asyncio.Event()
        whole = SSE + b"".join(chunk(piece) for piece in (ROLE, text("Hello"), FINISH, USAGE, DONE)) + chunk(b"")
        async with bench(waiting(go, whole if stream else http(answer()))) as one:
            task = one.begin(stream=stream)
            await until(lambda: one.open)
            exchange = self.leave_with_the_end(one, task, monkeypatch)
            go.set()
            async with asyncio.timeout(WAIT):
                outcome, unread = await task
                assert unread is exchange
                outcome = await drain(unread, one.call, outcome, one.upstreams, one.forwarder)
            assert (outcome.ending, outcome.source) == (Ending.CLIENT_GONE, UsageSource.UPSTREAM)
            assert (outcome.usage.prompt, outcome.usage.completion) == (12, 8)
            assert one.upstreams["one"].pool.take_idle() is not None
            assert one.watch.told == [("one", "client_gone")]

    async def test_in_the_very_moment_of_a_failure_nobody_else_is_asked(self, monkeypatch):
        go = asyncio.Event()
        async with bench(waiting(go, http(b"{}", status="500 Status")), OK) as one:
            task = one.begin()
            await until(lambda: one.open)
            self.leave_with_the_end(one, task, monkeypatch)
            go.set()
            async with asyncio.timeout(WAIT):
                outcome, unread = await task
                outcome = await drain(unread, one.call, outcome, one.upstreams, one.forwarder)
            assert outcome.ending is Ending.CLIENT_GONE
            assert one.servers["two"].connections == 0
            assert one.watch.told == [("one", "client_gone")]


class TestLimitsThatEndInTheMiddle:
    @pytest.mark.parametrize(
        ("limit", "code"),
        [(Limit.BUDGET, "insufficient_quota"), (Limit.TOKENS_PER_DAY, "rate_limit_exceeded")],
    )
    async def test_the_client_is_told_which_and_what_came_is_owed(self, limit, code):
        go = asyncio.Event()
        words = [text("12345678") for _ in range(60)]
        async with bench(halting(ROLE, *words, then=words, go=go)) as one:
            made = call(stream=True)
            hold = Hold("req_1", 110, 10**9)
            of = watched(made, hold, Limits(budget_nusd=1, on_budget_end=OnBudgetEnd.CUT))
            allowance = Allowance(hold, of, lambda it, _: it.refused(limit))
            task = one.loop.create_task(
                forward(made, one.targets, one.client, LINES, one.upstreams, one.forwarder, allowance)
            )
            await until(lambda: one.client.data.count(b"12345678") == 60)
            go.set()
            outcome, unread = await asyncio.wait_for(task, WAIT)
            await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)
            assert (outcome.ending, outcome.source, unread) == (Ending.CUT, UsageSource.ESTIMATED, None)
            assert 110 <= outcome.usage.prompt + outcome.usage.completion <= 270
            *_, error, done, rest = one.client.data.split(b"\n\n")
            told = json.loads(error.removeprefix(b"data: "))
            assert (done, rest) == (b"data: [DONE]", b"")
            assert "choices" not in told
            assert (told["error"]["type"], told["error"]["code"]) == ("rate_limit_error", code)
            assert one.watch.told == [("one", "cut")]


class TestNothingWaitsForACollector:
    """A request that is over is gone, with its body and its answer: a collector may be a thousand requests away."""

    async def asked(self, one: Bench, *, stream: bool, leave: bool = False) -> None:
        """Serve a call with an allowance and its own client, to its end; nobody else keeps anything of it."""
        made, hold = call(stream=stream), Hold("req_1", 110, 10**9)
        of = watched(made, hold, Limits(budget_nusd=10**9))
        allowance = None if of is None else Allowance(hold, of, lambda it, _: it.granted())
        client = Client()
        task = one.loop.create_task(forward(made, one.targets, client, LINES, one.upstreams, one.forwarder, allowance))
        if leave:
            await until(lambda: client.started)
            task.cancel()
        outcome, unread = await asyncio.wait_for(task, WAIT)
        if unread is not None:
            await drain(unread, made, outcome, one.upstreams, one.forwarder)

    @pytest.mark.parametrize(
        ("stream", "script"),
        [
            (True, STREAM),
            (False, OK),
            (True, failing(500)),
            (False, failing(500)),
            (True, streaming(ROLE, text("Hello"), b'data: {"error":{"message":"no"}}\n\n')),
            (True, closing(SSE + chunk(ROLE))),
            (True, closing(b"")),
        ],
        ids=["stream", "answer", "stream refused", "answer refused", "error in it", "cut", "no answer"],
    )
    async def test_of_an_exchange_that_the_provider_ends(self, stream, script):
        async with bench([script, script]) as one:
            with nothing_to_collect():
                await self.asked(one, stream=stream)

    @pytest.mark.parametrize("fields", [{}, {"on_disconnect": "drain", "drain_max": 0.02}], ids=["cancel", "drain"])
    async def test_of_an_exchange_whose_client_has_left(self, fields):
        async with bench(halting(ROLE, text("Hello")), **fields) as one:
            with nothing_to_collect():
                await self.asked(one, stream=True, leave=True)
                await asyncio.wait_for(one.servers["one"].left.wait(), WAIT)


class TestUsageInEveryEvent:
    def counted(self, words: int) -> bytes:
        """One word, and the usage up to and with it, as vLLM tells it."""
        usage = {"prompt_tokens": 12, "completion_tokens": 3 * words, "total_tokens": 12 + 3 * words}
        return event({"content": "Hello"}, usage=usage)

    @pytest.mark.parametrize(("asks", "sent"), [(True, True), (False, None)])
    async def test_it_is_asked_for_where_the_provider_offers_it(self, asks, sent):
        async with bench(STREAM, continuous_usage_stats=asks) as one:
            await one.run(stream=True)
            ((_, body),) = one.servers["one"].asked
            options = json.loads(body)["stream_options"]
            assert (options["include_usage"], options.get("continuous_usage_stats")) == (True, sent)

    async def test_whoever_leaves_owes_what_the_provider_counted(self):
        words = [self.counted(number) for number in range(1, 6)]
        async with bench(halting(ROLE, *words), continuous_usage_stats=True) as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data.count(b"Hello") == 5)
            outcome, _ = await one.leave(task)
            assert (outcome.usage.prompt, outcome.usage.completion) == (12, 15)
            assert outcome.source is UsageSource.UPSTREAM
            assert b"usage" not in one.client.data.replace(b'"usage":null', b"")

    async def test_what_came_behind_its_last_count_is_added_by_estimate(self):
        """Some providers count once, at the beginning: that is no way to get the rest for nothing."""
        async with bench(halting(ROLE, self.counted(1), text("12345678"), text("12345678"))) as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data.count(b"12345678") == 2)
            outcome, _ = await one.leave(task)
            assert (outcome.usage.prompt, outcome.usage.completion) == (12, 3 + 4)
            assert outcome.source is UsageSource.ESTIMATED

    async def test_the_last_count_is_the_bill_of_a_stream_that_ends(self):
        async with bench(streaming(ROLE, self.counted(1), text("Hello"), FINISH, USAGE, DONE)) as one:
            outcome, _ = await one.run(stream=True)
            assert (outcome.usage.completion, outcome.source) == (8, UsageSource.UPSTREAM)


class TestStopping:
    """The gateway stops and cuts what is still open."""

    async def test_a_stream_ends_with_an_error_that_says_so(self):
        async with bench(halting(ROLE, text("Hello"))) as one:
            task = one.begin(stream=True)
            await until(lambda: one.client.data)
            for exchange in list(one.open):
                exchange.cut()
            outcome, unread = await task
            assert (outcome.ending, unread) == (Ending.CANCELLED, None)
            assert (outcome.usage.completion, outcome.source) == (2, UsageSource.ESTIMATED)
            assert b'"type":"internal_error"' in one.client.data
            assert one.client.data.endswith(DONE)
            assert one.watch.told == [("one", "cancelled")]

    @pytest.mark.parametrize("stream", [False, True])
    async def test_before_the_first_byte_the_client_is_told_to_come_back_and_nobody_else_is_asked(self, stream):
        async with bench(silent, OK) as one:
            task = one.begin(stream=stream)
            await until(lambda: one.servers["one"].asked and one.open)
            for exchange in list(one.open):
                exchange.cut()
            outcome, unread = await task
            assert (outcome.ending, unread) == (Ending.CANCELLED, None)
            assert (outcome.fault.status, outcome.fault.type, outcome.fault.code) == (
                503,
                ErrorType.INTERNAL,
                "overloaded",
            )
            assert outcome.fault.retry_after_ms
            assert one.servers["two"].connections == 0
            assert one.watch.told == [("one", "cancelled")]


class TestHealth:
    """What is learned of the targets, by how the worker counts what it passes over."""

    def passed_over(self, one: Bench) -> dict[str, int]:
        return one.forwarder.health.passed_over(one.clock.now)

    async def fail_often(self, one: Bench, **fields: object) -> None:
        for _ in range(Policy().eject_after):
            await one.run(**fields)
            one.client = Client()

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_target_that_fails_again_and_again_is_known_by_it(self, stream):
        async with bench(failing(500)) as one:
            await self.fail_often(one, stream=stream)
            assert self.passed_over(one) == {"one": 1}

    async def test_so_is_one_that_fails_after_the_first_byte(self):
        async with bench(streaming(ROLE, text("Hello"), event({"error": {"message": "no"}}))) as one:
            for _ in range(WINDOW_FAILURES):
                await one.run(stream=True)
                one.client = Client()
            assert self.passed_over(one) == {"one": 1}

    async def test_and_one_that_falls_silent_but_not_the_others_of_its_provider(self):
        async with bench(halting(ROLE, text("Hello"))) as one:
            for _ in range(WINDOW_FAILURES):
                task = one.begin(stream=True)
                await one.client.got.wait()
                one.time_out()
                await task
                one.clock.pass_by(-1000)  # what is long ago would count no more
                one.client = Client()
            assert self.passed_over(one) == {"one": 1}
            other_model = target("one", called="other")
            health = one.forwarder.health
            assert health.order("m", [other_model, target("two")], one.clock.now)[0] is other_model

    @pytest.mark.parametrize("stream", [False, True])
    async def test_its_first_answer_clears_it(self, stream):
        async with bench([*[closing(http(b"{}", status="500 X"))] * 5, STREAM if stream else OK]) as one:
            await self.fail_often(one, stream=stream)
            outcome, _ = await one.run(stream=stream)
            assert outcome.ending is Ending.COMPLETE
            assert self.passed_over(one) == {}

    async def test_a_stream_clears_it_with_its_first_byte_not_with_its_last(self):
        go = asyncio.Event()
        script = halting(ROLE, text("Hello"), then=(FINISH, USAGE, DONE), go=go)
        async with bench([*[closing(http(b"{}", status="500 X"))] * 5, script]) as one:
            await self.fail_often(one, stream=True)
            task = one.begin(stream=True)
            await one.client.got.wait()
            assert self.passed_over(one) == {}
            go.set()
            await task

    async def test_without_a_retry_left_the_first_failure_is_the_answer(self):
        async with bench(failing(500), OK) as one:
            one.forwarder.health.renew(Policy(retry_burst=1))
            first, _ = await one.run()
            one.client = Client()
            second, _ = await one.run()
            assert (first.ending, first.attempts) == (Ending.COMPLETE, 2)
            assert (second.ending, second.attempts) == (Ending.UPSTREAM_ERROR, 1)
            assert second.fault.code == "upstream_error"
            assert one.forwarder.health.denied == {"lab/model": 1}

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_client_that_leaves_tells_nothing_of_the_target(self, stream):
        async with bench(silent) as one:
            for _ in range(20):
                task = one.begin(stream=stream)
                await until(lambda: one.open)
                await one.leave(task)
            assert self.passed_over(one) == {}


async def test_an_event_in_an_odd_form_is_served_as_the_clients_can_read_it():
    odd = event({"role": "assistant", "content": "Hi"}).replace(b"\n\n", b"\r\n\r\n")
    async with bench(streaming(b"id: 1\r\nevent: message\r\n" + odd, b"retry: 3000\r\n\r\n", FINISH, DONE)) as one:
        outcome, _ = await one.run(stream=True)
        assert outcome.ending is Ending.COMPLETE
        assert b"\r" not in one.client.data
        assert one.client.data.startswith(b"data: ")
        assert b"retry" not in one.client.data
