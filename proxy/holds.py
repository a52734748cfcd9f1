"""How much a request holds of its limits: at first by estimate, later by what its stream has shown.

Pure arithmetic and two small machines; what is held is decided in the store, and who asks it is `steps/settle.py`. A
hold is a guess of what will be used, never the most that could be: holds for the worst case would refuse users who
have spent nothing.
"""

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from msgspec import Struct

from proxy.call import Call
from proxy.limits import Hold, Limit, Limits, OnBudgetEnd
from proxy.pricing import Prices, nano_usd_ceil
from proxy.usage import Usage, tokens_of

_PUSD_PER_NUSD: Final = 1_000
LEAST_STEP: Final = 256
"""Output tokens by which a hold grows at least: at 100 tokens a second a stream asks every two or three seconds."""
_AHEAD: Final = 4
"""More is asked for when a quarter of a step is left, so that the answer is there before it is needed."""
_LEAST_LOOK: Final = 2_048
"""Bytes of a stream between two looks at least."""

SHARE: Final = 0.8
"""What part of a model's answers the learned hold covers; the others ask for more while they run."""
_PRIOR: Final = 8.0
_REMEMBERED: Final = 1_000.0
"""As many answers as the default counts for, and those after which older ones count half."""
_BOUNDS: Final = tuple(4 * 2**octave * half // 2 for octave in range(2, 26) for half in (2, 3))
"""Sizes of answers in tokens, two to an octave, from 16 to 200 million."""


class TypicalOutput:
    """How many tokens the answers of one model have: the size that four of five of the last ones did not exceed.

    Begins with a default that counts as much as a few answers; old answers fade. Only for requests that leave the
    length to the model: one that names a maximum says nothing about others.
    """

    __slots__ = ("_below", "_counts", "_total", "_within", "tokens")

    def __init__(self, default: int) -> None:
        """Expect `default` tokens until answers say otherwise."""
        self._counts = [0.0] * (len(_BOUNDS) + 1)
        self._total = _PRIOR
        self._within = bisect_left(_BOUNDS, default)
        """The size that is looked for, by its number; and how many answers are smaller."""
        self._below = _PRIOR  # so that the first answer has it looked for
        self._counts[self._within] = _PRIOR
        self.tokens = default

    def learn(self, tokens: int) -> None:
        """Take note of one whole answer."""
        size, counts = bisect_left(_BOUNDS, tokens), self._counts
        counts[size] += 1
        self._total += 1
        if size < self._within:
            self._below += 1
        share = SHARE * self._total
        if self._total > _REMEMBERED or not self._below < share <= self._below + counts[self._within]:
            self._find()

    def _find(self) -> None:
        if self._total > _REMEMBERED:
            self._counts = [count / 2 for count in self._counts]
            self._total /= 2
        below = [0.0, *accumulate(self._counts)]
        self._within = bisect_left(below, SHARE * self._total) - 1
        self._below = below[self._within]
        self.tokens = _BOUNDS[min(self._within, len(_BOUNDS) - 1)]


class TypicalOutputs:
    """What one worker has learned of its models. Every worker learns for itself and begins anew when it starts: that
    costs a few dozen answers per model, and no word to the store.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._models: dict[str, TypicalOutput] = {}

    def of(self, call: Call, default: int) -> int:
        """Return the output tokens to expect of one choice of a call that names no maximum."""
        typical = self._models.get(call.model.id)
        return default if typical is None else typical.tokens

    def learn(self, call: Call, usage: Usage, default: int) -> None:
        """Take note of an answer that came to its own end."""
        if call.request.max_tokens is not None:
            return
        typical = self._models.get(call.model.id)
        if typical is None:
            typical = self._models[call.model.id] = TypicalOutput(default)
        typical.learn(usage.completion // call.request.choices)


def output_of(call: Call, limits: Limits, typical: int, prompt: int) -> int:
    """Estimate the output tokens that a call with this `prompt` needs: what it names as its maximum, else the typical.

    Neither is more than the model can do: a number from outside must not outgrow the store's. What is typical never
    asks for more than a whole limit: the account could then never call at all.
    """
    request = call.request
    output = min(request.max_tokens or typical, call.model.max_completion_tokens) * request.choices
    if request.max_tokens is not None:
        return output
    for limit in (limits.tokens_per_minute, limits.tokens_per_day):
        if limit is not None and output > limit - prompt:
            output = limit - prompt
    prices = call.model.prices
    for _, nusd in limits.budgets if prices.completion else ():
        output = min(output, (nusd * _PUSD_PER_NUSD - prompt * prices.prompt) // prices.completion)
    return max(1, output)


def hold_for(call: Call, limits: Limits, typical: int) -> Hold:
    """Estimate what a call uses: its prompt by size, its output as above."""
    prompt = prompt_of(call)
    output = output_of(call, limits, typical, prompt)
    return Hold(call.request_id, prompt + output, nano_usd_ceil(call.model.prices.cost(prompt, 0, output)))


def prompt_of(call: Call) -> int:
    """Estimate the prompt's tokens by its size alone, which is rather too much than too little."""
    return tokens_of(call.request.prompt_bytes, call.model.estimate_bytes_per_token)


class Watched(Struct, frozen=True):
    """What is known of a stream's request before its first byte, for its allowance."""

    prompt: int
    output: int
    """The output tokens that its hold covers."""
    named: bool
    """The client named this maximum: a provider that keeps to it needs no more."""
    prices: Prices
    bytes_per_token: tuple[int, int]
    on_end: OnBudgetEnd


def watched(call: Call, hold: Hold, limits: Limits) -> Watched | None:
    """Return what to watch of a call that was admitted; None if nothing it uses is limited but by the minute, or if it
    is no stream and shows nothing before its end.
    """
    if not call.request.stream or not (limits.budgets or limits.tokens_per_day or limits.tokens_per_minute):
        return None
    prompt = prompt_of(call)
    named = call.request.max_tokens is not None
    return Watched(
        prompt, hold.tokens - prompt, named, call.model.prices, call.model.estimate_bytes_per_token,
        limits.on_budget_end,
    )  # fmt: skip


class Allowance:
    """What one stream may use: its hold, which grows by a step whenever it runs low.

    With no room for more, the stream ends: at its hold, or where it may `finish`, one step behind it. A stream that
    gets there before the store has answered waits for the answer. So whatever many streams do at once, an account uses
    no more than its limits and one step for each of them, and the little that comes between two looks. A store that
    cannot be asked ends nothing.
    """

    __slots__ = ("_ahead", "_ask", "_ask_at", "_no_room", "_of", "_pending", "_seen", "_step", "_tell", "_unsure",
        "_wants", "hold", "spent",
    )  # fmt: skip

    def __init__(self, hold: Hold, of: Watched, ask: Callable[["Allowance", Hold], None]) -> None:
        """Begin with the hold that was admitted. `ask` asks the store for another, without waiting, and tells what came
        of it: `granted`, `refused` or `unheard`.
        """
        self.hold = hold
        """What the store holds, as far as is known."""
        self.spent: Limit | None = None
        """The limit that ended the stream."""
        self._tell: Callable[[], None] = _nobody
        self._unsure = False
        self._seen = 0
        self._of = of
        self._ask = ask
        self._step = max(of.output, LEAST_STEP)
        self._wants: Hold | None = None
        self._pending = False
        self._no_room: Limit | None = None
        self._ahead = 0 if of.named else self._step // _AHEAD
        self._ask_at = -self._ahead

    def look(self, told: Usage | None, output_bytes: int) -> int | None:
        """Take note of what the stream has used: what the provider told last, and the bytes of output that came since.

        Returns after how many further bytes of the stream to look again. 0: more may not be taken before the store has
        answered; None: the stream has to end.
        """
        beyond = self._seen = self._beyond(told, output_bytes)
        grace = self._step if self._of.on_end is OnBudgetEnd.FINISH else 0
        if not self._pending:
            if self._no_room is not None and beyond > grace:
                self.spent = self._no_room
                return None
            if beyond > self._ask_at:
                self._pending = True
                self._wants = self._wants or self._grown(beyond)
                self._ask(self, self._wants)
        if self._pending and beyond > grace and not self._unsure:
            return 0
        left = min((mark - beyond for mark in (self._ask_at, 0, grace) if mark > beyond), default=0)
        numerator, denominator = self._of.bytes_per_token
        return max(_LEAST_LOOK, left * numerator // denominator)

    def on_news(self, look_again: Callable[[], None]) -> None:
        """Say whom to tell when the store has answered."""
        self._tell = look_again

    def granted(self) -> None:
        """The store holds what was wanted."""
        if self._wants is not None:
            self.hold = self._wants
        self._wants, self._pending, self._unsure, self._no_room = None, False, False, None
        self._ask_at = -self._ahead
        self._tell()

    def refused(self, limit: Limit) -> None:
        """There is no room for it now; a little later there may be."""
        self._wants, self._pending, self._unsure, self._no_room = None, False, False, limit
        self._ask_later()
        self._tell()

    def unheard(self) -> None:
        """The store could not be asked, or its answer was lost: the same will be asked again, but not waited for."""
        self._pending, self._unsure = False, True
        self._ask_later()
        self._tell()

    def _ask_later(self) -> None:
        self._ask_at = max(self._ask_at, self._seen) + self._step // (2 * _AHEAD)

    def _beyond(self, told: Usage | None, output_bytes: int) -> int:
        """Return by how many output tokens the hold is passed, in tokens or in money; less than 0: what is left."""
        of, completion = self._of, tokens_of(output_bytes, self._of.bytes_per_token)
        prompt, cached = of.prompt, 0
        if told is not None:
            prompt, cached, completion = told.prompt, told.cached, told.completion + completion
        elif of.named:
            # An estimate may be wrong by half; what is more than twice the maximum shows that nobody keeps to it.
            completion = max(min(completion, of.output), completion - of.output)
        beyond = prompt + completion - self.hold.tokens
        if of.prices.completion:
            pusd = of.prices.cost(prompt, cached, completion) - self.hold.nusd * _PUSD_PER_NUSD
            beyond = max(beyond, -(-pusd // of.prices.completion))
        return beyond

    def _grown(self, beyond: int) -> Hold:
        """Return the hold with as many steps more as it takes not to run low again at once."""
        more = self._step * ((beyond + self._ahead) // self._step + 1)
        nusd = nano_usd_ceil(self._of.prices.cost(0, 0, more))
        return Hold(self.hold.request_id, self.hold.tokens + more, self.hold.nusd + nusd)


def _nobody() -> None:
    """Whom to tell before somebody wants to know."""
