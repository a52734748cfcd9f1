"""A stream of a provider that speaks the Responses API itself, event by event, and how it is played here."""

from playing import CATALOG, PROMPT
from response_reading import DONE, shape

from proxy.errors import ErrorType, Fault
from proxy.usage import Usage, tokens_of
from proxy.wire.native_answer import NativePlan
from proxy.wire.native_response import NativeStream

PLAN = NativePlan(CATALOG)
FAULT = Fault(502, ErrorType.PROVIDER, "upstream_error", "It failed; try again.")
USAGE = (
    '{"input_tokens":20,"input_tokens_details":{"cached_tokens":16},"output_tokens":5,'
    '"output_tokens_details":{"reasoning_tokens":2},"total_tokens":25}'
)
TOLD = Usage(20, 5, 16, 2)
TRAP = r"\"response\":{\"model\":\"x\"} \"type\":\"error\" \"error\":{} [DONE]\n\ndata: {}"
PLACE = '"item_id":"msg_9","output_index":0,"content_index":0'
PART = '{"type":"output_text","text":"%s","annotations":[],"logprobs":[]}'
ITEM = '{"id":"msg_9","type":"message","status":"%s","role":"assistant","content":[%s]}'


def told(kind: str, number: int, rest: str = "") -> str:
    return f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":{number}{rest}}}\n\n'


def response(status: str, usage: str = "null", error: str = "null", rest: str = "") -> str:
    head = f'"id":"resp_up","object":"response","created_at":1790000000,"status":"{status}"'
    behind = f'"usage":{usage},"metadata":{{}},"temperature":1.0{rest}'
    return f'{{{head},"error":{error},"model":"gpt-up","output":[],{behind}}}'


def lifecycle(status: str, number: int, usage: str = "null", **more: str) -> str:
    written = response(status.replace("created", "in_progress"), usage, **more)
    return told(f"response.{status}", number, f',"response":{written}')


def delta(text: str, number: int, kind: str = "output_text") -> str:
    return told(f"response.{kind}.delta", number, f',{PLACE},"delta":"{text}","logprobs":[],"obfuscation":"xY3"')


BEGUN = [
    lifecycle("created", 0),
    lifecycle("in_progress", 1),
    told("response.output_item.added", 2, f',"output_index":0,"item":{ITEM % ("in_progress", "")}'),
    told("response.content_part.added", 3, f',{PLACE},"part":{PART % ""}'),
]
SAID = [delta("Hel", 4), delta(TRAP, 5), delta("lo – 世界", 6)]
ITEM_DONE = told("response.output_item.done", 7, f',"output_index":0,"item":{ITEM % ("completed", PART % "x")}')
ENDED = lifecycle("completed", 8, USAGE)
STREAM = "".join([*BEGUN, *SAID, ITEM_DONE, ENDED])
SHOWN = STREAM.replace('"model":"gpt-up"', f'"model":"{CATALOG}"').encode() + DONE


def stream(plan: NativePlan = PLAN) -> NativeStream:
    return NativeStream(plan, lambda output: Usage(PROMPT, tokens_of(output)), shape)


def feed(*events: str, plan: NativePlan = PLAN) -> tuple[NativeStream, bytes]:
    fed = stream(plan)
    return fed, fed.feed("".join(events).encode())


def play(pieces: list[bytes], plan: NativePlan = PLAN) -> tuple[NativeStream, bytes]:
    played = stream(plan)
    out = b"".join([played.feed(piece) for piece in pieces]) + played.end()
    return played, out
