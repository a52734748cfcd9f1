"""When a slow server is asked no more: counted, without a clock or a connection."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.stores.breaker import TOO_MANY, Breaker


def test_five_late_answers_in_a_row_open_it_and_four_do_not():
    breaker = Breaker()
    for _ in range(TOO_MANY - 1):
        breaker.late(1)
    assert not breaker.is_open

    breaker.late(1)
    assert breaker.is_open


def test_one_answer_in_time_closes_it():
    breaker = Breaker()
    breaker.late(TOO_MANY)
    breaker.in_time(1)
    assert not breaker.is_open

    breaker.late(TOO_MANY - 1)
    assert not breaker.is_open


def test_a_new_connection_begins_with_nothing_held_against_it():
    breaker = Breaker()
    breaker.late(TOO_MANY)
    breaker.reset()
    assert not breaker.is_open

    breaker.late(1)
    assert not breaker.is_open


@given(st.integers(1, 50))
def test_a_server_that_is_late_two_times_out_of_three_is_asked_no_more(rounds):
    breaker = Breaker()
    opened = False
    for _ in range(TOO_MANY + rounds):
        for late in (True, True, False):
            if not breaker.is_open:
                breaker.late(1) if late else breaker.in_time(1)
            opened = opened or breaker.is_open
    assert opened


@given(st.lists(st.integers(1, 20), max_size=30))
def test_single_late_answers_among_many_never_open_it(stretches):
    breaker = Breaker()
    for in_time in stretches:
        breaker.late(1)
        breaker.in_time(in_time)
        assert not breaker.is_open
