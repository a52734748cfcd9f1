"""How many tokens a request used, and how sure we are.

Reads every provider's usage object into one `Usage`, and estimates where a provider is silent. Pure: bytes and
numbers in, numbers out. Money is `pricing.py`'s business.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

# A count above this is a provider's mistake, not a number of tokens (the largest contexts hold some 10^7).
_ABSURD: Final = 10**12

_PLAIN: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_USUAL_DETAILS: Final = frozenset({"cached_tokens", "reasoning_tokens"})
_DETAIL_COUNTS: Final = (
    "audio_tokens",
    "image_tokens",
    "text_tokens",
    "cache_write_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
)


class UsageSource(StrEnum):
    """Where the numbers come from: the provider, our estimate, or nothing was used."""

    UPSTREAM = "upstream"
    ESTIMATED = "estimated"
    NONE = "none"


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one request. `cached` is a part of `prompt`, `reasoning` a part of `completion` (None: not told)."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int | None = None
    inconsistent: bool = False
    """The provider's total was larger than its parts."""
    prompt_details: tuple[tuple[str, int], ...] = ()
    completion_details: tuple[tuple[str, int], ...] = ()

    def as_chat(self) -> dict[str, object]:
        """Return the `usage` object of a chat completion, rebuilt: never a key that the provider alone should see."""
        usage: dict[str, object] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, **dict(self.prompt_details)},
        }
        if self.reasoning is not None or self.completion_details:
            told = {} if self.reasoning is None else {"reasoning_tokens": self.reasoning}
            usage["completion_tokens_details"] = {**told, **dict(self.completion_details)}
        return usage

    def as_response(self) -> dict[str, object]:
        """Return the `usage` object of a response: whole numbers only, because clients fail on a null."""
        written = {name: count for name, count in self.prompt_details if name == "cache_write_tokens"}
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached, **written},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": self.reasoning or 0},
            "total_tokens": self.prompt + self.completion,
        }


def read_usage(raw: object, *, completion_from_total: bool = False) -> Usage | None:
    """Normalise a provider's decoded usage object; None if it does not give both prompt and completion tokens.

    Takes the OpenAI, Responses, Anthropic (cache counts beside the prompt), DeepSeek (hit and miss) and Kimi forms.
    Where reasoning was counted outside the completion (the total says so), it is added; `completion_from_total`
    trusts the total of providers that hide their reasoning there.
    """
    if type(raw) is dict and raw.keys() == _PLAIN and (plain := _plain(raw)) is not None:
        return plain
    if not isinstance(raw, Mapping):
        return None
    prompt_details, completion_details = _details(raw, "prompt", "input"), _details(raw, "completion", "output")
    prompt = _prompt_tokens(raw)
    completion = _first(_count(raw, "completion_tokens"), _count(raw, "output_tokens"))
    if prompt is None or completion is None:
        return None
    cached = _first(
        prompt_details.get("cached_tokens"),
        _count(raw, "prompt_cache_hit_tokens"),
        _count(raw, "cached_tokens"),
        _count(raw, "cache_read_input_tokens"),
        0,
    )
    reasoning = _first(completion_details.get("reasoning_tokens"), _count(raw, "reasoning_tokens"))
    total = _count(raw, "total_tokens")
    inconsistent = False
    if total is not None and total > prompt + completion:
        if reasoning and total == prompt + completion + reasoning:
            completion += reasoning
        else:
            inconsistent = True
            if completion_from_total:
                completion = total - prompt
    return Usage(
        prompt=prompt,
        completion=completion,
        cached=min(cached or 0, prompt),
        reasoning=None if reasoning is None else min(reasoning, completion),
        inconsistent=inconsistent,
        prompt_details=_copied(prompt_details),
        completion_details=_copied(completion_details),
    )


def billed(
    reported: Usage | None, produced: Callable[[], int], estimate: Callable[[int], Usage]
) -> tuple[Usage, UsageSource]:
    """Return what an answer is billed by: what its provider reported, if it can be true, else the estimate.

    Zeros cannot be true where bytes were `produced`, from which the estimate is made.
    """
    if reported is not None and (reported.prompt or reported.completion or not produced()):
        return reported, UsageSource.UPSTREAM
    return estimate(produced()), UsageSource.ESTIMATED


def tokens_of(utf8_bytes: int, bytes_per_token: tuple[int, int] = (4, 1)) -> int:
    """Estimate the tokens of a text of `utf8_bytes`, rounded up; the divisor is a rational (numerator, denominator)."""
    numerator, denominator = bytes_per_token
    return -(-utf8_bytes * denominator // numerator)


def _plain(raw: Mapping[str, object]) -> Usage | None:
    """Read the form that most servers send, without looking for any other; None if its numbers do not add up."""
    prompt, completion, total = raw["prompt_tokens"], raw["completion_tokens"], raw["total_tokens"]
    if (
        type(prompt) is type(completion) is type(total) is int
        and prompt >= 0
        and completion >= 0
        and prompt + completion == total < _ABSURD
    ):
        return Usage(prompt, completion)
    return None


def _prompt_tokens(raw: Mapping[str, object]) -> int | None:
    openai = _count(raw, "prompt_tokens")
    if openai is not None:
        return openai
    plain = _count(raw, "input_tokens")
    read, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
    if plain is not None:
        return plain + (read or 0) + (written or 0)
    hit, miss = _count(raw, "prompt_cache_hit_tokens"), _count(raw, "prompt_cache_miss_tokens")
    return None if hit is None or miss is None else hit + miss


def _details(raw: Mapping[str, object], *sides: str) -> Mapping[str, int]:
    """Return the counts in the details of a side, by whichever of its names; the first that gives a count holds."""
    told = [details for side in sides if isinstance(details := raw.get(f"{side}_tokens_details"), Mapping)]
    counts = {name: _first(*(_count(details, name) for details in told)) for details in told for name in details}
    return {name: count for name, count in counts.items() if count is not None}


def _copied(details: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    if details.keys() <= _USUAL_DETAILS:
        return ()
    return tuple((name, details[name]) for name in _DETAIL_COUNTS if name in details)


def _count(values: Mapping[str, object], name: str) -> int | None:
    """Take a non-negative integer (an integral float counts); anything else is as if it were absent."""
    value = values.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < _ABSURD else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
