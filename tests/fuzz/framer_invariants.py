"""The reader of server-sent events, over any bytes:

- No input raises anything.
- The events do not depend on where the bytes were cut.
- The events are those that a plain reading of the rules finds, in the same order, and none else.
- An event that is called clean is exactly one `data: ` line and a blank line, ended by LF.
"""

from streams_read import events_of, ways_to_cut

from proxy.wire.sse import Event, EventReader


def read(pieces: list[bytes]) -> list[Event]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


def cuts_make_no_difference(data: bytes) -> None:
    whole = read([data])
    for pieces in ways_to_cut(data):
        assert read(pieces) == whole


def events_are_those_of_a_plain_reading(data: bytes) -> None:
    found = [(event.raw.split(b"\n")[:-2], event.data) for event in read([data])]
    assert found == [(lines, b"\n".join(values) or None) for lines, values in events_of(data)]


def clean_is_one_line_of_data(data: bytes) -> None:
    for event in read([data]):
        assert event.raw.endswith(b"\n\n")
        assert b"\r" not in event.raw
        assert event.clean == (event.raw == b"data: %b\n\n" % (event.data or b"") and event.data is not None)


INVARIANTS = (cuts_make_no_difference, events_are_those_of_a_plain_reading, clean_is_one_line_of_data)
