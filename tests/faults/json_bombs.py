"""Bodies, answers and events that are allowed by their size and made to cost more than it: what a hostile client or
provider would send.

Each is a function of the size; the fields around it are those of a good one, so that nothing else refuses it.
"""

from collections.abc import Callable

START = b'{"model":"same","messages":[{"role":"user","content":"Hi."}]'
RESPONSE = b'{"model":"same","input":'


def filled(before: bytes, piece: Callable[[int], bytes] | bytes, after: bytes, size: int) -> bytes:
    """`before`, as many pieces with commas between them as fit, and `after`."""
    room = size - len(before) - len(after)
    if isinstance(piece, bytes):
        count = (room + 1) // (len(piece) + 1)
        return before + b",".join([piece] * count) + after
    step = len(piece(10**7)) + 1
    return before + b",".join(piece(10**7 + number) for number in range(room // step)) + after


def padded(before: bytes, piece: bytes, after: bytes, size: int) -> bytes:
    """The same without commas."""
    return before + piece * ((size - len(before) - len(after)) // len(piece)) + after


CHAT_BOMBS: dict[str, Callable[[int], bytes]] = {
    "text": lambda size: padded(b'{"model":"same","messages":[{"role":"user","content":"', b"word ", b'"}]}', size),
    "text of escapes": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b"\\u00e9", b'"}]}', size
    ),
    "text of line ends": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b"\\n", b'"}]}', size
    ),
    "text of quotation marks": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b'\\"', b'"}]}', size
    ),
    "text of brackets": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b"[{", b'"}]}', size
    ),
    "text beyond ASCII": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', "\u00e9\U0001f600".encode(), b'"}]}', size
    ),
    "text of lone surrogates": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b"\\ud83d", b'"}]}', size
    ),
    "text of pairs and one lone surrogate": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"\\ud83d', b"\\ud83d\\ude00", b'"}]}', size
    ),
    "top-level keys": lambda size: filled(START + b",", lambda n: b'"%d":1' % n, b"}", size),
    "one key again and again": lambda size: filled(START + b",", b'"a":1', b"}", size),
    "messages": lambda size: filled(b'{"model":"same","messages":[', b'{"role":"user"}', b"]}", size),
    "messages with a text": lambda size: filled(
        b'{"model":"same","messages":[', b'{"role":"user","content":""}', b"]}", size
    ),
    "messages within the bounds": lambda size: padded(
        b'{"model":"same","messages":['
        + b'{"role":"user","content":""},' * min(7_900, size // 60)
        + b'{"role":"user","content":"',
        b"word ",
        b'"}]}',
        size,
    ),
    "escapes within the bounds": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"' + b"\\u00e9" * min(990_000, size // 12),
        b"word ",
        b'"}]}',
        size,
    ),
    "messages of nothing": lambda size: filled(b'{"model":"same","messages":[', b"{}", b"]}", size),
    "messages of numbers": lambda size: filled(b'{"model":"same","messages":[', b"1", b"]}", size),
    "keys of a message": lambda size: filled(
        b'{"model":"same","messages":[{"role":"user","content":"",', lambda n: b'"%d":1' % n, b"}]}", size
    ),
    "parts": lambda size: filled(
        b'{"model":"same","messages":[{"role":"user","content":[', b'{"type":"text"}', b"]}]}", size
    ),
    "parts with a text": lambda size: filled(
        b'{"model":"same","messages":[{"role":"user","content":[', b'{"type":"text","text":""}', b"]}]}", size
    ),
    "tool calls": lambda size: filled(
        b'{"model":"same","messages":[{"role":"assistant","content":null,"tool_calls":[',
        b'{"id":"","function":{"name":""}}',
        b"]}]}",
        size,
    ),
    "tools": lambda size: filled(START + b',"tools":[', b'{"type":"x"}', b"]}", size),
    "functions": lambda size: filled(START + b',"tools":[', b'{"type":"x","function":{}}', b"]}", size),
    "stops": lambda size: filled(START + b',"stop":[', b'""', b"]}", size),
    "metadata": lambda size: filled(START + b',"metadata":{', lambda n: b'"%d":1' % n, b"}}", size),
    "lists in an unknown field": lambda size: filled(START + b',"x":[', b"[]", b"]}", size),
    "objects in an unknown field": lambda size: filled(START + b',"x":[', b"{}", b"]}", size),
    "depth in an unknown field": lambda size: (
        START + b',"x":' + b"[" * (size // 2 - 50) + b"]" * (size // 2 - 50) + b"}"
    ),
    "depth of objects": lambda size: (
        START + b',"x":' + b'{"a":' * (size // 6 - 20) + b"1" + b"}" * (size // 6 - 20) + b"}"
    ),
    "depth again and again": lambda size: filled(START + b',"x":[', b"[" * 97 + b"]" * 97, b"]}", size),
    "brackets that are never closed": lambda size: padded(START + b',"x":', b"[", b"", size),
    "a number": lambda size: padded(START + b',"x":', b"9", b"}", size),
    "a number that is checked": lambda size: padded(START + b',"max_tokens":', b"9", b"}", size),
    "a fraction that is checked": lambda size: padded(START + b',"temperature":0.', b"9", b"}", size),
    "blanks": lambda size: padded(START, b" ", b"}", size),
    "line ends": lambda size: padded(START, b"\n", b"}", size),
    "a name of a model": lambda size: padded(
        b'{"messages":[{"role":"user","content":""}],"model":"', b"a", b'"}', size
    ),
    "bytes that are no UTF-8": lambda size: padded(
        b'{"model":"same","messages":[{"role":"user","content":"', b"\xff", b'"}]}', size
    ),
    "no JSON": lambda size: b"x" * size,
    "reasoning that is sent back": lambda size: filled(
        b'{"model":"same","messages":[', b'{"role":"assistant","reasoning":"a","content":""}', b"]}", size
    ),
    "details of reasoning": lambda size: filled(
        b'{"model":"same","messages":[{"role":"assistant","content":"","reasoning_details":[', b"{}", b"]}]}", size
    ),
}
RESPONSE_BOMBS: dict[str, Callable[[int], bytes]] = {
    "input": lambda size: padded(RESPONSE + b'"', b"word ", b'"}', size),
    "items": lambda size: filled(RESPONSE + b"[", b'{"role":"user","content":""}', b"]}", size),
    "items of nothing": lambda size: filled(RESPONSE + b"[", b"{}", b"]}", size),
    "parts of an item": lambda size: filled(
        RESPONSE + b'[{"role":"user","content":[', b'{"type":"input_text","text":""}', b"]}]}", size
    ),
    "calls": lambda size: filled(
        RESPONSE + b"[", b'{"type":"function_call","call_id":"a","name":"a","arguments":""}', b"]}", size
    ),
    "reasoning items": lambda size: filled(RESPONSE + b"[", b'{"type":"reasoning","summary":[]}', b"]}", size),
    "tools": lambda size: filled(RESPONSE + b'"","tools":[', b'{"type":"function","name":"a"}', b"]}", size),
    "keys": lambda size: filled(RESPONSE + b'"",', lambda n: b'"%d":1' % n, b"}", size),
    "instructions of escapes": lambda size: padded(RESPONSE + b'"","instructions":"', b"\\u00e9", b'"}', size),
    "lone surrogates": lambda size: padded(RESPONSE + b'"', b"\\ud83d", b'"}', size),
}


def _said_bombs(
    before: bytes, after: bytes, head: bytes, choice: bytes, end: bytes
) -> dict[str, Callable[[int], bytes]]:
    """What a message and a delta have in common: both stand between `before` and `after`."""
    told = head + b'"choices":[' + choice + b"],"
    call = b'null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":'
    texts = {
        "text": b"word ",
        "text beyond ASCII": "\u00e9".encode(),
        "text of escapes": b"\\u00e9",
        "text of quotation marks": b'\\"',
        "text of tags": b"<think>",
        "text of lone surrogates": b"\\ud83d",
        "text that is no UTF-8": b"\xff",
    }
    return {
        **{name: lambda size, piece=piece: padded(before + b'"', piece, b'"' + after, size)
           for name, piece in texts.items()},
        "text and one lone surrogate": lambda size: padded(before + b'"\\ud83d', b"word ", b'"' + after, size),
        "escapes within the bounds": lambda size: padded(
            before + b'"<think>a</think>' + b"\\u00e9" * min(990_000, size // 12), b"word ", b'"' + after, size
        ),
        "text behind tags": lambda size: padded(
            before + b'"<think>a</think>', "\u00e9".encode(), b'"' + after, size
        ),
        "reasoning": lambda size: padded(before + b'"","reasoning_content":"', b"word ", b'"' + after, size),
        "details of reasoning": lambda size: filled(before + b'"","reasoning_details":[', b"{}", b"]" + after, size),
        "parts": lambda size: filled(before + b"[", b'{"type":"text","text":"a"}', b"]" + after, size),
        "parts of nothing": lambda size: filled(before + b"[", b"[]", b"]" + after, size),
        "tool calls of nothing": lambda size: filled(before + b'null,"tool_calls":[', b"{}", b"]" + after, size),
        "arguments that are a list": lambda size: filled(before + call + b"[", b"[]", b"]}}]" + after, size),
        "keys": lambda size: filled(before + b'"",', lambda n: b'"%d":1' % n, after, size),
        "log probabilities": lambda size: filled(
            before + b'""},"logprobs":{"content":[', b'{"bytes":[1],"top_logprobs":[{}]}', b']},"x":{' + after, size
        ),
        "choices": lambda size: filled(head + b'"choices":[', choice, b"]}" + end, size),
        "choices of nothing": lambda size: filled(head + b'"choices":[', b"{}", b"]}" + end, size),
        "fields": lambda size: filled(told, lambda n: b'"%d":1' % n, b"}" + end, size),
        "lists": lambda size: filled(told + b'"x":[', b"[]", b"]}" + end, size),
        "usage of lists": lambda size: filled(
            told + b'"usage":{"prompt_tokens":3,"completion_tokens":2,"x":[', b"[]", b"]}}" + end, size
        ),
        "an error of lists": lambda size: filled(head + b'"error":{"message":"x","x":[', b"[]", b"]}}" + end, size),
        "an error": lambda size: padded(head + b'"error":{"message":"', b"word ", b'"}}' + end, size),
        "blanks": lambda size: padded(told + b'"x":', b" ", b"1}" + end, size),
        "a number": lambda size: padded(told + b'"usage":{"prompt_tokens":', b"9", b"}}" + end, size),
    }  # fmt: skip


_ANSWER = b'{"id":"c1","object":"chat.completion","created":1,"model":"same",'
_CHUNK = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"same",'
ANSWER_BOMBS = _said_bombs(
    _ANSWER + b'"choices":[{"index":0,"message":{"role":"assistant","content":',
    b'},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
    _ANSWER,
    b'{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}',
    b"",
)
EVENT_BOMBS = _said_bombs(
    _CHUNK + b'"choices":[{"index":0,"delta":{"content":',
    b'},"finish_reason":null}]}\n\n',
    _CHUNK,
    b'{"index":0,"delta":{"content":"a"},"finish_reason":null}',
    b"\n\n",
) | {
    "lines": lambda size: padded(b"", b"id:\n", b"\n", size),
    "data of lines": lambda size: padded(b"", b"data: x\n", b"\n", size),
    "a comment": lambda size: padded(b": ", b"x", b"\n\n", size),
    "no event's end": lambda size: padded(b"data: ", b"x", b"", size),
}
