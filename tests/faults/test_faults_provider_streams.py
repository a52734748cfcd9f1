"""Everything that may happen to a provider's stream after its first word: it ends with an error that the client can
see, or as it should; what came is charged; nothing stays held.

Each row begins with its fault's number.
"""

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_process import eventually
from provider_rows import OWN, PROVIDER_KEY, Faulty, Script, chunked, faulty_gateway, http, on, sending
from provider_scripts import completion, event, finish, role, story, usage, usage_chunk, word
from scripted_provider import DONE, Exchange

WORDS = [role(), *(word(f"word{number} ") for number in range(10))]
SAID = f"db-7 broke: {PROVIDER_KEY}"
TIMEOUT, TRUNCATED, BAD, ERROR = "upstream_timeout", "upstream_truncated", "upstream_bad_response", "upstream_error"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    providers = {
        "main": OWN,
        "bounded": f"{OWN}, total_timeout: 1s, max_answer: 64KiB",
        "tagged": f"{OWN}, reasoning_style: tags",
    }
    models = {
        "same": ["provider: main, model: same"],
        "bounded": ["provider: bounded, model: bounded"],
        "renamed": ["provider: main, model: same"],
        "tagged": ["provider: tagged, model: tagged"],
    }
    with faulty_gateway(tmp_path_factory.mktemp("streams"), providers, models) as running:
        yield running


@pytest.fixture
def faulty(running: Faulty) -> Iterator[Faulty]:
    yield running
    running.provider.reset()


def error_of(answer) -> dict[str, str]:
    """The error with which a stream ended: the last event but one, and no usage after it."""
    assert (answer.status, answer.complete) == (200, True)
    *_, error, done = answer.events
    assert done == b"[DONE]"
    told = json.loads(error)
    assert list(told) == ["error"]
    return told["error"]


