"""How the pump carries a stream: what it hands on, when it begins, whom it slows down, and that it ends once."""

import asyncio
import json

import pytest

from proxy.call import Ending
from proxy.upstream.exchange import MAX_ERROR, Bounds
from proxy.upstream.pump import COMMIT_SECONDS, FINISHED_SECONDS, KEEP_ALIVE, KEEP_ALIVE_SECONDS, Pump
from proxy.usage import UsageSource
from proxy.wire.chat_stream import ChatStream, StreamPlan
from proxy.wire.upstream_error import UpstreamError
from specimens import DONE, FINISH, NOW, ROLE, USAGE, Clock, call, event, text

FIRST_BYTE, IDLE, TOTAL, SIZE = 300.0, 120.0, 3600.0, 1 << 20
BOUNDS = Bounds(first_byte=FIRST_BYTE, idle=IDLE, total=TOTAL, size=SIZE)
OK = (200, {b"content-type": b"text/event-stream"})
TRUNCATED = UpstreamError(kind="upstream_truncated")


class FakeConnection:
    """Notes what the pump asks of its connection."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def abort(self) -> None:
        self.told.append("abort")

    def let_finish(self, _loop: object) -> None:
        self.told.append("let_finish")


class FakeClient:
    """A client that reads everything at once, or (`slow`) nothing; it refuses to be written to out of turn."""

    def __init__(self, *, slow: bool = False) -> None:
        self.started = False
        self.finished = 0
        self.dropped = 0
        self.pieces: list[bytes] = []
        self.slow = slow

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def start(self) -> None:
        assert not self.started, "a head is sent once"
        self.started = True

    def write(self, piece: bytes) -> None:
        assert self.started, "nothing is written before the head"
        assert not self.finished, "nothing is written after the end"
        assert piece, "an empty piece would end the body"
        self.pieces.append(piece)
        if self.slow:
            self.pause()

    def finish(self, last: bytes) -> None:
        if last:
            self.write(last)
        self.finished += 1

    def on_flow(self, pause, resume) -> None:
        self.pause, self.resume = pause, resume

    def drop(self) -> None:
        self.dropped += 1


class Bench:
    """One pump between a fake connection and a fake client, at a time that the test sets."""

    def __init__(self, *, slow: bool = False, **plan: object) -> None:
        self.clock = Clock()
        self.connection = FakeConnection()
        self.client = FakeClient(slow=slow)
        self.failures: list[UpstreamError] = []
        self.beside: list[tuple] = []
        self.call = call(stream=True)
        defaults = {
            "model": "lab/model", "choices": 1, "include_usage": False, "continuous_usage": False, "strip_fields": (),
            "every_event": False, "completion_from_total": False, "now": NOW, "new_id": lambda: "new",
            "estimate": self.call.estimate,
        }  # fmt: skip
        self.pump = Pump(
            self.connection, ChatStream(StreamPlan(**{**defaults, **plan})), self.client,
            bounds=BOUNDS, fail=self._fail, beside=self.begin, clock=self.clock, loop=asyncio.get_running_loop(),
        )  # fmt: skip

    def begin(self, work) -> asyncio.Future[bytes]:
        """Note what is to be done beside the loop; a test says when it is done."""
        self.beside.append((work, future := asyncio.get_running_loop().create_future()))
        return future

    async def work_beside(self) -> None:
        work, future = self.beside.pop(0)
        future.set_result(work())
        await asyncio.sleep(0)

    def _fail(self, error: UpstreamError) -> bytes:
        self.failures.append(error)
        return b"data: ERROR\n\n" + DONE

    def begun(self) -> "Bench":
        """Go as far as the first words of the answer."""
        self.pump.head(*OK)
        self.pump.body(ROLE)
        self.pump.body(text("Hello"))
        return self

    def tick(self, seconds: float) -> None:
        """Let time pass in the steps of the worker's sweep."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.pump.check(self.clock.pass_by(min(0.5, until - self.clock.now)))


def kind_of(bench: Bench) -> str:
    error = bench.pump.done.exception()
    assert isinstance(error, UpstreamError)
    return error.kind


