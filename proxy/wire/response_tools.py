"""Tools and the choice among them → what a chat request offers.

Functions are translated. Tools that only their own provider can run are left out and named, because agents always send
a mixed list; to insist on one of those is refused. Pure.
"""

from typing import Final

from msgspec import Raw, Struct

from proxy.errors import Refusal, invalid_request
from proxy.wire import json
from proxy.wire.json import RawObject
from proxy.wire.json_path import given, list_at, object_at, others, required, starts, string_at, text_at

MAX_TOOLS: Final = 1_000
_CHOICES: Final = frozenset({"auto", "none", "required"})
_MODES: Final = frozenset({"auto", "required"})
_FUNCTION_FIELDS: Final = ("name", "description", "parameters", "strict")
_FIELDS: Final = frozenset({"type", "function", *_FUNCTION_FIELDS})
_NO_PARAMETERS: Final = Raw(b'{"type":"object","properties":{}}')
_CHOICE: Final = "tool_choice"
_RUN_BY_CLIENT: Final = frozenset({"function", "custom"})


class _Function(Struct, tag_field="type", tag="function"):
    function: RawObject


_Tool = _Function | dict[str, Raw | RawObject]


class _Named(Struct):
    """A tool under the name by which a choice refers to it."""

    name: str
    tool: _Tool


class Toolbox(Struct, frozen=True):
    """What a chat request offers to the model; without a tool, there is no choice either."""

    tools: list[_Tool]
    choice: _Function | Raw | None
    dropped: list[str]
    """The paths of what was left out."""


def read_tools(tools: Raw | None, choice: Raw | None) -> Toolbox:
    """Translate both fields, None where one is not given.

    Raises `Refusal` for what is malformed, and for a choice that cannot be met.
    """
    offered: list[_Named] = []
    dropped: list[str] = []
    listed = () if tools is None else list_at(tools, "tools")
    if len(listed) > MAX_TOOLS:
        raise invalid_request(f"`tools` must hold at most {MAX_TOOLS:,} tools; send fewer.", param="tools")
    for index, tool in enumerate(listed):
        path = f"tools[{index}]"
        fields = object_at(tool, path)
        if text_at(fields.get("type"), path, "type") != "function":
            dropped.append(path)
            continue
        holder, place = _holder_of_name(fields, path)
        name = text_at(holder.get("name"), place, "name")
        if holder is not fields:
            offered.append(_Named(name, {**fields, "function": holder}))
            continue
        offered.append(_Named(name, _Function(_function(fields))))
        dropped += others(fields, _FIELDS, path)
    offered, chosen = (offered, None) if choice is None else _choose(choice, offered)
    return Toolbox([one.tool for one in offered], chosen if offered else None, dropped)


def tools_of_provider(tools: Raw | None) -> bool:
    """Tell whether a provider that gets these tools may run any itself; so it may where they cannot be read."""
    try:
        listed = () if tools is None else list_at(tools, "tools")
        return any(
            text_at(object_at(tool, "tools").get("type"), "tools", "type") not in _RUN_BY_CLIENT for tool in listed
        )
    except Refusal:
        return True


def kept_tools(tools: Raw) -> Raw:
    """Return a list of tools that `read_tools` took, as it came but for those that were dropped."""
    listed = list_at(tools, "tools")
    kept = [tool for tool in listed if text_at(object_at(tool, "tools").get("type"), "tools", "type") == "function"]
    return tools if len(kept) == len(listed) else Raw(json.encode(kept))


def _function(fields: RawObject) -> RawObject:
    said = {name: fields[name] for name in _FUNCTION_FIELDS if given(fields, name) is not None}
    said.setdefault("parameters", _NO_PARAMETERS)
    return said


def _holder_of_name(fields: RawObject, path: str) -> tuple[RawObject, str]:
    """Return the object that holds a function's name, and its path: in chat's form it is one level further down."""
    function = given(fields, "function")
    if function is None:
        return fields, path
    return object_at(function, f"{path}.function"), f"{path}.function"


def _choose(choice: Raw, offered: list[_Named]) -> tuple[list[_Named], _Function | Raw]:
    """Return the tools that are left to choose from, and the choice among them."""
    if starts(choice, b'"'):
        if json.text_of(choice) not in _CHOICES:
            message = f"`{_CHOICE}` must be one of {', '.join(sorted(_CHOICES))}, or an object."
            raise invalid_request(message, param=_CHOICE)
        return offered, choice
    fields = object_at(choice, _CHOICE)
    kind = text_at(fields.get("type"), _CHOICE, "type")
    if kind == "allowed_tools":
        return _allowed(fields, offered)
    if kind == "function":
        holder, place = _holder_of_name(fields, _CHOICE)
        name = text_at(holder.get("name"), place, "name")
        if any(one.name == name for one in offered):
            return offered, choice if holder is not fields else _Function({"name": fields["name"]})
    raise _not_offered()


def _allowed(fields: RawObject, offered: list[_Named]) -> tuple[list[_Named], Raw]:
    """Narrow the offer to the tools that the choice lists."""
    mode = string_at(fields.get("mode"), _CHOICE, "mode")
    if json.text_of(mode) not in _MODES:
        message = f"`{_CHOICE}.mode` must be one of {', '.join(sorted(_MODES))}."
        raise invalid_request(message, param=f"{_CHOICE}.mode")
    names = set()
    for index, tool in enumerate(list_at(required(fields.get("tools"), _CHOICE, "tools"), f"{_CHOICE}.tools")):
        path = f"{_CHOICE}.tools[{index}]"
        allowed = object_at(tool, path)
        if text_at(allowed.get("type"), path, "type") == "function":
            holder, place = _holder_of_name(allowed, path)
            names.add(text_at(holder.get("name"), place, "name"))
    left = [one for one in offered if one.name in names]
    if not left:
        raise _not_offered()
    return left, mode


def _not_offered() -> Refusal:
    message = (
        f"`{_CHOICE}` asks for a tool that is not among the functions in `tools`; tools of other types are not"
        " available here. Name a function, or leave the choice to the model."
    )
    return invalid_request(message, param=_CHOICE)
