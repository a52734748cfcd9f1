"""What an account may use: every limit refuses in its own words, holds nothing back after errors, and follows its
operator from the very next request.
"""

import re
import threading
import time

import pytest
from gateway_process import eventually
from provider_scripts import completion, failing, talking, usage, whole
from raw_client import chat

from proxy.stores.keys import RedisKeys

AGAIN = re.compile(r"Please try again in (\d+)(s|ms)\.$")


def refused(answer, code: str):
    """A refusal by a limit, checked for what holds of each: when to come back, said in three ways that agree."""
    assert (answer.status, answer.error["type"], answer.error["code"]) == (429, "rate_limit_error", code), answer
    seconds, milliseconds = int(answer.header("Retry-After")), int(answer.header("retry-after-ms"))
    assert seconds >= 1
    assert seconds == max(1, -(-milliseconds // 1000))
    if code != "insufficient_quota":
        number, unit = AGAIN.search(answer.error["message"]).groups()
        said = int(number) * (1000 if unit == "s" else 1)
        assert milliseconds <= said < milliseconds + 1000
    assert answer.header("x-should-retry") == ("false" if milliseconds > 60_000 else None)
    return answer


def test_an_account_without_limits_is_told_of_none(gateway, provider, key):
    provider.on("main", whole())
    assert not [name for name, _ in key.ask().headers if name.startswith("x-ratelimit")]


def test_requests_per_minute(gateway, provider):
    key = gateway.new_key(requests_per_minute=2)
    provider.on("main", talking(["Hi."], usage(3, 1)))
    for left, stream in ((1, False), (0, True)):
        answer = key.ask(stream=stream)
        assert answer.header("x-ratelimit-limit-requests") == "2"
        assert answer.header("x-ratelimit-remaining-requests") == str(left)
        assert re.fullmatch(r"(\dm)?[\d.]+s", answer.header("x-ratelimit-reset-requests"))
        assert answer.header("x-ratelimit-limit-tokens") is None
    answer = refused(key.ask(), "rate_limit_exceeded")
    assert 1 <= int(answer.header("Retry-After")) <= 30
    assert answer.header("x-ratelimit-remaining-requests") == "0"
    assert "requests_per_minute" in answer.error["message"]
    line = gateway.request_line(answer.request_id)
    assert (line["reason"], line["model"], line["status"]) == ("requests_per_minute", "same", 429)
    assert len(provider.asked()) == 2


def test_tokens_per_minute_are_held_by_what_was_asked_for_and_corrected_by_what_was_used(gateway, provider):
    key = gateway.new_key(tokens_per_minute=1000)
    provider.on("main", whole("Hi.", usage(10, 20)))
    first = key.ask(max_tokens=900)
    assert int(first.header("x-ratelimit-remaining-tokens")) < 100
    key.settled()
    second = key.ask(max_tokens=900)  # of the 900 that the first held it used 20
    assert second.status == 200
    assert second.header("x-ratelimit-limit-tokens") == "1000"


def test_tokens_per_minute_refuse_what_does_not_fit_now(gateway, provider):
    key = gateway.new_key(tokens_per_minute=1000)
    provider.on("main", whole("Hi.", usage(10, 890)))
    assert key.ask(max_tokens=900).status == 200
    key.settled()
    answer = refused(key.ask(max_tokens=900), "rate_limit_exceeded")
    assert "tokens_per_minute" in answer.error["message"]


def test_a_request_that_is_larger_than_a_whole_minute_is_told_to_shrink_and_not_to_wait(gateway, provider):
    key = gateway.new_key(tokens_per_minute=1000)
    answer = key.ask(max_tokens=5000)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.header("x-should-retry") == "false"
    assert "max_tokens" in answer.error["message"]
    assert provider.asked() == []


def test_concurrent_requests_open_streams_included(gateway, provider):
    key = gateway.new_key(concurrent_requests=2)
    go = threading.Event()

    def held(exchange):
        exchange.wait(go)
        exchange.answer(completion("Hi.", usage(3, 1)))

    provider.on("main", held)
    with gateway.client() as one, gateway.client() as two:
        one.send(chat(key.secret))
        two.send(chat(key.secret, stream=True))
        provider.wait_asked(2)
        answer = refused(key.ask(), "concurrency_limit")
        assert "concurrent_requests" in answer.error["message"]
        go.set()
        assert (one.answer().status, two.answer().status) == (200, 200)
    key.settled()
    assert key.ask().status == 200


def test_a_budget_is_never_passed_and_every_nano_dollar_is_counted(gateway, provider):
    """Each request costs 5 × 800 + 5 × 1600 nano-dollars and may cost a little more."""
    key = gateway.new_key(budget_nusd=100_000, budget_per="total")
    provider.on("main", whole("Hello.", usage(5, 5)))
    answers = []
    while not answers or (answers[-1].status == 200 and len(answers) < 20):
        answers.append(key.ask(max_tokens=5))
        key.settled()
    assert 5 <= len(answers) - 1 <= 8
    assert key.settled().spent_nusd == (len(answers) - 1) * 12_000 <= 100_000
    last = refused(answers[-1], "insufficient_quota")
    assert last.header("x-should-retry") == "false"
    assert "0.0001 USD" in last.error["message"]


def test_a_budget_refuses_what_could_pass_it_although_it_would_not(gateway, provider):
    key = gateway.new_key(budget_nusd=100_000, budget_per="month")
    refused(key.ask(max_tokens=1000), "insufficient_quota")
    assert provider.asked() == []
    provider.on("main", whole())
    assert key.ask(max_tokens=10).status == 200


def test_tokens_per_day(gateway, provider):
    key = gateway.new_key(tokens_per_day=100)
    provider.on("main", whole("Hi.", usage(40, 40)))
    assert key.ask(max_tokens=20).status == 200
    key.settled()
    answer = key.ask(max_tokens=50)
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert "tokens_per_day" in answer.error["message"]
    assert "Please try again in " in answer.error["message"]


def test_a_refusal_by_one_limit_takes_nothing_of_the_others(gateway, provider):
    key = gateway.new_key(requests_per_minute=5, budget_nusd=1, budget_per="total")
    for _ in range(7):
        refused(key.ask(), "insufficient_quota")
    assert key.use(requests_per_minute=5).limits["requests_per_minute"].used == 0


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_held_is_given_back_after_every_kind_of_failure(gateway, provider, stream):
    key = gateway.new_key(concurrent_requests=1, budget_nusd=3_000_000, budget_per="total")
    failures = (
        failing(400),
        failing(500),
        lambda exchange: exchange.answer(b"<html>"),
        lambda exchange: exchange.close(),
        lambda exchange: exchange.reset(),
    )
    for failure in failures:
        provider.on("main", failure)
        assert key.ask(stream=stream).status in (400, 502)
        assert key.settled().held_nusd == 0
    provider.on("main", whole())
    assert key.ask(stream=stream).status == 200
    assert key.settled().spent_nusd == 10 * 800 + 5 * 1600


def test_a_request_that_is_refused_for_its_form_takes_nothing(gateway, provider):
    key = gateway.new_key(requests_per_minute=1)
    for _ in range(3):
        assert key.ask(temperature="hot").status == 400
    provider.on("main", whole())
    assert key.ask().status == 200


def test_what_is_left_is_told_with_refusals_of_form_too(gateway, provider):
    key = gateway.new_key(requests_per_minute=7)
    provider.on("main", whole())
    assert key.ask().header("x-ratelimit-remaining-requests") == "6"
    answer = key.ask(temperature="hot")
    assert (answer.status, answer.header("x-ratelimit-limit-requests")) == (400, "7")


def test_twenty_at_once_on_room_for_five_are_five(gateway, provider):
    key = gateway.new_key(requests_per_minute=5)
    provider.on("main", whole())
    found = []
    threads = [threading.Thread(target=lambda: found.append(key.ask().status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [200] * 5 + [429] * 15


def test_a_limit_that_the_operator_changes_holds_from_the_next_request(gateway, provider, key):
    provider.on("main", whole())
    assert key.ask().header("x-ratelimit-limit-requests") is None
    gateway.command("accounts", "set", key.account, "--requests-per-minute", "1")
    assert key.ask().header("x-ratelimit-limit-requests") == "1"
    refused(key.ask(), "rate_limit_exceeded")
    gateway.command("accounts", "set", key.account, "--requests-per-minute", "none")
    assert key.ask().status == 200


def test_a_key_that_is_revoked_is_refused_from_the_next_request_on_an_open_connection(gateway, provider, key):
    provider.on("main", whole())
    other = gateway.new_key(account=key.account)
    with gateway.client() as client:
        assert client.ask(chat(key.secret)).status == 200
        gateway.command("keys", "revoke", key.key_id)
        for _ in range(2):
            answer = client.ask(chat(key.secret))
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert answer.header("WWW-Authenticate") == "Bearer"
        assert client.ask(chat(other.secret)).status == 200


def test_an_account_that_is_disabled_is_refused_until_it_is_enabled(gateway, provider, key):
    provider.on("main", whole())
    assert key.ask().status == 200
    gateway.command("accounts", "disable", key.account)
    for _ in range(2):
        answer = key.ask()
        assert (answer.status, answer.error["type"]) == (403, "permission_error")
        assert answer.error["code"] == "account_disabled"
    gateway.command("accounts", "enable", key.account)
    assert key.ask().status == 200


def test_a_key_made_by_the_command_is_good_at_once_and_its_use_is_shown(gateway, provider):
    provider.on("main", whole("Hello.", usage(10, 5)))
    gateway.command("accounts", "create", "made_here")
    made = gateway.command("keys", "create", "made_here", "--name", "laptop")
    with gateway.client() as client:
        assert client.ask(chat(made["key"])).status == 200
    assert eventually(lambda: gateway.command("accounts", "show", "made_here")["in_flight"] == 0)
    (listed,) = gateway.command("keys", "list", "made_here")["keys"]
    assert listed["last_used"] is not None
    assert made["key"] not in str(listed)


def test_a_key_ends_with_its_time(gateway, provider, key):
    """Both when its end is known before the first request, and when it comes between two."""
    provider.on("main", whole())
    now = int(time.time() * 1000)
    assert gateway.new_key(account=key.account, expires_ms=now - 1).ask().error["code"] == "invalid_api_key"
    ending = gateway.new_key(account=key.account, expires_ms=now + 3_600_000)
    assert ending.ask().status == 200

    async def expire(store):
        return await RedisKeys(store).change_key(ending.key_id, expires_ms=now)

    assert gateway.in_store(expire) is not None
    assert ending.ask().error["code"] == "invalid_api_key"


def test_a_key_s_models_are_known_by_all_their_names(gateway, provider):
    key = gateway.new_key(models=frozenset({"test/renamed"}))
    provider.on("main", whole())
    assert key.ask("renamed").status == 200
    answer = key.ask("same")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (403, "model_not_allowed", "model")
    assert key.ask("same", stream=True).status == 403


def test_limits_are_told_on_a_refusal_that_comes_before_any_of_the_account_s_requests_was_let_in(gateway):
    key = gateway.new_key(requests_per_minute=7)
    answer = key.ask(temperature="hot")
    assert (answer.status, answer.header("x-ratelimit-limit-requests")) == (400, "7")
    assert answer.header("x-ratelimit-remaining-requests") == "7"
