"""Commands as the server reads them: whatever the words, the bytes are those that hiredis writes."""

import hiredis
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.limits import Period
from proxy.stores.server import Packed, pack

words = st.lists(st.text(max_size=8) | st.integers() | st.binary(max_size=8), min_size=1, max_size=6)


@given(words, st.integers(0, 6))
@example(["GET", "é", "\x80"], 1)
@example(["GET", b"\xff\x00", ""], 2)
def test_words_are_packed_as_the_server_reads_them_also_where_some_were_packed_before(command, cut):
    expected = hiredis.pack_command(tuple(command))
    assert pack(command) == expected
    assert pack([Packed(*command[:cut]), *command[cut:]]) == expected


def test_a_word_of_an_enumeration_is_its_value():
    assert pack(["X", Period.DAY]) == pack([Packed("X", Period.DAY)]) == hiredis.pack_command(("X", "day"))
