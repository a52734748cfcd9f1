"""The quick look at an event never disagrees with the full one, and counts what the full one counts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_events import ROLE, lines, same_model, spaced

from proxy.wire.scan import OutputCounter, is_plain
from proxy.wire.text_event import ARGUMENTS, CONTENT, REASONING, TextEvent

PLAIN = same_model('{"content":"a"}')
TEXTS = st.lists(
    st.sampled_from([b"a", b"\xc3\xa9", b"\\", b'"', b'\\"', b"\n", b"\r", b"}", b"}\n\n", b"[DONE]", b'"usage":{',
                     b"null"]),
    max_size=5,
).map(b"".join)  # fmt: skip
FRAMES = st.sampled_from(
    [
        (b'data: {"choices":[{"delta":{"content":"', b'"},"finish_reason":null}]}\n\n'),
        (b'data: {"content":"', b'"}\n\n'),
        (b'data: {"content":"', b"}\n\n"),
        (b'data: {"x":"\\"content\\":","content":"', b'"}\n\n'),
        (b'data: {"a":{"content":"x"},"b":{"content":"', b'"}}\n\n'),
        (b'data: {"reasoning":"', b'"}\n\n'),
    ]
)


@given(frame=FRAMES, learned=TEXTS, other=TEXTS, frames=FRAMES)
def test_what_has_the_form_of_a_plain_text_event_is_plain(frame, learned, other, frames):
    """The quick look and the full one never disagree about an event that the quick one takes."""
    event = frame[0] + learned + frame[1]
    form = TextEvent.like(event) if is_plain(event) else None
    for piece in (event, frame[0] + other + frame[1], frames[0] + other + frames[1], event + event):
        if form is not None and form.takes(piece, OutputCounter()):
            assert is_plain(piece)


@pytest.mark.parametrize(
    "broken", [(b"a\\", b',"a'), (b'a"', b'"a'), (b'a","b', b"a\\"), (b"a\n", b"b"), (b'"\n"', b"")]
)
def test_two_broken_events_do_not_make_up_for_each_other(broken: tuple[bytes, bytes]):
    events = b"".join(lines(PLAIN).replace(b'"a"', b'"%b"' % text) for text in broken)
    assert learned(PLAIN).read(events) is None
    assert not learned(PLAIN).takes(events, OutputCounter())


INSIDES = st.lists(
    st.sampled_from([b"a", b"\xc3\xa9", b"\xc3", b"\xa9", b"\\", b'"', b"n", b"/", b"u", b"d83d", b"DE00", b"00e9",
                     b"\n", b",", b"\\ud83d\\ude00", b"\\u12", b"x" * 200, b'"},"obfuscation":"']), max_size=5,
).map(b"".join)  # fmt: skip


@settings(max_examples=300)
@given(insides=st.lists(st.tuples(INSIDES, INSIDES), min_size=1, max_size=3), varies=st.booleans())
def test_the_quickest_look_takes_what_the_careful_one_reads(insides: list[tuple[bytes, bytes]], varies: bool):
    form, sample = learned(PLAIN), lines(PLAIN)
    if varies:
        form, sample = learned(padded()).widened(lines(padded(value="y")), CONTENT), lines(padded())
    events = b"".join(
        sample.replace(b'"a"', b'"%b"' % text).replace(b'"x"', b'"%b"' % value) for text, value in insides
    )
    found, slow, quick = form.read(events), OutputCounter(), OutputCounter()
    if found is not None:
        form.count(events, found, slow)
    assert form.takes(events, quick) is (None if found is None else events)
    assert quick.total() == slow.total()


def learned(event: str, keys: tuple[bytes, ...] = CONTENT) -> TextEvent:
    form = TextEvent.like(lines(event), keys)
    assert form is not None
    return form


def texts_of(form: TextEvent, piece: bytes) -> list[bytes] | None:
    """The texts of a piece, as far as it is of a form."""
    found = form.read(piece)
    return None if found is None else [one[form.text] for one in found]


@pytest.mark.parametrize(
    "text",
    ["b", "", "other, longer text", "é😀", r"\n\u00e9", r"a \"b\" c", r"\"", r"\\", r"\\\"\ud83d\ude00", r"\/\uD7ff"],
)
def test_the_text_alone_may_differ_in_events_of_one_form(text: str):
    assert texts_of(learned(PLAIN), lines(same_model(f'{{"content":"{text}"}}'))) == [text.encode()]


@pytest.mark.parametrize(
    "other",
    [
        lines(same_model(ROLE)),
        lines(same_model('{"content":"a"}', '"stop"')),
        lines(spaced('{"content": "a"}')),
        lines(same_model(r'{"content":"a\x"}')),
        lines(same_model(r'{"content":"a\u00"}')),
        lines(same_model(r'{"content":"\ud83d"}')),
        lines(same_model(r'{"content":"\ude00\ud83d"}')),
        lines(same_model(r'{"content":"\ud83d\ud83d"}')),
        lines(same_model(r'{"content":"\ud83d\u0061"}')),
        lines(same_model('{"content":"\\t\x1f"}')),
        lines(same_model('{"content":"a"}').replace('"a"', r'"a\\", "b":"')),
        lines(same_model('{"content":"a"}').replace('"a"', r'"a","b":"')),
        lines(same_model(r'{"content":"a\"}')),
        lines(same_model('{"content":"a\rb"}')),
        lines(same_model('{"content":"a"}')).replace(b'"a"', b'"\xff"'),
        lines(PLAIN)[:-1],
        lines(PLAIN)[1:],
        lines(PLAIN) + b"\n",
    ],
)
def test_any_other_difference_makes_another_form(other: bytes):
    for piece in (other, other + lines(PLAIN), lines(PLAIN) + other):
        counter = OutputCounter()
        assert learned(PLAIN).read(piece) is None
        assert not learned(PLAIN).takes(piece, counter)
        assert counter.total() == 0


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_several_events_of_one_form_are_taken_together_or_not_at_all(texts: list[str]):
    form = learned(PLAIN)
    encoded = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts]
    events = [lines(PLAIN).replace(b'"a"', b'"%b"' % text) for text in encoded]
    assert [texts_of(form, event) for event in events] == [[text] for text in encoded]
    assert texts_of(form, b"".join(events)) == encoded
    assert form.read(b"".join([*events, lines(same_model('{"content":"a","x":1}'))])) is None


def test_a_piece_that_is_shorter_than_its_two_ends_is_of_no_form():
    before, behind = b'data: {"a":"', b'":"}\n\n'
    form = TextEvent(before + behind, [(len(before), len(before), b"()", None)], 0)
    short = b'data: {"a":"}\n\n'
    assert short.startswith(before)
    assert short.endswith(behind)
    assert form.read(short) is None
    assert not form.takes(short, OutputCounter())


@pytest.mark.parametrize(
    ("delta", "keys", "text"),
    [
        ('{"content":"a"}', CONTENT, b"a"),
        ('{"content": "a"}', CONTENT, b"a"),
        (r'{"content":"\"\n"}', CONTENT, rb"\"\n"),
        (r'{"content":"\\\\\""}', CONTENT, rb"\\\\\""),
        ('{"reasoning":"a"}', REASONING, b"a"),
        ('{"content":"","reasoning":"a"}', (*CONTENT, *REASONING), b"a"),
        ('{"content":null,"reasoning":"a"}', (*CONTENT, *REASONING), b"a"),
        (r'{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}', ARGUMENTS, rb"{\"a\":"),
    ],
)
def test_a_form_is_learned_by_the_key_of_its_text(delta: str, keys: tuple[bytes, ...], text: bytes):
    assert texts_of(learned(same_model(delta), keys), lines(same_model(delta))) == [text]


@pytest.mark.parametrize(
    "event",
    [
        same_model('{"reasoning":"a"}'),
        same_model('{"content":""}'),
        same_model(r'{"content":"\x"}'),
        same_model('{"content":"a","x":{"content":"b"}}'),
        'data: {"content":"a',
        f"{PLAIN}\n\n{PLAIN}",
        f"{PLAIN}\nid: 1",
    ],
)
def test_no_form_is_learned_from_an_event_whose_text_cannot_be_told_apart(event: str):
    assert TextEvent.like(lines(event)) is None


@given(
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=4),
    delta=st.sampled_from(
        ['{"content":"TEXT"}', '{"content":"TEXT","refusal":"no"}', '{"reasoning":"é","content":"TEXT"}']
    ),
    looks_out=st.booleans(), escaped=st.booleans(), varies=st.booleans(),
)  # fmt: skip
def test_events_that_are_counted_by_their_form_count_what_they_count_when_they_are_read(
    texts, delta, looks_out, escaped, varies
):
    form = learned(padded(delta, "one") if varies else same_model(delta))
    if varies:
        form = form.widened(lines(padded(delta, "two")), CONTENT)
    encoded = [json.dumps(text, ensure_ascii=escaped)[1:-1] for text in texts]
    written = [padded(delta, text) if varies else same_model(delta) for text in encoded]
    events = lines(*(event.replace("TEXT", text) for event, text in zip(written, encoded, strict=True)))
    quick, slow, full = (OutputCounter("</think>" if looks_out else "") for _ in range(3))
    full.add(events)
    if (found := form.read(events)) is not None:
        form.count(events, found, slow)
        assert slow.total() == full.total()
    assert form.takes(events, quick) is (None if found is None else events)
    assert quick.total() == (full.total() if found is not None else 0)


# ---- fields that differ beside the text


def padded(delta: str = '{"content":"a"}', value: str = "x", name: str = "obfuscation") -> str:
    """An event with a field of its own behind the choices."""
    return f'{same_model(delta)[:-1]},"{name}":"{value}"}}'


def numbered(number: str) -> str:
    return same_model('{"content":"a"}').replace("1790000002", number)


@pytest.mark.parametrize(
    ("one", "other", "third", "names"),
    [
        (padded(value="x"), padded(value="yz"), padded(value=""), ("obfuscation",)),
        (padded(value="x"), padded(value=r"\"\\"), padded(value=r"\u00e9é"), ("obfuscation",)),
        (numbered("1790000002"), numbered("1790000003"), numbered("0"), ("created",)),
        (PLAIN, PLAIN.replace("chatcmpl-77", "chatcmpl-78"), PLAIN.replace("chatcmpl-77", ""), ("id",)),
    ],
)
def test_a_form_is_widened_by_an_event_that_differs_in_a_single_value_beside_its_text(
    one: str, other: str, third: str, names: tuple[str, ...]
):
    assert learned(one).read(lines(other)) is None
    form = learned(one).widened(lines(other), CONTENT)
    assert form is not None
    assert {*form.places} == {None, *names}
    longer = third.replace('"content":"a"', '"content":"longer"')
    assert texts_of(form, lines(one, other, longer)) == [b"a", b"a", b"longer"]
    (found,) = form.read(lines(longer)) or []
    assert form.event(found) == lines(longer)
    assert form.size([found]) == len(lines(longer))
    assert form.widened(lines(third), CONTENT) is None, "it has it already"


def test_a_form_is_widened_again_and_keeps_what_it_was_widened_by():
    once = learned(padded(value="x")).widened(lines(padded(value="y")), CONTENT)
    assert once is not None
    other = lines(padded(value="z").replace("1790000002", "1790000003"))
    assert once.read(other) is None
    twice = once.widened(other, CONTENT)
    assert twice is not None
    assert twice.places == ("created", None, "obfuscation")
    assert [found[number] for found in twice.read(other) or () for number in (1, 2, 3)] == [
        b"1790000003", b"a", b"z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        padded(value="y", name="other"),
        padded(value="y").replace('"y"', "1"),
        padded(value="y").replace('"y"', "-1"),
        padded(value="y").replace('"y"', '{"z":"y"}'),
        padded(value="y").replace('"y"', "null"),
        padded(value=r"\ud83d"),
        padded(value="y").replace('"index":0', '"index":1'),
        padded(value="y").replace('"object":"chat.completion.chunk"', '"object":"error"'),
        padded(value="y").replace('"finish_reason":null', '"finish_reason":"stop"'),
        padded('{"content":"a","x":1}', "y"),
        padded(value="y")[:-1] + ',"obfuscation":"z"}',
        padded(value="y")[:-1],
    ],
)
def test_no_form_is_widened_by_an_event_that_differs_in_anything_else(other: str):
    assert learned(padded()).widened(lines(other), CONTENT) is None


@pytest.mark.parametrize("name", ["error", "usage", "object"])
def test_a_field_that_means_something_may_never_differ(name: str):
    form = learned(padded(name=name).replace('"object":"chat.completion.chunk",', ""))
    other = padded(value="y", name=name).replace('"object":"chat.completion.chunk",', "")
    assert form.widened(lines(other), CONTENT) is None


def test_no_form_is_widened_over_more_than_is_worth_it():
    large = f'{{"content":"a","image":"{"x" * 5000}"}}'
    assert learned(padded(large)).widened(lines(padded(large, "y")), CONTENT) is None


def test_a_field_may_be_kept_from_differing():
    assert learned(padded()).widened(lines(padded(value="y")), CONTENT, frozenset({"obfuscation"})) is None


def test_a_field_whose_place_cannot_be_told_may_not_differ():
    nested = '{"content":"a","z":{"obfuscation":"x"}}'
    assert learned(padded(nested)).widened(lines(padded(nested, "y")), CONTENT) is None


@given(first=st.text(max_size=4), second=st.text(max_size=4), text=st.text(max_size=4))
def test_a_widened_form_reads_only_what_differs_there(first: str, second: str, text: str):
    form = learned(padded()).widened(lines(padded(value="y")), CONTENT)
    assert form is not None
    for event in (
        padded(f'{{"content":{json.dumps(text)}}}', json.dumps(first)[1:-1]),
        padded(f'{{"content":"{text}"}}', first),
        padded(f'{{"content":"a"}},"z":"{text}"', second),
    ):
        if form.read(lines(event)) is not None:
            chunk = json.loads(event[6:])
            assert {**chunk, "choices": 0, "obfuscation": 0} == {
                **json.loads(padded()[6:]),
                "choices": 0,
                "obfuscation": 0,
            }
