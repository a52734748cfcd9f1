"""`aion-proxy conformance` as it is typed: what it prints where, its exit codes, and that it never shows the key."""

import json
import sys

import pytest
from broken import broken, put, text
from fake_answers import MODEL
from fake_endpoint import FakeEndpoint
from fake_server import SECRET, served

from proxy.cli import run
from proxy.cli_outside import Outside
from proxy.conformance import asks, models
from proxy.conformance.catalogue import all_checks
from proxy.conformance.exchange import NoReply

CHECKS = all_checks()


class Limping:
    """The right endpoint but for one thing."""

    def __init__(self, respond):
        self.right = FakeEndpoint()
        self._respond = respond

    def respond(self, ask):
        return self._respond(self.right, ask)


@pytest.fixture
def aion(capsys):
    def aion(*words, **environ):
        code = run(["conformance", *words], Outside(environ, lambda: 0, bytes))
        out, err = capsys.readouterr()
        assert SECRET.lower() not in (out + err).lower()
        assert "Traceback" not in err
        return code, out, err

    return aion


@pytest.fixture
def right():
    with served(FakeEndpoint()) as url:
        yield url


def rows(out):
    """The lines of the table that begin a row."""
    return [line for line in out.splitlines() if line[:1].isalpha() and line[1:2].isdigit()]


def test_an_endpoint_that_does_everything_right_passes(aion, right):
    code, out, err = aion("--base-url", right, AION_PROXY_API_KEY=SECRET)
    assert (code, len(rows(out))) == (0, len(CHECKS))
    assert out.endswith(f"\n\n{len(CHECKS)} passed, 0 failed, 0 skipped\n")
    assert out.splitlines()[0].split() == ["clause", "what", "is", "checked", "result", "what", "was", "seen"]
    first = err.splitlines()[0]
    assert first.startswith(f"{len(CHECKS)} checks with ")
    assert f"27 of them ask {MODEL} for a short answer and cost money" in first
    assert err.splitlines()[1] == f"1/{len(CHECKS)}  A1.1  {CHECKS[0].sentence}"


def test_a_broken_rule_is_a_failure_and_exit_code_1(aion):
    (endpoint,) = broken(models.cache_price, ("", put("models.0.pricing.input_cache_read", None)))
    with served(Limping(lambda right, ask: forged(endpoint, right, ask))) as url:
        code, out, _ = aion("--base-url", url, "--only", "C", AION_PROXY_API_KEY=SECRET)
    assert code == 1
    assert [line.split()[0] for line in rows(out) if "FAIL" in line] == ["C1.2", "C1.2", "C1.3"]
    assert out.endswith("\n5 passed, 3 failed, 0 skipped\n")


def forged(endpoint, right, ask):
    """Break the answer to whatever is asked of the same URL: words about a request do not travel."""
    reply = right.respond(ask)
    return endpoint.change(right, reply) if ask.path == "/models" else reply


def test_json_is_one_document_with_everything(aion, right):
    code, out, _ = aion("--base-url", right, "--json", "--only", "C,A1.4", OPENAI_API_KEY=SECRET)
    document = json.loads(out)
    assert code == 0
    assert {name: document[name] for name in ("base_url", "model", "passed", "failed", "skipped", "answers")} == {
        "base_url": right, "model": MODEL, "passed": 14, "failed": 0, "skipped": 0, "answers": 0,
    }  # fmt: skip
    assert document["requests"] > 8
    chosen = [one for one in CHECKS if one.clause.startswith(("C", "A1.4"))]
    assert [(one["clause"], one["sentence"]) for one in document["checks"]] == [
        (one.clause, one.sentence) for one in chosen
    ]
    assert {one["result"] for one in document["checks"]} == {"pass"}
    assert all(one["seen"] for one in document["checks"])


def test_what_is_skipped_is_no_failure(aion):
    with served(FakeEndpoint(limits=False)) as url:
        code, out, _ = aion("--base-url", url, "--only", "A5.4", "--json", AION_PROXY_API_KEY=SECRET)
    (line,) = json.loads(out)["checks"]
    assert (code, line["result"]) == (0, "skip")
    assert line["seen"] == "no x-ratelimit headers: this key has no limits per minute"


def test_a_model_can_be_named(aion, right):
    code, out, _ = aion("--base-url", right, "--model", "plain", "--only", "C3", "--json", AION_PROXY_API_KEY=SECRET)
    assert (code, json.loads(out)["model"]) == (0, "plain")


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_the_version_of_the_base_url_may_be_left_out(aion, right, tail):
    url = right.removesuffix("/v1") + tail
    assert aion("--base-url", url, "--only", "C1.1", AION_PROXY_API_KEY=SECRET)[0] == 0


def test_a_key_on_the_command_line_goes_before_those_of_the_environment(aion, right):
    found = aion("--base-url", right, "--only", "C1.1", "--api-key", SECRET, AION_PROXY_API_KEY="x", OPENAI_API_KEY="y")
    assert found[0] == 0


def test_the_key_of_this_gateway_goes_before_that_of_openai(aion, right):
    assert aion("--base-url", right, "--only", "C1.1", AION_PROXY_API_KEY=SECRET, OPENAI_API_KEY="y")[0] == 0


def test_a_list_of_the_checks_needs_neither_endpoint_nor_key(aion):
    code, out, err = aion("--list")
    assert (code, err) == (0, "")
    assert [line.split(None, 1) for line in rows(out)] == [[one.clause, one.sentence] for one in CHECKS]


