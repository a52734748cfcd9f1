"""Reasoning that a client sends back reaches a provider as that provider wants it, and nothing else changes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers import Provider, ReasoningHistory
from proxy.wire.chat_request import dialect_of, read_chat_request, upstream_body
from proxy.wire.history import send_back

RENAME, DROP, PASS, PLACEHOLDER = ReasoningHistory
USER = b'{"role":"user","content":"a \\u00e9","reasoning":"x","n":123456789012345678901234567890}'
CALL = '"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]'


def messages(*found: str | bytes) -> bytes:
    return b"[%b]" % b", ".join(one if isinstance(one, bytes) else one.encode() for one in found)


def sent(message: str, history: ReasoningHistory = RENAME, field: str = "reasoning") -> str:
    """What becomes of one message of the assistant's between two of the user's."""
    out = send_back(messages(USER, message, USER), history, field)
    assert out.startswith(b"[" + USER)
    assert out.endswith(USER + b"]")
    return out[len(USER) + 1 : -len(USER) - 1].decode().strip(", ")


@pytest.mark.parametrize(
    ("message", "field", "expected"),
    [
        ('{"role":"assistant","reasoning":"r","content":"x"}', "reasoning_content",
         '{"role":"assistant","reasoning_content":"r","content":"x"}'),
        ('{"role":"assistant","content":"x","reasoning_content":"r"}', "reasoning",
         '{"role":"assistant","content":"x","reasoning":"r"}'),
        ('{"role":"assistant","reasoning":"r","reasoning_content":"s"}', "reasoning_content",
         '{"role":"assistant","reasoning_content":"r"}'),
        ('{"reasoning":"","reasoning_content":"s","role":"assistant"}', "reasoning",
         '{"reasoning":"s","role":"assistant"}'),
        ('{"role":"assistant","reasoning":null,"reasoning_content":"s"}', "reasoning",
         '{"role":"assistant","reasoning":"s"}'),
        ('{"role":"assistant","reasoning":"","content":"x"}', "reasoning_content",
         '{"role":"assistant","reasoning_content":"","content":"x"}'),
        ('{"role":"assistant","reasoning":null,"content":"x"}', "reasoning", '{"role":"assistant","content":"x"}'),
        ('{"role":"assistant","reasoning":"r"}', "thought", '{"role":"assistant","thought":"r"}'),
        ('{"role":"assistant","reasoning":"r","reasoning_details":[{"b":1.0}]}', "reasoning_content",
         '{"role":"assistant","reasoning_content":"r","reasoning_details":[{"b":1.0}]}'),
        ('{"role":"assistant","reasoning":"a\\/b \\u00e9"}', "reasoning_content",
         '{"role":"assistant","reasoning_content":"a\\/b \\u00e9"}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("history", [RENAME, PLACEHOLDER])
def test_d3_6_one_text_is_sent_under_the_field_that_the_provider_reads(message, field, expected, history):
    assert sent(message, history, field) == expected


@pytest.mark.parametrize(
    "message",
    [
        '{"role":"assistant", "reasoning":"r"}',
        '{"role":"assistant", "content":"x","reasoning_details":[]}',
        '{"role":"assistant", "content":"about \\"reasoning\\" and \\"reasoning_content\\""}',
        '{"role":"assistant", "content":"reasoning"}',
        '{"role":"assistant", "reasoning":{"odd":1}}',
        '{"role":"tool", "tool_call_id":"c","content":"x","reasoning_content":"y"}',
        f'{{"role":"assistant", {CALL}}}',
    ],
)
def test_d3_6_where_nothing_has_to_change_the_messages_stay_the_bytes_that_came(message: str):
    came = messages(USER, message)
    assert send_back(came, RENAME, "reasoning") is came


@pytest.mark.parametrize("fields", ['"reasoning":"r"', '"reasoning_content":""', '"reasoning_details":[1]',
                                    '"reasoning":null,"reasoning_content":"r","reasoning_details":[]'])  # fmt: skip
def test_d3_6_all_three_fields_are_dropped_where_the_provider_would_not_know_them(fields: str):
    assert sent(f'{{"role":"assistant",{fields},"content":"x"}}', DROP) == '{"role":"assistant","content":"x"}'


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_d3_6_everything_passes_where_the_provider_takes_everything(field: str):
    came = messages('{"role":"assistant","reasoning":"r","reasoning_content":null,"reasoning_details":5}')
    assert send_back(came, PASS, field) is came


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f'{{"role":"assistant",{CALL}}}', f'{{"role":"assistant",{CALL},"reasoning_content":""}}'),
        (f'{{"role":"assistant","reasoning":null,{CALL}}}', f'{{"role":"assistant",{CALL},"reasoning_content":""}}'),
        (f'{{"role":"assistant","reasoning":"r",{CALL}}}', f'{{"role":"assistant","reasoning_content":"r",{CALL}}}'),
        ('{"role":"assistant","tool_calls":[]}', '{"role":"assistant","tool_calls":[]}'),
        ('{"role":"assistant","content":"x"}', '{"role":"assistant","content":"x"}'),
        (f'{{"role":"user",{CALL}}}', f'{{"role":"user",{CALL}}}'),
    ],
)
def test_d3_6_a_call_without_reasoning_gets_an_empty_one_where_the_provider_insists(message: str, expected: str):
    assert sent(message, PLACEHOLDER, "reasoning_content") == expected


@pytest.mark.parametrize(
    ("profile", "learned", "field"),
    [({}, None, "reasoning"), ({}, "reasoning_content", "reasoning_content"),
     ({"reasoning_field": "thought"}, "reasoning_content", "thought")],
)  # fmt: skip
def test_d3_6_the_field_is_the_configured_one_else_the_one_that_answers_used(profile, learned, field):
    dialect = dialect_of(Provider(base_url="http://127.0.0.1:1/v1", **profile))
    user = USER.replace(b"a", rb"\ud83d", 1)
    body = b'{"model":"m","messages":[%b,{"role":"assistant","content":"x","reasoning":"r\\udc00"}]}' % user
    out = upstream_body(read_chat_request(body), "vendor/name", dialect, learned)
    assert b'"messages":[%b,{"role":"assistant","content":"x","%b":"r\\udc00"}]' % (user, field.encode()) in out


@pytest.mark.parametrize(("style", "dropped"), [("auto", False), ("field", False), ("tags", True), ("prefilled", True)])
def test_d3_6_what_happens_follows_from_how_the_provider_reasons(style: str, dropped: bool):
    dialect = dialect_of(Provider(base_url="http://127.0.0.1:1/v1", reasoning_style=style))
    body = b'{"model":"m","messages":[{"role":"assistant","content":"x","reasoning":"r"}]}'
    assert (b'"r"' not in upstream_body(read_chat_request(body), "vendor/name", dialect)) is dropped


@pytest.mark.parametrize("split", [None, True, False])
@pytest.mark.parametrize("told", [False, True])
def test_what_a_request_says_of_reasoning_is_kept(split: bool | None, told: bool):
    fields = {"reasoning_split": split} if told or split is not None else {}
    request = read_chat_request(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}).encode()
    )
    assert request.reasoning_split == split


VALUES = st.sampled_from(['""', '"a"', "null", "5", '"\\u00e9"', "[]", '{"reasoning":1}'])
MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "reasoning", "reasoning_content", "reasoning_details", "tool_calls", "x"]),
    VALUES | st.sampled_from(['"assistant"', "[1]"]), max_size=6,
)  # fmt: skip


@given(found=st.lists(MESSAGES, max_size=4), history=st.sampled_from(ReasoningHistory), field=st.sampled_from(
    ["reasoning", "reasoning_content", "x"]))  # fmt: skip
def test_only_reasoning_fields_of_the_assistant_change(found, history, field):
    came = messages(*("{" + ",".join(f'"{name}": {value}' for name, value in one.items()) + "}" for one in found))
    before, after = json.loads(came), json.loads(send_back(came, history, field))
    assert len(after) == len(before)
    names = {"reasoning", "reasoning_content", "reasoning_details"}
    for old, new in zip(before, after, strict=True):
        if old.get("role") != "assistant":
            assert new == old
        kept = {name: value for name, value in old.items() if name not in names | {field}}
        assert {name: value for name, value in new.items() if name not in names | {field}} == kept
