"""Words that are said nowhere else, for whatever nobody may find later, and the search for them.

What is searched is everything that a gateway leaves or shows an operator. Every prompt and answer is a word repeated,
so that a piece cut out of it is found as well as the whole.
"""

import base64
import json

from gateway_process import Gateway
from raw_client import request_bytes

PROMPT, SPOKEN, THOUGHT, TOOL = "prmptqz", "answrqz", "thghtqz", "toolzqz"
TEXTS = {
    "the prompt": PROMPT,
    "the answer": SPOKEN,
    "the reasoning": THOUGHT,
    "a tool's arguments": TOOL,
}
OWN_FILES = {"gateway.yaml", "catalog.yaml"}
"""What the operator wrote."""


def repeated(word: str, times: int = 40) -> str:
    return " ".join([word] * times)


SAID = repeated(PROMPT)
ANSWERED = repeated(SPOKEN)


class Canaries:
    """What is looked for; each with the name under which it is told."""

    def __init__(self, **named: str) -> None:
        self._named = {**TEXTS, **named}

    def add(self, name: str, secret: str) -> str:
        """Look for this too; returns it."""
        self._named[name] = secret
        return secret

    def found_in(self, data: bytes) -> list[str]:
        """The names of those that are in the data, as they are or as other writers put them."""
        folded = data.lower()
        return [name for name, secret in self._named.items() if any(form in folded for form in forms(secret))]

    def found(self, gateway: Gateway) -> list[str]:
        """Where they are among all that a gateway has written, with the bytes around the first."""
        places = [path for path in gateway.folder.rglob("*") if path.is_file() and path.name not in OWN_FILES]
        assert len(places) > 3, "a gateway leaves at least a log, a journal, a ledger"
        return [
            f"{name} in {place.relative_to(gateway.folder)}: {around(place.read_bytes(), self._named[name])!r}"
            for place in places
            for name in self.found_in(place.read_bytes())
        ]


def forms(secret: str) -> set[bytes]:
    """How a text may be written, in lower case: as it is, as a form has it, in hexadecimal, in base64."""
    raw = secret.encode()
    # What stands before a text in base64 moves it by 0, 1 or 2 bytes; its first and last characters are shared.
    coded = [base64.b64encode(b"x" * shift + raw).rstrip(b"=")[4 if shift else 0 : -1] for shift in range(3)]
    return {form.lower() for form in (raw, raw.hex().encode(), json.dumps(secret).encode()[1:-1], *coded)}


def around(data: bytes, secret: str) -> bytes:
    at = data.lower().find(secret.lower().encode())
    return data[max(0, at - 150) : at + 100]


def bodies(model: str = "same") -> dict[str, bytes]:
    """Requests with the prompt in every place that has room for one."""
    messages = [{"role": "system", "content": SAID}, {"role": "user", "content": [{"type": "text", "text": SAID}]}]
    tools = [{"type": "function", "function": {"name": "f", "description": SAID, "parameters": {"title": PROMPT}}}]
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": TOOL})}}
    talk = [{"role": "user", "content": SAID}, {"role": "assistant", "tool_calls": [call], "content": None},
            {"role": "tool", "tool_call_id": "call_1", "content": SAID}]  # fmt: skip
    chats: dict[str, dict[str, object]] = {
        "messages": {"messages": messages},
        "a stream": {"messages": messages, "stream": True},
        "tools": {"messages": talk, "tools": tools, "user": PROMPT, "stop": [PROMPT], PROMPT: PROMPT},
        "a stream with tools": {"messages": talk, "tools": tools, "stream": True},
    }
    return {name: json.dumps({"model": model, **chat}).encode() for name, chat in chats.items()}


