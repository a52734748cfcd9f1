"""The headers `traceparent` and `tracestate` of W3C Trace Context: read from a client's request, written for a
provider's.

What is not as the standard says is as if it had not been sent; nothing is ever refused for it. Pure.
"""

import re
from typing import Final

from msgspec import Struct

SAMPLED: Final = 0x01
_RANDOM: Final = 0x02
"""The trace's id was made at random (level 2 of the standard); it is passed on, further bits have no meaning yet."""
_LENGTH: Final = 55
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MOST_MEMBERS: Final = 32
_MOST_STATE: Final = 512


class TraceContext(Struct, frozen=True):
    """A place in a trace: whose child comes next. The ids are in lower-case hexadecimal, and not all zeros."""

    trace_id: str
    """32 digits."""
    span_id: str
    """16 digits."""
    flags: int = 0
    state: str = ""
    """What other systems that trace keep with it, as it stands in `tracestate`."""

    @property
    def sampled(self) -> bool:
        """Tell whether the caller may have recorded it."""
        return bool(self.flags & SAMPLED)


def read_trace_context(parent: str | None, state: str | None = None) -> TraceContext | None:
    """Read the two headers; None without a good `traceparent`. A bad `tracestate` alone is left out."""
    if parent is None:
        return None
    parts = _PARENT.match(parent)
    if parts is None:
        return None
    version, trace_id, span_id, flags = parts.groups()
    more = parent[_LENGTH:]  # later versions may add fields, and are read as far as they are known
    if version == "ff" or (more and (version == "00" or not more.startswith("-"))):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & (SAMPLED | _RANDOM), _read_state(state))


def write_trace_context(context: TraceContext) -> bytes:
    """Write the header lines that name `context` as the parent of what the receiver does."""
    lines = f"traceparent: 00-{context.trace_id}-{context.span_id}-{context.flags:02x}\r\n"
    if context.state:
        lines += f"tracestate: {context.state}\r\n"
    return lines.encode("ascii")


def _read_state(text: str | None) -> str:
    """Return the members of a `tracestate`, as many of the first as are at most 512 characters; none of a bad one."""
    members = [member for part in (text or "").split(",") if (member := part.strip(" \t"))]
    if len(members) > _MOST_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    while members and sum(map(len, members)) + len(members) - 1 > _MOST_STATE:
        members.pop()
    return ",".join(members)
