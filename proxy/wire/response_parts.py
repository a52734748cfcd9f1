"""The content of an input item → the content of a chat message.

What is text for a model becomes text, images and files take their chat form, and a part of any other type is the
provider's to judge. Strings are joined, never decoded: they go on as the bytes that came. Pure.
"""

from itertools import groupby
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.errors import invalid_request
from proxy.wire.json import RawObject
from proxy.wire.json_path import NULL, list_at, object_at, objects_at, required, starts, string_at, text_at

EMPTY: Final = Raw(b'""')
_THOUGHTS: Final = frozenset({"reasoning_text", "summary_text", "reasoning", "text"})
_BETWEEN_THOUGHTS: Final = rb"\n\n"
_BETWEEN_LINES: Final = rb"\n"


class _Given(Struct):
    """A part as the client wrote it."""

    type: Raw = NULL
    text: Raw = NULL
    refusal: Raw = NULL
    image_url: Raw = NULL
    detail: Raw = NULL
    file_data: Raw = NULL
    filename: Raw = NULL
    file_id: Raw = NULL
    file_url: Raw = NULL


_given: Final = msgspec.json.Decoder(list[_Given])


class Text(Struct, tag_field="type", tag="text"):
    """A text part of a chat message."""

    text: Raw


class _Image(Struct, tag_field="type", tag="image_url"):
    image_url: RawObject


class _File(Struct, tag_field="type", tag="file"):
    file: RawObject


Part = Text | _Image | _File | RawObject


def read_content(value: Raw, path: str, name: str) -> tuple[list[Part], list[tuple[str, Raw]]]:
    """Read a string or a list of parts: what is said, and what was thought, each thought with its path.

    Raises `Refusal` for what is malformed, and for a file that only a provider could look up.
    """
    if starts(value, b'"'):
        return [Text(value)], []
    path, value = f"{path}.{name}", required(value, path, name)
    parts: list[Part] = []
    thoughts: list[tuple[str, Raw]] = []
    as_sent: list[Raw] = []
    for index, part in enumerate(objects_at(value, path, _given, "a string or a list of content parts")):
        place = f"{path}[{index}]"
        match text_at(part.type, place, "type"):
            case "input_text" | "output_text" | "text":
                parts.append(Text(string_at(part.text, place, "text")))
            case "refusal":
                parts.append(Text(string_at(part.refusal, place, "refusal")))
            case "reasoning" | "reasoning_text":
                thoughts.append((place, string_at(part.text, place, "text")))
            case "input_image":
                parts.append(_image(part, place))
            case "input_file":
                parts.append(_file(part, place))
            case _:
                as_sent = as_sent or list_at(value, path)
                parts.append(object_at(as_sent[index], place))
    return parts, thoughts


def written(parts: list[Part]) -> Raw | list[Part]:
    """Return content as a message holds it: a string wherever one will do."""
    if not parts:
        return EMPTY
    return parts[0].text if len(parts) == 1 and isinstance(parts[0], Text) else parts


def lines_joined(parts: list[Part]) -> list[Part]:
    """Make one text of texts that follow one another, a line each."""
    joined: list[Part] = []
    for _, run in groupby(parts, lambda part: isinstance(part, Text)):
        neighbours = list(run)
        texts = [part.text for part in neighbours if isinstance(part, Text)]
        joined.extend([Text(_joined(texts, _BETWEEN_LINES))] if texts else neighbours)
    return joined


def read_thought(value: Raw, path: str) -> Raw | None:
    """Return the text of a reasoning item's content or summary; None if it shows nothing. Raises `Refusal`."""
    texts = []
    for index, part in enumerate(() if value == NULL else objects_at(value, path, _given)):
        place = f"{path}[{index}]"
        if text_at(part.type, place, "type") in _THOUGHTS:
            texts.append(string_at(part.text, place, "text"))
    return thoughts_joined(texts)


def thoughts_joined(texts: list[Raw]) -> Raw | None:
    """Make one text of all that was thought, as paragraphs; None if it says nothing."""
    said = [text for text in texts if text != EMPTY]
    return _joined(said, _BETWEEN_THOUGHTS) if said else None


def _image(part: _Given, path: str) -> _Image:
    if part.image_url == NULL:
        _refuse_reference(part.file_id, f"{path}.file_id", "`image_url`, as a URL or a `data:` URL")
    image = {"url": string_at(part.image_url, path, "image_url")}
    if part.detail != NULL:
        image["detail"] = string_at(part.detail, path, "detail")
    return _Image(image)


def _file(part: _Given, path: str) -> _File:
    if part.file_data == NULL:
        for value, name in ((part.file_id, "file_id"), (part.file_url, "file_url")):
            _refuse_reference(value, f"{path}.{name}", "`file_data`, as a `data:` URL")
    file = {"file_data": string_at(part.file_data, path, "file_data")}
    if part.filename != NULL:
        file["filename"] = string_at(part.filename, path, "filename")
    return _File(file)


def _refuse_reference(value: Raw, path: str, instead: str) -> None:
    if value != NULL:
        message = f"`{path}` names a file that this gateway does not hold; send its content in {instead}."
        raise invalid_request(message, param=path, code="unsupported_parameter")


def _joined(texts: list[Raw], between: bytes) -> Raw:
    return Raw(b'"' + between.join(bytes(text)[1:-1] for text in texts) + b'"')