WRONG = {
    "text for messages": {"model": "same", "messages": SAID},
    "a message that is text": {"model": "same", "messages": [SAID]},
    "a role": {"model": "same", "messages": [{"role": SAID, "content": SAID}]},
    "content that is an object": {"model": "same", "messages": [{"role": "user", "content": {PROMPT: PROMPT}}]},
    "a part of no type": {"model": "same", "messages": [{"role": "user", "content": [{"type": SAID}]}]},
    "a temperature": {"model": "same", "messages": [], "temperature": SAID},
    "a key of a key": {"model": "same", "messages": [{"role": "user", "content": SAID}], "tools": [{PROMPT: 1}]},
    "a model": {"model": SAID, "messages": [{"role": "user", "content": SAID}]},
    "a model that is an object": {"model": {PROMPT: SAID}, "messages": [{"role": "user", "content": SAID}]},
    "a stream": {"model": "same", "messages": [{"role": "user", "content": SAID}], "stream": SAID},
    "a limit": {"model": "same", "messages": [{"role": "user", "content": SAID}], "max_tokens": PROMPT},
    "stream options": {"model": "same", "messages": [], "stream": True, "stream_options": {PROMPT: SAID}},
    "metadata": {"model": "same", "messages": [], "metadata": [SAID]},
    "tool calls": {"model": "same", "messages": [{"role": "assistant", "tool_calls": [{PROMPT: TOOL}]}]},
    "an input": {"model": "same", "input": [{"type": SAID, "role": PROMPT}]},
}
"""What is no request, for a reason that can be told without a word of it."""

JSON_OF_NO_USE = (
    *(b'{"model":"same","messages":[{"role":"user","content":"%b' % SAID.encode() + end for end in (b"", b'\x01"}]}')),
    b'{"model":"same","messages":[{"role":"user","content":"%b"}]}\xff' % SAID.encode(),
    b'{"model":"same" %b}' % SAID.encode(),
    SAID.encode(),
    b'"%b"' % SAID.encode(),
    b"%b=%b&model=same" % (PROMPT.encode(), PROMPT.encode()),
    b'{"model":"same","messages":[],"temperature":NaN,"%b":1,"%b":2}' % (PROMPT.encode(), PROMPT.encode()),
)


def odd_requests(key: str) -> list[bytes]:
    """The prompt, or a good key, where neither belongs; and HTTP that is none with both in it."""
    body = bodies()["messages"]
    lines = f"Host: gateway\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}".encode()
    return [
        request_bytes("GET", f"/{PROMPT}/{key}"),
        request_bytes("GET", f"/v1/models/{PROMPT}"),
        request_bytes("GET", f"/v1/models?api_key={key}&q={PROMPT}", key=key),
        request_bytes("POST", f"/v1/chat/completions?key={key}", body, X_Api_Key=key),
        request_bytes("POST", "/v1/chat/completions", body, Authorization=f"Basic {key}"),
        request_bytes("POST", "/v1/chat/completions", body, Authorization=key),
        request_bytes("POST", "/v1/chat/completions", body, key=f"{key}{PROMPT}"),
        request_bytes("POST", "/v1/chat/completions", body, key=key, X_Client_Request_Id=f"Bearer {key}"),
        request_bytes("POST", "/v1/chat/completions", body, key=key, X_Stainless_Retry_Count=key),
        request_bytes("POST", "/v1/chat/completions", body, key=key, User_Agent=f"{PROMPT} {key}", Cookie=key),
        request_bytes("POST", "/v1/chat/completions", body, key=key, Content_Type=f"text/{PROMPT}"),
        request_bytes("POST", "/v1/chat/completions", body, key=key, Content_Encoding=PROMPT),
        request_bytes("POST", "/v1/chat/completions", body, key=key, Content_Encoding="gzip"),
        request_bytes("POST", "/v1/chat/completions", body, key=key, Expect=PROMPT),
        request_bytes(PROMPT.upper(), "/v1/chat/completions", body, key=key),
        head + f"{PROMPT} : {key}\r\n\r\n".encode() + body,
        head + f"X: {PROMPT}\x01{key}\r\n\r\n".encode() + body,
        head + f"Content-Length: {PROMPT}\r\n\r\n".encode() + body,
        head + f"Transfer-Encoding: {key}\r\n\r\n".encode() + body,
        head + f"Transfer-Encoding: chunked\r\n\r\n{PROMPT}\r\n".encode() + body,
        head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + body,
        head + b"Content-Length: 5\r\n\r\n" + body,  # the rest is read as the next request
        f"{PROMPT} {key}\r\n\r\n".encode() + body,
    ]
