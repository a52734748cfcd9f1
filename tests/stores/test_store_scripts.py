"""The arithmetic that the scripts share (rates, calendar), tried with clocks and amounts of the test's choosing."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from redis import Redis

from proxy.stores.scripts import load_script, script_text

NOW = 1_795_000_000_000_000
WINDOW = 60_000_000
SCRIPTS = sorted(path.name.removesuffix(".lua") for path in (files("proxy.stores") / "lua").iterdir())
SHARED = ("calendar", "leases", "money", "rates", "used")

# The functions under test are pure: an example leaves nothing behind in the server.
examples = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def server(store_url: str) -> Iterator[Redis]:
    with Redis.from_url(store_url) as client:
        yield client


def run(server: Redis, include: str, body: str, args: Sequence[object]) -> list[bytes]:
    return server.eval(f"#!lua\n{script_text(include)}\n{body}", 0, *[str(arg) for arg in args])


TAKE = """
local tat, out = tonumber(ARGV[1]), {}
for i = 3, #ARGV, 2 do
  local from, after, wait = take(tat, tonumber(ARGV[i]), tonumber(ARGV[2]), tonumber(ARGV[i + 1]))
  tat = tonumber(string.format('%.17g', wait == 0 and after or from))
  out[#out + 1] = wait or -1
end
out[#out + 1] = string.format('%.17g', tat)
return out
"""


def take(server: Redis, limit: int, steps: Sequence[tuple[int, int]], tat: float = 0) -> tuple[list[int], float]:
    """Take `(now, cost)` one after the other; returns the waits in ms (0: taken, -1: never) and the last TAT."""
    *waits, last = run(server, "rates", TAKE, [tat, limit, *[number for step in steps for number in step]])
    return [int(wait) for wait in waits], float(last)


@pytest.mark.parametrize("limit", [1, 7, 11, 13, 60, 500, 999, 15_000])
def test_a_limit_admits_exactly_its_number_at_once(server, limit):
    waits, _ = take(server, limit, [(NOW, 1)] * (limit + 1))

    assert waits[:limit] == [0] * limit
    assert waits[limit] > 0


@examples
@given(
    limit=st.integers(1, 10_000),
    steps=st.lists(st.tuples(st.integers(0, 20_000_000), st.integers(0, 3_000)), min_size=1, max_size=25),
)
def test_rates_agree_with_a_bucket_that_fills_continuously(server, limit, steps):
    """The model: a bucket of `limit` units, refilled evenly over a minute, in exact fractions."""
    level, now, expected, asked = Fraction(limit), NOW, [], []
    tolerance = min(Fraction(1, 2), Fraction(1000 * limit, WINDOW))
    for passed, cost in steps:
        now += passed
        level = min(Fraction(limit), level + Fraction(passed * limit, WINDOW))
        assume(abs(level - cost + tolerance) > tolerance / 100)
        fits = cost <= limit and level - cost >= -tolerance
        level -= cost if fits else 0
        expected.append(fits)
        asked.append((now, cost))

    waits, _ = take(server, limit, asked)

    assert [wait == 0 for wait in waits] == expected


@examples
@given(limit=st.integers(1, 10_000), used=st.integers(0, 20_000), cost=st.integers(1, 10_000))
def test_the_wait_that_is_told_is_enough_and_never_longer_than_a_window(server, limit, used, cost):
    assume(cost <= limit)
    tat = NOW + used * WINDOW / limit

    (wait,), corrected = take(server, limit, [(NOW, cost)], tat)

    assert 0 <= wait <= WINDOW / 1000
    if wait:
        assert take(server, limit, [(NOW + wait * 1000, cost)], corrected)[0] == [0]


def test_a_cost_larger_than_the_limit_never_fits(server):
    assert take(server, 100, [(NOW, 101)])[0] == [-1]


def test_a_limit_of_nothing_admits_nothing(server):
    assert take(server, 0, [(NOW, 1), (NOW, 0)])[0] == [-1, -1]


def test_a_tat_left_an_hour_ahead_by_a_clock_set_back_costs_one_window_at_most(server):
    ahead = NOW + 3600 * 1_000_000

    (first, later), _ = take(server, 60, [(NOW, 1), (NOW + WINDOW, 1)], ahead)

    assert 0 < first <= WINDOW / 1000
    assert later == 0


@examples
@given(limit=st.integers(1, 1_000_000), ahead=st.integers(-(10**9), 10**9))
def test_what_is_left_is_between_nothing_and_the_limit(server, limit, ahead):
    left, reset_ms = run(server, "rates", "return {level(tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))}", [
        NOW + ahead,
        NOW,
        limit,
    ])  # fmt: skip

    assert 0 <= int(left) <= limit
    assert int(left) <= max(0, (WINDOW - ahead) * limit / WINDOW) + 0.5
    assert int(reset_ms) == max(0, -(-ahead // 1000))


@examples
@given(st.datetimes(datetime(1970, 1, 1), datetime(2400, 12, 31)))  # noqa: DTZ001 - hypothesis wants bounds without zone
def test_days_and_months_agree_with_the_calendar(server, moment):
    moment = moment.replace(tzinfo=UTC)
    now_ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)

    day, month, day_ends, month_ends = run(
        server,
        "calendar",
        "local t = tonumber(ARGV[1]) return {day_of(t), month_of(t), period_ends('day', t), period_ends('month', t)}",
        [now_ms],
    )

    assert int(day) == (midnight - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert int(month) == moment.year * 100 + moment.month
    assert int(day_ends) == (midnight + timedelta(days=1)).timestamp() * 1000
    assert int(month_ends) == next_month.timestamp() * 1000


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in SHARED])
def test_a_script_states_its_state_its_arguments_and_its_reply(name):
    text = load_script(name).text

    assert text.startswith("#!lua")
    for heading in ("-- State ", "-- Arguments ", "-- Reply "):
        assert heading in text


def test_includes_are_put_in():
    assert "local function take(" in load_script("admit").text
    assert "-- include:" not in load_script("admit").text


@pytest.mark.parametrize("name", ["settle", "renew", "use", "top_up", "probe"])
def test_what_must_go_on_when_memory_is_full_says_so(name):
    assert load_script(name).text.startswith("#!lua flags=allow-oom\n")


def test_admission_is_refused_when_memory_is_full():
    assert load_script("admit").text.startswith("#!lua\n")
