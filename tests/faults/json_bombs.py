"""Bodies that are allowed by their size and made to cost more than their size: what a hostile client would send.

Each is a function of the size; the fields around it are those of a good request, so that nothing else refuses it.
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
