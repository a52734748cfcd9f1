"""The gateway before a real model server, through the official library: answers arrive, every token is counted."""

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal

import msgspec
import openai
import pytest
from stack import PRICES, RENAMED, Account, Gateway, ModelServer, eventually

from proxy.real_provider import MODEL

ENDLESS = {"max_tokens": 900, "extra_body": {"ignore_eos": True}}
"""Some seconds of talk whatever the prompt, so that a client that leaves always leaves in the middle."""

TELL_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def asking(prompt, model=MODEL, **more):
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 24, **more}


def counts(usage):
    """The three numbers that are metered, from a usage object of the official library."""
    return {
        "prompt": usage.prompt_tokens,
        "cached": usage.prompt_tokens_details.cached_tokens,
        "completion": usage.completion_tokens,
    }


def summed(usages):
    return {kind: sum(counts(usage)[kind] for usage in usages) for kind in ("prompt", "cached", "completion")}


def cost(usage):
    """The price of these tokens in pico-dollars, worked out from the catalog's strings."""
    pusd = {kind: int(Decimal(price) * 10**12) for kind, price in PRICES.items()}
    prompt, cached, completion = counts(usage).values()
    return (prompt - cached) * pusd["prompt"] + cached * pusd["input_cache_read"] + completion * pusd["completion"]


def last_usage(stream):
    """The usage of a stream that was asked to tell it, which is in its last chunk and in no other."""
    *before, last = list(stream)
    assert not any(chunk.usage for chunk in before)
    assert last.choices == []
    return last.usage


@contextmanager
def talking(account: Account, model: ModelServer) -> Iterator[openai.Stream]:
    """A stream that has said something and would go on for seconds."""
    with account.client() as client:
        stream = client.chat.completions.create(**asking("Tell a story.", **ENDLESS), stream=True)
        assert any(chunk.choices[0].delta.content for chunk in stream)
        assert model.busy_slots() == 1
        yield stream


def test_a_whole_answer_arrives(account):
    with account.client() as client:
        answer = client.chat.completions.create(**asking("What is two plus two?"))
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.model == MODEL


def test_a_stream_arrives_piece_by_piece(account):
    with account.client() as client:
        chunks = list(client.chat.completions.create(**asking("Count.", extra_body={"ignore_eos": True}), stream=True))
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] in ("stop", "length")


def test_usage_appears_in_a_stream_only_when_it_was_asked_for(account):
    with account.client() as client:
        chunks = list(client.chat.completions.create(**asking("Hi."), stream=True))
    assert not any(chunk.usage for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


async def test_the_asynchronous_library_streams_too(account):
    url, key = f"http://127.0.0.1:{account.gateway.port}/v1", account.key
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        stream = await client.chat.completions.create(**asking("Hi."), stream=True)
        assert [chunk async for chunk in stream]


def test_a_model_that_the_catalog_renames_carries_the_catalog_s_name_in_every_chunk(account):
    with account.client() as client:
        whole = client.chat.completions.create(**asking("Hi.", RENAMED))
        chunks = list(client.chat.completions.create(**asking("Hi.", RENAMED), **TELL_USAGE))
    assert whole.model == RENAMED
    assert {chunk.model for chunk in chunks} == {RENAMED}


def test_the_model_list_is_the_catalog_s(account):
    with account.client() as client:
        assert [model.id for model in client.models.list()] == [MODEL, RENAMED]


def test_fields_that_only_the_server_understands_reach_it(account):
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema}}
    with account.client() as client:
        answer = client.chat.completions.create(**asking("Name a colour.", max_tokens=60), response_format=form)
    assert msgspec.json.decode(answer.choices[0].message.content)["colour"] in ("red", "blue")


def test_a_prompt_that_is_too_long_is_refused_in_the_server_s_words(account):
    with account.client() as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asking("word " * 3000))
    assert refused.value.code == "context_length_exceeded"
    assert "context" in refused.value.body["message"]


