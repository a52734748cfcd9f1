"""Money is exact: every price and amount survives reading, multiplying and writing to the last pico-dollar."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing import PUSD_PER_USD, Prices, format_usd, nano_usd_ceil, parse_price, parse_usd

USUAL = Prices.parse("0.0000008", "0.0000016", "0.0000002")
UNCACHED = Prices.parse("0.0000008", "0.0000016")
AMOUNTS = st.integers(min_value=0, max_value=10**18 * PUSD_PER_USD - 1)


@pytest.mark.parametrize(
    ("prices", "prompt", "cached", "completion", "usd"),
    [
        (UNCACHED, 1000, 400, 10, "0.000816"),
        (USUAL, 1000, 400, 10, "0.000576"),
        (USUAL, 10, 10, 0, "0.000002"),
        (USUAL, 10507, 10000, 20, "0.0024376"),
        (USUAL, 100, 75, 10, "0.000051"),
        (USUAL, 20, 0, 198, "0.0003328"),
        (USUAL, 20, 0, 603, "0.0009808"),
        (USUAL, 7, 0, 2, "0.0000088"),
        (USUAL, 1_000_000_000, 0, 0, "800"),
        (Prices.parse("0.000000000001", "0"), 1, 0, 0, "0.000000000001"),
        (USUAL, 70, 64, 31, "0.0000672"),
        (USUAL, 12, 0, 8, "0.0000224"),
    ],
)
def test_a_request_costs_exactly(prices, prompt, cached, completion, usd):
    assert format_usd(prices.cost(prompt, cached, completion)) == usd


def test_cached_tokens_cost_what_the_others_do_where_there_is_no_price_for_them():
    assert UNCACHED.cost(100, 100, 0) == UNCACHED.cost(100, 0, 0)


def test_a_price_of_zero_for_cached_tokens_is_a_price():
    assert Prices.parse("1", "1", "0").cost(10, 10, 0) == 0


@given(
    prices=st.builds(Prices, AMOUNTS, AMOUNTS, st.none() | AMOUNTS),
    tokens=st.tuples(*[st.integers(min_value=0, max_value=10**9)] * 3),
)
def test_the_cost_of_two_requests_is_the_sum_of_their_costs(prices, tokens):
    """Nothing is rounded per request, so that a bill is the same however the work was cut up."""
    cached, rest, completion = tokens
    once = prices.cost(cached + rest, cached, completion)
    assert prices.cost(2 * (cached + rest), 2 * cached, 2 * completion) == 2 * once


@given(AMOUNTS)
def test_what_is_written_is_read_back_as_the_same_amount(pusd):
    written = format_usd(pusd)
    assert parse_price(written) == parse_usd(written) == pusd
    assert Fraction(written) * PUSD_PER_USD == pusd


@given(st.integers())
def test_an_amount_is_written_without_exponent_or_needless_zeros(pusd):
    written = format_usd(pusd)
    assert Fraction(written) * PUSD_PER_USD == pusd
    assert "e" not in written.lower()
    if "." in written:
        assert not written.endswith(("0", "."))


@pytest.mark.parametrize(
    ("pusd", "written"),
    [(0, "0"), (1, "0.000000000001"), (10**12, "1"), (25 * 10**11, "2.5"), (-22_400_000, "-0.0000224")],
)
def test_amounts_are_written_as_people_write_them(pusd, written):
    assert format_usd(pusd) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e-7",
        "1E3",
        "0x1",
        "1,5",
        " 1",
        "1 ",
        "1\n",
        "٣",
        "inf",
        "nan",
        "0.0000000000001",
    ],
)
@pytest.mark.parametrize("parse", [parse_price, parse_usd])
def test_what_is_no_decimal_string_is_refused_with_an_example_of_one(parse, text):
    with pytest.raises(ValueError, match=r"must be a decimal string in USD .*12 decimals, such as \"[0-9.]+\""):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_either_read_exactly_or_refused(text):
    try:
        pusd = parse_price(text)
    except ValueError:
        return
    assert Fraction(text) * PUSD_PER_USD == pusd


def test_prices_keep_the_text_of_the_configuration():
    prices = Prices.parse("0.00000080", "1.0", None)
    assert prices.text == ("0.00000080", "1.0", None)
    assert (prices.prompt, prices.completion, prices.input_cache_read) == (800_000, 10**12, None)


def test_prices_made_from_numbers_have_their_text_too():
    assert Prices(800_000, 1_600_000, 0).text == ("0.0000008", "0.0000016", "0")


@given(AMOUNTS)
def test_nano_dollars_are_rounded_up(pusd):
    """A budget is never charged less than was spent, and never a whole nano-dollar more."""
    assert 0 <= nano_usd_ceil(pusd) * 1000 - pusd < 1000
