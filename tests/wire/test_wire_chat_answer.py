"""A whole completion reaches the client in one form, its texts untouched, and says what it cost."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import CATALOG, NEW_ID, NOW, chunks_in, joined, plan
from provider_events import ROLE, lines, vllm

from proxy.usage import Usage
from proxy.wire.chat_answer import ChatAnswer, read_answer, write_answer
from proxy.wire.chat_stream import ChatStream
from proxy.wire.upstream_error import UpstreamError, client_fault, stream_fault

USAGE = Usage(12, 8, 4)


def completion(message: str = '{"role":"assistant","content":"Hi"}', finish: str = '"stop"', rest: str = "") -> bytes:
    head = '"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"vendor/name"'
    choice = f'{{"index":0,"message":{message},"finish_reason":{finish}}}'
    usage = '"usage":{"prompt_tokens":12,"completion_tokens":8,"total_tokens":20}'
    return f'{{{head},"choices":[{choice}],{usage}{rest}}}'.encode()


def called(call: str) -> bytes:
    return completion(f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}', '"tool_calls"')


def read(body: bytes, **profile: object) -> ChatAnswer:
    return read_answer(body, new_id=lambda: NEW_ID, **profile)


def written(body: bytes, **profile: object) -> bytes:
    return write_answer(read(body, **profile), model=CATALOG, usage=USAGE, now=NOW, new_id=lambda: NEW_ID)


def served(body: bytes, **profile: object) -> dict:
    return json.loads(written(body, **profile))


def message_of(body: bytes) -> dict:
    return served(body)["choices"][0]["message"]


def failure(body: bytes) -> UpstreamError:
    with pytest.raises(UpstreamError) as error:
        read(body)
    return error.value


def test_a_client_gets_the_documented_keys_first_and_the_providers_others_after_them():
    body = completion(rest=',"system_fingerprint":"fp","service_tier":null')
    assert list(served(body)) == [
        "id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier",
    ]  # fmt: skip
    assert list(served(body)["choices"][0]) == ["index", "message", "finish_reason"]


def test_the_model_is_the_catalogs_and_the_object_a_completion():
    answer = served(completion().replace(b"chat.completion", b"text_completion"))
    assert (answer["model"], answer["object"]) == (CATALOG, "chat.completion")


def test_the_usage_is_the_gateways_form_of_it():
    assert served(completion())["usage"] == USAGE.as_chat()


def test_what_a_provider_charges_never_passes():
    body = completion(rest=',"provider":"Together"').replace(
        b'"total_tokens"', b'"cost":0.1,"is_byok":false,"total_tokens"'
    )
    text = written(body, strip_fields=("provider",))
    assert b"Together" not in text
    assert b"cost" not in text
    assert b"is_byok" not in text


@pytest.mark.parametrize(
    ("given_id", "shown"),
    [('"x"', "x"), ('"' + "x" * 128 + '"', "x" * 128), ('"' + "x" * 129 + '"', None), ('""', None), ("null", None),
     ("5", None), ('"a b"', None), ('"a\\n"', None), ('"\\u00e9"', None), ('"\\ud800"', None)],
)  # fmt: skip
def test_an_id_is_the_providers_if_it_can_be_shown(given_id: str, shown: str | None):
    body = completion().replace(b'"chatcmpl-1"', given_id.encode())
    assert served(body)["id"] == (shown or f"chatcmpl_{NEW_ID}")
    assert read(body).upstream_id == shown


def test_an_absent_id_is_made():
    assert served(completion().replace(b'"id":"chatcmpl-1",', b""))["id"] == f"chatcmpl_{NEW_ID}"


@pytest.mark.parametrize(
    ("given_time", "shown"),
    [("1790000000", 1790000000), ("0", NOW), ("-5", NOW), ("1.5", NOW), ("null", NOW), ('"1"', NOW), ("9" * 200, NOW)],
)
def test_the_time_of_creation_is_the_providers_if_it_is_one(given_time: str, shown: int):
    assert served(completion().replace(b"1790000000", given_time.encode()))["created"] == shown


@pytest.mark.parametrize("role", ['"role":"model",', '"role":null,', ""])
def test_a_message_is_the_assistants(role: str):
    message = message_of(completion(f'{{{role}"content":"Hi"}}'))
    assert message == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("content", ['"content":null,', ""])
def test_content_is_always_there(content: str):
    assert message_of(completion(f'{{{content}"role":"assistant"}}'))["content"] == ""
    assert message_of(completion(f'{{{content}"role":"assistant","refusal":"no"}}'))["content"] is None
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    assert message_of(completion(f'{{{content}"role":"assistant","tool_calls":[{call}]}}'))["content"] is None


@pytest.mark.parametrize("calls", ["[]", "null"])
def test_an_empty_list_of_tool_calls_is_removed(calls: str):
    message = message_of(completion(f'{{"role":"assistant","content":"Hi","tool_calls":{calls}}}'))
    assert message == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("kind", ["", '"type":null,', '"type":"",', '"type":"function",'])
def test_a_tool_call_is_of_the_type_function_if_it_does_not_say(kind: str):
    body = called(f'{{"id":"c",{kind}"function":{{"name":"f","arguments":"{{}}"}}}}')
    assert message_of(body)["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize("call_id", ["", '"id":null,', '"id":"",'])
def test_a_tool_call_without_an_id_gets_one(call_id: str):
    body = called(f'{{{call_id}"type":"function","function":{{"name":"f","arguments":"{{}}"}}}}')
    assert message_of(body)["tool_calls"][0]["id"] == f"call_{NEW_ID}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (r'"{\"a\" : 1.0}"', '{"a" : 1.0}'),
        ('"not json"', "not json"),
        ('{ "a" : 1.10, "n": 123456789012345678901234567890 }', '{"a":1.10,"n":123456789012345678901234567890}'),
        ('["x", {}]', '["x",{}]'),
        ("null", ""),
    ],
)
def test_the_arguments_of_a_tool_call_are_a_text(arguments: str, text: str):
    body = called(f'{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}')
    assert message_of(body)["tool_calls"][0]["function"] == {"name": "f", "arguments": text}


def test_absent_arguments_are_an_empty_text():
    body = called('{"id":"c","type":"function","function":{"name":"f"}}')
    assert message_of(body)["tool_calls"][0]["function"] == {"name": "f", "arguments": ""}


@pytest.mark.parametrize("function", ["", ',"function":null', ',"function":{}', ',"function":{"name":null}'])
@pytest.mark.parametrize("kind", ["", '"type":"function",'])
def test_e1_6_a_function_that_was_not_told_has_the_name_that_it_has_in_a_stream(function: str, kind: str):
    body = called(f'{{{kind}"id":"c"{function}}}')
    empty = {"name": "", "arguments": ""}
    assert message_of(body)["tool_calls"] == [{"id": "c", "type": "function", "function": empty}]


def test_a_call_of_another_type_needs_no_function():
    body = called('{"id":"c","type":"custom","custom":{"name":"f","input":"x"}}')
    assert message_of(body)["tool_calls"] == [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}]


def test_arguments_that_are_a_text_stay_the_bytes_that_came():
    arguments = r'"{\"city\": \"Z\u00fcrich\", \"x\":\t1.0}"'
    body = called(f'{{"id":"c","type":"","function":{{"name":"f","arguments":{arguments}}}}}')
    assert arguments.encode() in written(body)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        *((same, same) for same in ("stop", "length", "tool_calls", "content_filter", "function_call", "whatever")),
        *((word, "stop") for word in ("eos", "eos_token", "end_turn", "stop_sequence", "complete")),
        *((word, "length") for word in ("max_tokens", "model_length")),
        ("tool_use", "tool_calls"),
        *((word, "content_filter") for word in ("safety", "recitation", "sensitive", "guardrail_intervened")),
    ],
)
def test_an_ending_is_named_as_openai_names_it(word: str, name: str):
    assert served(completion(finish=f'"{word}"'))["choices"][0]["finish_reason"] == name


@pytest.mark.parametrize("nothing", ["null", '""', "0"])
def test_an_ending_that_is_not_told_follows_from_the_tool_calls(nothing: str):
    assert served(completion(finish=nothing))["choices"][0]["finish_reason"] == "stop"
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    body = completion(f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}', nothing)
    assert served(body)["choices"][0]["finish_reason"] == "tool_calls"


def test_stop_beside_tool_calls_is_left():
    call = '{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}'
    body = completion(f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}', '"stop"')
    assert served(body)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("word", ["error", "abort"])
def test_an_ending_that_is_a_failure_fails_the_answer_as_it_fails_a_stream(word: str):
    whole = failure(completion(finish=f'"{word}"'))
    stream = ChatStream(plan())
    stream.feed(lines(vllm(ROLE), vllm('{"content":"Once"}'), vllm("{}", f'"{word}"')))
    assert stream.error is not None
    assert stream_fault(stream.error) == client_fault(whole) == client_fault(stream.error)
    assert (whole.kind, str(whole)) == (stream.error.kind, str(stream.error)) == (
        "upstream_error", f"the answer ended with finish_reason {word}",
    )  # fmt: skip


@given(
    text=st.text(st.characters(codec=None), max_size=30),
    name=st.sampled_from(["content", "reasoning", "refusal", "reasoning_content"]),
    escaped=st.booleans(),
    finish=st.sampled_from(['"stop"', "null", '"eos"']),
)
def test_texts_are_the_same_to_the_last_code_point(text: str, name: str, escaped: bool, finish: str):
    encoded = json.dumps(text, ensure_ascii=escaped or bool(re.search("[\ud800-\udfff]", text)))
    body = completion(f'{{"role":"assistant","content":"x","{name}":{encoded}}}', finish)
    assert message_of(body)[name] == text


def test_log_probabilities_annotations_and_unknown_keys_stay_the_bytes_that_came():
    odd = r'"logprobs":{"content":[{"token":"\u00e9","logprob":-1e-05,"bytes":[195,169]}]},"stop_reason":1.0'
    body = completion(finish=f'"eos",{odd}').replace(b'"content":"Hi"', b'"content":"Hi","annotations":[{"x":1.50}]')
    assert odd.encode() in written(body)
    assert b'"annotations":[{"x":1.50}]' in written(body)


def test_several_choices_keep_their_order_and_numbers():
    choices = ",".join(
        f'{{"finish_reason":null,"index":{index},"message":{{"content":"{index}"}}}}' for index in (1, 0)
    )
    answer = served(f'{{"choices":[{choices}]}}'.encode())
    assert [(choice["index"], choice["message"]["content"]) for choice in answer["choices"]] == [(1, "1"), (0, "0")]


@pytest.mark.parametrize("wrong", ["", '"index":null,', '"index":"1",', '"index":-1,', '"index":1.5,', '"index":[],'])
def test_d5_1_choices_whose_numbers_are_none_are_numbered_by_their_places(wrong: str):
    choices = ",".join(f'{{{wrong}"message":{{"content":"{text}"}},"finish_reason":"stop"}}' for text in ("a", "b"))
    body = f'{{"choices":[{choices}]}}'.encode()
    assert [(choice["index"], choice["message"]["content"]) for choice in served(body)["choices"]] == [
        (0, "a"),
        (1, "b"),
    ]
    stream = ChatStream(plan(choices=2))
    assert joined(chunks_in(stream.feed(body) + stream.end()), "content") == {0: "a", 1: "b"}


@pytest.mark.parametrize("before", [b"\n\n\n", b"\r\n \r\n", b"\xef\xbb\xbf"])
def test_what_keeps_the_connection_alive_before_the_body_is_skipped(before: bytes):
    assert served(before + completion())["id"] == "chatcmpl-1"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"x"', b"<html>502</html>", b"{", completion()[:-1], b"{}", b'{"choices":null}',
     b'{"choices":[]}', b'{"choices":{}}', b'{"choices":[5]}', b'{"choices":[{"index":0}]}',
     b'{"object":"list","data":[]}',
     b'{"choices":[{"message":null}]}', b'{"choices":[{"message":"x"}]}', b'{"choices":[{"message":{"tool_calls":5}}]}',
     b'{"choices":[{"message":{"tool_calls":[{"function":5}]}}]}', b"data: {}\n\n"],
)  # fmt: skip
def test_what_is_no_completion_is_refused(body: bytes):
    error = failure(body)
    assert (error.kind, error.status) == ("upstream_bad_response", None)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"error":{"message":"slow down","code":429}}', 429, "slow down"),
        (b'{"error":{"message":"x","code":"502"},"choices":[]}', 502, "x"),
        (b'{"error":"no luck"}', None, "no luck"),
        (b'{"object":"error","message":"too long","code":400}', 400, "too long"),
        (b'[{"error":{"message":"listed","code":503}}]', 503, "listed"),
        (b'{"error":1e999}', None, "1e999"),
    ],
)
def test_an_error_in_the_guise_of_a_success_is_an_error(body: bytes, status: int | None, message: str):
    error = failure(body)
    assert (error.status, error.body.message) == (status, message)


@pytest.mark.parametrize("nothing", [b"null", b"false", b'""', b"{}", b"[]", b"0", b"{ }", b"0.0"])
def test_an_error_key_that_holds_nothing_is_no_error(nothing: bytes):
    assert read(completion(rest=',"error":' + nothing.decode())).choices


def test_the_providers_usage_is_read():
    assert read(completion()).usage == Usage(12, 8)
    odd = completion().replace(b'"completion_tokens":8,"total_tokens":20', b'"completion_tokens":8,"total_tokens":30')
    assert read(odd, completion_from_total=True).usage == Usage(12, 18, inconsistent=True)


@pytest.mark.parametrize("usage", [b"null", b"{}", b"5", b'{"prompt_tokens":"12","completion_tokens":8}',
                                   b'{"prompt_tokens":0,"completion_tokens":0}'])  # fmt: skip
def test_usage_that_is_not_told_or_cannot_be_true_is_none(usage: bytes):
    body = re.sub(rb'"usage":\{.*?\}', b'"usage":' + usage, completion())
    assert read(body).usage is None
    assert read(completion().replace(b'"usage"', b'"used"')).usage is None


def test_usage_of_zeros_is_believed_where_nothing_was_said():
    body = re.sub(rb'"usage":\{.*?\}', b'"usage":{"prompt_tokens":0,"completion_tokens":0}', completion())
    assert read(body.replace(b'"Hi"', b'""')).usage == Usage()


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ('{"content":"four"}', 4),
        ('{"content":"é😀"}', 6),
        ('{"content":"\\ud83d\\ude00"}', 4),
        ('{"content":"\\ud83d"}', 3),
        ('{"content":null,"refusal":"no"}', 2),
        ('{"content":"a","reasoning":"abc","reasoning_content":"abcdef"}', 4),
        ('{"content":"a","reasoning":null,"reasoning_content":"abcdef"}', 7),
        ('{"tool_calls":[{"function":{"name":"fn","arguments":"{}"}},{"type":"custom"}]}', 4),
        ('{"content":[{"type":"thinking","thinking":[{"text":"ab"}]},{"type":"text","text":"c"}]}', 3),
        ('{"content":5}', 0),
        ('{"content":null,"function_call":{"name":"fn","arguments":"{}"}}', 4),
        ('{"content":null,"function_call":null}', 0),
    ],
)
def test_what_counts_as_output(message: str, size: int):
    assert read(completion(message)).output_bytes() == size


@given(st.binary(max_size=30).map(lambda junk: completion(rest="") + junk) | st.binary(max_size=50))
def test_no_bytes_lead_to_anything_but_an_answer_or_a_failure(body: bytes):
    try:
        answer = read(body)
    except UpstreamError:
        return
    assert answer.output_bytes() >= 0


@given(st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_no_damage_leads_to_anything_but_an_answer_that_can_be_sent_or_a_failure(place: int, junk: bytes, gone: int):
    call = '{"id":"c","type":null,"function":{"name":"f","arguments":{"a":1}}}'
    whole = completion(f'{{"role":"assistant","content":"Hi","tool_calls":[{call}]}}', '"eos"')
    body = whole[:place] + junk + whole[place + gone :]
    try:
        answer = read(body)
    except UpstreamError:
        return
    assert answer.output_bytes() >= 0
    assert write_answer(answer, model=CATALOG, usage=USAGE, now=NOW, new_id=lambda: NEW_ID)
