"""W3C Trace Context: what of a client's headers is gone on with, and that nothing bad is ever passed on."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.trace_context import TraceContext, read_trace_context, write_trace_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
LINES = re.compile(
    rb"traceparent: 00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]\r\n(tracestate: [ -~]{3,512}\r\n)?"
)
DIGITS = st.text("0123456789abcdef", min_size=1, max_size=3)
contexts = st.builds(
    TraceContext,
    st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda text: text.strip("0")),
    st.text("0123456789abcdef", min_size=16, max_size=16).filter(lambda text: text.strip("0")),
    st.integers(0, 3),
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,20}=[!-+\--<>-~]{1,20}", fullmatch=True), max_size=8).map(
        ",".join
    ),
)


def test_a_parent_is_read():
    assert read_trace_context(GOOD) == TraceContext(TRACE, SPAN, 1)
    assert read_trace_context(GOOD[:-1] + "0") == TraceContext(TRACE, SPAN, 0)


@pytest.mark.parametrize(
    "bad",
    [
        *("", "00", GOOD[:-1], GOOD + "-", GOOD + "-x", GOOD + " ", GOOD + "\n", " " + GOOD, GOOD.upper()),
        *(f"ff-{TRACE}-{SPAN}-01", f"0x-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"00-{TRACE}-{SPAN}-0g", f"00_{TRACE}_{SPAN}_01", f"00-{TRACE[1:]}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01x"),
        *(f"{GOOD},{GOOD}", f"00-{TRACE[:-1]}é-{SPAN}-01", f"00-{TRACE[:-1]}٣-{SPAN}-01", "\udcff" * 55),
    ],
)
def test_a_bad_parent_is_none(bad):
    assert read_trace_context(bad, "a=b") is None


def test_no_parent_is_none_whatever_the_state_says():
    assert read_trace_context(None, "a=b") is None


@pytest.mark.parametrize("later", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-more", f"fe-{TRACE}-{SPAN}-01-"])
def test_a_parent_of_a_later_version_is_read_as_far_as_it_is_known(later):
    assert read_trace_context(later) == TraceContext(TRACE, SPAN, 1)


def test_flags_that_nobody_knows_yet_are_not_passed_on():
    context = read_trace_context(f"00-{TRACE}-{SPAN}-ff")
    assert context is not None
    assert write_trace_context(context) == f"traceparent: 00-{TRACE}-{SPAN}-03\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("a=1", "a=1"),
        ("a=1 , b=2\t,,c=3", "a=1,b=2,c=3"),
        ("tenant@system=v, 0a=x y", "tenant@system=v,0a=x y"),
        ("", ""),
        (",,", ""),
        *(
            (bad, "")
            for bad in ("a", "=1", "a=", "A=1", "a=1=2", "a=b\n", "a=é", "a=1,b", "a =1", "a=\udcff", "a=1;\x00")
        ),
        (",".join(f"k{number}=v" for number in range(32)), ",".join(f"k{number}=v" for number in range(32))),
        (",".join(f"k{number}=v" for number in range(33)), ""),
        (f"a={'x' * 255},b={'y' * 251}", f"a={'x' * 255},b={'y' * 251}"),
        (f"a={'x' * 255},b={'y' * 253}", f"a={'x' * 255}"),
    ],
)
def test_a_state_is_passed_on_by_its_members_or_not_at_all(sent, passed):
    context = read_trace_context(GOOD, sent)
    assert context is not None
    assert context.state == passed


@given(contexts)
def test_what_is_written_is_read_as_the_same(context):
    lines = write_trace_context(context).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    assert read_trace_context(headers["traceparent"], headers.get("tracestate")) == context


@given(
    st.one_of(
        st.text(),
        st.builds("-".join, st.lists(st.one_of(st.just("00"), st.just(TRACE), st.just(SPAN), DIGITS), max_size=6)),
        st.builds(lambda at, char: GOOD[:at] + char + GOOD[at + 1 :], st.integers(0, 54), st.characters()),
    ),
    st.one_of(st.none(), st.text(), st.text("ab=,@ \t;-", max_size=40)),
)
def test_whatever_comes_only_good_lines_go_on(parent, state):
    context = read_trace_context(parent, state)
    if context is not None:
        assert LINES.fullmatch(write_trace_context(context))
        assert parent[3:35] == context.trace_id
        assert parent[36:52] == context.span_id
