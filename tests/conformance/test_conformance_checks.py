"""What the checks say besides right and wrong: what they skip and why, how they are chosen, how they read."""

import json
import re

import pytest
from broken import broken, header, instead, rewritten, status, text
from fake_answers import MODEL
from fake_endpoint import FakeEndpoint

from proxy.conformance import asks, chat_answers, chat_streams, headers, response_streams
from proxy.conformance.catalogue import all_checks
from proxy.conformance.check import Check, Failed, Passed, Skipped, check, chosen
from proxy.conformance.exchange import KEY, Cost, NoReply, Reply, Violation
from proxy.conformance.runner import Plan
from test_readme import blocks, rows, words

CHECKS = all_checks()
LESS = FakeEndpoint(tools=False, reasons=False, limits=False, largest=2**30)


def verdict(one: Check, endpoint):
    return one.verdict([endpoint.respond(asking(MODEL)) for asking in one.asks])


def test_what_a_model_cannot_do_is_skipped_with_the_reason():
    found = [(one.clause, verdict(one, LESS)) for one in CHECKS]
    assert not [clause for clause, said in found if isinstance(said, Failed)]
    assert {(clause, said.seen) for clause, said in found if isinstance(said, Skipped)} == {
        ("A4.3", "20 MiB are taken: the limit of this endpoint is higher"),
        ("A5.4", "no x-ratelimit headers: this key has no limits per minute"),
        ("D4.2", "the model did not reason"),
        ("D5.6", "the model called no tool although it had to"),
        ("E1.6", "the model called no tool although it had to"),
        ("F3.3", "the model called no tool although it had to"),
        ("F4.1", "the model did not reason"),
        ("F5.3", "the model called no tool although it had to"),
        ("F6.5", "the model did not reason, or is not marked as one that does"),
        ("F6.6", "the model did not reason"),
        ("F6.7", "the model called no tool although it had to"),
    }


REFUSABLE = (
    *(asks.call, asks.streamed_call, asks.two, asks.streamed_running, asks.response_call, asks.response_to_history),
    *(asks.response_no_call, asks.response_allowed),
)


@pytest.mark.parametrize("asking", REFUSABLE, ids=lambda asking: asking(MODEL).what)
def test_what_a_provider_refuses_is_skipped_with_its_words(asking):
    ways = [broken(one, ("refused", status(400), asking))[0] for one in CHECKS if asking in one.asks]
    right = FakeEndpoint()
    found = [one.breaks.verdict([one.respond(right, needed(MODEL)) for needed in one.breaks.asks]) for one in ways]
    assert {type(said) for said in found} <= {Skipped, Passed}
    skipped = [said.seen for said in found if isinstance(said, Skipped)]
    assert skipped
    assert all("the provider does not take it: 400" in said for said in skipped)


def test_usage_that_comes_only_in_the_end_is_no_running_usage():
    [endpoint] = broken(chat_streams.running_usage, ("only in the end", instead(asks.streamed_usage)))
    right = FakeEndpoint()
    assert chat_streams.running_usage.verdict([endpoint.respond(right, asks.streamed_running(MODEL))]) == Skipped(
        "the provider tells no usage before the end"
    )


@pytest.mark.parametrize(
    ("change", "where", "found_by"),
    [
        (header("x-request-id", None), asks.streamed, [headers.request_ids]),
        (text(b"data: {", b"id: 1\ndata: {"), asks.streamed, [chat_streams.framing]),
        (text(b'"total_tokens":10', b'"total_tokens":11'), asks.plain, [chat_answers.sums_of_usage]),
        (text(b'"created"', b'"made"'), asks.streamed, [chat_streams.keys_of_a_chunk]),
        (
            rewritten(lambda found: found.replace(b'"sequence_number":', b'"sequence_number":1')),
            asks.streamed_response,
            [response_streams.lines_and_numbers],
        ),
        (text(b"response.output_text.done", b"x"), asks.streamed_response, [response_streams.messages]),
    ],
)
def test_one_broken_rule_fails_the_check_of_that_rule_alone(change, where, found_by):
    right, failed = FakeEndpoint(), []
    for one in CHECKS:
        (endpoint,) = broken(one, ("", change, where))
        replies = [endpoint.respond(right, asking(MODEL)) for asking in one.asks]
        failed += [one] if isinstance(one.verdict(replies), Failed) else []
    assert failed == found_by


def test_an_answer_that_no_judge_was_prepared_for_is_a_failure_that_can_be_read():
    @check("X1", asks.models)
    def surprised(reply):
        """Sentence."""
        raise KeyError(reply.body)

    found = surprised.verdict([FakeEndpoint().respond(asks.models(MODEL))])
    assert isinstance(found, Failed)
    assert found.seen.startswith("the answer has a form that cannot be judged (KeyError): 200 application/json, ")


def test_a_violation_is_a_failure_in_its_own_words():
    @check("X1")
    def refusing():
        """Sentence."""
        raise Violation("this was seen")

    assert refusing.verdict([]) == Failed("this was seen")


