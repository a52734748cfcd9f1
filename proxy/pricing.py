"""Money: prices per token, the cost of a request, and how an amount is read and written.

Only integers of pico-dollars (1 pUSD = 10^-12 USD) live here; a float never does, because sums of floats drift and a
bill must not. Nothing is rounded per request.
"""

import re
from dataclasses import dataclass
from typing import Final

PUSD_PER_USD: Final = 10**12
_DECIMALS: Final = 12
_PUSD_PER_NUSD: Final = 1_000
# Finer than any published price, and more whole dollars than exist.
_AMOUNT: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,12}))?")


def parse_price(text: str) -> int:
    """Return the pUSD per token of a decimal string in USD, exactly; ValueError if it is anything else."""
    pusd = _pusd(text)
    if pusd is None:
        raise ValueError('must be a decimal string in USD per token with at most 12 decimals, such as "0.0000008"')
    return pusd


def parse_usd(text: str) -> int:
    """Return the pUSD of an amount such as `25.00`, exactly; ValueError if it is anything else."""
    pusd = _pusd(text)
    if pusd is None:
        raise ValueError('must be a decimal string in USD with at most 12 decimals, such as "25.00"')
    return pusd


def format_usd(pusd: int) -> str:
    """Write an amount in USD exactly: no exponent, no trailing zeros, `0` for nothing."""
    whole, part = divmod(abs(pusd), PUSD_PER_USD)
    decimals = f"{part:012d}".rstrip("0")
    return f"{'-' if pusd < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"


def nano_usd_ceil(pusd: int) -> int:
    """Return the amount in nano-dollars, rounded up: budgets are counted in these, once per request."""
    return -(-pusd // _PUSD_PER_NUSD)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a token costs, in pUSD; `input_cache_read` None: cached prompt tokens cost what the others do.

    `text` holds the same three as the configuration wrote them; made from the numbers when not given.
    """

    prompt: int
    completion: int
    input_cache_read: int | None = None
    text: tuple[str, str, str | None] = ("", "", None)

    def __post_init__(self) -> None:
        """Write the text where there is none."""
        if not self.text[0]:
            cached = None if self.input_cache_read is None else format_usd(self.input_cache_read)
            object.__setattr__(self, "text", (format_usd(self.prompt), format_usd(self.completion), cached))

    @classmethod
    def parse(cls, prompt: str, completion: str, input_cache_read: str | None = None) -> "Prices":
        """Read the decimal strings of the catalog; ValueError as `parse_price`."""
        cached = None if input_cache_read is None else parse_price(input_cache_read)
        return cls(parse_price(prompt), parse_price(completion), cached, (prompt, completion, input_cache_read))

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
        """Return the exact cost in pUSD; `cached_tokens` are among the `prompt_tokens` (0 ≤ cached ≤ prompt)."""
        cache_price = self.prompt if self.input_cache_read is None else self.input_cache_read
        return (
            (prompt_tokens - cached_tokens) * self.prompt
            + cached_tokens * cache_price
            + completion_tokens * self.completion
        )


def _pusd(text: str) -> int | None:
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    whole, decimals = match.groups()
    return int(whole) * PUSD_PER_USD + int((decimals or "").ljust(_DECIMALS, "0"))
