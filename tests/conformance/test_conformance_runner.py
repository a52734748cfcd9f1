"""A run: each request once, how many cost money, waiting where the endpoint says so, and when there is no point."""

import pytest
from fake_answers import MODEL
from fake_endpoint import FakeEndpoint, Refused

from proxy.conformance import asks, credentials, models
from proxy.conformance.catalogue import all_checks
from proxy.conformance.check import Failed, Passed, check
from proxy.conformance.exchange import Cost, NoReply, Reply
from proxy.conformance.runner import LONGEST_WAIT, MOST_WAITS, CannotRun, Plan, Runner

CHECKS = all_checks()


class Asker:
    """Asks the fake endpoint, or says what comes first in `instead`."""

    def __init__(self, *instead):
        self.right = FakeEndpoint()
        self.instead = list(instead)
        self.asked = []
        self.slept = []
        self.told = []

    async def ask(self, ask):
        self.asked.append(ask)
        found = self.instead.pop(0) if self.instead else None
        return self.right.respond(ask) if found is None else found(ask)

    async def sleep(self, seconds):
        self.slept.append(seconds)

    def runner(self):
        return Runner(self, self.sleep, self.told.append)


def limited(*headers):
    return lambda ask: Reply(
        ask, 429, headers, b'{"error":{"message":"Too many.","type":"rate_limit_error","code":"x"}}'
    )


async def test_every_request_is_sent_once():
    asker = Asker()
    lines = await asker.runner().run(Plan.of(CHECKS, MODEL))
    assert all(isinstance(line.verdict, Passed) for line in lines)
    assert [line.check for line in lines] == list(CHECKS)
    assert sorted(map(repr, asker.asked)) == sorted({repr(ask) for ask in asker.asked})
    assert tuple(asker.asked) == Plan.of(CHECKS, MODEL).asks


def test_the_requests_that_cost_money_are_counted_once_each():
    paying = [one for one in CHECKS if any(asking(MODEL).cost is Cost.AN_ANSWER for asking in one.asks)]
    assert Plan.of(CHECKS, MODEL).cost(Cost.AN_ANSWER) == Plan.of(tuple(paying), MODEL).cost(Cost.AN_ANSWER) == 27
    assert Plan.of((models.both_lists, credentials.strict_key), MODEL).cost(Cost.AN_ANSWER) == 0


async def test_each_check_is_told_before_it_is_asked():
    asker = Asker()
    await asker.runner().run(Plan.of((models.both_lists, models.one_order), MODEL))
    assert asker.told == [
        f"{number}/2  {one.clause}  {one.sentence}"
        for number, one in enumerate((models.both_lists, models.one_order), 1)
    ]


async def test_the_first_model_of_the_listing_is_asked_unless_one_is_named():
    asker = Asker()
    assert await asker.runner().find_model() == MODEL


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[{}]}', b'{"data":[5]}', b'{"data":{}}'])
async def test_a_listing_that_cannot_be_read_asks_for_a_model_by_name(body):
    with pytest.raises(CannotRun, match="name one with --model"):
        await Asker(lambda ask: Reply(ask, 200, (), body)).runner().find_model()


async def test_no_listing_at_all_asks_for_a_model_by_name():
    with pytest.raises(CannotRun, match="name one with --model"):
        await Asker(lambda ask: NoReply(ask, "there was no answer")).runner().find_model()


async def test_a_good_key_is_good():
    asker = Asker()
    await asker.runner().prove_key(MODEL)
    assert asker.asked == [asks.unknown_model(MODEL)]


async def test_a_key_that_is_refused_ends_the_run():
    body = b'{"error":{"message":"Wrong key.","type":"t","code":"c"}}'
    with pytest.raises(CannotRun, match=r"refuses the key \(401 t, c: Wrong key\.\): give it a good one"):
        await Asker(lambda ask: Reply(ask, 401, (), body)).runner().prove_key(MODEL)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [((), 5.0), ((("retry-after", "7"),), 7.0), ((("retry-after", "0"),), 1.0), ((("retry-after", "soon"),), 5.0)],
)
async def test_a_limit_is_waited_for_as_long_as_the_endpoint_says(headers, seconds):
    asker = Asker(limited(*headers))
    (line,) = await asker.runner().run(Plan.of((models.both_lists,), MODEL))
    assert isinstance(line.verdict, Passed)
    assert asker.slept == [seconds]
    assert len(asker.asked) == 2
    assert asker.told[-1] == f"the endpoint limits this key; going on in {seconds:g} s"


async def test_a_limit_that_does_not_end_ends_the_run():
    asker = Asker(*[limited(("retry-after", "1"))] * 9)
    with pytest.raises(
        CannotRun, match=r"limits this key \(429 rate_limit_error, x: Too many\.\): raise its limits, or"
    ):
        await asker.runner().run(Plan.of((models.both_lists,), MODEL))
    assert len(asker.slept) == MOST_WAITS


@pytest.mark.parametrize("headers", [(("x-should-retry", "false"),), (("retry-after", str(int(LONGEST_WAIT) + 1)),)])
async def test_a_limit_that_is_not_worth_waiting_for_ends_the_run(headers):
    asker = Asker(limited(*headers))
    with pytest.raises(CannotRun):
        await asker.runner().run(Plan.of((models.both_lists,), MODEL))
    assert asker.slept == []


async def test_a_request_without_an_answer_fails_its_checks_and_the_run_goes_on():
    asker = Asker(lambda ask: NoReply(ask, "there was no answer within 5 s"))
    first, second = await asker.runner().run(Plan.of((models.both_lists, models.none_by_its_url), MODEL))
    assert first.verdict == Failed("the listing: there was no answer within 5 s")
    assert isinstance(second.verdict, Passed)


async def test_a_bug_of_the_endpoint_does_not_end_the_run():
    @check("X1", asks.models)
    def never_right(_):
        """Sentence."""
        raise Refused(500, "t", "c")

    first, second = await Asker().runner().run(Plan.of((never_right, models.one_order), MODEL))
    assert (type(first.verdict), type(second.verdict)) == (Failed, Passed)
