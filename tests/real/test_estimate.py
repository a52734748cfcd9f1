"""How far the rule by which tokens are estimated, where a provider tells none, is from a real model's count (U-12)."""

import http.client

import msgspec
import pytest
from stack import ModelServer

from proxy.real_provider import MODEL
from proxy.usage import tokens_of

MOST_OFF = 0.15
PROSE = {
    "a story": (
        "The old harbour was quiet in the early morning. A few gulls walked along the wall, and somewhere a "
        "door was opened and closed again. Marta put the basket down and looked at the boats. Nobody had been "
        "out that night; the storm had kept even the bravest of them at home, and the nets were still dry "
        "where they had been hung on Sunday."
    ),
    "an explanation": (
        "A cache keeps the results of earlier work so that the same work need not be done again. It helps if "
        "questions repeat, if an answer stays true for a while, and if looking it up costs less than finding "
        "it out. The hard part is to know when something that was kept is no longer true: most mistakes with "
        "caches are of that kind."
    ),
    "a list": (
        "- milk, bread, six eggs\n- call the dentist about Thursday\n- send the contract to Mr. Okafor\n- book "
        "two seats on the train to Lyon\n- water the plants on the balcony\n- ask whether the blue chairs can "
        "be delivered\n"
    ),
    "a letter": (
        "Dear Ms. Hoffmann, thank you for your patience. We have found out why your parcel was late: it had "
        "been put on the wrong truck, and nobody noticed before the weekend. It will be with you tomorrow, and "
        "of course you need not pay for the delivery. Please accept our apologies. If anything is missing or "
        "broken, do let us know."
    ),
}
DENSE = {
    "a question with numbers": (
        "On 12 March 2025 I paid 1,249.50 EUR for order #A-77812, but my statement of 03/04/2025 shows "
        "1,294.50 EUR. Could you check items 3, 7 and 12 (qty 2 x 45.00)? My number is +49 30 901820, ext. 114."
    ),
    "code": (
        "def median(values):\n    ordered = sorted(values)\n    middle = len(ordered) // 2\n"
        "    if len(ordered) % 2:\n        return ordered[middle]\n"
        "    return (ordered[middle - 1] + ordered[middle]) / 2\n\n\nfor name, rows in tables.items():\n"
        "    print(f'{name}: {median([row.price for row in rows]):.2f}')\n"
    ),
    "JSON": (
        '{"user": {"id": 4711, "name": "Ada", "roles": ["admin", "editor"]}, "active": true, "quota": null, '
        '"limits": {"requests_per_minute": 60, "tokens_per_day": 200000}, "tags": ["a1", "b2", "c3"]}'
    ),
}


def counted(model: ModelServer, said: str) -> int:
    """The tokens of a prompt, as the model server tells them."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": said}], "max_tokens": 1}
    connection = http.client.HTTPConnection("127.0.0.1", model.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", msgspec.json.encode(asked))
        return int(msgspec.json.decode(connection.getresponse().read())["usage"]["prompt_tokens"])
    finally:
        connection.close()


@pytest.fixture(scope="module")
def tokens(model: ModelServer) -> dict[str, int]:
    around = counted(model, "x") - 1  # what the chat template adds
    return {name: counted(model, text) - around for name, text in {**PROSE, **DENSE}.items()}


def estimated(text: str) -> int:
    return tokens_of(len(text.encode()))


def test_the_estimate_of_prose_is_near_a_real_models_count_u12(tokens: dict[str, int]):
    off = sum(map(estimated, PROSE.values())) / sum(tokens[name] for name in PROSE) - 1
    assert abs(off) <= MOST_OFF, (off, tokens)


def test_what_has_more_tokens_than_prose_of_its_length_is_estimated_too_low_but_never_at_nothing_u12(
    tokens: dict[str, int],
):
    """No rule of bytes knows what a text is made of; for such models there is `estimate_bytes_per_token`."""
    for name, text in DENSE.items():
        assert 0.4 <= estimated(text) / tokens[name] < 1, name
