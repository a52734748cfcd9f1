"""Streams as the servers behind the gateway send them, each with what a client must get out of it.

Written by hand after the servers' documented habits: key order, blanks, nulls, comments, where usage stands. What the
gateway does with them is in the tests; here is only what goes in and what is expected.
"""

import json

from playing import CATALOG, PROMPT, Recorded
from provider_events import (
    COMPLETION,
    DONE,
    ROLE,
    deepseek,
    groq,
    kimi,
    lines,
    llama_cpp,
    mistral,
    openai,
    openai_usage,
    openrouter,
    same_model,
    sglang,
    spaced,
    vllm,
    vllm_usage,
)

from proxy.usage import UsageSource

TRAP = r"say \"usage\":{\"prompt_tokens\":999} and \"finish_reason\":\"stop\" [DONE]\n\ndata: {\"error\":1}"

RECORDED = (
    Recorded(
        "vLLM, usage in a last chunk",
        lines(
            vllm(ROLE),
            vllm('{"content":"Hel"}'),
            vllm('{"content":"lo – 世界 😀"}'),
            vllm('{"content":"!"}'),
            vllm('{"content":""}', '"stop"', ',"stop_reason":null'),
            vllm_usage('{"prompt_tokens":12,"total_tokens":20,"completion_tokens":8}'),
            DONE,
        ),
        {0: "Hello – 世界 😀!"},
        (12, 8, 0),
    ),
    Recorded(
        "vLLM, reasoning in a field",
        lines(
            vllm(ROLE),
            vllm('{"reasoning":"Six times"}'),
            vllm('{"reasoning":" seven."}'),
            vllm('{"content":"42"}'),
            vllm("{}", '"stop"', ',"stop_reason":151645'),
            vllm_usage(
                '{"prompt_tokens":70,"total_tokens":101,"completion_tokens":31,"prompt_tokens_details":'
                '{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":19}}'
            ),
            DONE,
        ),
        {0: "42"},
        (70, 31, 64),
        reasoning={0: "Six times seven."},
    ),
    Recorded(
        "vLLM, running usage in every chunk",
        lines(
            vllm(ROLE)[:-1] + ',"usage":{"prompt_tokens":5,"total_tokens":5,"completion_tokens":0}}',
            vllm('{"content":"One"}')[:-1] + ',"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}',
            vllm('{"content":" two"}')[:-1] + ',"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}',
            vllm('{"content":""}', '"length"')[:-1]
            + ',"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}}',
            vllm_usage('{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}'),
            DONE,
        ),
        {0: "One two"},
        (5, 3, 0),
        finish={0: "length"},
    ),
    Recorded(
        "the model is called as in the catalog",
        lines(
            same_model(ROLE),
            same_model('{"content":"a"}'),
            same_model('{"content":"b"}'),
            same_model("{}", '"stop"'),
            f'data: {{"id":"chatcmpl-77","object":"chat.completion.chunk","created":1790000002,"model":"{CATALOG}",'
            '"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}',
            DONE,
        ),
        {0: "ab"},
        (3, 2, 0),
    ),
    Recorded(
        "DeepSeek, keep-alive comments and usage on the chunk that finishes",
        lines(
            ": keep-alive",
            ": keep-alive",
            deepseek('{"role":"assistant","content":null,"reasoning_content":""}'),
            deepseek('{"content":null,"reasoning_content":"Larger?"}'),
            ": keep-alive",
            deepseek('{"content":"9.8","reasoning_content":null}'),
            deepseek(
                '{"content":"","reasoning_content":null}',
                '"stop"',
                ',"usage":{"prompt_tokens":1058,"completion_tokens":39,"total_tokens":1097,"prompt_tokens_details":'
                '{"cached_tokens":1024},"completion_tokens_details":{"reasoning_tokens":27},'
                '"prompt_cache_hit_tokens":1024,"prompt_cache_miss_tokens":34}',
            ),
            DONE,
        ),
        {0: "9.8"},
        (1058, 39, 1024),
        reasoning={0: "Larger?"},
    ),
    Recorded(
        "OpenRouter, a role in every delta, provider and cost, usage beside an empty delta",
        lines(
            ": OPENROUTER PROCESSING",
            openrouter('{"role":"assistant","content":"","reasoning":"Hm"}'),
            openrouter('{"role":"assistant","content":"Do"}'),
            ": OPENROUTER PROCESSING",
            openrouter('{"role":"assistant","content":"ne."}'),
            openrouter('{"role":"assistant","content":""}', '"stop"'),
            openrouter(
                '{"role":"assistant","content":""}',
                "null",
                ',"usage":{"prompt_tokens":1697,"completion_tokens":52,"total_tokens":1749,"cost":0.00042,'
                '"is_byok":false,"cost_details":{"upstream_inference_cost":0.0004}}',
            ),
            DONE,
        ),
        {0: "Done."},
        (1697, 52, 0),
        reasoning={0: "Hm"},
        strip=("provider",),
    ),
    Recorded(
        "OpenAI, CRLF, usage null everywhere, a text that looks like a protocol",
        lines(
            openai('{"role":"assistant","content":"","refusal":null}'),
            openai(f'{{"content":"{TRAP}"}}'),
            openai('{"content":" ok"}'),
            openai("{}", '"stop"'),
            openai_usage(2006, 300, 1920),
            DONE,
            eol="\r\n",
        ),
        {0: json.loads(f'"{TRAP}"') + " ok"},
        (2006, 300, 1920),
    ),
    Recorded(
        "OpenAI, two choices that take turns",
        lines(
            openai(ROLE, index=0),
            openai(ROLE, index=1),
            openai('{"content":"Heads"}', index=1),
            openai('{"content":"Tails"}', index=0),
            openai('{"content":"."}', index=0),
            openai("{}", '"stop"', index=1),
            openai("{}", '"length"', index=0),
            openai_usage(14, 3, 0),
            DONE,
        ),
        {0: "Tails.", 1: "Heads"},
        (14, 3, 0),
        finish={0: "length", 1: "stop"},
        choices=2,
    ),
    Recorded(
        "OpenAI, two tools at once",
        lines(
            openai('{"role":"assistant","content":null}'),
            openai(
                '{"tool_calls":[{"index":0,"id":"call_a","type":"function",'
                '"function":{"name":"get_weather","arguments":""}}]}'
            ),
            openai(r'{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}'),
            openai(r'{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]}'),
            openai(
                '{"tool_calls":[{"index":1,"id":"call_b","type":"function",'
                '"function":{"name":"get_time","arguments":""}}]}'
            ),
            openai(r'{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}'),
            openai("{}", '"tool_calls"'),
            openai_usage(240, 47, 208),
            DONE,
        ),
        {0: ""},
        (240, 47, 208),
        finish={0: "tool_calls"},
        arguments={(0, 0): '{"city":"Oslo"}', (0, 1): "{}"},
    ),
    Recorded(
        "SGLang, every key in every delta, null where there is nothing",
        lines(
            sglang('{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null}'),
            sglang('{"role":null,"content":null,"reasoning_content":"Look it up","tool_calls":null}'),
            sglang(
                '{"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":"call_1","index":0,'
                r'"type":"function","function":{"name":"search","arguments":"{\"q\": "}}]}'
            ),
            sglang(
                '{"role":null,"content":null,"reasoning_content":null,"tool_calls":[{"id":null,"index":0,'
                r'"type":"function","function":{"name":null,"arguments":"\"x\"}"}}]}'
            ),
            sglang('{"role":null,"content":null,"reasoning_content":null,"tool_calls":null}', '"tool_calls"'),
            'data: {"id":"c0ffee","object":"chat.completion.chunk","created":1790000006,"model":"Qwen/Qwen3-32B",'
            '"choices":[],"usage":{"prompt_tokens":90,"total_tokens":112,"completion_tokens":22,'
            '"prompt_tokens_details":null,"reasoning_tokens":9}}',
            DONE,
        ),
        {0: ""},
        (90, 22, 0),
        finish={0: "tool_calls"},
        reasoning={0: "Look it up"},
        arguments={(0, 0): '{"q": "x"}'},
    ),
    Recorded(
        "Groq, usage in a key of its own",
        lines(
            groq(ROLE, tail=',"x_groq":{"id":"req_01"}'),
            groq('{"content":"Fast"}'),
            groq(
                "{}",
                '"stop"',
                ',"x_groq":{"id":"req_01","usage":{"queue_time":0.01,"prompt_tokens":18,'
                '"completion_tokens":4,"total_tokens":22,"total_time":0.02}}',
            ),
            DONE,
        ),
        {0: "Fast"},
        (18, 4, 0),
    ),
    Recorded(
        "Kimi, usage in the choice",
        lines(
            kimi(ROLE),
            kimi('{"content":"Moon"}'),
            kimi(
                "{}",
                '"stop"',
                ',"usage":{"prompt_tokens":19,"completion_tokens":6,"total_tokens":25,"cached_tokens":10}',
            ),
            DONE,
        ),
        {0: "Moon"},
        (19, 6, 10),
    ),
    Recorded(
        "Mistral, usage beside the finish reason and an ending of its own",
        lines(
            mistral(ROLE),
            mistral('{"content":"Bon"}'),
            mistral('{"content":"jour"}'),
            mistral(
                '{"content":""}',
                '"model_length"',
                ',"usage":{"prompt_tokens":11,"total_tokens":14,"completion_tokens":3}',
            ),
            DONE,
        ),
        {0: "Bonjour"},
        (11, 3, 0),
        finish={0: "length"},
    ),
    Recorded(
        "llama.cpp, timings beside the usage",
        lines(
            llama_cpp('{"role":"assistant","content":null}'),
            llama_cpp('{"content":"Small"}'),
            llama_cpp("{}", '"stop"'),
            'data: {"choices":[],"created":1790000010,"id":"chatcmpl-lc","model":"smollm2","object":'
            '"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":31,"total_tokens":33},'
            '"timings":{"cache_n":0,"prompt_n":31,"prompt_ms":12.5}}',
            DONE,
        ),
        {0: "Small"},
        (31, 2, 0),
    ),
    Recorded(
        "Azure, a first chunk about the prompt alone",
        lines(
            'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"x":0}]}',
            openai('{"role":"assistant","content":"","refusal":null}'),
            openai('{"content":"Fine"}'),
            openai("{}", '"stop"'),
            openai_usage(8, 1, 0),
            DONE,
        ),
        {0: "Fine"},
        (8, 1, 0),
    ),
    Recorded(
        "blanks after colons and commas",
        lines(
            spaced('{"role": "assistant", "content": ""}'),
            spaced('{"content": "a"}'),
            spaced('{"content": "b"}'),
            spaced("{}", '"stop"'),
            'data: {"id": "chat-5", "object": "chat.completion.chunk", "created": 1790000011, "model": "yi-34b", '
            '"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}}',
            DONE,
        ),
        {0: "ab"},
        (4, 2, 0),
    ),
    Recorded(
        "BOM, id, event and retry lines, a ping",
        b"\xef\xbb\xbf"
        + lines(
            "retry: 3000",
            "event: ping\ndata:",
            f"id: 1\n{vllm(ROLE)}",
            "event: message\nid: 2\n" + vllm('{"content":"ok"}'),
            vllm('{"content":"ay"}'),
            vllm("{}", '"stop"'),
            vllm_usage('{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}'),
            DONE,
        ),
        {0: "okay"},
        (2, 1, 0),
    ),
    Recorded(
        "no blank after the colon of a field",
        lines(vllm(ROLE), vllm('{"content":"tight"}'), vllm("{}", '"stop"'), DONE).replace(b"data: ", b"data:"),
        {0: "tight"},
        (PROMPT, 2, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "lines that end in CR alone",
        lines(vllm(ROLE), vllm('{"content":"old"}'), vllm("{}", '"stop"'), DONE, eol="\r"),
        {0: "old"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "one event over several data lines",
        lines(
            vllm(ROLE),
            vllm('{"content":"split"}').replace('"choices":', '\ndata: "choices":'),
            vllm("{}", '"stop"'),
            DONE,
        ),
        {0: "split"},
        (PROMPT, 2, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "blank lines first",
        b"\n" * 90 + b"\r\n" + lines(vllm(ROLE), vllm('{"content":"late"}'), vllm("{}", '"stop"'), DONE),
        {0: "late"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "escaped pairs and a lone surrogate in the text",
        lines(
            vllm(ROLE),
            vllm(r'{"content":"\ud83d\ude00 caf\u00e9"}'),
            vllm(r'{"content":"\ud83d"}'),
            vllm('{"content":"."}'),
            vllm("{}", '"stop"'),
            DONE,
        ),
        {0: "😀 café\ud83d."},
        (PROMPT, 4, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "it ends without [DONE], its choice finished",
        lines(vllm(ROLE), vllm('{"content":"end"}'), vllm("{}", '"stop"')),
        {0: "end"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "its last event lacks the blank line",
        lines(vllm(ROLE), vllm('{"content":"end"}'), vllm("{}", '"stop"'), DONE)[:-2],
        {0: "end"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "[DONE] without a finish reason",
        lines(vllm(ROLE), vllm('{"content":"well"}'), DONE),
        {0: "well"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "[DONE] without a finish reason, after a tool call",
        lines(
            vllm(ROLE),
            vllm('{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}'),
            DONE,
        ),
        {0: ""},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
        finish={0: "tool_calls"},
        arguments={(0, 0): "{}"},
    ),
    Recorded(
        "an empty finish reason in every chunk",
        lines(
            vllm(ROLE, '""'),
            vllm('{"content":"still "}', '""'),
            vllm('{"content":"going"}', '""'),
            vllm("{}", '"stop"'),
            DONE,
        ),
        {0: "still going"},
        (PROMPT, 3, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "usage of zeros beside a text",
        lines(
            vllm(ROLE),
            vllm('{"content":"Hello"}'),
            vllm("{}", '"stop"'),
            vllm_usage('{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'),
            DONE,
        ),
        {0: "Hello"},
        (PROMPT, 2, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "a real usage, then null",
        lines(
            vllm(ROLE),
            vllm('{"content":"Hello"}'),
            vllm("{}", '"stop"'),
            vllm_usage('{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}'),
            vllm_usage("null"),
            DONE,
        ),
        {0: "Hello"},
        (10, 2, 0),
    ),
    Recorded(
        "chunks with nothing but choices",
        lines(
            'data: {"choices":[{"delta":{"content":"bare"}}]}',
            'data: {"choices":[{"delta":{"content":" bones"}}]}',
            'data: {"choices":[{"delta":{},"finish_reason":"eos"}]}',
            DONE,
        ),
        {0: "bare bones"},
        (PROMPT, 3, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "events after [DONE]",
        lines(vllm(ROLE), vllm('{"content":"end"}'), vllm('{"content":"."}'), vllm("{}", '"stop"'), DONE)
        + lines(vllm('{"content":"ghost"}'), vllm('{"content":"s"}'), DONE),
        {0: "end."},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
    ),
    Recorded(
        "a whole completion in place of a stream",
        COMPLETION.encode(),
        {0: "All at once"},
        (9, 3, 0),
    ),
    Recorded(
        "a whole completion after a BOM and blank lines",
        b"\xef\xbb\xbf" + b"\n" * 100 + COMPLETION.encode() + b"\n",
        {0: "All at once"},
        (9, 3, 0),
    ),
    Recorded(
        "an error in mid-stream",
        lines(
            vllm(ROLE),
            vllm('{"content":"Once"}'),
            vllm('{"content":" upon"}'),
            'data: {"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}',
            DONE,
        ),
        {0: "Once upon"},
        (PROMPT, 3, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "llama.cpp, an error in a field of its own",
        lines(
            llama_cpp('{"role":"assistant","content":"Once"}'),
            'error: {"code":500,"message":"slot unavailable","type":"server_error"}',
        ),
        {0: "Once"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "a finish reason that is a failure",
        lines(vllm(ROLE), vllm('{"content":"Once"}'), vllm("{}", '"abort"'), DONE),
        {0: "Once"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "it ends without [DONE] and without a finish reason",
        lines(vllm(ROLE), vllm('{"content":"Once upon a "}')),
        {0: "Once upon a "},
        (PROMPT, 3, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_truncated",
    ),
    Recorded(
        "cut in the middle of an event",
        lines(vllm(ROLE), vllm('{"content":"Once upon a "}'), vllm('{"content":"time"}'))[:-30],
        {0: "Once upon a "},
        (PROMPT, 3, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_truncated",
    ),
    Recorded(
        "a role, then an error: nothing was said yet",
        lines(vllm(ROLE), 'data: {"error":{"message":"no room","code":503}}', DONE),
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "an error as a whole body in place of a stream",
        b'{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":400}}',
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "an error in a list",
        b'[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]',
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_error",
    ),
    Recorded(
        "nothing at all",
        b"",
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_truncated",
    ),
    Recorded(
        "nothing but [DONE]",
        lines(": hello", DONE),
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_bad_response",
    ),
    Recorded(
        "a page of HTML",
        b"<!doctype html>\n<html>\n\n<body>502 Bad Gateway</body>\n\n</html>\n",
        {},
        (PROMPT, 0, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_bad_response",
    ),
    Recorded(
        "data that is no JSON, three times over",
        lines(vllm(ROLE), vllm('{"content":"ok"}'), "data: <p>", "data: oops", "data: {", vllm('{"content":"!"}')),
        {0: "ok"},
        (PROMPT, 1, 0),
        source=UsageSource.ESTIMATED,
        finish={},
        error="upstream_bad_response",
    ),
)
