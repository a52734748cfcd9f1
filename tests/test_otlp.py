"""The queue of spans: bounded, counted, and left behind when its time is over."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from proxy.otlp import MOST_WAITING, Collector
from proxy.trace_spans import Kind, Span
from proxy.wire.trace_context import TraceContext
from waiting import until

CONTEXT = TraceContext("1" * 32, "2" * 16, 1)


def span(name: str = "one") -> Span:
    return Span(name, Kind.SERVER, "2" * 16, None, 1, 2, {"a": 1})


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a collector that takes connections and never answers.

    At the end the library's threads are over: they draw random numbers between their tries, and another test may have
    set the seed.
    """
    before = set(threading.enumerate())
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces?token=secret"
    for thread in set(threading.enumerate()) - before:
        thread.join(60.0)
        assert not thread.is_alive(), thread.name


async def test_what_the_queue_has_no_room_for_is_dropped_and_counted_and_nothing_waits(silent):
    counted: Counter[str] = Counter()
    collector = Collector(silent, "1", lambda outcome, number: counted.update({outcome: number}), lambda _: None)
    for _ in range(MOST_WAITING // 2 + 7):
        collector.export(CONTEXT, [span(), span("two")])
    assert collector.waiting == MOST_WAITING
    assert counted == {"dropped": 14}
    assert await collector.close(0.0) == MOST_WAITING


async def test_closing_does_not_wait_until_the_library_gives_up(silent):
    collector = Collector(silent, "1", lambda *_: None, lambda _: None)
    collector.export(CONTEXT, [span()])
    assert await collector.close(0.05) == 1  # it has not given up, which would leave none


async def test_what_is_wrong_is_told_once_and_without_the_path(silent, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    told: list[str | None] = []
    counted: Counter[str] = Counter()
    collector = Collector(silent, "1", lambda outcome, number: counted.update({outcome: number}), told.append)
    for number in (1, 2):
        collector.export(CONTEXT, [span()])
        await until(lambda: counted["failed"] >= number)  # noqa: B023 - it is asked before the number changes
    await until(lambda: told)
    await collector.close(1.0)
    assert len(told) == 1
    assert told[0]
    assert "secret" not in told[0]


async def test_a_variable_that_cannot_be_read_is_an_error_at_once(silent, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-1")
    with pytest.raises(ValueError, match="delay"):
        Collector(silent, "1", lambda *_: None, lambda _: None)
