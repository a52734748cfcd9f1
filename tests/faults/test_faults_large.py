"""The largest that anybody may send, in the shapes that cost most: what a whole worker takes for it (C-10, P-09, U-10).

How much is asserted here; how long others wait meanwhile is a row of the benchmark.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from json_bombs import ANSWER_BOMBS, CHAT_BOMBS, EVENT_BOMBS, RESPONSE_BOMBS
from provider_rows import OWN, Faulty, chunked, faulty_gateway, http, on, sending
from provider_scripts import finish, role
from raw_client import Answer
from scripted_provider import DONE

from proxy.wire.response_stream import MAX_KEPT

MOST_TIMES = 10
BODY, ANSWER = 20 * 2**20, 16 * 2**20
GOOD = b'{"id":"c1","object":"chat.completion","created":1,"model":"same","choices":[{"index":0,"message":%b}]}'
HELLO = GOOD % b'{"role":"assistant","content":"Hello."},"finish_reason":"stop"'
SLOWLY = OWN.replace("400ms", "20s")
WORST_BODIES = (
    "text", "text of escapes", "text of line ends", "text of pairs and one lone surrogate", "top-level keys",
    "messages", "parts with a text", "tool calls", "depth again and again", "blanks",
)  # fmt: skip
WORST_RESPONSES = ("input", "items", "lone surrogates")
RESPONSE = b'{"model":"same","input":"Hi.","stream":true}'
Make = Callable[[int], bytes]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    models = {"same": ["provider: main, model: same"]}
    with faulty_gateway(tmp_path_factory.mktemp("large"), {"main": SLOWLY}, models) as running:
        on(running, "main", sending(http(HELLO)))
        assert running.ask().status == 200  # what is loaded with the first request is there
        yield running


@pytest.fixture
def faulty(running: Faulty) -> Iterator[Faulty]:
    yield running
    running.provider.reset()


def growth(faulty: Faulty, ask: Callable[[], Answer]) -> tuple[int, Answer]:
    """By how many bytes the one worker was larger, at most, while something was asked than before it."""
    (worker,) = faulty.gateway.workers()
    process = Path(f"/proc/{worker}")
    (process / "clear_refs").write_text("5")  # its peak is what it has now
    before = _kib(process, "VmRSS")
    answer = ask()
    return (_kib(process, "VmHWM") - before) * 1024, answer


def _kib(process: Path, name: str) -> int:
    lines = (process / "status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def posted(faulty: Faulty, path: str, body: bytes) -> Answer:
    key = faulty.gateway.new_key(tokens_per_day=10**12)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with faulty.gateway.client() as client:
        return client.ask(head.encode() + body)


BODIES = [
    *(("/v1/chat/completions", name, CHAT_BOMBS[name]) for name in WORST_BODIES),
    *(("/v1/responses", name, RESPONSE_BOMBS[name]) for name in WORST_RESPONSES),
]


@pytest.mark.parametrize(("path", "make"), [pytest.param(path, make, id=name) for path, name, make in BODIES])
def test_no_body_of_a_client_takes_many_times_its_size_of_a_worker_c10(faulty: Faulty, path: str, make: Make):
    on(faulty, "main", sending(http(HELLO)))
    body = make(BODY)
    grown, answer = growth(faulty, lambda: posted(faulty, path, body))
    assert answer.status in {200, 400}
    assert grown <= MOST_TIMES * len(body)


@pytest.mark.parametrize("make", ANSWER_BOMBS.values(), ids=ANSWER_BOMBS)
def test_no_answer_of_a_provider_takes_many_times_its_size_of_a_worker(faulty: Faulty, make: Make):
    body = make(ANSWER)
    on(faulty, "main", sending(http(body)))
    grown, answer = growth(faulty, faulty.ask)
    assert answer.status in {200, 502}
    assert grown <= MOST_TIMES * len(body)


@pytest.mark.parametrize("make", EVENT_BOMBS.values(), ids=EVENT_BOMBS)
def test_no_event_of_a_stream_takes_many_times_its_size_of_a_worker(faulty: Faulty, make: Make):
    event = make(ANSWER)
    on(faulty, "main", sending(chunked(role(), event, finish(), DONE)))
    grown, answer = growth(faulty, lambda: faulty.ask(stream=True))
    assert answer.status in {200, 502}
    assert grown <= MOST_TIMES * len(event)


@pytest.mark.parametrize("name", ["text", "text of escapes", "reasoning", "text of lone surrogates"])
def test_no_event_takes_many_times_the_largest_ones_size_where_a_response_says_it_again(faulty: Faulty, name: str):
    for size in (ANSWER, MAX_KEPT):
        event = EVENT_BOMBS[name](size)
        on(faulty, "main", sending(chunked(role(), event, finish(), DONE)))
        grown, answer = growth(faulty, lambda: posted(faulty, "/v1/responses", RESPONSE))
        assert answer.status in {200, 502}
        assert grown <= MOST_TIMES * ANSWER


def test_an_answer_beyond_what_is_taken_whole_is_refused(faulty: Faulty):
    on(faulty, "main", sending(http(ANSWER_BOMBS["text"](ANSWER + 100))))
    assert faulty.ask().error["code"] == "upstream_bad_response"


def test_a_large_answer_and_a_large_event_say_what_the_provider_said(faulty: Faulty):
    on(faulty, "main", sending(http(ANSWER_BOMBS["text"](2**20))))
    assert set(faulty.ask().json["choices"][0]["message"]["content"].split(" ")) == {"word", ""}
    on(faulty, "main", sending(chunked(role(), EVENT_BOMBS["text"](2**20), finish(), DONE)))
    assert faulty.ask(stream=True).text == "word " * ((2**20 - len(EVENT_BOMBS["text"](0))) // 5)
