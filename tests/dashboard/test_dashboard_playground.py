"""The playground and its operation of the API: an answer is shown as it comes, and counts as the chosen key's."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientPayloadError, web
from dashboard_bench import NOW_MS, Bench, Reply, row, start_bench
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts import digest_of_key, mint_key
from proxy.dashboard.answer_text import AnswerText, Heard

REQUEST_ID = row(1).request_id
MARKUP = "<script>alert(1)</script>"


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


class Api:
    """What stands at the gateway's API port: it notes what it is asked, and answers as a test wants it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.bodies: list[dict] = []
        self.pieces: list[bytes | asyncio.Event] = [chunk("Hi."), b"data: [DONE]\n\n"]
        self.status = 200
        self.cut = False
        self.gone = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers["Authorization"].removeprefix("Bearer "))
        self.bodies.append({"path": request.path, **await request.json()})
        headers = {"x-request-id": REQUEST_ID, "Content-Type": "text/event-stream"}
        response = web.StreamResponse(status=self.status, headers=headers)
        await response.prepare(request)
        try:
            for piece in self.pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    await response.write(piece)
            if self.cut:
                request.transport.abort()
            await response.write_eof()
        except ConnectionError:
            self.gone.set()
        return response


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    application = web.Application()
    application.add_routes([web.post("/v1/{endpoint:.*}", api.answer)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield api
    await runner.cleanup()


@pytest.fixture
async def bench(tmp_path, api: Api) -> AsyncIterator[Bench]:
    bench, runner = await start_bench(tmp_path, [], api.url)
    yield bench
    await bench.session.close()
    await runner.cleanup()
    bench.ledger.close()


def form(**more: str) -> dict[str, str]:
    return {"model": "lab/model", "endpoint": "chat", "stream": "yes", "text": "Hello!"} | more


def lines(reply: Reply) -> list[dict]:
    return [json.loads(line) for line in reply.text.splitlines()]


def heard(reply: Reply, name: str) -> str:
    return "".join(str(line.get(name, "")) for line in lines(reply))


class TestTheStream:
    async def test_what_has_come_is_shown_before_the_answer_ends(self, operator: Bench, api: Api):
        key = await operator.key()
        rest = asyncio.Event()
        api.pieces = [chunk("Hello"), rest, chunk(" there."), b"data: [DONE]\n\n"]
        data = {"form_word": operator.form_word, **form(key_id=key["key_id"])}
        headers = {"Cookie": operator.cookie}
        async with operator.session.post(f"{operator.base}/playground/stream", data=data, headers=headers) as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            assert answer.headers["Cache-Control"] == "no-store"
            async with asyncio.timeout(10):
                assert json.loads(await answer.content.readline()) == {"status": 200}
                assert json.loads(await answer.content.readline()) == {
                    "raw": chunk("Hello").decode(),
                    "answer": "Hello",
                }
            rest.set()
            later = [json.loads(line) for line in (await answer.read()).splitlines()]
        assert "".join(line.get("answer", "") for line in later) == " there."

    async def test_its_last_line_is_what_the_ledger_says_it_cost(self, operator: Bench):
        key = await operator.key()
        await operator.rows(row(1))
        played = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert lines(played)[-1] == {
            "words": "1,200 prompt and 300 completion tokens, as the provider counted: $0.00084",
            "row": f"/usage/{REQUEST_ID}",
        }

    async def test_a_refusal_of_the_gateway_is_shown_as_it_came(self, operator: Bench, api: Api):
        key = await operator.key()
        api.status, api.pieces = 429, [b'{"error":{"message":"budget"}}']
        played = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert (lines(played)[0], heard(played, "raw")) == ({"status": 429}, '{"error":{"message":"budget"}}')
        assert lines(played)[-1] == {"words": "no row in the ledger: it cost nothing"}

    async def test_an_answer_that_is_cut_off_says_so(self, operator: Bench, api: Api):
        key = await operator.key()
        api.cut = True
        played = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert heard(played, "answer") == "Hi."
        assert "stopped in the middle" in lines(played)[-1]["wrong"]

    async def test_an_answer_without_end_is_cut_off(self, operator: Bench, api: Api, monkeypatch):
        monkeypatch.setattr("proxy.dashboard.trial._LONGEST", 1_000)
        key = await operator.key()
        api.pieces = [chunk("x" * 100)] * 100
        played = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert "longer than what is shown" in lines(played)[-1]["wrong"]

    async def test_a_browser_that_goes_away_hangs_up_on_the_gateway(self, operator: Bench, api: Api):
        key = await operator.key()
        held = asyncio.Event()
        api.pieces = [chunk("Hello"), held, *[chunk("x" * 10_000)] * 1_000]
        data = {"form_word": operator.form_word, **form(key_id=key["key_id"])}
        headers = {"Cookie": operator.cookie}
        answer = await operator.session.post(f"{operator.base}/playground/stream", data=data, headers=headers)
        await answer.content.readline()
        answer.close()
        held.set()
        async with asyncio.timeout(10):
            await api.gone.wait()

    async def test_it_takes_no_form_but_ours(self, operator: Bench, api: Api):
        key = await operator.key()
        operator.form_word = "0" * 64
        assert (await operator.send("/playground/stream", form(key_id=key["key_id"]))).status == 403
        assert not api.keys


class TestTheKey:
    async def test_a_chosen_key_is_stood_for_by_one_that_is_over_in_a_minute(self, operator: Bench, api: Api):
        key = await operator.key(name="laptop", models=["lab/model"])
        played = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert heard(played, "answer") == "Hi."
        (used,) = api.keys
        stands_for = operator.records.lent[digest_of_key(used)]
        assert used != key["key"]
        assert (stands_for.key_id, stands_for.models) == (key["key_id"], {"lab/model"})
        assert stands_for.expires_ms == NOW_MS + 60_000
        assert used not in played.text
        assert [one["key_id"] for one in (await operator.api("GET", "/accounts/acme/keys")).document["keys"]] == [
            key["key_id"]
        ]

    async def test_it_does_not_outlive_the_key(self, operator: Bench):
        key = await operator.key(expires="30s")
        await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert [one.expires_ms for one in operator.records.lent.values()] == [NOW_MS + 30_000]

    async def test_who_used_whose_key_is_written_down(self, operator: Bench, api: Api):
        key = await operator.key()
        await operator.send("/playground/stream", form(key_id=key["key_id"]))
        log = await operator.api("GET", "/audit")
        latest = log.document["entries"][0]
        assert (latest["action"], latest["subject"], latest["outcome"]) == ("try key", key["key_id"], "done")
        assert api.keys[0] not in log.text

    async def test_one_that_is_revoked_is_not_used(self, operator: Bench, api: Api):
        key = await operator.key()
        await operator.api("POST", f"/keys/{key['key_id']}/revoke")
        refused = await operator.send("/playground/stream", form(key_id=key["key_id"]))
        assert (refused.status, "been revoked" in lines(refused)[0]["wrong"]) == (409, True)
        assert key["key_id"] not in (await operator.page("/playground?account=acme")).text
        assert not api.keys

    async def test_one_of_another_account_is_not_there(self, person: Bench, api: Api):
        key = await person.key("other")
        refused = await person.send("/playground/stream", form(key_id=key["key_id"]))
        assert refused.status == 404
        assert (await person.page(f"/playground?key_id={key['key_id']}")).text.count(key["key_id"]) == 0
        assert not api.keys

    async def test_one_that_is_pasted_goes_first_and_is_used_as_it_is(self, operator: Bench, api: Api):
        key = await operator.key()
        pasted = mint_key("acme", bytes(32))
        await operator.send("/playground/stream", form(key=pasted, key_id=key["key_id"]))
        assert (api.keys, operator.records.lent) == ([pasted], {})

    @pytest.mark.parametrize(
        ("more", "status", "why"),
        [
            ({"key": "sk-other"}, 400, "no API key"),
            ({}, 400, "Choose a key"),
            ({"key": mint_key("acme", bytes(32)), "text": ""}, 400, "Say something"),
            ({"key_id": "key_none"}, 404, "no key"),
        ],
    )
    async def test_what_cannot_be_sent_is_told(self, operator: Bench, more: dict, status: int, why: str):
        refused = await operator.send("/playground/stream", form(**more))
        assert (refused.status, why in lines(refused)[0]["wrong"]) == (status, True)
        page = await operator.send("/playground", form(**more))
        assert (page.status, why in page.alert) == (status, True)
        assert "sk-other" not in page.text

    async def test_one_of_another_account_that_is_pasted_is_not_used(self, person: Bench, api: Api):
        key = mint_key("other", bytes(32))
        refused = await person.send("/playground", form(key=key))
        assert refused.status == 403
        assert key not in refused.text
        assert not api.keys

    async def test_keys_to_choose_are_those_of_the_chosen_account_that_are_good(self, operator: Bench):
        await operator.account("other")
        mine, theirs = await operator.key("acme"), await operator.key("other")
        choose = (await operator.page("/playground")).text
        assert mine["key_id"] not in choose
        page = await operator.page("/playground?account=other")
        assert theirs["key_id"] in page.text
        assert mine["key_id"] not in page.text
        assert (
            f'value="{mine["key_id"]}" selected' in (await operator.page(f"/playground?key_id={mine['key_id']}")).text
        )


class TestWithoutScripts:
    async def test_the_page_shows_the_whole_answer_as_it_came_and_its_cost(self, operator: Bench, api: Api):
        key = await operator.key()
        await operator.rows(row(1))
        api.pieces = [chunk(f"Hello {MARKUP}"), b"data: [DONE]\n\n"]
        page = await operator.send("/playground", form(key_id=key["key_id"]))
        assert page.status == 200
        assert re.search(r'data-told="answer">Hello &lt;script&gt;', page.text)
        assert "data: [DONE]" in page.words
        assert "HTTP 200" in page.words
        assert "$0.00084" in page.words
        assert f'href="/usage/{REQUEST_ID}"' in page.text
        assert MARKUP not in page.text

    async def test_responses_are_asked_for_in_their_own_form(self, operator: Bench, api: Api):
        key = await operator.key()
        await operator.send("/playground", form(key_id=key["key_id"], endpoint="responses", stream=""))
        said = [{"role": "user", "content": "Hello!"}]
        assert api.bodies == [{"path": "/v1/responses", "model": "lab/model", "stream": False, "input": said}]

    async def test_an_api_that_does_not_answer_is_told(self, tmp_path):
        bench, runner = await start_bench(tmp_path, [])
        await bench.account()
        await bench.sign_in()
        away = await bench.send("/playground", form(key=mint_key("acme", bytes(32))))
        assert (away.status, "did not answer" in away.alert) == (503, True)
        await bench.session.close()
        await runner.cleanup()
        bench.ledger.close()


class TestTheOperation:
    async def test_the_api_hands_on_what_the_endpoint_answers(self, operator: Bench, api: Api):
        key = await operator.key()
        wanted = {"request": {"model": "lab/model", "max_tokens": 3}, "endpoint": "responses"}
        tried = await operator.api("POST", f"/keys/{key['key_id']}/try", json=wanted)
        assert (tried.status, tried.headers["x-request-id"]) == (200, REQUEST_ID)
        assert tried.headers["Content-Type"].startswith("text/event-stream")
        assert tried.text == (chunk("Hi.") + b"data: [DONE]\n\n").decode()
        assert api.bodies == [{"path": "/v1/responses", "model": "lab/model", "max_tokens": 3}]
        api.status = 429
        assert (await operator.api("POST", f"/keys/{key['key_id']}/try", json=wanted)).status == 429

    async def test_the_api_sends_on_every_number_and_depth_that_it_could_read(self, operator: Bench, api: Api):
        key = await operator.key()
        wanted = {"seed": 10**30, "deep": json.loads("[" * 300 + "]" * 300)}
        tried = await operator.api("POST", f"/keys/{key['key_id']}/try", json={"request": wanted})
        assert (tried.status, api.bodies) == (200, [{"path": "/v1/chat/completions", **wanted}])

    async def test_an_answer_that_is_cut_off_does_not_look_whole(self, operator: Bench, api: Api):
        key = await operator.key()
        api.cut = True
        with pytest.raises(ClientPayloadError):
            await operator.api("POST", f"/keys/{key['key_id']}/try", json={"request": {}})

    async def test_a_request_that_is_too_deep_to_be_read_is_refused(self, operator: Bench, api: Api):
        key = await operator.key()
        body = '{"request": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}}"
        refused = await operator.api("POST", f"/keys/{key['key_id']}/try", data=body)
        assert (refused.status, refused.document["error"]["type"]) == (400, "invalid_request_error")
        assert not api.keys

    @pytest.mark.parametrize("body", [{}, {"request": 1}, {"request": {}, "endpoint": "embeddings"}, {"url": "x"}])
    async def test_what_it_does_not_understand_is_refused(self, operator: Bench, api: Api, body: dict):
        key = await operator.key()
        assert (await operator.api("POST", f"/keys/{key['key_id']}/try", json=body)).status == 400
        assert not api.keys


ANSWERS = [
    ('{"choices":[{"message":{"content":"Hi.","reasoning_content":"Hm."}}]}', False, ("Hi.", "Hm.", "")),
    (chunk("H").decode() + chunk("é.").decode(), True, ("Hé.", "", "")),
    ('data: {"choices":[{"delta":{"reasoning":"Hm"}}]}\r\n\r\n', True, ("", "Hm", "")),
    ('data: {"choices":[{"delta":{"refusal":"No."}}]}', True, ("No.", "", "")),
    (
        'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}\n\n',
        True,
        ("", "", "f {}"),
    ),
    ('data: {"type":"response.output_text.delta","delta":"Hi."}\n\ndata: [DONE]\n', True, ("Hi.", "", "")),
    ('data: {"type":"response.reasoning_text.delta","delta":"Hm"}\n\n', True, ("", "Hm", "")),
    (
        '{"output":[{"content":[{"text":"Hi."}]},{"type":"reasoning","summary":[{"text":"Hm"}]}]}',
        False,
        ("Hi.", "Hm", ""),
    ),
    ('{"output":[{"type":"function_call","name":"f","arguments":"{}"}]}', False, ("", "", "f {}")),
    ('{"error":{"message":"no"}}', False, ("", "", "")),
    ("nonsense", False, ("", "", "")),
    ('{"choices":{"a":1},"output":[1,{"content":"x"}]}', False, ("", "", "")),
    ("[]", False, ("", "", "")),
    ("", True, ("", "", "")),
]


class TestTheText:
    @pytest.mark.parametrize(("raw", "streamed", "said"), ANSWERS)
    def test_it_is_found_in_every_kind_of_answer(self, raw: str, streamed: bool, said: tuple[str, str, str]):
        assert read([raw.encode()], streamed=streamed) == Heard(raw, *said)

    @given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 200), max_size=5))
    def test_it_is_the_same_wherever_the_pieces_end(self, answer: tuple, cuts: list[int]):
        raw, streamed, said = answer
        data, places = raw.encode(), sorted(cuts)
        pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
        assert read(pieces, streamed=streamed) == Heard(raw, *said)

    @given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
    def test_no_bytes_are_an_error(self, pieces: list[bytes], streamed: bool):
        assert read(pieces, streamed=streamed).raw == b"".join(pieces).decode(errors="replace")


def read(pieces: list[bytes], *, streamed: bool) -> Heard:
    text, whole = AnswerText(streamed=streamed), Heard()
    for piece in pieces:
        whole += text.read(piece)
    return whole + text.read(b"", last=True)
