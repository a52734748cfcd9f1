"""In which order the targets of a model are tried."""

import itertools
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from proxy.provider_health import Health
from proxy.steps.route import draw, route
from proxy.wire.upstream_error import UpstreamError
from specimens import call, provider, target

TRIES = 6000


def test_a_model_without_a_choice_costs_no_dice():
    only = (target("one"),)
    assert draw(only, lambda: pytest.fail("nothing to decide")) is only
    assert draw((), lambda: 0.5) == ()


def test_what_cannot_be_translated_goes_only_where_it_need_not_be():
    targets = [target("a"), target("b", provider(native_responses=True)), target("c")]
    asked = replace(call(), native_only=True)
    assert [one.route.provider for one in route(asked, targets, lambda: 0.5, Health(), 0.0)] == ["b"]


def test_what_failed_lately_is_left_out_of_the_draw():
    targets, health = [target("a"), target("b")], Health()
    for _ in range(5):
        health.failed(targets[0], UpstreamError(kind="upstream_unavailable"), 100.0, 100.0)
    assert [one.route.provider for one in route(call(), targets, random.random, health, 100.0)] == ["b"]


def test_every_target_is_in_the_order_once():
    targets = [target(name, weight=weight) for name, weight in (("a", 1), ("b", 5), ("c", 2))]
    ordered = draw(targets, random.Random(1).random)
    assert sorted(one.route.provider for one in ordered) == ["a", "b", "c"]


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 1, 1), (5, 3, 2)])
def test_each_comes_first_as_often_as_its_share(weights):
    targets = [target(str(place), weight=weight) for place, weight in enumerate(weights)]
    dice = random.Random(7).random
    first = Counter(draw(targets, dice)[0].route.provider for _ in range(TRIES))
    for place, weight in enumerate(weights):
        assert first[str(place)] / TRIES == pytest.approx(weight / sum(weights), abs=0.03)


def test_those_that_follow_go_by_their_weights_too():
    targets = [target("a", weight=1), target("b", weight=8), target("c", weight=2)]
    dice = random.Random(7).random
    seconds = Counter(
        order[1].route.provider
        for order in (draw(targets, dice) for _ in range(TRIES))
        if order[0].route.provider == "b"
    )
    assert seconds["c"] / sum(seconds.values()) == pytest.approx(2 / 3, abs=0.03)


def test_dice_at_their_ends_do_no_harm():
    targets = [target("a"), target("b", weight=10**6)]
    for ends in itertools.product((0.0, 1 - 2**-53), repeat=2):
        throws = iter(ends)
        assert len(draw(targets, lambda throws=throws: next(throws))) == 2


def test_routes_of_weight_nought_are_tried_last_in_their_order():
    targets = [target("spare", weight=0), target("a", weight=1), target("last", weight=0), target("b", weight=1)]
    for _ in range(20):
        order = [one.route.provider for one in draw(targets, random.random)]
        assert order[2:] == ["spare", "last"]


def test_a_target_of_no_weight_is_a_spare():
    """It gets no load of its own, and comes after all others in the order of the file."""
    targets = [target("spare", weight=0), target("a"), target("last", weight=0), target("b", weight=10**6)]
    dice = random.Random(7).random
    for _ in range(200):
        order = [one.route.provider for one in draw(targets, dice)]
        assert set(order[:2]) == {"a", "b"}
        assert order[2:] == ["spare", "last"]


def test_where_all_are_spares_they_are_tried_in_the_order_of_the_file():
    targets = [target("a", weight=0), target("b", weight=0)]
    assert [one.route.provider for one in draw(targets, random.Random(7).random)] == ["a", "b"]
