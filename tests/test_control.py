"""What supervisor and worker write is what the other reads, one line for each word."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control import Files, Reload, Start, State, Stop, read_state, read_to_worker, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FILES = st.builds(Files, TEXT, TEXT)


@given(
    st.one_of(
        st.builds(Start, FILES, st.integers(0, 255), TEXT, st.dictionaries(TEXT, TEXT)),
        st.builds(Reload, FILES, st.dictionaries(TEXT, TEXT)),
        st.builds(Stop, st.floats(0, 1e9)),
    )
)
def test_an_order_arrives_as_it_was_given_on_one_line(message):
    line = write(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert read_to_worker(line) == message


@given(st.builds(State, st.booleans(), st.lists(TEXT)))
def test_a_workers_state_arrives_as_it_was_told(state):
    line = write(state)
    assert line.count(b"\n") == 1
    assert read_state(line) == state


@pytest.mark.parametrize("line", [b"", b"{}\n", b'{"type":"dance"}\n', b'{"type":"stop"}\n', b"[]\n", b"\xff\n"])
def test_what_is_no_order_is_an_error_and_not_an_order(line):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        read_to_worker(line)
