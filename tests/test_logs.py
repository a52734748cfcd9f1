"""The log: one line of JSON for each event, which nothing that anybody sends can make two of."""

import io
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Ending, RequestEnd
from proxy.logs import FastRequestLog, ReadableRequestLog, is_readable, make_logger
from proxy.usage import UsageSource

HOSTILE = 'x\n{"event":"forged"}\r\n\x1b[31m\x00\x07"\\ é \u2028 😀'


def ended(**fields) -> RequestEnd:
    defaults = {
        "request_id": "req_1", "endpoint": "chat", "model": "lab/model", "stream": True, "status": 200,
        "ending": Ending.COMPLETE, "duration_ms": 2000.125,
    }  # fmt: skip
    return RequestEnd(**{**defaults, **fields})


ADMITTED = ended(
    account="acme", key_id="key_1", provider="one", prompt_tokens=70, cached_tokens=0, completion_tokens=31,
    reasoning_tokens=19, usage_source=UsageSource.UPSTREAM, cost_usd="0.0000672", ttft_ms=450.5, overhead_ms=0.7,
    attempts=2, upstream_id="chatcmpl-1", client_request_id="mine", retry_count="1",
)  # fmt: skip


class Output(io.BytesIO):
    """Counts the writes that reach the system."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


class Bench:
    def __init__(self, now: float = 1_800_000_000.25) -> None:
        self.out = Output()
        self.now = now
        self.soon: list = []
        self.log = FastRequestLog(self.out, self.soon.append, lambda: self.now, worker=3)

    def lines(self) -> list[dict]:
        for work in self.soon:
            work()
        self.soon.clear()
        text = self.out.getvalue().decode()
        assert text.endswith("\n")
        return [json.loads(line) for line in text[:-1].split("\n")]


def test_the_line_of_a_request_says_all_that_is_known_of_it():
    bench = Bench()
    bench.log.request(ADMITTED)
    assert bench.lines() == [
        {
            "event": "request", "level": "info", "worker": 3, "timestamp": "2027-01-15T08:00:00.250Z",
            "request_id": "req_1", "account": "acme", "key_id": "key_1", "endpoint": "chat", "model": "lab/model",
            "provider": "one", "stream": True, "status": 200, "ending": "complete", "prompt_tokens": 70,
            "cached_tokens": 0, "completion_tokens": 31, "reasoning_tokens": 19, "usage_source": "upstream",
            "cost_usd": "0.0000672", "ttft_ms": 450.5, "duration_ms": 2000.125, "overhead_ms": 0.7, "attempts": 2,
            "upstream_id": "chatcmpl-1", "client_request_id": "mine", "retry_count": "1",
        }
    ]  # fmt: skip


def test_what_is_not_known_is_left_out():
    bench = Bench()
    bench.log.request(ended(status=401, ending=Ending.REFUSED, stream=False, code="invalid_api_key"))
    assert bench.lines() == [
        {
            "event": "request", "level": "info", "worker": 3, "timestamp": "2027-01-15T08:00:00.250Z",
            "request_id": "req_1", "endpoint": "chat", "model": "lab/model", "stream": False, "status": 401,
            "ending": "refused", "duration_ms": 2000.125, "code": "invalid_api_key",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "stamp"),
    [
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
        (1_800_000_000.9994, "2027-01-15T08:00:00.999Z"),
        (1_800_000_001.0, "2027-01-15T08:00:01.000Z"),
        (951_782_399.5, "2000-02-28T23:59:59.500Z"),
    ],
)
def test_times_are_utc_with_milliseconds(now, stamp):
    bench = Bench(now)
    bench.log.request(ended())
    assert bench.lines()[0]["timestamp"] == stamp


def test_a_line_has_the_time_of_its_own_request():
    bench = Bench(1_800_000_000.5)
    for moment in (1_800_000_000.5, 1_800_000_000.6, 1_800_000_002.0, 1_800_000_001.0):
        bench.now = moment
        bench.log.request(ended())
    assert [line["timestamp"][-7:-1] for line in bench.lines()] == ["00.500", "00.600", "02.000", "01.000"]


def test_the_lines_of_one_turn_are_written_at_once_and_each_of_them_once():
    bench = Bench()
    for number in range(3):
        bench.log.request(ended(request_id=f"req_{number}"))
    assert len(bench.soon) == 1
    assert bench.out.getvalue() == b""
    assert [line["request_id"] for line in bench.lines()] == ["req_0", "req_1", "req_2"]
    assert bench.out.flushes == 1
    bench.log.request(ended(request_id="req_3"))
    assert [line["request_id"] for line in bench.lines()] == ["req_0", "req_1", "req_2", "req_3"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_can_forge_a_line(text):
    bench = Bench()
    bench.log.request(ended(client_request_id=text, upstream_id=text, param=text, provider=text))
    (line,) = bench.lines()
    assert (line["client_request_id"], line["upstream_id"], line["param"], line["provider"]) == (text,) * 4


class TestEvents:
    """Lines that are not about one request."""

    def test_each_is_one_line_of_json_on_standard_error(self, capfd):
        logger = make_logger(readable=False).bind(worker=3)
        logger.warning("upstream attempt failed", said=HOSTILE, status=500)
        logger.error("store is away", detail="refused")
        out, err = capfd.readouterr()
        assert out == ""
        first, second = (json.loads(line) for line in err.rstrip("\n").split("\n"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first.pop("timestamp"))
        assert first == {
            "event": "upstream attempt failed",
            "level": "warning",
            "worker": 3,
            "said": HOSTILE,
            "status": 500,
        }
        assert (second["event"], second["level"]) == ("store is away", "error")

    def test_a_person_gets_one_line_too_and_no_control_character_of_anybodys(self, capfd):
        make_logger(readable=True).warning("upstream attempt failed", said=HOSTILE, many=[HOSTILE])
        err = re.sub(r"\x1b\[\d+m", "", capfd.readouterr().err)
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", err)
        assert "forged" in err

    def test_what_is_not_worth_knowing_is_not_written(self, capfd):
        logger = make_logger(readable=False)
        logger.debug("noise")
        logger.info("listening")
        assert [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()] == ["listening"]

    def test_a_person_sees_requests_without_what_is_not_known(self, capfd):
        ReadableRequestLog(make_logger(readable=True)).request(ended(account="acme"))
        err = re.sub(r"\x1b\[\d+m", "", capfd.readouterr().err)
        assert "account=acme" in err
        assert "ending=complete" in err
        assert "None" not in err

    def test_people_are_taken_to_sit_at_terminals(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert is_readable(None) is False
        assert is_readable(True) is True
        assert is_readable(False) is False
