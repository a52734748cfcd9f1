"""A model that a conversation can be held with: it calls tools, thinks, breaks off, each when the user says so.

Here is what it says; `chat_forms.py` and `native_form.py` say it in the forms of real servers. The same conversation
always gets the same words, so that every client library can be asked the same things.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Ask(StrEnum):
    """What the user may say; everything else is a greeting too."""

    GREETING = "Hi."
    ONE_CITY = "What is the weather in Oslo?"
    TWO_CITIES = "What is the weather in Oslo and in Rome?"
    RAMBLE = "Ramble on."
    BREAK_OFF = "Break off."
    FALL_SILENT = "Fall silent."
    FAIL = "Fail."
    TOO_LONG = "Be too long."


class Said(StrEnum):
    """What the model says, and what it thinks."""

    ANSWER = "Good day. What can I do for you?"
    THOUGHT = "The user greets me.\n\nI greet back, with “ä 世界” in mind."
    ABOUT_WEATHER = "I have to look it up."
    LOOKING = "Let me look."
    CUT_SHORT = "This goes on and"
    BEFORE_THE_BREAK = "Once upon a time"
    OF_ONE_CITY = "I am told: rain."
    OF_TWO_CITIES = "I am told: rain and sun."


TOOL = "get_weather"
WEATHER = {"Oslo": "rain", "Rome": "sun"}
PROMPT_TOKENS, CACHED_TOKENS, COMPLETION_TOKENS, THINKING_TOKENS = 70, 64, 31, 19
TOTAL_TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
BREAKS = (Ask.BREAK_OFF, Ask.FALL_SILENT)


@dataclass(frozen=True)
class Call:
    """One call of the one tool."""

    id: str
    city: str

    @property
    def arguments(self) -> str:
        return json.dumps({"city": self.city})


@dataclass(frozen=True)
class Speech:
    """What the model says in one turn."""

    thought: str
    text: str
    calls: tuple[Call, ...] = ()
    cut_short: bool = False


@dataclass(frozen=True)
class Heard:
    """What the model makes of a conversation: the last thing asked, and what its tools said since then."""

    asked: str
    results: tuple[str, ...]


def heard(turns: list[tuple[str, str]]) -> Heard:
    """Make that of a conversation as pairs of a role and a text; the role of a tool's result is `tool`."""
    last = max(number for number, (role, _) in enumerate(turns) if role == "user")
    return Heard(turns[last][1], tuple(text for role, text in turns[last:] if role == "tool"))


def speech(conversation: Heard) -> Speech:
    if conversation.results:
        return Speech(Said.ABOUT_WEATHER, f"I am told: {' and '.join(conversation.results)}.")
    if conversation.asked == Ask.ONE_CITY:
        return Speech(Said.ABOUT_WEATHER, "", (Call("call_8d1f0c2a", "Oslo"),))
    if conversation.asked == Ask.TWO_CITIES:
        return Speech(Said.ABOUT_WEATHER, Said.LOOKING, (Call("call_1", "Oslo"), Call("call_2", "Rome")))
    if conversation.asked == Ask.RAMBLE:
        return Speech(Said.THOUGHT, Said.CUT_SHORT, cut_short=True)
    if conversation.asked in BREAKS:
        return Speech(Said.THOUGHT, Said.BEFORE_THE_BREAK)
    return Speech(Said.THOUGHT, Said.ANSWER)


def pieces(text: str, size: int = 5) -> list[str]:
    """The text in pieces as a model might make them: they cut words and tags."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def text_of(content: Any) -> str:
    """The text of a message, whether it came as such or in parts."""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content or ())
