"""Single events as the servers behind the gateway write them: keys, order, blanks and nulls."""

from playing import CATALOG


def lines(*events: str, eol: str = "\n") -> bytes:
    """Events with their closing blank lines."""
    return "".join(event.replace("\n", eol) + eol * 2 for event in events).encode()


def vllm(delta: str, finish: str = "null", tail: str = "") -> str:
    head = '"id":"chatcmpl-5ab0","object":"chat.completion.chunk","created":1790000001,"model":"Qwen/Qwen3-8B"'
    return f'data: {{{head},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}{tail}}}]}}'


def vllm_usage(usage: str) -> str:
    head = '"id":"chatcmpl-5ab0","object":"chat.completion.chunk","created":1790000001,"model":"Qwen/Qwen3-8B"'
    return f'data: {{{head},"choices":[],"usage":{usage}}}'


def same_model(delta: str, finish: str = "null") -> str:
    head = f'"id":"chatcmpl-77","object":"chat.completion.chunk","created":1790000002,"model":"{CATALOG}"'
    return f'data: {{{head},"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}'


def deepseek(delta: str, finish: str = "null", tail: str = "") -> str:
    head = '"id":"5f1c-9e","object":"chat.completion.chunk","created":1790000003,"model":"deepseek-chat"'
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'
    return f'data: {{{head},"system_fingerprint":"fp_a1","choices":[{choice}]{tail}}}'


def openrouter(delta: str, finish: str = "null", tail: str = "") -> str:
    head = '"id":"gen-17-x","provider":"Fireworks","model":"z-ai/glm-5","object":"chat.completion.chunk"'
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish},"native_finish_reason":{finish},"logprobs":null}}'
    return f'data: {{{head},"created":1790000004,"choices":[{choice}]{tail}}}'


def openai(delta: str, finish: str = "null", index: int = 0) -> str:
    head = '"id":"chatcmpl-Dz","object":"chat.completion.chunk","created":1790000005,"model":"gpt-5-mini-2025-08-07"'
    choice = f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'
    return f'data: {{{head},"service_tier":"default","choices":[{choice}],"usage":null,"obfuscation":"q8"}}'


def openai_usage(prompt: int, completion: int, cached: int, reasoning: int = 0) -> str:
    head = '"id":"chatcmpl-Dz","object":"chat.completion.chunk","created":1790000005,"model":"gpt-5-mini-2025-08-07"'
    details = f'"prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":0}}'
    thought = f'"completion_tokens_details":{{"reasoning_tokens":{reasoning},"audio_tokens":0}}'
    counts = f'"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{prompt + completion}'
    return f'data: {{{head},"choices":[],"usage":{{{counts},{details},{thought}}},"obfuscation":""}}'


def sglang(delta: str, finish: str = "null") -> str:
    head = '"id":"c0ffee","object":"chat.completion.chunk","created":1790000006,"model":"Qwen/Qwen3-32B"'
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish},"matched_stop":null}}'
    return f'data: {{{head},"choices":[{choice}],"usage":null}}'


def groq(delta: str, finish: str = "null", tail: str = "") -> str:
    head = '"id":"chatcmpl-gq","object":"chat.completion.chunk","created":1790000007,"model":"llama-3.3-70b"'
    return f'data: {{{head},"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{tail}}}'


def kimi(delta: str, finish: str = "null", usage: str = "") -> str:
    head = '"id":"cmpl-k2","object":"chat.completion.chunk","created":1790000008,"model":"kimi-k2-0905-preview"'
    return f'data: {{{head},"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}{usage}}}]}}'


def mistral(delta: str, finish: str = "null", usage: str = "") -> str:
    head = '"id":"b7e2","object":"chat.completion.chunk","created":1790000009,"model":"mistral-small-latest"'
    return f'data: {{{head},"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]{usage},"p":"abc"}}'


def llama_cpp(delta: str, finish: str = "null", tail: str = "") -> str:
    head = f'"choices":[{{"finish_reason":{finish},"index":0,"delta":{delta}}}],"created":1790000010,"id":"chatcmpl-lc"'
    return f'data: {{{head},"model":"smollm2","system_fingerprint":"b7000-1a","object":"chat.completion.chunk"{tail}}}'


def spaced(delta: str, finish: str = "null") -> str:
    """As servers write that leave Python's default separators."""
    choice = f'{{"index": 0, "delta": {delta}, "finish_reason": {finish}}}'
    head = '"id": "chat-5", "object": "chat.completion.chunk", "created": 1790000011, "model": "yi-34b"'
    return f'data: {{{head}, "choices": [{choice}]}}'


ROLE = '{"role":"assistant","content":""}'
DONE = "data: [DONE]"
COMPLETION = (
    '{"id":"chatcmpl-w","object":"chat.completion","created":1790000012,"model":"other","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"All at once"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
)
