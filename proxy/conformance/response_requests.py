"""Checks of requests to `POST /v1/responses`: what is refused and where the refusal points (F1, F2, F3)."""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import UNSET

from proxy.conformance.asks import BEARER, NO_MODEL, each, encoded, get, probe, user, wrong
from proxy.conformance.check import Check, Verdict, check
from proxy.conformance.exchange import RESPONSES, Reply
from proxy.conformance.refusals import INVALID, each_refused, each_refused_at, reached_the_model, refused_at

Row = tuple[str, str, tuple[str, ...], tuple[tuple[str, dict[str, Any]], ...]]
"""What is said of the field, where a refusal points, its codes if they matter, and the ways in which it is wrong."""

_UNSUPPORTED: Final = ("unsupported_parameter",)
_ONE: Final = f"{RESPONSES}/resp_conformance"


REFUSED: Final[tuple[Row, ...]] = (
    ("Exactly one of `input` and `messages` must be there", "input", (),
     (("both", {"messages": user("Hi.")}), ("neither", {"input": UNSET}))),
    ("`input` must be a text or a list that is not empty", "input", (),
     each("input", ("an empty list", []), ("a number", 5), ("an object", {}))),
    ("`messages` are checked as in chat completions", "messages", (),
     (("an empty list", {"input": UNSET, "messages": []}),
      ("an unknown role", {"input": UNSET, "messages": [{"role": "robot", "content": "Hi."}]}))),
    ("`previous_response_id` is not supported, because responses are not stored", "previous_response_id", _UNSUPPORTED,
     each("previous_response_id", ("an id", "resp_conformance"))),
    ("`conversation` is not supported", "conversation", _UNSUPPORTED, each("conversation", ("an id", "conv_1"))),
    ("`prompt` is not supported", "prompt", _UNSUPPORTED, each("prompt", ("an object", {"id": "pmpt_1"}))),
    ("`background` true is not supported", "background", _UNSUPPORTED, each("background", ("true", True))),
    ("`max_output_tokens` must be a whole number of at least 1", "max_output_tokens", (),
     each("max_output_tokens", ("0", 0), ("1.0", 1.0), ("true", True), ("a text", "5"))),
    ("`temperature` must be a number", "temperature", (), each("temperature", ("a text", "hot"))),
    ("`stream` must be true or false", "stream", (), each("stream", ("a text", "true"))),
    ("`reasoning_split` must be true or false", "reasoning_split", (), each("reasoning_split", ("a text", "yes"))),
    ("`metadata` must be an object of at most 16 KiB", "metadata", (),
     each("metadata", ("a text", "x"), ("17,000 bytes", {"text": "x" * 17_000}))),
    ("`tools` must be a list of objects", "tools", (), each("tools", ("an object", {}), ("a list of a number", [5]))),
    ("A reference to a stored item is not supported", "input[0]", (),
     each("input", ("a reference", [{"type": "item_reference", "id": "msg_1"}]))),
    ("An image must be in the request, not in a file that was stored before", "input[0]", (),
     each("input", ("an image by file_id", [
         {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]))),
    ("`tool_choice` must not name a tool that is dropped", "tool_choice", (),
     (("web_search", {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}),)),
)  # fmt: skip


def _refusals() -> Iterator[Check]:
    for sentence, param, codes, ways in REFUSED:

        def judge(*replies: Reply, param: str = param, codes: tuple[str, ...] = codes) -> Verdict:
            return each_refused_at(replies, param, *codes)

        code = f" `{codes[0]}`" if codes else ""
        judge.__doc__ = f"Responses: {sentence[0].lower()}{sentence[1:]}; else 400{code} with its place, `{param}`."
        yield check("F2", *(wrong(f"responses, {what}", path=RESPONSES, **changes) for what, changes in ways))(judge)


@check("F2", probe("responses, an unknown model", path=RESPONSES))
def unknown_model(reply: Reply) -> Verdict:
    """Responses: an unknown model gets 400 `model_not_found` about `model`."""
    return refused_at(reply, "model", "model_not_found")


@check(
    "F2",
    probe("responses, null in optional fields", path=RESPONSES, body=encoded({
        "model": NO_MODEL, "input": "Hi.",
        **dict.fromkeys(("instructions", "temperature", "max_output_tokens", "stream", "metadata", "tools", "reasoning",
                         "previous_response_id", "text", "tool_choice", "messages", "include", "store"))})),
    probe("responses, fields that libraries send", path=RESPONSES, store=True, truncation="auto", background=False,
          include=["reasoning.encrypted_content"], prompt_cache_key="x", safety_identifier="x"),
)  # fmt: skip
def taken_fields(*replies: Reply) -> Verdict:
    """Responses: `null` is the same as no field, and what client libraries send routinely is taken."""
    return reached_the_model(*replies)


@check(
    "F1.3",
    get("GET of a response", _ONE, BEARER),
    get("DELETE of a response", _ONE, BEARER, method="DELETE"),
    get("its input items", f"{_ONE}/input_items", BEARER),
    probe("cancelling it", path=f"{_ONE}/cancel", body=b"{}"),
    probe("input_tokens", path=f"{RESPONSES}/input_tokens", body=b"{}"),
    probe("compact", path=f"{RESPONSES}/compact", body=b"{}"),
)
def nothing_stored(*replies: Reply) -> Verdict:
    """No response can be fetched, deleted or cancelled: 404 `response_not_found` or `unknown_url`."""
    return each_refused(replies, 404, INVALID, "response_not_found", "unknown_url")


CHECKS: Final = (nothing_stored, *_refusals(), unknown_model, taken_fields)
