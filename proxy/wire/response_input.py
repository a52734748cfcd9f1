"""Input items → chat messages, in their order.

What was said, called or thought becomes messages; what only a provider's own tools can read is left out and named.
The content of one item is the matter of `response_parts.py`. Pure.
"""

from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from proxy.errors import Refusal, invalid_request
from proxy.wire.json import Disguise
from proxy.wire.json_path import NULL, list_at, objects_at, starts, string_at, text_at
from proxy.wire.response_parts import (
    EMPTY,
    Part,
    Text,
    lines_joined,
    read_content,
    read_thought,
    thoughts_joined,
    written,
)

MAX_ITEMS: Final = 10_000
"""Items of one request: each is read by itself, and nobody else is served meanwhile."""
_ROLES: Final = frozenset({"user", "system", "developer", "assistant"})


class _Item(Struct):
    type: Raw = NULL
    role: Raw = NULL
    content: Raw = NULL
    tool_calls: Raw = NULL
    call_id: Raw = NULL
    name: Raw = NULL
    arguments: Raw = NULL
    input: Raw = NULL
    output: Raw = NULL
    summary: Raw = NULL


_items: Final = msgspec.json.Decoder(list[_Item])


class _Function(Struct):
    name: Raw
    arguments: Raw


class _Call(Struct, tag_field="type", tag="function"):
    id: Raw
    function: _Function


class ChatMessage(Struct, kw_only=True, omit_defaults=True):
    """A message as a chat request holds it."""

    role: str
    reasoning: Raw | None = None
    content: Raw | list[Part] | None
    tool_calls: list[_Call] | None = None
    tool_call_id: Raw | None = None


class _Turn(Struct):
    """What makes one message, as far as it has been read."""

    role: str
    parts: list[Part]
    thoughts: list[Raw] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    answers: Raw | None = None

    def message(self) -> ChatMessage:
        return ChatMessage(
            role=self.role,
            reasoning=thoughts_joined(self.thoughts),
            content=None if self.calls and not self.parts else written(self.parts),
            tool_calls=self.calls or None,
            tool_call_id=self.answers,
        )


