"""What the scripted demo provider answers, and how it counts tokens: the same request gets the same answer, always.

Here belong the script and the shapes it reads and writes; never a socket, a clock or a pause, so that each line of it
can be tested by calling it. `demo_provider.py` puts it on the wire.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec

SCRIPT: Final = (
    ("think", "an answer that begins with a `<think>` block"),
    ("tool", "a call of `get_weather`, or of the first tool that the request offers; so does `weather` beside tools"),
    ("slow", "about 150 ms between two words"),
    ("long N", "an answer of N words (at most 10,000)"),
    ("break", "an answer whose connection is cut in the middle"),
    ("error", "HTTP 500 in OpenAI's error envelope; `error 429`, `error 400`, … choose the status"),
)
"""What a whole word in the last user message makes the provider do, in any case of letters; words combine, as in
`slow long 50`. Without any of them the answer says who speaks and how the prompt began; a tool's result is quoted."""

MOST_WORDS: Final = 10_000
"""What `long N` is capped at: a few hundred KiB, so that no prompt makes the provider fill the memory."""


class Part(msgspec.Struct, frozen=True):
    """One content part; only text is read."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """All the message's text in one string."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class Function(msgspec.Struct, frozen=True):
    """A tool's name and, where it was told, the schema of its arguments."""

    name: str
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    """A tool that is offered, or the one that must be called."""

    function: Function | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What the client wants to know while it streams."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


Count = Annotated[int, msgspec.Meta(ge=1)] | None


class ChatRequest(msgspec.Struct, frozen=True):
    """The part of a chat request that the script reads; everything else is accepted and ignored."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Tool | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Count = None
    max_completion_tokens: Count = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script has decided: text, perhaps a tool call, how fast, and how it ends."""

    text: str = ""
    reasoning: str = ""
    tool: str = ""
    arguments: str = ""
    finish: str = "stop"
    slow: bool = False
    breaks: bool = False
    status: int = 200

    @property
    def tokens(self) -> int:
        """Completion tokens: everything the answer is made of, counted as one text."""
        return tokens(self.text + self.tool + self.arguments)


def tokens(text: str) -> int:
    """Tokens of one text by the provider's rule: a token is four bytes of UTF-8, the last one may be shorter."""
    return math.ceil(len(text.encode()) / 4)


def prompt_tokens(messages: list[Message]) -> int:
    """Prompt tokens: four for each message and those of its text."""
    return sum(4 + tokens(message.text) for message in messages)


def answer_to(request: ChatRequest) -> Answer:
    """The one answer that this request gets; the same for the same request, always."""
    prompt = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    words = frozenset(re.findall(r"\w+", prompt.lower()))
    answer = Answer(slow="slow" in words, breaks="break" in words)
    if request.messages[-1].role == "tool":
        result = request.messages[-1].text
        answer = replace(answer, text=f'The tool says: "{_beginning(result, 500)}". Nothing else is in the script.')
    elif "error" in words:
        asked = re.search(r"\berror\W+([45]\d\d)\b", prompt, re.IGNORECASE)
        return Answer(status=int(asked[1]) if asked else 500)
    else:
        answer = _thinking(answer, prompt) if "think" in words else answer
        tool = _tool_to_call(request, words)
        answer = _calling(answer, tool, prompt) if tool else replace(answer, text=answer.text + _plain(prompt))
    return _cut(answer, request.max_completion_tokens or request.max_tokens)


def _thinking(answer: Answer, prompt: str) -> Answer:
    reasoning = (
        f'The prompt begins with "{_beginning(prompt, 60)}". A script has little to weigh, so this is quickly done.'
    )
    return replace(answer, reasoning=reasoning, text=f"<think>\n{reasoning}\n</think>\n\n")


def _plain(prompt: str) -> str:
    long = re.search(r"\blong\W+(\d{1,9})\b", prompt, re.IGNORECASE)
    if long:
        return " ".join(f"word{number}" for number in range(1, min(int(long[1]), MOST_WORDS) + 1))
    begun = _beginning(prompt, 60)
    return f'Hello! I am the scripted demo provider that ships with the gateway, not a model. You said: "{begun}".'