def test_the_tokens_metered_are_those_that_the_answers_told(account):
    with account.client() as client:
        told = [
            client.chat.completions.create(**asking("Name three colours.")).usage,
            client.chat.completions.create(**asking("Name three colours.")).usage,
            last_usage(client.chat.completions.create(**asking("Name three towns."), **TELL_USAGE)),
            last_usage(client.chat.completions.create(**asking("Name three towns.", RENAMED), **TELL_USAGE)),
        ]
    assert summed(told)["cached"] > 0
    assert eventually(lambda: account.metered() == summed(told)), (account.metered(), summed(told))


def test_the_tokens_metered_are_those_that_the_server_counted(account, idle_model):
    """Usage is not asked for here: what is metered does not depend on what the client wants to know."""
    before = idle_model.counted()

    def one(number):
        with account.client() as client:
            answer = client.chat.completions.create(**asking(f"Say {number}."), stream=bool(number % 2))
            return list(answer)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(12)))
    assert eventually(lambda: idle_model.busy_slots() == 0)
    after = idle_model.counted()
    served = {kind: after[kind] - before[kind] for kind in after}
    assert served["completion"] > 0
    assert eventually(lambda: account.metered() == served), (account.metered(), served)


def test_the_cost_on_the_metrics_page_is_tokens_times_the_catalog_s_prices(account):
    with account.client() as client:
        told = [client.chat.completions.create(**asking(f"Name {n} birds.")).usage for n in (3, 4, 3)]
    owed = sum(map(cost, told))
    assert owed > 0
    assert eventually(lambda: account.cost_pusd() == owed), (account.cost_pusd(), owed)


def test_a_client_that_leaves_its_stream_frees_the_slot_within_a_second(account, idle_model):
    with talking(account, idle_model) as stream:
        stream.close()
        assert eventually(lambda: idle_model.busy_slots() == 0, within=1.0)


def test_a_client_that_leaves_before_its_whole_answer_is_billed_for_its_prompt_alone(account, idle_model):
    """The server itself notices only when it writes, so its slot runs on; the gateway does not wait for that."""
    body = msgspec.json.encode(asking("Tell a story.", max_tokens=300, ignore_eos=True))
    headers = {"Authorization": f"Bearer {account.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", account.gateway.port)
    connection.request("POST", "/v1/chat/completions", body, headers)
    assert eventually(lambda: idle_model.busy_slots() == 1)
    connection.close()
    assert eventually(lambda: account.metered()["prompt"] > 0)
    assert account.metered()["completion"] == 0
    assert account.gateway.total("aion_in_flight_requests") == 0


def test_a_client_that_leaves_is_billed_for_what_it_received(account, idle_model):
    with talking(account, idle_model) as stream:
        stream.close()
    assert eventually(lambda: account.metered()["completion"] > 0)
    assert account.metered()["prompt"] > 0
    assert account.cost_pusd() > 0


def test_a_client_that_leaves_is_counted_as_an_estimate_and_an_ending_of_its_own(account, idle_model):
    gateway: Gateway = account.gateway
    labels = {"source": "estimated", "ending": "client_gone"}
    before = gateway.total("aion_usage_source_total", **labels)
    with talking(account, idle_model) as stream:
        stream.close()
    assert eventually(lambda: gateway.total("aion_usage_source_total", **labels) == before + 1)


def test_nothing_is_open_or_held_when_all_clients_are_done(account, idle_model):
    with talking(account, idle_model) as stream:
        stream.close()
    with account.client() as client:
        client.chat.completions.create(**asking("Hi."))
    gateway = account.gateway
    assert eventually(lambda: gateway.total("aion_open_streams") == 0 == gateway.total("aion_in_flight_requests"))
    shown = gateway.run("accounts", "show", account.name)
    assert shown["in_flight"] == 0
    assert Decimal(shown["budget"]["held_usd"]) == 0
