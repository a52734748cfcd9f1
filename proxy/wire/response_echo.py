"""What a Responses request says of itself and hears back in every response object: settings, tools, metadata.

The values are JSON as the client sent it, checked already; an answer repeats them and decides nothing by them.
"""

from msgspec import Raw, Struct


class ResponseEcho(Struct, frozen=True):
    """The repeated fields of one request, each with what an answer says where the request said nothing."""

    instructions: Raw = Raw(b"null")
    max_output_tokens: int | None = None
    metadata: Raw = Raw(b"{}")
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    temperature: Raw = Raw(b"null")
    text_format: Raw = Raw(b'{"type":"text"}')
    tool_choice: Raw = Raw(b'"auto"')
    tools: Raw = Raw(b"[]")
    """As the client sent them, less those that were dropped."""
    top_p: Raw = Raw(b"null")
