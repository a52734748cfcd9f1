"""Values with a unit are read exactly as the documentation writes them, and nothing else is guessed at."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.quantities import (
    Address,
    format_duration,
    format_size,
    parse_address,
    parse_duration,
    parse_name,
    parse_portion,
    parse_ratio,
    parse_size,
    parse_text,
    whole_number,
)

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("250ms", 0.25),
        ("2m", 120),
        ("24h", 86_400),
        ("90d", 7_776_000),
        ("1.5h", 5400),
        ("30", 30),
        (0.5, 0.5),
        (7, 7),
        ("0s", 0),
    ],
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "5 s",
        "5S",
        "-5s",
        "1h30m",
        "5sec",
        "1e3",
        "inf",
        ".5s",
        "5.s",
        "٣s",
        "36501d",
        "9999999999d",
        True,
        None,
        [],
        -1,
        float("nan"),
        float("inf"),
        10**400,
        -(10**400),
    ],
    ids=repr,
)
def test_other_texts_are_no_durations(text):
    with pytest.raises(ValueError, match=r"must be a duration such as 250ms, 5s, 2m, 24h, 90d"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_that_was_written_is_read_back(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(ANYTHING)
def test_anything_is_a_duration_or_refused(value):
    try:
        seconds = parse_duration(value)
    except ValueError as refusal:
        message = str(refusal)
    else:
        assert 0 <= seconds <= 36_500 * 86_400
        return
    assert message.startswith("must be a duration")


@pytest.mark.parametrize(
    ("text", "size"),
    [("20MiB", 20_971_520), ("512KiB", 524_288), ("1GiB", 2**30), ("17", 17), (18, 18), ("17B", 17), ("0", 0)],
)
def test_sizes_are_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "20MB", "20 MiB", "1.5MiB", "-1", -1, 1.5, True, None, "1TiB", "20mib"], ids=repr
)
def test_other_texts_are_no_sizes(text):
    with pytest.raises(ValueError, match="must be a size such as 20MiB, 512KiB, 1GiB or a number of bytes"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**12 - 1))
def test_a_size_that_was_written_is_read_back(size):
    assert parse_size(format_size(size)) == size


@given(ANYTHING)
def test_anything_is_a_size_or_refused(value):
    try:
        size = parse_size(value)
    except ValueError as refusal:
        message = str(refusal)
    else:
        assert size >= 0
        return
    assert message.startswith("must be a size")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("gateway.internal:65535", Address("gateway.internal", 65535)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
    ],
)
def test_addresses_have_a_host_and_a_port_and_are_written_as_they_were_read(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8080",
        "8080",
        8080,
        "127.0.0.1",
        "::1:80",
        "[::1]",
        "[x]:80",
        "h:65536",
        "h:-1",
        "h:80 ",
        "a b:80",
        "h:http",
        None,
    ],
    ids=repr,
)
def test_other_texts_are_no_addresses(text):
    with pytest.raises(ValueError, match=r"must be host:port such as 127\.0\.0\.1:8080 or \[::1\]:8080"):
        parse_address(text)


@pytest.mark.parametrize(("value", "number"), [(1, 1), ("12", 12), (10**15, 10**15)])
def test_whole_numbers_may_be_written_as_text(value, number):
    """A value that comes from the environment is always text."""
    assert whole_number()(value) == number


@pytest.mark.parametrize("value", [0, -1, "0", 1.0, "1.0", True, None, "", "one", "1_000", []], ids=repr)
def test_other_values_are_no_whole_numbers(value):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        whole_number()(value)


def test_the_least_whole_number_is_the_callers():
    assert whole_number(0)(0) == 0


def test_whole_numbers_stay_below_what_the_store_can_count():
    with pytest.raises(ValueError, match="at most 1000000000000000"):
        whole_number()(10**15 + 1)


@pytest.mark.parametrize(("value", "ratio"), [(4, (4, 1)), ("4", (4, 1)), ("7/2", (7, 2))])
def test_ratios_are_two_integers(value, ratio):
    assert parse_ratio(value) == ratio


@pytest.mark.parametrize("value", [0, "0", "7/0", "0/7", 3.5, "3.5", "-4", "", "7/2/1", True, None, "100000"], ids=repr)
def test_other_values_are_no_ratios(value):
    with pytest.raises(ValueError, match="must be a whole number or a fraction"):
        parse_ratio(value)


@pytest.mark.parametrize(
    ("value", "portion"),
    [(0, 0.0), (1, 1.0), ("1", 1.0), (0.25, 0.25), ("0.001", 0.001), (1e-5, 0.00001), ("1.000", 1.0), ("1e-3", 0.001)],
    ids=repr,
)
def test_portions_are_numbers_from_0_to_1(value, portion):
    assert parse_portion(value) == portion


@pytest.mark.parametrize(
    "value", [1.01, "1.5", -0.1, "", "10%", ".5", "nan", "inf", True, None, "1e3", [], "0,5"], ids=repr
)
def test_other_values_are_no_portions(value):
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        parse_portion(value)


@given(st.floats(0, 1))
@example(0.00012345678901234567)  # no other has as many digits: those below are written with an exponent
def test_every_number_between_is_a_portion_as_it_is_written(number):
    assert parse_portion(number) == parse_portion(str(number)) == number


@pytest.mark.parametrize("name", ["a", "0", "open-router_2", "x" * 32], ids=repr)
def test_names_are_short_and_plain(name):
    assert parse_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a b", "a.b", "ä", "x" * 33, "a\n", 1, None], ids=repr)
def test_other_texts_are_no_names(name):
    with pytest.raises(ValueError, match="must be 1 to 32 of a-z"):
        parse_name(name)


def test_text_that_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match="UTF-8"):
        parse_text("\ud83d")
