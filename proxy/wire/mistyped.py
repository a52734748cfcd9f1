"""What a typed decoder finds wrong with a request, as the client is told it: which field, and what it must be."""

import re
from typing import Final

from proxy.errors import Refusal, invalid_request

_WORDS: Final = {
    "str": "a string", "int": "a whole number", "float": "a decimal number", "bool": "true or false",
    "array": "a list", "object": "an object",
}  # fmt: skip


def mistyped(finding: str, below: str) -> Refusal:
    """Turn the decoder's finding into a refusal with a JSON path; neither ever quotes the value."""
    text, _, path = finding.partition(" - at `$")
    where = (below + path.rstrip("`")).lstrip(".")
    if match := re.fullmatch(r"Object missing required field `(\w+)`", text):
        where = f"{where}.{match[1]}"
        return invalid_request(f"`{where}` is missing.", param=where, code="missing_parameter")
    if match := re.fullmatch(r"Expected `([^`]+)` (>=|<=) (\d+)", text):
        bound = "at least" if match[2] == ">=" else "at most"
        return invalid_request(f"`{where}` must be a whole number of {bound} {match[3]}.", param=where)
    if match := re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", text):
        wanted = " or ".join(_WORDS.get(word, word) for word in match[1].split(" | ") if word != "null")
        got = _WORDS.get(match[2], match[2])
        return invalid_request(f"`{where}` must be {wanted}, not {got}.", param=where)
    return invalid_request(f"`{where}` is not valid.", param=where)
