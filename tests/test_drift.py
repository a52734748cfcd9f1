"""Drift: what the counters lack is found exactly, at every moment of any number of requests."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.drift import Charge, Counters, OpenHold, drift

amounts = st.builds(Charge, st.integers(0, 10**6), st.integers(0, 10**12))
# Of one request: what it used, whether it has a row, and where its settlement is.
requests = st.tuples(amounts, st.booleans(), st.sampled_from(["open", "settled", "forgotten", "lost"]))


@given(st.lists(requests, max_size=20), st.builds(Charge, st.integers(-99, 99), st.integers(-99, 99)))
def test_what_is_missing_is_what_was_lost_and_nothing_that_is_on_its_way(
    some: list[tuple[Charge, bool, str]], tampered: Charge
):
    kinds = [(charge, row or place in {"forgotten", "lost"}, place) for charge, row, place in some]
    named = {f"r{number}": it for number, it in enumerate(kinds)}
    ledger = Charge.sum([charge for charge, row, _ in named.values() if row])
    rows = {name: charge for name, (charge, row, place) in named.items() if row and place in {"open", "settled"}}
    settled = {name: charge for name, (charge, _, place) in named.items() if place == "settled"}
    counted = Charge.sum([charge for charge, _, place in named.values() if place in {"settled", "forgotten"}])
    open_holds = tuple(OpenHold(name, 1, 1) for name, (_, _, place) in named.items() if place == "open")

    found = drift(ledger, rows, Counters(counted + tampered, 0, 0, 0, open_holds, settled))

    lost = Charge.sum([charge for charge, _, place in named.values() if place == "lost"])
    assert found.missing == lost - tampered
    assert {hold.request_id for hold in found.to_settle} == {hold.request_id for hold in open_holds} & rows.keys()
    assert set(found.arrived) == settled.keys() & rows.keys()
    assert found.on_the_way == Charge.sum([charge for name, charge in settled.items() if name not in rows])
