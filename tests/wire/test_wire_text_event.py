"""The quick look at an event never disagrees with the full one, and counts what the full one counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import CATALOG
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
        if form is not None and form.texts(piece) is not None:
            assert is_plain(piece)


def learned(event: str, keys: tuple[bytes, ...] = CONTENT) -> TextEvent:
    form = TextEvent.like(lines(event), keys)
    assert form is not None
    return form


@pytest.mark.parametrize(
    "text", ["b", "", "other, longer text", "é😀", r"\n\u00e9", r"a \"b\" c", r"\"", r"\\", r"\\\"\ud83d"]
)
def test_the_text_alone_may_differ_in_events_of_one_form(text: str):
    assert learned(PLAIN).texts(lines(same_model(f'{{"content":"{text}"}}'))) == [text.encode()]


@pytest.mark.parametrize(
    "other",
    [
        lines(same_model(ROLE)),
        lines(same_model('{"content":"a"}', '"stop"')),
        lines(spaced('{"content": "a"}')),
        lines(same_model(r'{"content":"a\x"}')),
        lines(same_model(r'{"content":"a\u00"}')),
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
    assert learned(PLAIN).texts(other) is None
    assert learned(PLAIN).texts(other + lines(PLAIN)) is None
    assert learned(PLAIN).texts(lines(PLAIN) + other) is None


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5))
def test_several_events_of_one_form_are_taken_together_or_not_at_all(texts: list[str]):
    form = learned(PLAIN)
    encoded = [json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts]
    events = [lines(PLAIN).replace(b'"a"', b'"%b"' % text) for text in encoded]
    assert [form.texts(event) for event in events] == [[text] for text in encoded]
    assert form.texts(b"".join(events)) == encoded
    assert form.texts(b"".join([*events, lines(same_model('{"content":"a","x":1}'))])) is None


def test_a_piece_that_is_shorter_than_its_two_ends_is_of_no_form():
    form = TextEvent(b'data: {"a":"', b'":"}\n\n')
    assert form.texts(b'data: {"a":"}\n\n') is None


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
    assert learned(same_model(delta), keys).texts(lines(same_model(delta))) == [text]


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
    looks_out=st.booleans(), escaped=st.booleans(),
)  # fmt: skip
def test_events_that_are_counted_by_their_form_count_what_they_count_when_they_are_read(
    texts, delta, looks_out, escaped
):
    form = learned(same_model(delta))
    encoded = [json.dumps(text, ensure_ascii=escaped)[1:-1] for text in texts]
    events = lines(*(same_model(delta.replace("TEXT", text)) for text in encoded))
    quick, full = OutputCounter("</think>" if looks_out else ""), OutputCounter()
    if (found := form.texts(events)) is not None:
        form.count(events, found, quick)
        full.add(events)
    assert quick.total() == full.total()


def test_events_are_written_in_another_form():
    other = learned(PLAIN).renamed(CATALOG.encode(), b"m")
    assert other is not None
    assert other.write([b"x", b""]) == lines(PLAIN, PLAIN).replace(CATALOG.encode(), b"m").replace(
        b'"a"', b'"x"', 1
    ).replace(b'"a"', b'""')


@pytest.mark.parametrize("there", [b"nowhere", b'"', b"finish_reason"])
def test_what_does_not_stand_once_and_before_the_text_alone_is_not_exchanged(there: bytes):
    assert learned(PLAIN).renamed(there, b"m") is None
