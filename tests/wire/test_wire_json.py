"""JSON is taken apart at one level and every value keeps its own bytes; what cannot be read is refused."""

import json as standard

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.wire import json
from proxy.wire.json import Disguise, Malformed
from proxy.wire.large_json import MAX_DEPTH, too_deep

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(fields=st.dictionaries(st.text(max_size=5), JSON, max_size=5), indent=st.sampled_from([None, 1]))
def test_every_value_of_an_object_is_its_own_bytes(fields: dict, indent: int | None):
    body = standard.dumps(fields, indent=indent).encode()
    split = json.split_object(body)
    assert list(split) == list(fields)
    for name, raw in split.items():
        assert bytes(raw) in body
        assert standard.loads(bytes(raw)) == fields[name]


def test_a_value_keeps_what_a_number_or_text_loses_by_being_read():
    value = rb'{"n":1.10,"big":123456789012345678901234567890,"e":1E-5,"s":"\u00e9 \/","z":-0}'
    assert bytes(json.split_object(b'{"x": ' + value + b"}")["x"]) == value


def test_of_two_fields_with_one_name_the_last_counts():
    assert bytes(json.split_object(b'{"a":1,"b":2,"a":3}')["a"]) == b"3"


def test_a_list_is_taken_apart_into_objects():
    assert json.split_list(b'[{"a": 1}, {"b": "x"}]') == [{"a": Raw(b"1")}, {"b": Raw(b'"x"')}]


MALFORMED = [
    b"", b" ", b"{", b"}", b"[]", b"null", b'"x"', b"1", b"{'a':1}", b'{"a":1,}', b'{"a"}', b'{"a":}', b'{"a":NaN}',
    b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":[NaN]}', b'{"a":01}', b'{"a":.5}', b'{"a":1.}', b'{"a":+1}',
    b'{"a":tru}', b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":"\\q"}', b'{"a":1}{}', b'{"a":1} x', b"{1:2}",
    b'{"a":"\\ud800"}', b'{"a":' + b"[" * 100_000, b'{"\xff":1}',
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:20]))
def test_what_is_no_json_object_is_refused(body: bytes):
    with pytest.raises(Malformed):
        json.split_object(body)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"[{}", b"[[]]", b"null", b'[{"a":1},2]'])
def test_what_is_no_list_of_objects_is_refused(body: bytes):
    with pytest.raises(Malformed):
        json.split_list(body)


@given(st.binary(max_size=40) | JSON.map(lambda value: standard.dumps(value).encode()))
def test_no_bytes_raise_anything_but_malformed(body: bytes):
    for read in (json.split_object, json.split_list, json.decode):
        try:
            read(body)
        except Malformed as error:
            assert str(error)


def test_why_it_is_malformed_never_quotes_what_came():
    with pytest.raises(Malformed) as why:
        json.split_object(b'{"password":"hunter2" "x":1}')
    assert "hunter2" not in str(why.value)


def test_bytes_that_are_not_utf8_are_named_so_where_they_are_read():
    with pytest.raises(Malformed, match="UTF-8"):
        json.split_object(b'{"\xff":1}')


@pytest.mark.parametrize(
    ("raw", "text"),
    [(None, None), (b"null", None), (b"1", None), (b"{}", None), (b'""', ""), (b'"a\\u00e9"', "aé"),
     (b'"\\ud83d\\ude00"', "😀"), (b'"a\\ud83d"', "a�"), (b'"\xff"', "�"), (b'"\\\\ud83d"', "\\ud83d")],
)  # fmt: skip
def test_the_text_that_a_value_encodes(raw: bytes | None, text: str | None):
    assert json.text_of(None if raw is None else Raw(raw)) == text


def test_half_a_pair_takes_as_many_bytes_in_an_estimate_as_any_character_of_its_size():
    text = json.text_of(Raw(rb'"\ud83d"'))
    assert text is not None
    assert len(text.encode()) == 3


@pytest.mark.parametrize(
    ("raw", "null"), [(None, True), (b"null", True), (b'""', False), (b"0", False), (b"{}", False)]
)
def test_absent_and_null_are_the_same(raw: bytes | None, null: bool):
    assert json.is_null(None if raw is None else Raw(raw)) is null


def test_compact_json_loses_its_blanks_and_nothing_else():
    value = b'{ "a" : 1.10 , "b" : [ 1 , "x \\u00e9 y" ], "c": 123456789012345678901234567890 }'
    assert json.compact(value) == b'{"a":1.10,"b":[1,"x \\u00e9 y"],"c":123456789012345678901234567890}'


def test_a_byte_order_mark_is_taken_off_once():
    assert json.without_bom(b"\xef\xbb\xbf{}") == b"{}"
    assert json.without_bom(b"{}") == b"{}"


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def nested(levels: list[tuple[str, str]]) -> str:
    value = "1"
    for kind, beside in levels:
        text = standard.dumps(beside)
        value = f"[{text},{value},[],{{}}]" if kind == "[" else f'{{{text}:[{{}}],"k":{value}}}'
    return value