def test_the_list_can_be_chosen_from_and_read_by_programs(aion):
    code, out, _ = aion("--list", "--only", "E1.2", "--json")
    assert code == 0
    assert json.loads(out) == [
        {"clause": one.clause, "sentence": one.sentence} for one in CHECKS if one.clause == "E1.2"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the endpoint with --base-url, such as --base-url http://127.0.0.1:8080/v1"),
        (("--base-url", "ftp://x"), "--base-url must be the URL of an OpenAI-compatible API"),
        (("--base-url", "http://u:p@x/v1"), "--base-url must not hold a user name or password"),
        (("--base-url", "http://x/v1?a=b"), "--base-url must not hold a query or fragment"),
        (
            ("--base-url", "http://x/v1", "--only", "A1,Q"),
            "no check has the clause Q: see `aion-proxy conformance --list`",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(aion, words, said):
    code, out, err = aion(*words, AION_PROXY_API_KEY=SECRET)
    assert (code, out) == (2, "")
    assert err.startswith(f"aion-proxy: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["0s", "2h", "soon", "-1"])
def test_a_timeout_that_is_none_is_wrong_usage(aion, value):
    code, out, err = aion("--base-url", "http://x/v1", f"--timeout={value}", AION_PROXY_API_KEY=SECRET)
    assert (code, out) == (2, "")
    assert "--timeout" in err


def test_without_a_key_it_says_where_one_is_looked_for(aion):
    code, out, err = aion("--base-url", "http://127.0.0.1:1/v1", AION_PROXY_API_KEY="")
    assert (code, out) == (2, "")
    assert err == "aion-proxy: a key is needed: set AION_PROXY_API_KEY or OPENAI_API_KEY, or give --api-key\n"


@pytest.mark.parametrize("key", ["sk a", "sk\n", "schlüssel", "x" * 513])
def test_a_key_that_no_header_can_carry_is_not_shown(aion, key):
    code, out, err = aion("--base-url", "http://127.0.0.1:1/v1", "--api-key", key)
    assert (code, out) == (2, "")
    assert err == "aion-proxy: the key must be 1 to 512 visible ASCII characters; it is not shown here\n"


def test_an_endpoint_that_nobody_listens_on_is_one_clear_message_and_exit_code_2(aion, right):
    with served(FakeEndpoint()) as gone:
        pass
    code, out, err = aion("--base-url", gone, AION_PROXY_API_KEY=SECRET)
    assert (code, out) == (2, "")
    assert err == (
        f"aion-proxy: cannot connect to {gone[7:-3]}: Connection refused; "
        "see that the endpoint runs and that --base-url is right\n"
    )
    assert err.count("\n") == 1


def test_a_key_that_the_endpoint_does_not_know_is_one_clear_message_and_exit_code_2(aion, right):
    code, out, err = aion("--base-url", right, "--api-key", "sk-wrong")
    assert (code, out) == (2, "")
    assert err.startswith("aion-proxy: the endpoint refuses the key (401 authentication_error, invalid_api_key")


def test_an_endpoint_that_repeats_the_key_does_not_put_it_on_the_screen(aion):
    leaking = text(b"This is", f"The key {SECRET} or {SECRET.swapcase()} is".encode())

    def respond(right, ask):
        reply = right.respond(ask)
        return leaking(right, reply) if ask.path == "/nowhere" or reply.status == 404 else reply

    with served(Limping(respond)) as url:
        code, out, err = aion("--base-url", url, "--only", "C3,A3", "--json", AION_PROXY_API_KEY=SECRET)
    assert code == 0
    with served(Limping(lambda right, ask: leaking(right, right.respond(asks.no_url(MODEL))))) as url:
        code, out, err = aion("--base-url", url, "--model", MODEL, "--only", "C1.1", AION_PROXY_API_KEY=SECRET)
    assert code == 1
    assert "The key (the key) or (the key) is" in " ".join(out.split())
    assert err


def test_an_endpoint_cannot_move_the_terminal_or_fill_it(aion):
    long = text(b"unknown_url", b"\\u001b[31m" + b"x" * 2_000)
    with served(Limping(lambda right, ask: long(right, right.respond(asks.no_url(MODEL))))) as url:
        code, out, err = aion("--base-url", url, "--model", "a\x1bb", "--only", "C1.1", AION_PROXY_API_KEY=SECRET)
    assert code == 1
    assert "\x1b" not in out + err
    assert "\ufffd" in out
    assert out.count("x") < 500


def test_on_a_terminal_the_steps_share_one_line(aion, right, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, err = aion("--base-url", right, "--only", "C", AION_PROXY_API_KEY=SECRET)
    summary, steps = err.split("\n")
    assert summary.startswith("8 checks with ")
    shown = steps.split("\r\x1b[K")
    assert [step[:5] for step in shown[1:]] == [
        "1/8  ",
        "2/8  ",
        "3/8  ",
        "4/8  ",
        "5/8  ",
        "6/8  ",
        "7/8  ",
        "8/8  ",
        "",
    ]
    assert all(len(step) <= 100 for step in shown)


def test_an_endpoint_that_does_not_answer_fails_what_needs_the_answer(aion):
    silent = Limping(lambda right, ask: NoReply(ask, "") if ask.path == "/models/fake/model" else right.respond(ask))
    with served(silent) as url:
        code, out, _ = aion("--base-url", url, "--only", "C3", "--json", AION_PROXY_API_KEY=SECRET)
    first, second = json.loads(out)["checks"]
    assert (code, first["result"], second["result"]) == (1, "fail", "pass")
    assert first["seen"] == "the model: the connection ended and there was no answer"


def test_an_unknown_option_does_not_show_a_key_of_any_kind(aion):
    for key in (SECRET, "sk-proj-abc", "sk-aion-acme-abc"):
        code, _, err = aion("--api-kye", key)
        assert code == 2
        assert key not in err