BREAKS: dict[str, tuple[Script, str, str]] = {
    "U-04 silence": (sending(chunked(*WORDS, end=b"")), TIMEOUT, ERROR),
    "U-04 silence inside an event": (sending(chunked(*WORDS, b'data: {"id":', end=b"")), TIMEOUT, ERROR),
    "U-05 garbage in the place of a chunk": (sending(chunked(*WORDS, end=SAID.encode())), BAD, ERROR),
    "U-06 closed": (sending(chunked(*WORDS, end=b""), then="close"), TRUNCATED, TRUNCATED),
    "U-06 reset": (sending(chunked(*WORDS, end=b""), then="reset"), TRUNCATED, TRUNCATED),
    "U-06 closed inside an event": (sending(chunked(*WORDS, b"data: {", end=b""), then="close"), TRUNCATED, TRUNCATED),
    "U-06 ended as if it were whole": (sending(chunked(*WORDS)), TRUNCATED, TRUNCATED),
    "U-09 an event with an error": (sending(chunked(*WORDS, event({"error": {"message": SAID}}))), ERROR, ERROR),
    "U-09 an event named error": (
        sending(chunked(*WORDS, b"event: error\n" + event({"message": SAID}))), ERROR, ERROR
    ),
    "U-09 a field named error": (sending(chunked(*WORDS, b'error: {"message": "db-7"}\n\n')), ERROR, ERROR),
    "U-09 overloaded in the middle": (
        sending(chunked(*WORDS, event({"error": {"message": SAID, "code": 503}}))), "upstream_overloaded", ERROR
    ),
    "U-09 a finish reason that is an error": (sending(chunked(*WORDS, finish("error"))), ERROR, ERROR),
    "U-15 the rest is no JSON": (sending(chunked(*WORDS, *[b"data: <html>\n\n"] * 3)), BAD, ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("script", "code", "ending"), BREAKS.values(), ids=BREAKS)
def test_a_stream_that_breaks_says_so_and_is_charged_for_what_came(faulty, script, code, ending):
    """Whether its events are handed on as they come, or changed."""
    on(faulty, "main", script)
    asking_usage = {"include_usage": True}
    answers = [faulty.ask(model, stream=True, stream_options=asking_usage) for model in ("same", "renamed")]
    for answer in answers:
        error = error_of(answer)
        assert (error["type"], error["code"]) == ("provider_error", code)
        assert b"db-7" not in answer.body
        assert answer.body.count(b"word") == 10
        assert b"prompt_tokens" not in answer.body
        traces = faulty.traces(answer.request_id)
        assert traces.ending == ending
        assert traces.row["usage_source"] == "estimated"
        assert traces.row["completion_tokens"] == 15, "60 bytes came; the words of the error are none of them"


def test_what_was_reported_before_the_break_is_what_is_charged_u09(faulty):
    broken = event({"error": {"message": SAID}})
    on(faulty, "main", sending(chunked(*WORDS, usage_chunk(usage(7, 11)), broken)))
    answer = faulty.ask(stream=True)
    assert error_of(answer)["code"] == ERROR
    row = faulty.traces(answer.request_id).row
    assert (row["usage_source"], row["prompt_tokens"], row["completion_tokens"]) == ("upstream", 7, 11)


WHOLE = b"".join(story(["Hello", " you."], usage(7, 3)))
SPLITS: dict[str, bytes] = {
    "U-10 a byte a chunk": chunked(*(bytes([byte]) for byte in WHOLE)),
    "U-11 CRLF": chunked(WHOLE.replace(b"\n", b"\r\n")),
    "U-11 CR": chunked(*(bytes([byte]) for byte in WHOLE.replace(b"\n", b"\r"))),
    "U-11 a BOM": chunked(b"\xef\xbb\xbf" + WHOLE),
    "U-11 comments, ids and retries": chunked(
        b": OPENROUTER PROCESSING\n\nid: 1\nretry: 9\n\n" + WHOLE.replace(b"data:", b": x\nid: 7\ndata:")
    ),
    "U-11 two data lines": chunked(WHOLE.replace(b',"created"', b',\ndata: "created"')),
    "U-11 usage: null all along": chunked(WHOLE.replace(b'"model":"same",', b'"model":"same","usage":null,')),
    "U-11 usage in the text": chunked(
        *story(["Hello", " you."], usage(7, 3))[:-2], word('{"usage":{"prompt_tokens":1}}'),
        usage_chunk(usage(7, 3)), DONE,
    ),
    "U-13 usage again and again": chunked(
        *itertools.chain(*((piece, usage_chunk(usage(7, number))) for number, piece in enumerate(WORDS))),
        finish(), usage_chunk(usage(7, 3)), DONE,
    ),
    "U-15 said to be HTML": chunked(WHOLE).replace(b"text/event-stream", b"text/html"),
    "U-20 in one piece with 103": b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked(WHOLE),
    "E5 no end of the framing": chunked(WHOLE, end=b""),
}  # fmt: skip


@pytest.mark.parametrize("data", SPLITS.values(), ids=SPLITS)
def test_a_stream_that_is_odd_and_whole_is_served_and_charged_as_its_provider_counts(faulty, data):
    on(faulty, "main", sending(data))
    answers = [faulty.ask(model, stream=True) for model in ("same", "renamed")]
    for answer in answers:
        assert answer.text
        traces = faulty.traces(answer.request_id)
        assert traces.ending == "complete"
        assert (traces.row["prompt_tokens"], traces.row["completion_tokens"]) == (7, 3)


ABSURD = {
    "a negative number": {"prompt_tokens": -1, "completion_tokens": 3},
    "an astronomical number": {"prompt_tokens": 7, "completion_tokens": 10**30},
    "a float": {"prompt_tokens": 7, "completion_tokens": 1e30},
    "a fraction": {"prompt_tokens": 7, "completion_tokens": 2.5},
    "text": {"prompt_tokens": "7", "completion_tokens": "3"},
    "true": {"prompt_tokens": True, "completion_tokens": True},
    "a list": [7, 3],
    "nothing": {},
    "zeros": {"prompt_tokens": 0, "completion_tokens": 0},
    "none at all": None,
}


@pytest.mark.parametrize("told", ABSURD.values(), ids=ABSURD)
def test_usage_that_cannot_be_true_is_estimated_u12_u14(faulty, told):
    body = {**completion("12345678", None), **({} if told is None else {"usage": told})}
    events = [role(), word("12345678"), finish(), *([] if told is None else [usage_chunk(told)]), DONE]
    on(faulty, "main", sending(http(json.dumps(body).encode())), sending(chunked(*events)))
    answers = [faulty.ask(stream=stream) for stream in (False, True)]
    for answer in answers:
        assert answer.status == 200
        traces = faulty.traces(answer.request_id)
        assert (traces.ending, traces.row["usage_source"]) == ("complete", "estimated")
        assert (traces.row["prompt_tokens"], traces.row["completion_tokens"]) == (5, 2)


def test_a_stream_that_is_compressed_is_refused_u16(faulty):
    packed = gzip.compress(WHOLE)
    on(faulty, "main", sending(chunked(packed, lines="Content-Encoding: gzip\r\n")))
    answer = faulty.ask(stream=True)
    assert (answer.status, answer.error["code"]) == (502, BAD)


def memory(faulty: Faulty) -> int:
    """What the one worker keeps in memory, in bytes."""
    (worker,) = faulty.gateway.workers()
    lines = Path(f"/proc/{worker}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


def forever(piece: bytes) -> Script:
    def script(exchange: Exchange) -> None:
        exchange.send(chunked(*WORDS, end=b""))
        sending_on = b"%x\r\n%b\r\n" % (len(piece), piece)
        while True:
            exchange.send_some(sending_on * 20)

    return script


@pytest.mark.parametrize("model", ["same", "renamed", "tagged"])
def test_an_event_of_eight_mebibytes_is_served_u10(faulty, model):
    text = "x" * (8 << 20)
    name = "tagged" if model == "tagged" else "same"
    events = [role(name), word(text, name), finish(model=name), usage_chunk(usage(7, 3), name), DONE]
    on(faulty, "tagged" if model == "tagged" else "main", sending(chunked(*events)))
    answer = faulty.ask(model, stream=True)
    assert answer.text == text
    assert faulty.traces(answer.request_id).row["completion_tokens"] == 3


def test_a_hundred_thousand_tiny_chunks_cost_no_memory_u10(faulty):
    piece = word("x")
    data = b"".join(b"1\r\n%b\r\n" % bytes([byte]) for byte in piece) * (100_000 // len(piece))

    def tiny(exchange):
        exchange.send(chunked(*WORDS, end=b"") + data)
        for last in (finish(), DONE):
            exchange.chunk(last)
        exchange.end_stream()

    on(faulty, "main", tiny)
    assert faulty.ask(stream=True).status == 200  # the parser and its buffers are warm
    before = memory(faulty)
    answer = faulty.ask(stream=True)
    assert answer.text.endswith("x" * (100_000 // len(piece)))
    assert memory(faulty) - before < 4 << 20


@pytest.mark.parametrize("piece", [b": nothing\n\n", word("x"), b"data: "], ids=["comments", "words", "no event's end"])
def test_a_stream_without_end_is_cut_by_its_bytes_u21(faulty, piece):
    on(faulty, "bounded", forever(piece))
    answer = faulty.ask("bounded", stream=True)
    assert error_of(answer)["code"] == BAD
    assert len(answer.body) < 200_000
    traces = faulty.traces(answer.request_id)
    assert (traces.ending, traces.row["usage_source"]) == ("upstream_error", "estimated")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_that_drips_without_end_is_cut_by_its_time_u21(faulty, stream):
    def dripping(exchange):
        exchange.send(chunked(*WORDS, end=b"") if stream else http(b"{", length=100_000))
        while True:
            exchange.send(b"3\r\n:\n\n\r\n" if stream else b" ")
            eventually(exchange.check_running, 0.1)

    on(faulty, "bounded", dripping)
    answer = faulty.ask("bounded", stream=stream)
    assert (error_of(answer) if stream else answer.error)["code"] == TIMEOUT
    assert faulty.traces(answer.request_id).ending == "upstream_error"


def test_a_whole_answer_that_is_too_large_is_given_up_u21(faulty):
    on(faulty, "bounded", sending(http(json.dumps(completion("x" * 70_000, usage(1, 1))).encode())))
    answer = faulty.ask("bounded")
    assert (answer.status, answer.error["code"]) == (502, BAD)