def test_a_request_without_an_answer_fails_the_check_and_is_named():
    @check("X1", asks.models)
    def never(_):
        """Sentence."""
        raise AssertionError

    ask = asks.models(MODEL)
    assert never.verdict([NoReply(ask, "there was no answer within 5 s")]) == Failed(
        "the listing: there was no answer within 5 s"
    )


def test_every_check_says_in_a_sentence_of_its_own_what_it_checks():
    sentences = [one.sentence for one in CHECKS]
    assert len(set(sentences)) == len(sentences)
    assert all(30 < len(sentence) <= 200 and sentence.endswith(".") for sentence in sentences)


def test_checks_come_in_the_order_of_their_clauses():
    clauses = [one.clause for one in CHECKS]
    order = list(dict.fromkeys(clauses))
    assert order.index("D2") < order.index("D2.1") < order.index("D4.2") < order.index("D4.11") < order.index("D5.1")
    assert order.index("F6.7") < order.index("F6.10")
    assert clauses == sorted(clauses, key=order.index)


@pytest.mark.parametrize(
    ("only", "clauses"),
    [
        (["E1.2"], {"E1.2"}),
        (["F6.1"], {"F6.1"}),
        (["A5"], {"A5.1", "A5.2", "A5.3", "A5.4", "A5.8"}),
        (["B", "C3"], {"B1.1", "B1.2", "B1.3", "C3"}),
        (["D2"], {"D2", "D2.1"}),
    ],
)
def test_a_clause_chooses_its_checks_and_those_below_it(only, clauses):
    assert {one.clause for one in chosen(CHECKS, only)} == clauses


def test_without_a_choice_every_check_is_chosen():
    assert chosen(CHECKS, []) == CHECKS


@pytest.mark.parametrize("wanted", ["Z", "A1.9", "A1.", "a1", "E10", ""])
def test_a_clause_that_no_check_has_is_named(wanted):
    with pytest.raises(ValueError, match=f"no check has the clause {wanted}: see `aion-proxy conformance --list`"):
        chosen(CHECKS, ["A1", wanted])


def every_ask():
    return {asking(MODEL) for one in CHECKS for asking in one.asks}


def test_no_request_holds_a_key_before_it_is_sent():
    assert all(KEY in value for ask in every_ask() for name, value in ask.headers if name in {"x-api-key", "api-key"})
    assert not [ask.what for ask in every_ask() if b"sk-" in ask.body or "sk-" in ask.path]


def test_only_requests_that_say_so_can_cost_money():
    right = FakeEndpoint()
    for ask in every_ask():
        answers = right.respond(ask).status == 200 and ask.method == "POST"
        assert answers == (ask.cost is Cost.AN_ANSWER), ask.what
        names_a_model = ask.method == "POST" and json.dumps(MODEL).encode() in ask.body
        assert names_a_model or ask.cost is not Cost.AN_ANSWER, ask.what
        if names_a_model:
            assert ask.cost is not Cost.NOTHING, ask.what


def test_no_answer_that_is_asked_for_may_be_long():
    for ask in every_ask():
        if ask.cost is Cost.AN_ANSWER:
            assert ask.fields.get("max_tokens", ask.fields.get("max_output_tokens")) <= 256


def test_two_requests_never_go_by_the_same_words():
    whats = [ask.what for ask in every_ask()]
    assert sorted(whats) == sorted(set(whats))


def test_the_readme_names_every_group_of_clauses_and_no_other():
    groups = {re.match(r"[A-Z][0-9]", one.clause)[0] for one in CHECKS}
    named = [word for row in rows("conformance") for word in words(row[0])]
    assert sorted(named) == sorted(groups)


def test_the_readme_s_example_is_one():
    example = next(block for block in blocks("Checking an endpoint", "text"))
    plan = Plan.of(CHECKS, "demo/echo")
    counted = (
        f"{len(CHECKS)} checks with {len(plan.asks)} requests. {plan.cost(Cost.AN_ANSWER)} of them ask demo/echo for a "
        f"short answer and cost money; {plan.cost(Cost.IF_TAKEN)} more ought to be refused"
    )
    assert example.replace("\n", " ").startswith(counted)


def test_an_answer_is_summed_up_in_a_few_words():
    ask = asks.models(MODEL)
    error = {"error": {"message": "No  such\nURL." + "x" * 300, "type": "t", "param": "p", "code": "c"}}
    found = Reply(ask, 404, (), json.dumps(error).encode()).summary
    assert found.startswith("404 t, c, param p: No such URL.xxx")
    assert found.endswith("…")
    assert len(found) < 200
    assert Reply(ask, 200, (("content-type", "Text/HTML; x"),), b"<p>").summary == "200 text/html, 3 bytes"
    assert Reply(ask, 200, (), b"[1]").summary == "200 without a content type, 3 bytes"
