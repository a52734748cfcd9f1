"""The form of the JSON that a client gets: which keys are there and what kind of value each has.

What one value says about another is judged where it is used. A class that forbids unknown fields says that no other key
may come; all others let a server say more.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Filled = Annotated[str, Meta(min_length=1)]
AnswerId = Annotated[str, Meta(pattern=r"\A[!-~]{1,128}\Z")]
Price = Annotated[str, Meta(pattern=r"\A[0-9]+(\.[0-9]{1,12})?\Z")]
Date = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]


class Error(Struct, frozen=True, forbid_unknown_fields=True):
    """What went wrong."""

    message: str
    type: Filled
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The one form of every error."""

    error: Error


class Architecture(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes into a model and what comes out."""

    modality: Filled


class Pricing(Struct, frozen=True, forbid_unknown_fields=True):
    """Prices per token as decimal text."""

    prompt: Price
    completion: Price
    input_cache_read: Price = "0"


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of `models`."""

    id: Filled
    name: Filled
    description: str
    date: Date
    context_length: Positive
    max_completion_tokens: Positive
    is_moderated: bool
    architecture: Architecture
    pricing: Pricing


class ModelObject(Struct, frozen=True):
    """An entry of `data`, as OpenAI's clients read it."""

    id: Filled
    object: Literal["model"]
    created: int
    owned_by: Filled


class Listing(Struct, frozen=True):
    """`GET /v1/models`."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    models: list[dict[str, Any]]


class PromptDetails(Struct, frozen=True, forbid_unknown_fields=True):
    """What the prompt's tokens were."""

    cached_tokens: Count
    audio_tokens: Count = 0
    image_tokens: Count = 0
    text_tokens: Count = 0
    cache_write_tokens: Count = 0


class CompletionDetails(Struct, frozen=True, forbid_unknown_fields=True):
    """What the completion's tokens were."""

    reasoning_tokens: Count = 0
    audio_tokens: Count = 0
    image_tokens: Count = 0
    text_tokens: Count = 0
    accepted_prediction_tokens: Count = 0
    rejected_prediction_tokens: Count = 0


class Usage(Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens of a chat completion: no price, and nothing of the provider's own."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails = CompletionDetails()


class Function(Struct, frozen=True):
    """The function that a model wants called."""

    name: Filled
    arguments: str


class ToolCall(Struct, frozen=True):
    """A call that a model wants."""

    id: Filled
    type: Literal["function"]
    function: Function


class Message(Struct, frozen=True):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1)] | None = None
    refusal: str | None = None


class Choice(Struct, frozen=True):
    """One answer of a whole completion."""

    index: Count
    message: Message
    finish_reason: Filled


class Completion(Struct, frozen=True):
    """The choices of a whole chat completion."""

    choices: Annotated[list[Choice], Meta(min_length=1)]


class Delta(Struct, frozen=True):
    """What may be put together of a delta."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChunkChoice(Struct, frozen=True):
    """What a chunk adds to one answer."""

    index: Count
    delta: dict[str, Any]
    finish_reason: str | None = None


class Chunk(Struct, frozen=True):
    """One chunk of a stream."""

    id: AnswerId
    object: Literal["chat.completion.chunk"]
    created: Positive
    model: Filled
    choices: list[ChunkChoice]
    usage: dict[str, Any] | None = None


class InputDetails(Struct, frozen=True):
    """What the input's tokens were."""

    cached_tokens: Count


class OutputDetails(Struct, frozen=True):
    """What the output's tokens were."""

    reasoning_tokens: Count


class ResponseUsage(Struct, frozen=True):
    """Tokens of a response."""

    input_tokens: Count
    input_tokens_details: InputDetails
    output_tokens: Count
    output_tokens_details: OutputDetails
    total_tokens: Count


class TextFormat(Struct, frozen=True):
    """The form of the text that was asked for."""

    type: Filled


class Text(Struct, frozen=True):
    """What was asked about the text."""

    format: TextFormat


class Reasoning(Struct, frozen=True):
    """What was asked about reasoning."""

    effort: str | None
    summary: None


class Response(Struct, frozen=True):
    """A response object but for its output and usage, which have checks of their own: every key is always there."""

    id: Annotated[str, Meta(pattern=r"\Aresp_[!-~]+\Z")]
    object: Literal["response"]
    created_at: Positive
    model: Filled
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: Any
    max_output_tokens: int | None
    metadata: dict[str, Any]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: Reasoning
    store: bool
    temperature: int | float | None
    text: Text
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: int | float | None
    truncation: Literal["disabled"]
    completed_at: Positive | None = None


class Ended(Struct, frozen=True):
    """As much of a response as is needed to look at how it ended and at what it says."""

    status: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    completed_at: int | None = None


class OutputText(Struct, frozen=True):
    """A part that is text; the two lists are always there."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class MessageItem(Struct, frozen=True):
    """A message in the output."""

    id: Annotated[str, Meta(pattern=r"\Amsg_[!-~]+\Z")]
    type: Literal["message"]
    status: Literal["completed", "incomplete", "in_progress"]
    role: Literal["assistant"]
    content: list[dict[str, Any]]


class CallItem(Struct, frozen=True):
    """A function call in the output."""

    id: Annotated[str, Meta(pattern=r"\Afc_[!-~]+\Z")]
    type: Literal["function_call"]
    status: Literal["completed", "incomplete", "in_progress"]
    call_id: Filled
    name: Filled
    arguments: Filled


class ReasoningText(Struct, frozen=True):
    """What the model thought."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Struct, frozen=True):
    """Reasoning in the output, as an item of its own."""

    id: Annotated[str, Meta(pattern=r"\Ars_[!-~]+\Z")]
    type: Literal["reasoning"]
    status: Literal["completed", "incomplete", "in_progress"]
    summary: list[Any]
    content: list[ReasoningText]
