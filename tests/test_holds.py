"""What a call holds in advance, what is learned for it, and how a hold grows or ends a stream."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.holds import LEAST_STEP, SHARE, Allowance, TypicalOutput, TypicalOutputs, Watched, hold_for, watched
from proxy.limits import Hold, Limit, Limits, OnBudgetEnd, Period
from proxy.pricing import Prices, nano_usd_ceil
from proxy.usage import Usage
from specimens import PRICES, call, model

DEFAULT_HOLD = 1024


class TestHolds:
    def test_a_call_that_names_its_maximum_holds_its_prompt_and_that(self):
        made = call(max_tokens=100)
        hold = hold_for(made, Limits(), DEFAULT_HOLD)
        prompt = -(-made.request.prompt_bytes // 4)
        assert (hold.request_id, hold.tokens) == ("req_1", prompt + 100)
        assert hold.nusd == nano_usd_ceil(made.model.prices.cost(prompt, 0, 100))

    def test_a_call_that_names_none_holds_the_default(self):
        made = call()
        assert hold_for(made, Limits(), DEFAULT_HOLD).tokens == -(-made.request.prompt_bytes // 4) + DEFAULT_HOLD

    @pytest.mark.parametrize("fields", [{"max_tokens": 100}, {"max_completion_tokens": 100}])
    def test_either_name_of_the_maximum_counts_and_each_choice_again(self, fields):
        one, three = call(**fields), call(n=3, **fields)
        prompt = -(-one.request.prompt_bytes // 4)
        assert hold_for(one, Limits(), DEFAULT_HOLD).tokens == prompt + 100
        assert hold_for(three, Limits(), DEFAULT_HOLD).tokens == prompt + 300

    def test_each_choice_holds_the_default_again(self):
        made = call(n=3)
        assert hold_for(made, Limits(), 10).tokens == -(-made.request.prompt_bytes // 4) + 30

    def test_the_models_own_bytes_per_token_count(self):
        made = call(model(estimate_bytes_per_token=(2, 1)), max_tokens=1)
        assert hold_for(made, Limits(), DEFAULT_HOLD).tokens == -(-made.request.prompt_bytes // 2) + 1

    def test_a_default_is_never_more_than_the_model_can_do(self):
        made = call(model(max_completion_tokens=50))
        assert hold_for(made, Limits(), DEFAULT_HOLD).tokens == -(-made.request.prompt_bytes // 4) + 50

    @pytest.mark.parametrize("limits", [Limits(tokens_per_minute=500), Limits(tokens_per_day=500)])
    def test_a_default_never_asks_for_more_than_a_whole_limit_of_tokens(self, limits):
        assert hold_for(call(), limits, DEFAULT_HOLD).tokens == 500

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(budget_nusd=100_000),
            Limits(budget_nusd=10**12, more_budgets=((Period.DAY, 100_000),)),
        ],
    )
    def test_a_default_never_asks_for_more_than_a_whole_budget(self, limits):
        """The account could otherwise never call at all; one output token more would be too many."""
        made = call()
        hold = hold_for(made, limits, DEFAULT_HOLD)
        prompt = -(-made.request.prompt_bytes // 4)
        assert hold.nusd <= 100_000
        assert nano_usd_ceil(made.model.prices.cost(prompt, 0, hold.tokens - prompt + 1)) > 100_000

    def test_a_default_for_a_model_whose_output_is_free_does_not_go_by_the_budget(self):
        free = model(prices=Prices.parse("0.000001", "0"))
        made = call(free)
        assert hold_for(made, Limits(budget_nusd=100), 10).tokens == -(-made.request.prompt_bytes // 4) + 10

    def test_a_prompt_that_fills_the_minute_holds_one_token_of_output(self):
        made = call()
        prompt = -(-made.request.prompt_bytes // 4)
        assert hold_for(made, Limits(tokens_per_minute=1), DEFAULT_HOLD).tokens == prompt + 1

    def test_a_maximum_that_was_named_is_not_made_to_fit_the_minute(self):
        """It has to be refused with a sentence: a smaller hold would let too much through."""
        assert hold_for(call(max_tokens=4000), Limits(tokens_per_minute=500), DEFAULT_HOLD).tokens > 4000

    def test_no_number_of_a_client_outgrows_what_the_model_can_do(self):
        """The store counts in 64 bits: a larger hold would break its sums for the whole account."""
        made = call(max_tokens=999_999_999_999_999_999, n=128)
        hold = hold_for(made, Limits(), DEFAULT_HOLD)
        assert hold.tokens == -(-made.request.prompt_bytes // 4) + 4096 * 128
        assert hold.nusd < 2**62

    def test_money_is_rounded_up_to_nano_dollars_once(self):
        hold = hold_for(call(max_tokens=1), Limits(), DEFAULT_HOLD)
        assert isinstance(hold.nusd, int)
        assert hold.nusd * 1000 >= call().model.prices.cost(hold.tokens - 1, 0, 1) > (hold.nusd - 1) * 1000


class TestTypicalOutput:
    def test_nothing_learned_is_the_default(self):
        assert TypicalOutput(1024).tokens == 1024
        assert TypicalOutputs().of(call(), 77) == 77

    @pytest.mark.parametrize("size", [1, 20, 300, 1024, 5000, 100_000])
    def test_answers_of_one_size_are_soon_expected_to_have_it(self, size):
        typical = TypicalOutput(1024)
        for _ in range(60):
            typical.learn(size)
        assert size <= typical.tokens <= max(16, 1.5 * size)

    def test_one_long_answer_changes_little(self):
        typical = TypicalOutput(1024)
        for _ in range(100):
            typical.learn(200)
        typical.learn(100_000)
        assert typical.tokens == 256

    def test_the_first_answers_do_not_decide_alone(self):
        typical = TypicalOutput(256)
        typical.learn(2000)
        typical.learn(50_000)
        assert typical.tokens == 256

    def test_a_model_that_has_changed_is_learned_anew(self):
        typical = TypicalOutput(1024)
        for size in [50] * 5000 + [3000] * 1500:
            typical.learn(size)
        assert 3000 <= typical.tokens <= 4500

    @given(st.lists(st.integers(0, 10**6), min_size=100, max_size=400))
    def test_four_of_five_answers_fit_and_the_guess_is_no_larger_than_that_takes(self, sizes):
        typical = TypicalOutput(1024)
        for size in sizes:
            typical.learn(size)
        fitting = sum(size <= typical.tokens for size in sizes)
        assert fitting + 8 >= SHARE * (len(sizes) + 8)
        smaller = sum(size <= typical.tokens / 1.5 for size in sizes)
        assert typical.tokens == 16 or smaller <= SHARE * (len(sizes) + 8)

    @given(st.lists(st.integers(0, 10**13), max_size=50))
    def test_it_is_always_a_number_of_tokens_that_can_be_held(self, sizes):
        typical = TypicalOutput(1024)
        for size in sizes:
            typical.learn(size)
        assert 16 <= typical.tokens <= 250_000_000

    def test_models_are_learned_apart_and_choices_count_one_by_one(self):
        typicals = TypicalOutputs()
        three = call(model("a"), n=3)
        for _ in range(60):
            typicals.learn(three, Usage(10, 300), 1024)
        assert typicals.of(call(model("a")), 1024) in range(100, 151)
        assert typicals.of(call(model("b")), 1024) == 1024

    def test_a_request_that_names_its_maximum_teaches_nothing(self):
        typicals = TypicalOutputs()
        for _ in range(60):
            typicals.learn(call(max_tokens=5), Usage(10, 5), 1024)
        assert typicals.of(call(), 1024) == 1024


WATCHED = Watched(100, 1024, named=False, prices=PRICES, bytes_per_token=(4, 1), on_end=OnBudgetEnd.FINISH)
HOLD = Hold("req_1", 1124, nano_usd_ceil(PRICES.cost(100, 0, 1024)))


class Bench:
    """One allowance, and what it asked for."""

    def __init__(self, on_end: OnBudgetEnd = OnBudgetEnd.FINISH, **fields: object) -> None:
        self.asked: list[Hold] = []
        of = {**{name: getattr(WATCHED, name) for name in WATCHED.__struct_fields__}, "on_end": on_end, **fields}
        self.of = Watched(**of)
        prompt, output = self.of.prompt, self.of.output
        hold = Hold("req_1", prompt + output, nano_usd_ceil(self.of.prices.cost(prompt, 0, output)))
        self.allowance = Allowance(hold, self.of, lambda _, wants: self.asked.append(wants))

    def output(self, tokens: int) -> int | None:
        """Look when the model has produced so many tokens, by its bytes."""
        return self.allowance.look(None, 4 * tokens)


class TestWatching:
    def test_only_streams_are_watched(self):
        limits = Limits(budget_nusd=10)
        assert watched(call(), HOLD, limits) is None
        assert watched(call(stream=True), HOLD, limits) is not None

    @pytest.mark.parametrize(
        ("limits", "is_watched"),
        [
            (Limits(), False),
            (Limits(requests_per_minute=1, concurrent_requests=1), False),
            (Limits(tokens_per_minute=1), True),
            (Limits(tokens_per_day=1), True),
            (Limits(budget_nusd=1), True),
        ],
    )
    def test_only_what_tokens_count_for_is_watched(self, limits, is_watched):
        assert (watched(call(stream=True), HOLD, limits) is not None) == is_watched

    def test_what_its_hold_covers_is_known(self):
        made = call(stream=True, max_tokens=50)
        of = watched(made, hold_for(made, Limits(), 1024), Limits(budget_nusd=1, on_budget_end=OnBudgetEnd.CUT))
        assert of is not None
        assert (of.output, of.named, of.on_end) == (50, True, OnBudgetEnd.CUT)


class TestGrowing:
    def test_a_short_stream_asks_for_nothing(self):
        bench = Bench()
        for tokens in range(0, 768, 16):
            assert bench.output(tokens) is not None
        assert bench.asked == []

    def test_it_asks_for_a_step_more_when_a_quarter_is_left(self):
        bench = Bench()
        bench.output(769)
        wants = Hold("req_1", 1124 + 1024, HOLD.nusd + nano_usd_ceil(PRICES.cost(0, 0, 1024)))
        assert bench.asked == [wants]

    def test_it_asks_once_until_it_hears(self):
        bench = Bench()
        for tokens in (800, 900, 1000, 2000):
            assert bench.output(tokens)
        assert len(bench.asked) == 1

    @pytest.mark.parametrize(("on_end", "last"), [(OnBudgetEnd.CUT, 1024), (OnBudgetEnd.FINISH, 2048)])
    def test_where_it_would_end_without_more_it_waits_for_the_answer(self, on_end, last):
        bench, news = Bench(on_end), []
        bench.allowance.on_news(lambda: news.append("look"))
        bench.output(800)
        assert bench.output(last)
        assert bench.output(last + 1) == 0
        bench.allowance.granted()
        assert news == ["look"]
        assert bench.output(last + 1)

    def test_what_was_granted_is_held_and_grows_again(self):
        bench = Bench()
        bench.output(800)
        bench.allowance.granted()
        assert bench.allowance.hold == bench.asked[0]
        bench.output(1024 + 768)
        assert len(bench.asked) == 1
        bench.output(1024 + 769)
        assert bench.asked[1].tokens == bench.asked[0].tokens + 1024

    def test_a_leap_takes_as_many_steps_as_it_needs(self):
        bench = Bench()
        bench.output(5000)
        bench.allowance.granted()
        assert bench.allowance.hold.tokens - 100 >= 5000 + 256
        bench.output(5000)
        assert len(bench.asked) == 1

    def test_a_step_is_never_tiny(self):
        bench = Bench(output=1)
        bench.output(2)
        assert bench.asked[0].tokens == 101 + LEAST_STEP

    def test_what_was_not_heard_is_asked_again_with_the_same_words(self):
        """The store may have taken it: asking for another hold would leave it unclear which one is there."""
        bench = Bench()
        bench.output(800)
        bench.allowance.unheard()
        assert bench.output(100_000)
        assert bench.asked[1] == bench.asked[0]

    def test_a_store_that_cannot_be_asked_ends_nothing(self):
        bench = Bench(OnBudgetEnd.CUT)
        for tokens in range(0, 200_000, 300):
            asked = len(bench.asked)
            assert bench.output(tokens)
            if len(bench.asked) > asked:
                bench.allowance.unheard()
        assert len(bench.asked) > 100

    def test_money_asks_too(self):
        """The provider counted more of the prompt than was held, which costs more than there is."""
        bench = Bench(prompt=1000, prices=Prices.parse("0.000010", "0.000001"))
        bench.allowance.look(Usage(1000, 100), 0)
        assert bench.asked == []
        bench.allowance.look(Usage(1100, 100), 0)
        assert len(bench.asked) == 1

    def test_a_provider_that_counts_is_believed_and_what_came_since_is_added(self):
        bench = Bench()
        bench.allowance.look(Usage(100, 700), 0)
        bench.allowance.look(Usage(100, 700), 4 * 68)
        assert bench.asked == []
        bench.allowance.look(Usage(100, 700), 4 * 69)
        assert len(bench.asked) == 1

    def test_a_maximum_that_was_named_needs_no_more_as_long_as_the_provider_keeps_to_it(self):
        """An estimate by bytes may be too high by half; that is no reason to hold more, or to cut."""
        bench = Bench(OnBudgetEnd.CUT, named=True)
        for tokens in (1000, 1024, 1500, 2048):
            assert bench.output(tokens) is not None
        assert bench.asked == []
        bench.output(2049)
        assert len(bench.asked) == 1


class TestTheEnd:
    def refused(self, bench: Bench, tokens: int) -> int | None:
        """Let it produce so much, answering each question with a refusal."""
        asked = len(bench.asked)
        looked = bench.output(tokens)
        if len(bench.asked) > asked:
            bench.allowance.refused(Limit.BUDGET)
        return looked

    @pytest.mark.parametrize(("on_end", "last"), [(OnBudgetEnd.CUT, 1024), (OnBudgetEnd.FINISH, 2048)])
    def test_without_room_it_ends_at_its_hold_or_one_step_behind_it(self, on_end, last):
        bench = Bench(on_end)
        for tokens in range(700, last + 1):
            assert self.refused(bench, tokens) is not None
        assert self.refused(bench, last + 1) is None
        assert bench.allowance.spent is Limit.BUDGET

    def test_it_asks_again_a_little_later_and_a_few_times_only(self):
        bench = Bench()
        for tokens in range(700, 2049):
            self.refused(bench, tokens)
        assert 5 <= len(bench.asked) <= 12

    def test_room_that_comes_meanwhile_is_taken(self):
        bench = Bench(OnBudgetEnd.CUT)
        assert self.refused(bench, 800) is not None
        bench.output(1000)
        bench.allowance.granted()
        assert bench.output(1025) is not None
        assert bench.allowance.spent is None

    def test_while_the_store_is_asked_nothing_ends(self):
        bench = Bench(OnBudgetEnd.CUT)
        self.refused(bench, 800)
        bench.output(1000)
        assert bench.output(2000) == 0
        bench.allowance.refused(Limit.TOKENS_PER_DAY)
        assert bench.output(2000) is None
        assert bench.allowance.spent is Limit.TOKENS_PER_DAY


class Room:
    """A store with room for so many output tokens, which answers a while later."""

    def __init__(self, room: int, delay: int) -> None:
        self.room = room
        self.delay = delay
        self.taken: dict[str, int] = {}
        self.waiting: list[tuple[int, Allowance, Hold]] = []
        self.now = 0

    def take(self, hold: Hold) -> bool:
        """Take a hold, or what was used in the end, in the place of what the request had."""
        others = sum(taken for name, taken in self.taken.items() if name != hold.request_id)
        fits = others + hold.tokens <= self.room
        if fits:
            self.taken[hold.request_id] = hold.tokens
        return fits

    def ask(self, allowance: Allowance, wants: Hold) -> None:
        self.waiting.append((self.now + self.delay, allowance, wants))

    def tick(self) -> None:
        self.now += 1
        due = [one for one in self.waiting if one[0] <= self.now]
        self.waiting = [one for one in self.waiting if one[0] > self.now]
        for _, allowance, wants in due:
            if self.take(wants):
                allowance.granted()
            else:
                allowance.refused(Limit.BUDGET)


class Stream:
    """One stream that is looked at as the pump does it."""

    def __init__(self, allowance: Allowance, length: int) -> None:
        self.allowance = allowance
        self.left = 4 * length
        self.produced = 0
        self.said: int | None = 1
        allowance.on_news(self.look)

    @property
    def over(self) -> bool:
        return self.said is None or self.left <= 0

    def look(self) -> None:
        if not self.over:
            self.said = self.allowance.look(None, self.produced)

    def take(self, piece: int, envelope: int) -> None:
        if self.said:
            self.produced += piece
            self.left -= piece
            self.said = max(0, self.said - piece - envelope)
            if not self.said:
                self.look()


@settings(deadline=None)
@given(
    on_end=st.sampled_from(OnBudgetEnd),
    room=st.integers(2_000, 40_000),
    lengths=st.lists(st.integers(1, 30_000), min_size=1, max_size=12),
    piece=st.integers(16, 2_000),
    envelope=st.integers(0, 300),
    delay=st.integers(1, 9),
)
def test_many_streams_together_use_no_more_than_the_room_and_a_step_each(on_end, room, lengths, piece, envelope, delay):
    """`envelope` bytes come around each piece of text; the store answers so many pieces late."""
    store = Room(room, delay)
    of = Watched(0, 1024, named=False, prices=PRICES, bytes_per_token=(4, 1), on_end=on_end)
    streams = []
    for number, length in enumerate(lengths):
        hold = Hold(f"req_{number}", 1024, 10**12)
        if store.take(hold):
            streams.append(Stream(Allowance(hold, of, store.ask), length))
    running = list(streams)
    for _ in range(20_000):
        for stream in running:
            stream.take(piece, envelope)
            if stream.over:
                store.taken[stream.allowance.hold.request_id] = -(-stream.produced // 4)
        running = [stream for stream in running if not stream.over]
        store.tick()
        if not running:
            break
    assert not running, "no stream stands still for ever"
    used = sum(store.taken.values())
    grace = 1024 if on_end is OnBudgetEnd.FINISH else 0
    between_looks = 2048 // 4 + piece // 4 + 1
    assert used <= room + len(streams) * (grace + between_looks)
