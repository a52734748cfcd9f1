"""How an answer is read follows from what its provider was really sent: the client's fields and the operator's."""

import json

import pytest

from proxy.translation import Surroundings, Translation, translation_of
from proxy.wire.chat_request import dialect_of
from specimens import DONE, FINISH, answer, call, model, provider, target, text

AROUND = Surroundings(lambda: "n" * 24, lambda: 1_800_000_000)
OFF = {"chat_template_kwargs": {"enable_thinking": False}}
ON = {"chat_template_kwargs": {"enable_thinking": True}}


def translation(profile: dict, fields: dict) -> Translation:
    behind = provider(reasoning_style="prefilled", **profile)
    return translation_of(call(model(reasoning=True), **fields), target(provided=behind), dialect_of(behind), AROUND)


def said(profile: dict, fields: dict) -> list[tuple[str | None, str]]:
    """The reasoning and the content of an answer without a tag, whole and in a stream."""
    message = json.loads(translation(profile, fields).answer(answer("no close")).body)["choices"][0]["message"]
    stream = translation(profile, {**fields, "stream": True}).stream()
    out = stream.feed(text("no close") + FINISH + DONE) + stream.end()
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in out.removesuffix(DONE).split(b"\n\n") if event]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    joined = ["".join(delta.get(name) or "" for delta in deltas) for name in ("reasoning", "content")]
    return [(message.get("reasoning"), message["content"]), (joined[0] or None, joined[1])]


@pytest.mark.parametrize(
    ("profile", "fields", "off"),
    [
        pytest.param({}, {}, False, id="nobody says so"),
        pytest.param({}, OFF, True, id="the client says so"),
        pytest.param({}, {"reasoning_effort": "none"}, True, id="the client says so in another way"),
        pytest.param({"extra_body": OFF}, {}, True, id="the operator says so"),
        pytest.param({"extra_body": OFF}, ON, True, id="the operator takes the client's word back"),
        pytest.param({"extra_body": ON}, OFF, False, id="the operator turns it on again"),
        pytest.param({"extra_body": {"top_k": 1}}, OFF, True, id="the operator says something else"),
        pytest.param({"drop_params": ["chat_template_kwargs"]}, OFF, False, id="the client's word is not sent"),
        pytest.param({"drop_params": ["chat_template_kwargs"], "extra_body": OFF}, ON, True, id="only the operator's"),
    ],
)
def test_d4_9_no_tag_is_taken_for_granted_if_the_provider_is_told_not_to_think(profile: dict, fields: dict, off: bool):
    sent = json.loads(translation(profile, fields).request())
    switched_off = sent.get("chat_template_kwargs") == OFF["chat_template_kwargs"] or "reasoning_effort" in sent
    assert switched_off is off
    assert said(profile, fields) == [(None, "no close") if off else ("no close", "")] * 2