class TestPieces:
    async def test_a_piece_in_which_nothing_has_to_change_reaches_the_client_as_the_same_object(self):
        bench = Bench().begun()
        piece = text("one") + text(" two")
        bench.pump.body(piece)
        assert bench.client.pieces[-1] is piece

    async def test_a_piece_that_ends_inside_an_event_waits_for_the_rest(self):
        bench = Bench().begun()
        whole = text("one")
        sent = len(bench.client.pieces)
        bench.pump.body(whole[:20])
        assert len(bench.client.pieces) == sent
        bench.pump.body(whole[20:])
        assert bench.client.pieces[sent:] == [whole]

    async def test_a_whole_stream_arrives_and_completes_once(self):
        bench = Bench().begun()
        for piece in (FINISH, USAGE, DONE):
            bench.pump.body(piece)
        assert bench.client.data == ROLE + text("Hello") + FINISH + DONE
        assert bench.pump.done.result() is Ending.COMPLETE
        assert bench.client.finished == 1
        assert bench.connection.told == ["let_finish"]
        usage, source = bench.pump.stream.usage()
        assert (usage.prompt, usage.completion, source) == (12, 8, UsageSource.UPSTREAM)

    async def test_a_whole_stream_in_one_piece_arrives_and_completes_once(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.pump.body(ROLE + text("Hello") + FINISH + USAGE + DONE)
        assert bench.client.data == ROLE + text("Hello") + FINISH + DONE
        assert (bench.pump.done.result(), bench.client.finished) == (Ending.COMPLETE, 1)

    async def test_a_stream_that_ends_with_its_body_after_the_finish_reason_is_complete(self):
        bench = Bench().begun()
        bench.pump.body(FINISH)
        bench.pump.complete()
        assert bench.client.data.endswith(FINISH + DONE)
        assert bench.pump.done.result() is Ending.COMPLETE

    async def test_a_stream_that_breaks_off_after_the_finish_reason_is_complete(self):
        bench = Bench().begun()
        bench.pump.body(FINISH)
        bench.pump.broken(TRUNCATED)
        assert bench.client.data.endswith(FINISH + DONE)
        assert (bench.pump.done.result(), bench.failures) == (Ending.COMPLETE, [])

    async def test_silence_behind_the_finish_reason_completes_the_stream_after_a_moment(self):
        bench = Bench().begun()
        bench.pump.body(FINISH)
        bench.tick(FINISHED_SECONDS - 1)
        assert not bench.pump.done.done()
        bench.tick(2)
        assert bench.client.data.endswith(FINISH + DONE)
        assert (bench.pump.done.result(), bench.failures, bench.client.finished) == (Ending.COMPLETE, [], 1)
        assert bench.connection.told == ["abort"]


class TestBeginning:
    async def test_nothing_is_sent_before_the_first_output(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.pump.body(ROLE)
        assert not bench.client.started
        bench.pump.body(text("Hello"))
        assert bench.client.data == ROLE + text("Hello")

    async def test_the_time_of_the_first_byte_is_kept(self):
        bench = Bench()
        bench.pump.head(*OK)
        now = bench.clock.pass_by(2)
        bench.pump.body(ROLE + text("Hello"))
        bench.clock.pass_by(2)
        bench.pump.body(text("x"))
        assert bench.pump.first_byte_at == now

    async def test_the_answer_begins_without_output_after_five_seconds(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.pump.body(ROLE)
        bench.tick(COMMIT_SECONDS - 1)
        assert not bench.client.started
        bench.tick(1)
        assert bench.client.started
        assert bench.client.data == ROLE
        bench.pump.body(text("Hello"))
        assert bench.client.data == ROLE + text("Hello")

    async def test_the_answer_begins_after_five_seconds_even_if_nothing_at_all_has_come(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.tick(COMMIT_SECONDS)
        assert bench.client.started
        assert bench.client.pieces == []

    async def test_before_the_providers_head_there_is_nothing_to_begin(self):
        bench = Bench()
        bench.tick(COMMIT_SECONDS + 5)
        assert not bench.client.started

    @pytest.mark.parametrize(
        ("status", "headers", "body", "error"),
        [
            (401, {}, b'{"error":{"message":"no"}}', ("upstream_error", 401, "no", None)),
            (429, {b"retry-after": b"7"}, b"busy", ("upstream_error", 429, "busy", 7000)),
            (429, {b"retry-after": b"7", b"content-encoding": b"gzip"}, b"\x1f", ("upstream_error", 429, "", 7000)),
            (301, {}, b"", ("upstream_error", 301, "", None)),
            (101, {}, b"", ("upstream_error", 101, "", None)),
        ],
    )
    async def test_a_status_that_is_no_success_fails_with_its_body_before_the_first_byte(
        self, status, headers, body, error
    ):
        bench = Bench()
        bench.pump.head(status, headers)
        if body:
            bench.pump.body(body)
        assert not bench.pump.over
        bench.pump.complete()
        found = bench.pump.done.exception()
        assert (found.kind, found.status, found.body.message, found.retry_after_ms) == error
        assert not bench.client.started
        assert bench.connection.told == []

    async def test_a_refusal_whose_body_breaks_off_is_still_that_refusal(self):
        bench = Bench()
        bench.pump.head(503, {})
        bench.pump.body(b"over")
        bench.pump.broken(TRUNCATED)
        assert bench.pump.done.exception().status == 503

    async def test_a_refusal_whose_body_never_ends_is_still_that_refusal(self):
        bench = Bench()
        bench.pump.head(503, {})
        bench.tick(IDLE)
        assert bench.pump.done.exception().status == 503
        assert bench.connection.told == ["abort"]

    async def test_a_refusal_is_read_no_further_than_makes_sense(self):
        bench = Bench()
        bench.pump.head(500, {})
        for _ in range(100):
            bench.pump.body(b"x" * 10_000)
        assert sum(len(part) for part in bench.pump._failure._parts) == 64 * 1024
        bench.pump.complete()
        assert bench.pump.done.exception().status == 500

    async def test_a_compressed_stream_is_a_bad_answer(self):
        bench = Bench()
        bench.pump.head(200, {b"content-encoding": b"gzip"})
        assert kind_of(bench) == "upstream_bad_response"
        assert bench.connection.told == ["abort"]

    @pytest.mark.parametrize("coding", [b"identity", b"Identity"])
    async def test_a_coding_that_is_none_is_no_matter(self, coding):
        bench = Bench()
        bench.pump.head(200, {b"content-encoding": coding})
        assert not bench.pump.over

    async def test_an_error_before_the_first_output_is_no_stream_yet(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.pump.body(ROLE + b'data: {"error":{"message":"no","code":503}}\n\n')
        error = bench.pump.done.exception()
        assert (error.status, error.body.message) == (503, "no")
        assert not bench.client.started
        assert bench.connection.told == ["abort"]

    async def test_a_stream_that_ends_before_any_output_is_truncated(self):
        bench = Bench()
        bench.pump.head(*OK)
        bench.pump.body(ROLE)
        bench.pump.complete()
        assert kind_of(bench) == "upstream_truncated"

    async def test_a_connection_that_ends_before_the_head_is_what_the_connection_says(self):
        bench = Bench()
        bench.pump.broken(UpstreamError(kind="upstream_unavailable"))
        assert kind_of(bench) == "upstream_unavailable"

    async def test_one_json_body_where_a_stream_was_asked_for_becomes_a_stream(self):
        bench = Bench()
        bench.pump.head(200, {b"content-type": b"application/json"})
        message = {"role": "assistant", "content": "Hi"}
        whole = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        bench.pump.body(json.dumps(whole).encode())
        bench.pump.complete()
        assert bench.pump.done.result() is Ending.COMPLETE
        assert b'"content":"Hi"' in bench.client.data
        assert bench.client.data.endswith(DONE)


class TestErrorsAfterTheFirstByte:
    async def test_an_error_event_ends_the_stream_with_ours(self):
        bench = Bench().begun()
        bench.pump.body(b'data: {"error":{"message":"boom"}}\n\n')
        assert bench.client.data == ROLE + text("Hello") + b"data: ERROR\n\n" + DONE
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR
        assert (bench.client.finished, len(bench.failures)) == (1, 1)
        assert bench.connection.told == ["abort"]

    @pytest.mark.parametrize("how", ["complete", "broken"])
    async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_called_truncated(self, how):
        bench = Bench().begun()
        if how == "complete":
            bench.pump.complete()
        else:
            bench.pump.broken(TRUNCATED)
        assert bench.client.data.endswith(b"data: ERROR\n\n" + DONE)
        assert bench.pump.done.result() is Ending.UPSTREAM_TRUNCATED
        assert [error.kind for error in bench.failures] == ["upstream_truncated"]

    async def test_framing_that_breaks_is_an_error(self):
        bench = Bench().begun()
        bench.pump.broken(UpstreamError(kind="upstream_bad_response"))
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR

    async def test_events_before_an_error_in_the_same_piece_arrive(self):
        bench = Bench().begun()
        bench.pump.body(text(" world") + b'data: {"error":{"message":"boom"}}\n\n')
        assert text(" world") in bench.client.data


class TestDeadlines:
    async def test_a_provider_that_says_nothing_has_until_the_first_byte_deadline(self):
        bench = Bench()
        bench.tick(FIRST_BYTE - 1)
        assert not bench.pump.over
        bench.tick(1)
        assert kind_of(bench) == "upstream_timeout"
        assert bench.connection.told == ["abort"]

    async def test_silence_after_the_head_has_the_idle_deadline(self):
        bench = Bench().begun()
        bench.tick(IDLE - 1)
        assert not bench.pump.over
        bench.tick(1)
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR
        assert [error.kind for error in bench.failures] == ["upstream_timeout"]

    async def test_every_byte_begins_the_idle_deadline_anew_a_comment_too(self):
        bench = Bench().begun()
        bench.tick(IDLE - 1)
        bench.pump.body(b": still there\n\n")
        bench.tick(IDLE - 1)
        assert not bench.pump.over

    async def test_a_stream_of_half_an_hour_is_served_u22(self):
        bench = Bench().begun()
        for number in range(60):
            bench.tick(30)
            bench.pump.body(text(f"after {number} halves of a minute"))
        bench.pump.body(FINISH + DONE)
        assert await bench.pump.done is Ending.COMPLETE
        assert bench.failures == []
        assert b"after 59 halves" in bench.client.data

    async def test_a_client_hears_a_comment_after_fifteen_seconds_of_silence(self):
        bench = Bench().begun()
        bench.tick(KEEP_ALIVE_SECONDS - 1)
        assert KEEP_ALIVE not in bench.client.pieces
        bench.tick(1)
        assert bench.client.pieces[-1] == KEEP_ALIVE
        bench.tick(KEEP_ALIVE_SECONDS)
        assert bench.client.pieces.count(KEEP_ALIVE) == 2

    async def test_what_goes_to_the_client_puts_the_comment_off(self):
        bench = Bench().begun()
        bench.tick(KEEP_ALIVE_SECONDS - 1)
        bench.pump.body(text("x"))
        bench.tick(KEEP_ALIVE_SECONDS - 1)
        assert KEEP_ALIVE not in bench.client.pieces

    async def test_a_providers_comments_are_not_the_clients_and_ours_comes_between_events(self):
        bench = Bench().begun()
        half = text("half an event")
        bench.pump.body(b": OPENROUTER PROCESSING\n\n" + half[:30])
        bench.tick(KEEP_ALIVE_SECONDS)
        bench.pump.body(half[30:])
        assert bench.client.data == ROLE + text("Hello") + KEEP_ALIVE + half

    async def test_no_comment_goes_out_before_the_answer_has_begun(self):
        bench = Bench()
        bench.tick(KEEP_ALIVE_SECONDS * 3)
        assert not bench.client.started

    async def test_when_it_is_over_time_changes_nothing(self):
        bench = Bench().begun()
        bench.pump.body(FINISH + DONE)
        sent = bench.client.data
        bench.tick(FIRST_BYTE + IDLE)
        assert bench.client.data == sent
        assert bench.pump.done.result() is Ending.COMPLETE


class TestSlowClients:
    async def test_a_client_that_does_not_keep_up_stops_the_provider_until_it_does(self):
        bench = Bench().begun()
        bench.client.pause()
        assert bench.connection.told == ["pause"]
        bench.client.resume()
        assert bench.connection.told == ["pause", "resume"]

    async def test_silence_while_the_client_is_slow_is_not_the_providers(self):
        bench = Bench().begun()
        bench.tick(IDLE - 1)
        bench.client.pause()
        bench.tick(2 * IDLE)
        bench.client.resume()
        bench.tick(IDLE - 1)
        assert not bench.pump.over
        bench.tick(1)
        assert bench.pump.over

    async def test_a_slow_client_gets_no_comments_on_top(self):
        bench = Bench().begun()
        bench.client.pause()
        bench.tick(KEEP_ALIVE_SECONDS * 2)
        assert KEEP_ALIVE not in bench.client.pieces

    async def test_a_bug_of_ours_ends_it_at_once_for_whoever_waits(self):
        bench, bug = Bench().begun(), ZeroDivisionError()
        bench.pump.give_up(bug)
        assert bench.pump.done.exception() is bug
        assert bench.connection.told[-1] == "abort"

    async def test_since_when_a_client_does_not_read_is_told_and_it_can_be_given_up(self):
        bench = Bench().begun()
        assert bench.pump.stalled_at is None
        bench.tick(3)
        bench.client.pause()
        assert bench.pump.stalled_at == bench.clock()
        bench.pump.drop_client()
        assert bench.client.dropped
        bench.client.resume()
        assert bench.pump.stalled_at is None

    async def test_a_connection_is_given_back_reading_although_the_last_piece_stopped_it(self):
        """It would serve the next request deaf."""
        bench = Bench(slow=True)
        bench.pump.head(*OK)
        bench.pump.body(ROLE + text("Hello") + FINISH + DONE)
        assert bench.pump.done.result() is Ending.COMPLETE
        assert bench.connection.told[-1] == "resume"

    @pytest.mark.parametrize("how", ["complete", "broken"])
    async def test_the_same_where_the_body_ends_the_stream(self, how):
        bench = Bench(slow=True).begun()
        bench.client.resume()
        bench.pump.body(FINISH)
        bench.client.resume()
        if how == "complete":
            bench.pump.complete()
        else:
            bench.pump.broken(TRUNCATED)
        assert bench.pump.done.result() is Ending.COMPLETE
        assert bench.connection.told[-1] == "resume"

    async def test_when_it_is_over_the_connection_is_somebody_elses(self):
        """The client's connection lives on and may fall behind again, with another answer."""
        bench = Bench().begun()
        bench.pump.body(FINISH + DONE)
        told = list(bench.connection.told)
        bench.client.pause()
        bench.client.resume()
        bench.pump.abort()
        bench.pump.cut()
        assert bench.connection.told == told


class TestLeaving:
    """The client goes; whoever waited for the stream was cancelled, and says how it goes on."""

    async def left(self, bench: Bench) -> None:
        bench.pump.done.cancel()
        bench.pump.leave()

    async def test_the_rest_is_read_for_its_usage_and_sent_to_nobody(self):
        bench = Bench().begun()
        sent = bench.client.data
        await self.left(bench)
        bench.pump.body(text(" world") + FINISH + USAGE + DONE)
        assert await bench.pump.done is Ending.COMPLETE
        assert (bench.client.data, bench.client.finished) == (sent, 0)
        assert bench.pump.stream.usage()[1] is UsageSource.UPSTREAM
        assert bench.connection.told == ["let_finish"]

    async def test_a_stopped_provider_is_read_on(self):
        bench = Bench(slow=True).begun()
        await self.left(bench)
        assert bench.connection.told == ["pause", "resume"]

    async def test_silence_is_still_bounded_and_nobody_is_written_to(self):
        bench = Bench().begun()
        sent = bench.client.data
        await self.left(bench)
        bench.tick(IDLE)
        assert await bench.pump.done is Ending.UPSTREAM_ERROR
        assert (bench.client.data, bench.failures) == (sent, [])

    async def test_before_the_first_byte_nothing_is_begun_for_nobody(self):
        bench = Bench()
        bench.pump.head(*OK)
        await self.left(bench)
        bench.tick(COMMIT_SECONDS + KEEP_ALIVE_SECONDS)
        bench.pump.body(ROLE + text("Hello") + FINISH + USAGE + DONE)
        assert not bench.client.started
        assert await bench.pump.done is Ending.COMPLETE

    async def test_a_stream_that_was_stopped_by_us_while_nobody_listened_is_cancelled(self):
        bench = Bench().begun()
        await self.left(bench)
        bench.pump.cut()
        assert await bench.pump.done is Ending.CANCELLED
        assert bench.failures == []

    async def test_aborting_closes_the_connection(self):
        bench = Bench().begun()
        bench.pump.done.cancel()
        bench.pump.abort()
        assert bench.connection.told == ["abort"]
        assert bench.pump.over

    async def test_an_end_in_the_moment_of_leaving_is_not_lost(self):
        """Between the cancellation and the one who was cancelled, a turn of the loop may bring the end."""
        bench = Bench().begun()
        bench.pump.done.cancel()
        bench.pump.body(FINISH + USAGE + DONE)
        bench.pump.leave()
        assert await bench.pump.done is Ending.COMPLETE
        bench.pump.abort()
        assert bench.connection.told == ["let_finish"], "the connection may serve another request by now"

    async def test_an_error_in_the_moment_of_leaving_is_not_lost(self):
        bench = Bench()
        bench.pump.done.cancel()
        bench.pump.broken(UpstreamError(kind="upstream_unavailable"))
        bench.pump.leave()
        with pytest.raises(UpstreamError):
            await bench.pump.done


class TestCutting:
    """The gateway is stopping."""

    async def test_a_stream_ends_with_an_error_that_the_client_can_see(self):
        bench = Bench().begun()
        bench.pump.cut()
        assert bench.client.data.endswith(b"data: ERROR\n\n" + DONE)
        assert (bench.client.finished, bench.pump.done.result()) == (1, Ending.CANCELLED)
        assert [error.kind for error in bench.failures] == ["gateway_stopping"]
        assert bench.connection.told == ["abort"]

    async def test_one_that_has_not_begun_fails_as_stopped_and_not_as_the_providers_fault(self):
        bench = Bench()
        bench.pump.cut()
        assert kind_of(bench) == "gateway_stopping"
        assert not bench.client.started

    async def test_it_ends_only_once(self):
        bench = Bench().begun()
        bench.pump.cut()
        bench.pump.cut()
        bench.pump.broken(TRUNCATED)
        bench.pump.complete()
        bench.pump.abort()
        bench.tick(IDLE)
        assert (bench.client.finished, bench.pump.done.result()) == (1, Ending.CANCELLED)
        assert bench.connection.told == ["abort"]


async def test_an_event_that_is_too_large_is_a_bad_answer(monkeypatch):
    bench = Bench().begun()
    monkeypatch.setattr("proxy.wire.sse.MAX_EVENT", 100)
    bench.pump.body(event({"content": "x" * 200})[:-2])
    assert bench.pump.done.result() is Ending.UPSTREAM_ERROR
    assert [error.kind for error in bench.failures] == ["upstream_bad_response"]


class Gauge:
    """Says at each look what it was given, then the last of it again."""

    def __init__(self, *says: int | None) -> None:
        self.says = list(says)
        self.looks: list[tuple[object, int]] = []

    def look(self, told, output_bytes, /):
        self.looks.append((told, output_bytes))
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]

    def on_news(self, look_again, /) -> None:
        self.tell = look_again


def watched(*says: int | None, slow: bool = False) -> tuple[Bench, Gauge]:
    bench, gauge = Bench(slow=slow), Gauge(*says)
    bench.pump.watch(gauge)
    return bench, gauge


class TestGauge:
    async def test_it_is_looked_at_from_the_first_output_on_as_often_as_it_says(self):
        bench, gauge = watched(len(text("1234")) + 1)
        bench.begun()
        for _ in range(6):
            bench.pump.body(text("1234"))
        assert gauge.looks == [(None, 5), (None, 13), (None, 21), (None, 29)]

    async def test_where_it_says_so_the_stream_ends_with_an_error_and_the_provider_is_let_go(self):
        bench, _ = watched(1, None)
        bench.begun()
        bench.pump.body(text("the last"))
        assert bench.pump.done.result() is Ending.CUT
        assert [error.kind for error in bench.failures] == ["limit_reached"]
        assert bench.client.data.endswith(text("the last") + b"data: ERROR\n\n" + DONE)
        assert bench.client.finished == 1
        assert bench.connection.told == ["abort"]
        assert bench.pump.stream.usage()[0].completion == 4

    async def test_once_all_is_said_it_has_nothing_more_to_say(self):
        bench, gauge = watched(1)
        bench.begun()
        looks = len(gauge.looks)
        for piece in (FINISH, USAGE, DONE):
            bench.pump.body(piece)
        assert len(gauge.looks) == looks
        assert bench.pump.done.result() is Ending.COMPLETE

    async def test_while_it_waits_nothing_more_is_taken_and_nobody_counts_as_silent(self):
        bench, gauge = watched(0, 1)
        bench.begun()
        assert bench.connection.told == ["pause"]
        bench.tick(IDLE + 1)
        assert not bench.pump.done.done()
        gauge.tell()
        assert bench.connection.told == ["pause", "resume"]
        bench.tick(IDLE - 1)
        assert not bench.pump.done.done()
        bench.tick(2)
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR

    async def test_its_news_may_be_the_end(self):
        bench, gauge = watched(0, None)
        bench.begun()
        gauge.tell()
        assert bench.pump.done.result() is Ending.CUT
        gauge.tell()
        assert len(gauge.looks) == 2

    @pytest.mark.parametrize("first", ["gauge", "client"])
    async def test_a_provider_waits_as_long_as_gauge_or_client_do(self, first):
        bench, gauge = watched(0, 1, slow=True)
        bench.begun()
        assert bench.connection.told == ["pause"]
        (gauge.tell if first == "gauge" else bench.client.resume)()
        assert bench.connection.told == ["pause"]
        (bench.client.resume if first == "gauge" else gauge.tell)()
        assert bench.connection.told == ["pause", "resume"]

    async def test_a_connection_whose_last_piece_was_waited_for_serves_others_again(self):
        bench, gauge = watched(0, 0)
        bench.begun()
        bench.pump.body(FINISH + USAGE + DONE)
        assert bench.pump.done.result() is Ending.COMPLETE
        assert bench.connection.told == ["pause", "let_finish", "resume"]
        gauge.tell()
        assert bench.connection.told == ["pause", "let_finish", "resume"]

    async def test_it_watches_a_stream_whose_client_has_left_too(self):
        bench, gauge = watched(1, None)
        bench.pump.head(*OK)
        bench.pump.body(ROLE)
        bench.pump.done.cancel()
        bench.pump.leave()
        bench.pump.body(text("one"))
        bench.pump.body(text("two"))
        assert len(gauge.looks) == 2
        assert bench.connection.told == ["abort"]
        with pytest.raises(UpstreamError):
            await bench.pump.done


class TestBounds:
    async def test_a_stream_that_never_ends_is_cut_with_an_error_although_it_is_never_silent(self):
        bench = Bench().begun()
        for _ in range(int(TOTAL) - 1):
            bench.pump.body(text("on"))
            bench.tick(1)
        assert not bench.pump.over
        bench.tick(1)
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR
        assert [failure.kind for failure in bench.failures] == ["upstream_timeout"]
        assert (bench.connection.told, bench.client.finished) == (["abort"], 1)

    async def test_the_time_passes_although_the_client_does_not_read(self):
        bench = Bench(slow=True).begun()
        bench.pump.check(bench.clock.pass_by(TOTAL))
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR

    async def test_a_stream_that_has_said_all_is_not_cut_while_its_usage_is_waited_for(self):
        bench = Bench().begun()
        bench.clock.pass_by(TOTAL - 1)
        bench.pump.body(FINISH)
        bench.tick(2)
        assert not bench.pump.over
        bench.pump.body(USAGE + DONE)
        assert bench.pump.done.result() is Ending.COMPLETE

    async def test_a_stream_with_more_bytes_than_its_provider_may_send_is_cut(self):
        bench = Bench().begun()
        while not bench.pump.over and len(bench.client.pieces) < SIZE // 1000 + 2:
            bench.pump.body(text("x" * 1000))
        assert bench.pump.done.result() is Ending.UPSTREAM_ERROR
        assert [failure.kind for failure in bench.failures] == ["upstream_bad_response"]
        assert SIZE - 2000 < sum(map(len, bench.client.pieces)) < SIZE + 2000

    async def test_a_refusal_that_never_ends_is_told_as_soon_as_enough_of_it_is_known(self):
        bench = Bench()
        bench.pump.head(503, {})
        bench.pump.body(b"x" * MAX_ERROR)
        assert kind_of(bench) == "upstream_error"
        assert bench.connection.told == ["abort"]

    async def test_a_refusal_that_drips_is_told_after_the_time_of_one_silence(self):
        bench = Bench()
        bench.pump.head(503, {})
        for _ in range(int(IDLE) + 1):
            bench.pump.body(b"x")
            bench.tick(1)
        assert kind_of(bench) == "upstream_error"
