"""Commands as the server reads them: what is packed once and filled in later is what hiredis writes."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.limits import Period
from proxy.stores.packing import Command, pack, with_text
from proxy.stores.scripts import load_script

texts = st.text(st.characters(max_codepoint=127), max_size=8)
words = st.lists(texts | st.integers(), max_size=4)


@given(words, st.lists(st.binary(max_size=8), max_size=4))
def test_a_command_with_its_words_filled_in_is_what_the_server_reads(before, after):
    whole = (*before, *after)
    packed = Command(before, len(after)).packed(after)
    assert packed == (hiredis.pack_command(whole) if whole else b"*0\r\n")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 5000])
def test_a_word_may_have_any_length(size: int):
    assert Command(["X"], 2).packed([b"a" * size, b"b"]) == hiredis.pack_command(("X", b"a" * size, b"b"))


def test_a_word_of_an_enumeration_is_its_value():
    assert Command(["X", Period.DAY], 0).packed([]) == pack(["X", Period.DAY]) == hiredis.pack_command(("X", "day"))


def test_what_is_not_ascii_is_not_packed_wrongly():
    with pytest.raises(UnicodeEncodeError):
        Command(["X", "\xe9"], 1)


@given(words)
def test_a_script_by_its_digest_becomes_the_same_script_by_its_text(after):
    script = load_script("admit")

    packed = with_text(pack(("EVALSHA", script.sha, *after)), script)

    assert packed == pack(("EVAL", script.text, *after))