def _tool_to_call(request: ChatRequest, words: frozenset[str]) -> Function | None:
    """The tool that choice and script ask for; `get_weather` where it is offered, or where nothing is."""
    offered = [tool.function for tool in request.tools or () if tool.function]
    chosen = request.tool_choice
    if isinstance(chosen, Tool) and chosen.function:
        name = chosen.function.name
        return next((function for function in offered if function.name == name), chosen.function)
    if chosen == "none" or not ("tool" in words or (offered and ("weather" in words or chosen == "required"))):
        return None
    weather = next((function for function in offered if function.name == "get_weather"), None)
    return weather or next(iter(offered), Function("get_weather", {"properties": {"city": {"type": "string"}}}))


def _calling(answer: Answer, function: Function, prompt: str) -> Answer:
    city = re.search(r"\bin\s+([A-Z]\w+)", prompt)
    arguments = _sample({**(function.parameters or {}), "type": "object"}, city[1] if city else "Oslo")
    return replace(answer, tool=function.name, arguments=msgspec.json.encode(arguments).decode(), finish="tool_calls")


def _sample(schema: object, word: str) -> object:
    """A value that fits the plain parts of a JSON schema."""
    match schema:
        case {"enum": [first, *_]}:
            return first
        case {"type": "integer" | "number" | "boolean" | "array" as kind}:
            return {"boolean": True, "array": []}.get(kind, 1)
        case {"type": "object", "properties": dict() as properties}:
            return {name: _sample(property_, word) for name, property_ in properties.items()}
        case {"type": "object"}:
            return {}
        case _:
            return word


def _beginning(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[:most].rstrip() + "..."


def _cut(answer: Answer, limit: int | None) -> Answer:
    """The answer within `limit` tokens; one that does not fit is cut to exactly that many bytes' worth."""
    if limit is None or answer.tokens <= limit:
        return answer
    room = 4 * limit
    text = _head(answer.text, room)
    room -= len(text.encode()) + len(answer.tool.encode())
    cut = replace(answer, text=text, reasoning=_head(answer.reasoning, 4 * limit - len("<think>\n")), finish="length")
    if answer.tool and room >= 0:
        return replace(cut, arguments=_head(answer.arguments, room))
    return replace(cut, tool="", arguments="")


def _head(text: str, room: int) -> str:
    return text.encode()[: max(room, 0)].decode(errors="ignore")


def usage_of(request: ChatRequest, answer: Answer) -> dict[str, Any]:
    """OpenAI's usage object; several choices add up, nothing is ever cached, tools and past tool calls are free.

    Reasoning tokens are those of the text inside the `<think>` block: a part of the completion, as everywhere.
    """
    return _usage(request, answer.tokens, tokens(answer.reasoning))


def usage_so_far(request: ChatRequest, spoken: int) -> dict[str, Any]:
    """The same when so many bytes of each choice have been said; nothing is told of reasoning yet."""
    return _usage(request, math.ceil(spoken / 4), 0)


def size_of(delta: dict[str, Any]) -> int:
    """The bytes of what one delta says."""
    functions = [call["function"] for call in delta.get("tool_calls", ())]
    said = [delta.get("content") or "", *(f"{one.get('name', '')}{one['arguments']}" for one in functions)]
    return len("".join(said).encode())


def _usage(request: ChatRequest, completion: int, reasoning: int) -> dict[str, Any]:
    prompt, completion = prompt_tokens(request.messages), completion * (request.n or 1)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning * (request.n or 1)},
    }


def message_of(answer: Answer, call_id: str) -> dict[str, Any]:
    """The whole assistant message, for an answer that does not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if answer.tool else "")}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.arguments}
        message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
    return message


def deltas_of(answer: Answer, call_id: str) -> Iterator[dict[str, Any]]:
    """The same message as deltas: the role alone, then word by word, then the tool call as its name and its pieces."""
    yield {"role": "assistant", "content": None if answer.tool and not answer.text else ""}
    for word in re.findall(r"\s*\S+|\s+", answer.text):
        yield {"content": word}
    if answer.tool:
        function = {"name": answer.tool, "arguments": ""}
        yield {"tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function}]}
        for piece in re.findall(r"(?s).{1,8}", answer.arguments):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