class Conversation:
    """The messages that items make.

    A chat model's turn is one message: calls join the text before them and one another, and text that was said between
    calls and their results joins them too, because a result has to follow the message that asked for it.
    """

    __slots__ = ("_disguise", "_thoughts", "_turns", "dropped")

    def __init__(self, disguise: Disguise | None) -> None:
        """Start empty; `disguise` is what the items' bytes have on."""
        self._disguise = disguise
        self._turns: list[_Turn] = []
        self._thoughts: list[tuple[str, Raw]] = []
        self.dropped: list[str] = []
        """The paths of what no message holds."""

    def tell(self, role: str, said: Raw, path: str) -> None:
        """Go on with a string, which `role` says, or a list of items; raises `Refusal` for what makes no message."""
        if starts(said, b'"'):
            self._turns.append(_Turn(role, [Text(said)]))
            return
        items = objects_at(said, path, _items, "a string or a list of items")
        if len(items) > MAX_ITEMS:
            message = f"`{path}` must hold at most {MAX_ITEMS:,} items; send less of the conversation."
            raise invalid_request(message, param=path)
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if not self._add(item, place):
                self.dropped.append(place)

    def measure(self, role: str, said: Raw, path: str) -> None:
        """Go on in the same way where nobody is sent the messages: what makes none stands there by its size."""
        if starts(said, b'"'):
            self.tell(role, said, path)
            return
        unread = [said]
        with suppress(Refusal):  # what is malformed is the provider's to refuse
            items = objects_at(said, path, _items)
            unread = [raw for raw, item in zip(list_at(said, path), items, strict=True) if not self._takes(item, path)]
        self._turns.extend(_Turn("user", [{"type": Raw(b'"unread"'), "item": raw}]) for raw in unread)

    def messages(self) -> list[ChatMessage]:
        """Return all messages; reasoning that no answer followed is dropped."""
        self._drop_thoughts()
        return [turn.message() for turn in self._turns]

    def _takes(self, item: _Item, path: str) -> bool:
        try:
            return self._add(item, path)
        except Refusal:
            return False

    def _add(self, item: _Item, path: str) -> bool:
        """Take the next item; tells whether there is anything in it for a chat model."""
        match "message" if item.type == NULL else text_at(item.type, path, "type"):
            case "message":
                self._message(item, path)
            case "function_call":
                self._call(item, string_at(item.arguments, path, "arguments"), path)
            case "custom_tool_call":
                self._call(item, self._as_arguments(string_at(item.input, path, "input")), path)
            case "function_call_output" | "custom_tool_call_output":
                self._output(item, path)
            case "reasoning":
                return self._reasoning(item, path)
            case "item_reference":
                # Vercel's AI SDK refers to earlier items unless it is told that nothing is stored.
                message = "This gateway does not store responses; send the item itself (AI SDK: set `store: false`)."
                raise invalid_request(message, param=f"{path}.type", code="unsupported_parameter")
            case _:
                return False
        return True

    def _message(self, item: _Item, path: str) -> None:
        role = text_at(item.role, path, "role")
        if role not in _ROLES:
            allowed = ", ".join(sorted(_ROLES))
            raise invalid_request(f"`{path}.role` must be one of {allowed}.", param=f"{path}.role")
        if item.tool_calls != NULL:
            message = (
                f"`{path}.tool_calls` belongs to `messages`; in `input`, send each call as a `function_call` item."
            )
            raise invalid_request(message, param=f"{path}.tool_calls")
        parts, thoughts = read_content(item.content, path, "content")
        if role == "assistant":
            turn = self._turns[-1] if self._turns and self._turns[-1].calls else self._begin()
            self._think(turn)
            turn.thoughts.extend(thought for _, thought in thoughts)
            turn.parts.extend(parts)
        else:
            self._heard(_Turn(role, parts), thoughts)

    def _call(self, item: _Item, arguments: Raw, path: str) -> None:
        function = _Function(string_at(item.name, path, "name"), arguments)
        call = _Call(string_at(item.call_id, path, "call_id"), function)
        turn = self._turns[-1] if self._turns and self._turns[-1].role == "assistant" else self._begin()
        self._think(turn)
        turn.calls.append(call)

    def _output(self, item: _Item, path: str) -> None:
        call_id = string_at(item.call_id, path, "call_id")
        if call_id == EMPTY:
            message = f"`{path}.call_id` must name the call that is answered."
            raise invalid_request(message, param=f"{path}.call_id", code="missing_parameter")
        parts, thoughts = read_content(item.output, path, "output")
        self._heard(_Turn("tool", lines_joined(parts), answers=call_id), thoughts)

    def _reasoning(self, item: _Item, path: str) -> bool:
        thought = read_thought(item.content, f"{path}.content") or read_thought(item.summary, f"{path}.summary")
        if thought is None:
            return False
        self._thoughts.append((path, thought))
        return True

    def _begin(self) -> _Turn:
        turn = _Turn("assistant", [])
        self._turns.append(turn)
        return turn

    def _heard(self, turn: _Turn, thoughts: list[tuple[str, Raw]]) -> None:
        """Append what the model is told; only the model thinks."""
        self._drop_thoughts()
        self.dropped.extend(path for path, _ in thoughts)
        self._turns.append(turn)

    def _think(self, turn: _Turn) -> None:
        turn.thoughts.extend(thought for _, thought in self._thoughts)
        self._thoughts.clear()

    def _drop_thoughts(self) -> None:
        """Let go of reasoning whose own answer never came: it says nothing about anybody else's."""
        self.dropped.extend(path for path, _ in self._thoughts)
        self._thoughts.clear()

    def _as_arguments(self, text: Raw) -> Raw:
        r"""Write `{"input": text}` as the string that the arguments of a call are.

        Escaped once more, a disguise could not be found again; but neither does `\\ud83d` need one.
        """
        bare = self._disguise.take_off(bytes(text)) if self._disguise else bytes(text)
        inner = (b'{"input":' + bare + b"}").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return Raw(b'"' + inner + b'"')


def not_stored(param: str) -> Refusal:
    """Build the refusal of a reference to something that a stored response would hold."""
    message = "This gateway does not store responses; send the whole conversation in `input`."
    return invalid_request(message, param=param, code="unsupported_parameter")
