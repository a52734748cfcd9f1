"""Events are found as the standard for server-sent events says, wherever the stream was cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import cut_at, in_pieces_of

from proxy.wire import sse
from proxy.wire.sse import Event, EventReader


def read(pieces: list[bytes]) -> list[Event]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.end()


def said(events: list[Event]) -> list[tuple[bytes | None, bytes | None]]:
    return [(event.data, event.error) for event in events if event.data is not None or event.error is not None]


def reference(stream: bytes) -> list[tuple[bytes | None, bytes | None]]:
    """Read a whole stream line by line, as the standard tells it; the last event counts without its blank line."""
    found = []
    data: list[bytes] = []
    error = None
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf")), b""]:
        if not line:
            joined = b"\n".join(data) or None
            if joined is not None or error is not None:
                found.append((joined, error))
            data, error = [], None
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if name == b"data":
            data.append(value)
        elif name == b"error" and value:
            error = value
    return found


TOKENS = st.sampled_from(
    [b"data: {}", b"data:{}", b"data:", b"data", b"data: ", b"data:  x", b": hello", b":", b"id: 1", b"retry: 3",
     b"event: ping", b"error: {}", b"error:", b"data : x", b"datax: y", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n",
     b"\r\r", b" ", b"\xef\xbb\xbf", b"\xef", b"\xc3\xa9", b"\x00", b"x"]
)  # fmt: skip
STREAMS = st.lists(TOKENS, max_size=20).map(b"".join)
PLACES = st.lists(st.integers(0, 400), max_size=12)


@given(STREAMS, PLACES)
def test_any_stream_is_read_as_the_standard_says_however_it_was_cut(stream: bytes, places: list[int]):
    assert said(read(cut_at(places, stream))) == reference(stream)


@given(STREAMS, PLACES)
def test_events_do_not_depend_on_cuts_to_the_last_byte(stream: bytes, places: list[int]):
    assert read(cut_at(places, stream)) == read([stream]) == read(in_pieces_of(1, stream))


@given(STREAMS)
def test_a_clean_event_is_the_form_in_which_clients_get_it(stream: bytes):
    for event in read([stream]):
        assert b"\r" not in event.raw
        assert event.raw.endswith(b"\n\n")
        if event.clean:
            assert event.raw == b"data: " + (event.data or b"") + b"\n\n"


@pytest.mark.parametrize(
    ("block", "data", "clean"),
    [
        (b"data: {}\n\n", b"{}", True),
        (b"data:{}\n\n", b"{}", False),
        (b"data: {}\r\n\r\n", b"{}", True),
        (b"data: {}\r\r", b"{}", True),
        (b"\n\ndata: {}\n\n", b"{}", True),
        (b"data: [DONE]", b"[DONE]", True),
        (b"data: a\ndata: b\n\n", b"a\nb", False),
        (b"event: x\ndata: {}\n\n", b"{}", False),
        (b"data: {}\nid: 7\n\n", b"{}", False),
        (b"data: {}\n: why\n\n", b"{}", False),
    ],
)
def test_one_event(block: bytes, data: bytes, clean: bool):
    (event,) = read([block])
    assert (event.data, event.clean) == (data, clean)


@pytest.mark.parametrize("block", [b": comment\n\n", b"retry: 10\n\n", b"event: ping\ndata:\n\n", b"id\n\n", b"x\n\n"])
def test_an_event_without_data_says_nothing(block: bytes):
    assert said(read([block])) == []


def test_a_byte_order_mark_counts_only_at_the_start():
    stream = b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n"
    assert [data for data, _ in said(read(in_pieces_of(1, stream)))] == [b"a", b"c"]


def test_blank_lines_are_no_events():
    assert read([b"\n" * 7, b"\r\n", b"\n"]) == []


def test_a_reader_is_idle_only_between_events():
    reader = EventReader()
    assert not reader.idle, "a byte order mark may still come"
    for piece, idle in ((b"data: a\n\n", True), (b"data", False), (b": b\n", False), (b"\n", True),
                        (b"data: c\r\r", False), (b"\n", True)):  # fmt: skip
        reader.feed(piece)
        assert reader.idle is idle, piece


SMALL = 40


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("ending", [b"\n\n", b""])
def test_an_event_beyond_the_bound_is_refused_and_what_came_before_it_is_kept(
    monkeypatch: pytest.MonkeyPatch, size: int, ending: bytes
):
    monkeypatch.setattr(sse, "MAX_EVENT", SMALL)
    fits = b"data: " + b"x" * (SMALL - 8) + b"\n\n"
    reader = EventReader()
    stream = fits + b"data: " + b"y" * (SMALL - 7 + (2 if not ending else 0)) + ending + b"data: z\n\n" * bool(ending)
    events = [event for piece in in_pieces_of(size, stream) for event in reader.feed(piece)]
    assert [event.raw for event in events] == [fits]
    assert reader.too_large
    assert reader.feed(b"data: later\n\n") == []
    assert reader.end() == []


def test_an_event_just_within_the_bound_is_taken_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sse, "MAX_EVENT", SMALL)
    stream = (b"data: " + b"x" * (SMALL - 8) + b"\n\n") * 5
    reader = EventReader()
    assert len([event for piece in in_pieces_of(7, stream) for event in reader.feed(piece)]) == 5
    assert not reader.too_large
