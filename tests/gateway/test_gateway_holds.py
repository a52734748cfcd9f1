"""Streams that outgrow what they held: they come to hold more, or end; together they use no more than that allows."""

import threading
from collections.abc import Callable, Iterator

import pytest
from gateway_process import Gateway, Key, eventually
from provider_scripts import finish, role, talking, usage, usage_chunk, word
from raw_client import RawClient, chat, request_bytes
from scripted_provider import DONE, Exchange, ScriptedProvider

from conftest import catalog_entry
from proxy.limits import Limit

PROMPT, STEP = 5, 256
"""What the prompt of `chat` is billed, and the least by which a hold grows."""
OUTPUT_NUSD = 1600
WORD = "x" * 40
"""Ten tokens by the estimate."""


@pytest.fixture(scope="module")
def holding(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    plans = "plans: {unlimited: {}, cutting: {on_budget_end: cut}}\nlimits: {default_hold: 256}\n"
    gateway = make_gateway(more=plans)
    entries = [catalog_entry(name, [("main", "same")]) for name in ("learned", "many-cutting", "many-unlimited")]
    gateway.catalog.write_text(gateway.catalog.read_text() + "".join(entries))
    gateway.start()
    yield gateway
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log.read_text(), gateway.log.read_text()[-4000:]


class Talking:
    """A script that says ten tokens whenever the test lets it, for ever or until it is told to end."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.ends = threading.Event()
        self.said = 0

    def __call__(self, exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.chunk(role())
        try:
            while not self.ends.is_set():
                exchange.check_running()
                if self.steps.acquire(timeout=0.05):
                    exchange.chunk(word(WORD))
                    self.said += 1
            exchange.chunk(finish() + usage_chunk(usage(PROMPT, 10 * self.said)) + DONE)
            exchange.end_stream()
        except ConnectionError:
            exchange.closed = True

    def say(self, words: int) -> None:
        for _ in range(words):
            self.steps.release()


def models(client: RawClient) -> bytes:
    return client.ask(request_bytes("GET", "/v1/models")).body


def held_tokens(key: Key) -> int:
    return key.use(tokens_per_day=10**9).limits[Limit.TOKENS_PER_DAY].held


def comes_to_hold(key: Key, tokens: int) -> bool:
    return eventually(lambda: held_tokens(key) == tokens)


def test_a_stream_that_outgrows_its_hold_holds_more_while_it_runs_and_nothing_afterwards(holding, provider):
    key, script = holding.new_key(tokens_per_day=10**6), Talking()
    provider.on("main", script)
    with holding.client() as client:
        client.send(chat(key.secret, stream=True))
        assert eventually(lambda: held_tokens(key) > 0)
        first = held_tokens(key)
        assert STEP < first < STEP + 100
        assert eventually(lambda: holding.metric("aion_held_tokens") == first)
        # A stream is looked at every 2 KiB, ten words or so: what is said passes a mark by more, and never two.
        for words in (32, 26, 26):
            before = held_tokens(key)
            script.say(words)
            assert comes_to_hold(key, before + STEP)
        shown = holding.command("accounts", "show", key.account)
        assert shown["limits"]["tokens_per_day"]["held"] == first + 3 * STEP
        assert (shown["limits"]["tokens_per_day"]["used"], shown["in_flight"]) == (0, 1)
        script.ends.set()
        client.head()
        assert client.stream_rest().endswith(DONE)
    assert key.settled().held_nusd == held_tokens(key) == 0
    assert key.use(tokens_per_day=10**6).limits[Limit.TOKENS_PER_DAY].used == PROMPT + 840
    assert eventually(lambda: holding.metric("aion_held_tokens") == holding.metric("aion_held_usd") == 0)


def test_a_stream_of_an_account_without_such_limits_is_not_watched(holding, provider):
    key, script = holding.new_key(requests_per_minute=100), Talking()
    provider.on("main", script)
    with holding.client() as client:
        client.send(chat(key.secret, stream=True))
        script.say(200)
        client.head()
        assert eventually(lambda: script.said == 200)
        script.ends.set()
        assert client.stream_rest().endswith(DONE)
    assert holding.only_line_of(key)["completion_tokens"] == 2000


@pytest.mark.parametrize(("plan", "steps"), [("cutting", 1), ("unlimited", 2)])
def test_without_room_for_more_a_stream_ends_with_an_error_and_is_charged_what_came(holding, provider, plan, steps):
    """Where it may finish, one step behind its hold."""
    budget = (PROMPT + 50) * 800 + (STEP + 20) * OUTPUT_NUSD
    key = holding.new_key(plan=plan, budget_nusd=budget, budget_per="total")
    script = Talking()
    provider.on("main", script)
    with holding.client() as client:
        client.send(chat(key.secret, stream=True))
        script.say(1)
        client.head()
        rest = b""
        while part := client.part():
            rest += part
            script.say(1)
    *_, error, done = rest.removesuffix(b"\n\n").split(b"\n\n")
    assert done + b"\n\n" == DONE
    assert b'"code":"insufficient_quota"' in error
    assert b'"type":"rate_limit_error"' in error
    assert b'"choices"' not in error
    line = holding.only_line_of(key)
    assert (line["ending"], line["status"], line["usage_source"]) == ("cut", 200, "estimated")
    said = rest.count(WORD.encode())
    assert line["completion_tokens"] == 10 * said
    assert steps * STEP <= 10 * said <= steps * STEP + 200
    assert key.settled().spent_nusd == PROMPT * 800 + 10 * said * OUTPUT_NUSD
    assert eventually(lambda: script.say(1) or provider.only().closed)


@pytest.mark.parametrize("plan", ["cutting", "unlimited"])
def test_many_streams_at_once_use_no_more_than_the_budget_and_a_step_each(holding, provider, plan):
    """Twelve that would go on for ever; the provider counts what it said, and that is what was charged."""
    streams, budget_tokens = 12, 6_000
    key = holding.new_key(plan=plan, budget_nusd=budget_tokens * OUTPUT_NUSD, budget_per="day")
    scripts = [Talking() for _ in range(streams)]
    provider.on("main", *scripts)
    got: list[bytes] = []

    def one() -> None:
        with holding.client() as client:
            client.send(chat(key.secret, f"many-{plan}", stream=True))
            assert client.head()[0] == 200
            got.append(client.stream_rest())

    threads = [threading.Thread(target=one) for _ in range(streams)]
    for thread in threads:
        thread.start()
    provider.wait_asked(streams)
    while any(thread.is_alive() for thread in threads):
        for script in scripts:
            script.say(2)
        for thread in threads:
            thread.join(0.002)
    spent = key.settled().spent_nusd
    assert eventually(lambda: len(holding.lines_of(key)) == streams)
    lines = holding.lines_of(key)
    assert [line["ending"] for line in lines] == ["cut"] * streams
    said = sum(part.count(WORD.encode()) for part in got)
    assert spent == streams * PROMPT * 800 + 10 * said * OUTPUT_NUSD
    grace = STEP if plan == "unlimited" else 0
    between_looks = 512
    assert 0.8 * budget_tokens * OUTPUT_NUSD < spent
    assert spent <= (budget_tokens + streams * (grace + between_looks)) * OUTPUT_NUSD
    assert key.use().held_nusd == 0


def test_what_a_model_typically_says_is_learned_and_held_instead_of_the_default(holding, provider):
    key = holding.new_key(tokens_per_day=10**7)
    provider.on("main", talking(["Hi."], usage(5, 20)))
    with holding.client() as client:
        for _ in range(60):
            assert client.ask(chat(key.secret, "learned")).status == 200
    key.settled()
    script = Talking()
    provider.on("main", script)
    with holding.client() as client:
        client.send(chat(key.secret, "learned", stream=True))
        assert eventually(lambda: 20 <= held_tokens(key) <= 60), held_tokens(key)
        script.ends.set()
        client.head()
        client.stream_rest()


def test_a_request_accepted_before_a_price_changed_keeps_its_price(holding, provider: ScriptedProvider):
    key, script = holding.new_key(tokens_per_day=10**6), Talking()
    provider.on("main", script)
    catalog = holding.catalog.read_text()
    with holding.client() as client:
        client.send(chat(key.secret, stream=True))
        script.say(1)
        client.head()
        client.body_until(WORD.encode())
        holding.catalog.write_text(catalog.replace('completion: "0.0000016"', 'completion: "0.0000032"'))
        with holding.client() as other:
            assert eventually(lambda: b'"completion":"0.0000032"' in models(other))
        script.ends.set()
        assert client.stream_rest().endswith(DONE)
    assert holding.only_line_of(key)["cost_usd"] == "0.00002"
    late = holding.new_key()
    provider.on("main", talking(["Hi."], usage(5, 10)))
    assert late.ask().status == 200
    assert holding.only_line_of(late)["cost_usd"] == "0.000036"
