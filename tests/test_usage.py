"""Usage is read from every provider's form, and nothing that cannot be true is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.usage import Usage, UsageSource, read_usage, tokens_of


def counts(usage: Usage | None) -> tuple[int, int, int, int | None]:
    assert usage is not None
    return usage.prompt, usage.completion, usage.cached, usage.reasoning


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}, (12, 8, 0, None)),
        ({"prompt_tokens": 12, "completion_tokens": 8}, (12, 8, 0, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (0, 0, 0, None)),
        ({"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}},
         (1000, 10, 400, None)),
        ({"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 50}},
         (10, 0, 10, None)),
        ({"prompt_tokens": 70, "completion_tokens": 31, "completion_tokens_details": {"reasoning_tokens": 19}},
         (70, 31, 0, 19)),
        ({"prompt_tokens": 70, "completion_tokens": 31, "reasoning_tokens": 9}, (70, 31, 0, 9)),
        ({"prompt_tokens": 70, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}},
         (70, 5, 0, 5)),
        ({"input_tokens": 12, "output_tokens": 8, "total_tokens": 20}, (12, 8, 0, None)),
        ({"input_tokens": 36, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 87,
          "output_tokens_details": {"reasoning_tokens": 7}, "total_tokens": 123}, (36, 87, 3, 7)),
        ({"input_tokens": 7, "cache_read_input_tokens": 10_000, "cache_creation_input_tokens": 500,
          "output_tokens": 20}, (10_507, 20, 10_000, None)),
        ({"input_tokens": 7, "cache_creation_input_tokens": 500, "output_tokens": 20}, (507, 20, 0, None)),
        ({"prompt_cache_hit_tokens": 75, "prompt_cache_miss_tokens": 25, "completion_tokens": 10},
         (100, 10, 75, None)),
        ({"prompt_tokens": 100, "prompt_cache_hit_tokens": 75, "completion_tokens": 10}, (100, 10, 75, None)),
        ({"prompt_tokens": 19, "completion_tokens": 6, "cached_tokens": 10}, (19, 6, 10, None)),
        ({"prompt_tokens": 1_000_000_000, "completion_tokens": 0}, (1_000_000_000, 0, 0, None)),
        ({"prompt_tokens": 12.0, "completion_tokens": 8.0, "total_tokens": 20.0}, (12, 8, 0, None)),
        ({"prompt_tokens": 5, "input_tokens": 7, "completion_tokens": 1, "output_tokens": 2}, (5, 1, 0, None)),
        ({"prompt_tokens": "5", "input_tokens": 7, "completion_tokens": None, "output_tokens": 2}, (7, 2, 0, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2},
          "prompt_cache_hit_tokens": 3, "cached_tokens": 4}, (9, 1, 2, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": None},
          "cached_tokens": 4}, (9, 1, 4, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None}, (9, 1, 0, None)),
        ({"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {},
          "input_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {},
          "output_tokens_details": {"reasoning_tokens": 2}}, (9, 3, 4, 2)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": "2"},
          "input_tokens_details": {"cached_tokens": 4}}, (9, 1, 4, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0},
          "input_tokens_details": {"cached_tokens": 4}, "prompt_cache_hit_tokens": 3}, (9, 1, 0, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 1},
          "prompt_cache_hit_tokens": 3}, (9, 1, 3, None)),
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 3}, (9, 1, 0, None)),
    ],
    ids=str,
)  # fmt: skip
def test_each_form_of_usage(raw: dict, expected: tuple):
    """Prompt, completion, cached and reasoning tokens; cached and reasoning are parts of the first two."""
    usage = read_usage(raw)
    assert counts(usage) == expected
    assert usage is not None
    assert not usage.inconsistent


@pytest.mark.parametrize(
    "raw",
    [
        None, 5, "x", [], True, {},
        {"prompt_tokens": 12},
        {"completion_tokens": 8},
        {"total_tokens": 20},
        {"prompt_tokens": "12", "completion_tokens": 8},
        {"prompt_tokens": 12, "completion_tokens": True},
        {"prompt_tokens": -1, "completion_tokens": 8},
        {"prompt_tokens": 12, "completion_tokens": 8.5},
        {"prompt_tokens": 12, "completion_tokens": float("inf")},
        {"prompt_tokens": 12, "completion_tokens": float("nan")},
        {"prompt_tokens": 10**30, "completion_tokens": 8},
        {"prompt_tokens": 1e30, "completion_tokens": 8},
        {"prompt_tokens": 12, "completion_tokens": 10**30, "total_tokens": 10**30 + 12},
        {"prompt_cache_hit_tokens": 75, "completion_tokens": 10},
        {"prompt_cache_miss_tokens": 75, "completion_tokens": 10},
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_tell_both_sides_is_no_usage(raw: object):
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    "raw",
    [{"prompt_tokens": 10_120, "completion_tokens": 1_499, "total_tokens": 14_428,
      "completion_tokens_details": {"reasoning_tokens": 2_809}},
     {"prompt_tokens": 10_120, "completion_tokens": 1_499, "total_tokens": 14_428, "reasoning_tokens": 2_809}],
    ids=["in the details", "beside"],
)  # fmt: skip
def test_reasoning_that_was_counted_outside_the_completion_is_added_to_it(raw: dict):
    usage = read_usage(raw)
    assert counts(usage) == (10_120, 1_499 + 2_809, 0, 2_809)
    assert usage is not None
    assert not usage.inconsistent


def test_a_total_beyond_its_parts_is_noted_and_not_billed():
    usage = read_usage({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623})
    assert usage == Usage(20, 198, inconsistent=True)


def test_a_total_beyond_its_parts_is_billed_where_the_provider_hides_reasoning_in_it():
    raw = {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}
    usage = read_usage(raw, completion_from_total=True)
    assert usage == Usage(20, 603, inconsistent=True)


def test_a_total_that_adds_up_is_taken_as_it_is_even_so():
    raw = {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 218}
    assert read_usage(raw, completion_from_total=True) == Usage(20, 198)


def test_the_clients_usage_has_a_total_and_cached_tokens_always():
    assert Usage(12, 8).as_chat() == {
        "prompt_tokens": 12,
        "completion_tokens": 8,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_the_clients_usage_tells_reasoning_where_the_provider_did():
    assert Usage(12, 8, 4, 0).as_chat()["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert "completion_tokens_details" not in Usage(12, 8, 4).as_chat()


COPIED = ("audio_tokens", "image_tokens", "text_tokens", "cache_write_tokens", "accepted_prediction_tokens",
          "rejected_prediction_tokens")  # fmt: skip


@pytest.mark.parametrize("name", COPIED)
@pytest.mark.parametrize("side", ["prompt", "completion"])
@pytest.mark.parametrize("beside", [{}, {"cached_tokens": 1, "reasoning_tokens": 1}], ids=["alone", "beside others"])
def test_finer_counts_are_passed_on(name: str, side: str, beside: dict):
    usage = read_usage({"prompt_tokens": 9, "completion_tokens": 9, f"{side}_tokens_details": {**beside, name: 5}})
    assert usage is not None
    assert usage.as_chat()[f"{side}_tokens_details"][name] == 5


def test_nothing_else_of_the_providers_usage_is_passed_on():
    raw = {
        "prompt_tokens": 9,
        "completion_tokens": 9,
        "total_tokens": 18,
        "cost": 0.1,
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 1, "video_tokens": 3, "audio_tokens": "5", "text_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": True},
    }
    usage = read_usage(raw)
    assert usage is not None
    assert usage.as_chat() == {
        "prompt_tokens": 9,
        "completion_tokens": 9,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


VALUES = (
    st.integers(-5, 50) | st.integers() | st.floats() | st.none() | st.booleans() | st.text(max_size=2)
    | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens"]), st.integers(-5, 50))
)  # fmt: skip
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cached_tokens",
     "reasoning_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "cache_read_input_tokens",
     "cache_creation_input_tokens", "prompt_tokens_details", "completion_tokens_details", "input_tokens_details"]
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES) | VALUES, st.booleans())
def test_whatever_a_provider_sends_parts_never_exceed_their_whole(raw: object, from_total: bool):
    usage = read_usage(raw, completion_from_total=from_total)
    if usage is None:
        return
    assert 0 <= usage.cached <= usage.prompt
    assert usage.completion >= 0
    assert usage.reasoning is None or 0 <= usage.reasoning <= usage.completion
    assert usage.as_chat()["total_tokens"] == usage.prompt + usage.completion


@given(st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9)))
def test_the_gateways_own_usage_reads_as_itself(usage: Usage):
    """A gateway may stand behind another."""
    assert read_usage(usage.as_chat()) == usage


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (10**9, 250_000_000)])
def test_an_estimate_is_a_token_for_each_four_bytes_rounded_up(size: int, tokens: int):
    assert tokens_of(size) == tokens


@given(st.integers(0, 10**9), st.integers(1, 1000), st.integers(1, 1000))
def test_an_estimate_with_a_fraction_for_divisor_is_exact(size: int, numerator: int, denominator: int):
    tokens = tokens_of(size, (numerator, denominator))
    assert tokens * numerator >= size * denominator > (tokens - 1) * numerator


def test_the_sources_of_usage_are_a_closed_set():
    assert [source.value for source in UsageSource] == ["upstream", "estimated", "none"]