BESIDE = st.text(alphabet=r'[]{}"\, a', max_size=6)


@given(
    st.lists(st.tuples(st.sampled_from("[{"), BESIDE), min_size=MAX_DEPTH - 4, max_size=MAX_DEPTH + 4)
    | st.lists(st.tuples(st.sampled_from("[{"), BESIDE), max_size=5)
)
def test_too_deep_is_what_a_recursive_reading_says(levels: list[tuple[str, str]]):
    body = nested(levels)
    assert too_deep(body.encode()) is (depth(standard.loads(body)) > MAX_DEPTH)


@given(JSON)
def test_json_of_everyday_is_not_too_deep(value: object):
    assert not too_deep(standard.dumps(value).encode())


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_deepest_that_is_taken(opening: str, closing: str):
    levels = opening.count("[") + opening.count("{")
    for times, expected in ((MAX_DEPTH // levels, False), (MAX_DEPTH // levels + 1, True)):
        assert too_deep((opening * times + "1" + closing * times).encode()) is expected


def test_wide_is_not_deep():
    assert not too_deep(b"[" + b",".join([b'{"a":[{}]}'] * 10_000) + b"]")


def test_brackets_in_texts_are_not_structure():
    assert not too_deep(b'{"a":"' + b"[{" * 500 + b'\\"' + b"[" * 500 + b'\\\\"}')


@pytest.mark.parametrize("body", [b"[" * 1_000_000, b"[" * 500_000 + b"]" * 500_000, b'{"a":' * 500_000])
def test_a_tower_of_brackets_is_too_deep(body: bytes):
    assert too_deep(body)


ESCAPES = st.lists(
    st.sampled_from([rb"\ud83d", rb"\uD83D", rb"\ude00", rb"\ud83d\ude00", rb"\ue000", rb"\uE001", b"\\\\", rb"\"",
                     b"u", b"d83d", b"\xff", b"\n", b"\\", "é".encode(), rb"\u00e9"])
    | st.binary(max_size=3)
).map(b"".join)  # fmt: skip


@given(ESCAPES)
def test_a_disguise_comes_off_any_bytes_and_keeps_their_number(body: bytes):
    disguise = Disguise(body)
    worn = disguise.put_on(body)
    assert len(worn) == len(body)
    assert disguise.take_off(worn) == body


@given(st.text(alphabet=st.characters(codec=None), max_size=20))
def test_text_in_disguise_can_be_decoded(text: str):
    body = standard.dumps({"text": text}).encode()
    disguise = Disguise(body)
    worn = json.split_object(disguise.put_on(body))
    assert disguise.take_off(bytes(worn["text"])) == standard.dumps(text).encode()


def test_what_needs_no_disguise_stays_the_very_object():
    body = rb'{"a":"\ud83d\ude00 \u00e9"}'
    disguise = Disguise(body)
    assert not disguise
    assert disguise.put_on(body) is body
    assert disguise.take_off(body) is body


def test_different_halves_of_pairs_stay_different_in_disguise():
    body = rb'"\ud83d" "\ude00" "\ud83e" "\ue000"'
    worn = Disguise(body).put_on(body)
    assert len(set(worn.split(b" "))) == 4


def test_a_disguise_is_found_though_every_character_that_nobody_uses_is_there():
    taken = b"".join(rb"\u%04x\u%04X" % (code, code) for code in range(0xE000, 0xF900))
    body = b'{"a":"%b%b\\ud83d"}' % (taken, "".join(map(chr, range(0xE000, 0xF900))).encode())
    disguise = Disguise(body)
    worn = json.split_object(disguise.put_on(body))["a"]
    assert disguise.take_off(bytes(worn)) == body[5:-1]
    assert json.decode_worn(worn, disguise) == standard.loads(body)["a"]


def test_there_are_more_masks_than_a_body_may_have_escapes():
    masks = set(json._masks())
    assert len(masks) > json.MAX_ESCAPES
    assert not [mask for mask in masks if len(chr(int(mask[1:], 16)).encode(errors="replace")) != 3]


@pytest.mark.parametrize("value", [rb'{"a":"\ue000","b":1%b}' % (b"0" * 5000), b"[" * 5000 + b"]" * 5000, b"{"])
def test_what_cannot_be_decoded_without_its_disguise_is_malformed(value: bytes):
    with pytest.raises(Malformed):
        json.decode_worn(value, Disguise(rb'"\ud83d"'))


def test_every_field_comes_out_of_a_disguise():
    body = rb'{"a":"\ud83d","b":["\udc00"]}'
    disguise = Disguise(body)
    fields = disguise.take_off_each(json.split_object(disguise.put_on(body)))
    assert fields == {"a": Raw(rb'"\ud83d"'), "b": Raw(rb'["\udc00"]')}
