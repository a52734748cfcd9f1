"""The texts of a chat between the JSON string that came and the characters it stands for, and back.

Half of a surrogate pair is allowed in a JSON string and appears where a model's text was cut; here it survives, though
neither UTF-8 nor the decoder knows it.
"""

import re
from itertools import product
from typing import Final

from msgspec import Raw

from proxy.wire import json
from proxy.wire.json import Disguise
from proxy.wire.json_windows import WINDOW, windows

_NOTHING: Final = frozenset({b"null", b'""', b"[]", b"{}"})
_HALVES: Final = re.compile("([\ud800-\udfff])")


def says(value: Raw | None) -> bool:
    """Tell whether a value holds anything: neither absent nor null, and neither empty text nor an empty list."""
    return value is not None and bytes(value) not in _NOTHING


def is_text(value: Raw) -> bool:
    """Tell whether a value is a JSON string."""
    return bytes(value)[:1] == b'"'


def decode_text(value: Raw, disguise: Disguise | None = None) -> str:
    """Return the characters of a JSON string, lone surrogates included; `disguise` is what its event wears."""
    if len(value) > WINDOW + 2 and is_text(value):
        parts = windows(bytes(value)[1:-1])
        return "".join([decode_text(Raw(b'"%b"' % part), disguise) for part in parts])
    text = json.decode_worn(value, disguise)
    return text if isinstance(text, str) else ""


def encode_text(text: str, disguise: Disguise | None = None) -> Raw:
    """Write characters as a JSON string; a lone surrogate becomes its escape, or what stands for that in disguise."""
    if len(text) > WINDOW:
        parts = (text[at : at + WINDOW] for at in range(0, len(text), WINDOW))
        return Raw(b'"%b"' % b"".join([bytes(encode_text(part, disguise))[1:-1] for part in parts]))
    try:
        return Raw(json.encode(text))
    except UnicodeEncodeError:
        pieces = [_escape(piece, disguise) if _HALVES.match(piece) else _inside(piece) for piece in _HALVES.split(text)]
        return Raw(b'"%b"' % b"".join(pieces))


def written_out(value: Raw, disguise: Disguise | None) -> str:
    """Return a value as the text of its compact JSON, null as none. What becomes a part of a text loses its disguise
    first: behind one more backslash nobody would know it again.
    """
    if json.is_null(value):
        return ""
    text = json.compact(value)
    return (disguise.take_off(text) if disguise else text).decode(errors="replace")


def joined(texts: list[Raw]) -> Raw:
    """Join JSON strings without reading them."""
    return texts[0] if len(texts) == 1 else Raw(b'"%b"' % b"".join(bytes(text)[1:-1] for text in texts))


def text_in(value: object) -> str | None:
    """Return a text, or what the parts of a list say (Mistral's models reason in such parts); None for all else."""
    if isinstance(value, str):
        return value
    parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
    return "".join(text_in(part.get("text")) or text_in(part.get("thinking")) or "" for part in parts) or None


def text_of_details(entries: object) -> str:
    """Join the text and the summaries of a list of `reasoning_details`."""
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    texts = [[entry[name] for name in ("text", "summary") if isinstance(entry.get(name), str)] for entry in found]
    return "".join(next(filter(None, text), "") for text in texts)


def _escape(half: str, disguise: Disguise | None) -> bytes:
    digits = f"{ord(half):04x}"
    if disguise is not None:
        # A disguise knows an escape by its bytes, and its digits may have been written in capitals.
        for written in product(*zip(digits, digits.upper(), strict=True)):
            escape = b"\\u" + "".join(written).encode()
            if (mask := disguise.put_on(escape)) != escape:
                return mask
    return b"\\u" + digits.encode()


def _inside(text: str) -> bytes:
    return json.encode(text)[1:-1]
