"""Nobody finds later what was asked, what was answered, or with which credential: not in a log, a metric, an error, the
journal, the ledger, the store, or on a page for operators.

One gateway goes through every kind of request and ending, a death of its worker and of itself among them. Then all that
it has written and shows is searched.
"""

import http.client
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from canaries import (
    ANSWERED,
    JSON_OF_NO_USE,
    PROMPT,
    SAID,
    SPOKEN,
    THOUGHT,
    TOOL,
    WRONG,
    Canaries,
    bodies,
    odd_requests,
    repeated,
)
from gateway_process import Gateway, Key, children, command_line, eventually
from provider_rows import ENTRY, PATH, chunked, gateway_file, sending
from provider_rows import http as answer_of
from provider_scripts import chunk, completion, event, finish, role, story, streaming, usage, word
from raw_client import RawClient, request_bytes
from scripted_provider import DONE, PATIENCE, Exchange, ScriptedProvider

pytestmark = pytest.mark.timeout(400)  # some 270 requests and two starts, on a machine that is busy with other things

CREDENTIALS = {
    "the provider's key": "prv-7c1e-canary-key",
    "the operator's header": "opr-52d0-canary-header",
    "the admin token": "adm-93fe-canary-token",
    "a wrong admin token": "adm-0a77-canary-wrong",
    "the key of a bad file": "bad-2d2a-canary-file",
}
PROVIDER_KEY, HEADER, ADMIN, WRONG_TOKEN, BAD_FILE = CREDENTIALS.values()
SETTINGS = (
    'base_url: "{url}", allow_private: true, api_key: "${PROVIDER_KEY}", headers: {X-Own: "${HEADER}"}, '
    "first_byte_timeout: 200ms, idle_timeout: 20s"
)
MORE = {
    "same": "",
    "drained": ", on_disconnect: drain",
    "native": ", native_responses: true",
    "tagged": ", reasoning_style: tags",
}
"""The models, each with a provider of its name."""
API = "/admin/api"
PAGES = ("/", "/accounts", "/accounts/canary", "/keys?account=canary", "/usage", "/audit", "/playground")
DOCUMENTS = ("accounts", "accounts/canary", "accounts/canary/keys", "accounts/canary/tokens", "usage", "requests",
             "audit", "models", "plans", "system", "configuration")  # fmt: skip


@dataclass(frozen=True)
class Page:
    """What the admin port answered."""

    status: int
    text: bytes
    cookie: str


class Watched:
    """A gateway, its scripted provider, and what nobody may find."""

    def __init__(self, folder: Path) -> None:
        self.provider = ScriptedProvider()
        lines, catalog = "", "models:\n"
        for name, more in MORE.items():
            url = self.provider.url(f"{PATH}-{name}")
            lines += f"  {name}: {{{SETTINGS.replace('{url}', url)}{more}}}\n"
            catalog += ENTRY.format(model=name, routes=f"{{provider: {name}, model: same}}")
        environ = {"PROVIDER_KEY": PROVIDER_KEY, "HEADER": HEADER, "AION_PROXY_ADMIN_TOKEN": ADMIN}
        self.gateway = Gateway(folder, gateway_file(lines, "health: false"), catalog, environ)
        self.canaries = Canaries(**CREDENTIALS)
        self.shown: dict[str, bytes] = {}
        """What an operator was shown, by where."""
        self.asked = 0

    def key(self, name: str, **limits: int | str) -> Key:
        key = self.gateway.new_key(**limits)
        self.canaries.add(f"the key {name}", key.secret.rpartition("-")[2])
        return key

    def on(self, script: Callable[[Exchange], object]) -> None:
        """Let every provider go by this script."""
        for name in MORE:
            self.provider.on(f"{PATH}-{name}", script)

    def send(self, data: bytes, key: Key | None = None, path: str = "/v1/chat/completions") -> bytes:
        """Send a body with a key, or else these very bytes; the answer shows no credential, whatever it is."""
        self.asked += 1
        whole = data if key is None else request_bytes("POST", path, data, key=key.secret)
        with self.gateway.client() as client:
            client.send(whole)
            client.sock.shutdown(1)
            told = client.rest()
        found = {name for name in self.canaries.found_in(told) if name in CREDENTIALS or name.startswith("the key")}
        assert not found, (found, told)
        return told

    def admin(self, method: str, path: str, body: str | None = None, **headers: str) -> "Page":
        """Ask the admin port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.admin, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Page(answer.status, answer.read(), (answer.headers["Set-Cookie"] or "").partition(";")[0])
        finally:
            connection.close()


def echoing(status: int) -> Callable[[Exchange], None]:
    """Fail, and quote the whole request: its body, and its head with the credentials."""

    def script(exchange: Exchange) -> None:
        quoted = exchange.head.decode() + exchange.body.decode()
        exchange.answer({"error": {"message": quoted, "type": SAID, "param": PROMPT, "code": PROMPT}}, status)

    return script


def echoing_late(exchange: Exchange) -> None:
    """The same in a stream, after its first words."""
    quoted = exchange.head.decode() + exchange.body.decode()
    exchange.send(chunked(role(), word(ANSWERED), event({"error": {"message": quoted, "code": PROMPT}})))


def reasoning(exchange: Exchange) -> None:
    """Say everything that an answer may hold, as it is asked."""
    thought, arguments = repeated(THOUGHT), json.dumps({"x": repeated(TOOL)})
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    if exchange.json.get("stream"):
        said = [chunk({"reasoning": thought}), word(f"<think>{thought}</think>"), word(ANSWERED)]
        said += [chunk({"tool_calls": [call]}), finish("tool_calls")]
        exchange.send(chunked(role(), *said, DONE))
    else:
        exchange.answer(completion(ANSWERED, None, reasoning=thought, tool_calls=[call]))


def identified(exchange: Exchange) -> None:
    """Say what was asked where an answer has its id, its model and its reason for ending."""
    told = completion(ANSWERED, usage(3, 2), SAID) | {"id": f"{PROMPT} {PROMPT}", "created": SAID}
    told["choices"][0]["finish_reason"] = PROMPT
    told["usage"][PROMPT] = SAID
    if exchange.json.get("stream"):
        begun = told | {"choices": [{"index": 0, "delta": {"content": ANSWERED}}]}
        exchange.send(chunked(event(begun), finish(PROMPT), DONE))
    else:
        exchange.answer(told)


SCRIPTS: dict[str, Callable[[Exchange], object]] = {
    "an answer": reasoning,
    "ids and names": identified,
    "nothing": sending(),
    **{
        f"a {status} with the request in it": echoing(status)
        for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)
    },
    "an error in a stream": echoing_late,
    "another protocol": sending(b"HELLO " + SAID.encode() + PROVIDER_KEY.encode() + b"\r\n\r\n"),
    "a head with it": sending(f"HTTP/1.1 200 {SAID}\r\nX: {PROMPT} {PROVIDER_KEY}\x01\r\n\r\n".encode()),
    "HTML": sending(answer_of(f"<p>{SAID} {PROVIDER_KEY}".encode())),
    "a redirect": sending(answer_of(b"", f"Location: http://{PROMPT}/{PROVIDER_KEY}", status="307 X")),
    "half an answer": sending(answer_of(ANSWERED.encode(), length=9999), then="close"),
    "half a stream": sending(chunked(role(), word(ANSWERED), end=b""), then="reset"),
    "events that are no JSON": sending(chunked(role(), word(ANSWERED), *[f"data: {SAID}\n\n".encode()] * 4, DONE)),
    "usage that is none": streaming(
        [*story([ANSWERED], None)[:-1], event({"choices": [], "usage": {SAID: SAID}}), DONE]
    ),
}


def go_through_requests(watched: Watched) -> None:
    """Ask in every way, of a provider that answers in every way."""
    key = watched.key("of all requests")
    for script in SCRIPTS.values():
        watched.on(script)
        for model in MORE if script is reasoning else ("same", "tagged"):
            for body in bodies(model).values():
                watched.send(body, key)
        answer = json.dumps({"model": "same", "input": SAID, "instructions": PROMPT, "stream": script is reasoning})
        for model in ("same", "native"):
            watched.send(answer.replace("same", model).encode(), key, "/v1/responses")
    watched.on(reasoning)
    for wrong in WRONG.values():
        for path in ("/v1/chat/completions", "/v1/responses"):
            watched.send(json.dumps(wrong).encode(), key, path)
    for data in JSON_OF_NO_USE:
        watched.send(data, key)
    for data in odd_requests(key.secret):
        watched.send(data)


def go_through_refusals(watched: Watched) -> None:
    """Ask by accounts and keys that may not."""
    body = bodies()["messages"]
    refused = [
        watched.key("without a budget", budget_nusd=1, budget_per="total"),
        watched.key("without a token", tokens_per_day=1),
        watched.key("that ran out", expires_ms=1_000),
        watched.key("of other models", models=frozenset({"native"})),
        watched.key("of a disabled account"),
    ]
    refused[-1].change(disabled=True)
    for key in refused:
        assert b" 200 " not in watched.send(body, key)[:20]


def go_through_departures(watched: Watched) -> None:
    """Leave in the middle of an answer, from a provider that is let go and from one that is read on."""
    key = watched.key("of those who leave")
    watched.on(lambda exchange: (exchange.send(chunked(role(), word(ANSWERED), end=b"")), exchange.wait_gone()))
    for model in ("same", "drained"):
        with watched.gateway.client() as client:
            client.send(request_bytes("POST", "/v1/chat/completions", bodies(model)["a stream"], key=key.secret))
            client.head()
            client.body_until(SPOKEN.encode())
    key.settled()


def go_through_pages(watched: Watched) -> None:
    """Do on the admin port what operators do, and what those do who are none."""
    good = {"Authorization": f"Bearer {ADMIN}", "Content_Type": "application/json"}

    def api(method: str, path: str, **body: object) -> dict[str, str]:
        answer = watched.admin(method, f"{API}/{path}", json.dumps(body) if body else None, **good)
        assert answer.status < 300, answer.text
        return json.loads(answer.text)

    api("POST", "accounts", account="canary")
    secret = api("POST", "accounts/canary/keys", name="first")["key"]
    token = api("POST", "accounts/canary/tokens", name="first")["token"]
    watched.canaries.add("the key of a page", secret.rpartition("-")[2])
    watched.canaries.add("a person's token", token.rpartition("-")[2])
    for wrong in (WRONG_TOKEN, f"{token}x", secret):
        watched.admin("GET", f"{API}/accounts", Authorization=f"Bearer {wrong}")
        watched.admin("GET", f"{API}/accounts?token={wrong}&q={PROMPT}")
        watched.admin("POST", f"{API}/accounts", wrong, **good)
        watched.admin("POST", "/sign-in", urlencode({"token": wrong}), Content_Type="application/x-www-form-urlencoded")
    cookie = word_of_form = ""
    for signing in (token, ADMIN):  # the last one signed in plays
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        signed = watched.admin("POST", "/sign-in", urlencode({"token": signing}), **form)
        assert signed.status == 303, signed.text
        cookie = signed.cookie
        watched.canaries.add(f"a session of {signing[:3]}", cookie.partition("=")[2])
        page = watched.admin("GET", "/accounts/canary", Cookie=cookie)
        word_of_form = re.search(r'name="form_word" value="([0-9a-f]+)"', page.text.decode())[1]
        watched.canaries.add(f"a form's word of {signing[:3]}", word_of_form)
    watched.on(reasoning)
    for model, key, status in (("same", secret, 200), ("none", secret, 200), ("same", f"{secret}x", 400)):
        play = {"key": key, "model": model, "endpoint": "chat", "text": SAID, "form_word": word_of_form}
        played = watched.admin("POST", "/playground", urlencode(play), Cookie=cookie, **form)
        assert played.status == status, played.text
    for path in PAGES:
        shown = watched.admin("GET", path, Cookie=cookie)
        assert shown.status == 200, (path, shown.text)
        watched.shown[path] = shown.text.replace(word_of_form.encode(), b"")  # it belongs into each form
    for path in DOCUMENTS:
        shown = watched.admin("GET", f"{API}/{path}", **good)
        assert shown.status == 200, (path, shown.text)
        watched.shown[f"{API}/{path}"] = shown.text


def go_through_reloads(watched: Watched) -> None:
    """Offer files that are wrong, each in a way that could quote a credential."""
    gateway = watched.gateway
    written = gateway.config.read_text("utf-8")
    for wrong in (
        written.replace('"${PROVIDER_KEY}"', f"[{BAD_FILE}]"),
        written.replace('"${PROVIDER_KEY}"', f'"{BAD_FILE}'),
        written.replace('api_key: "${PROVIDER_KEY}"', f'api_keys: "{BAD_FILE}"'),
        written.replace("http://", f"http://user:{BAD_FILE}@", 1),
        written.replace("http://", f"http://user:{BAD_FILE}@[", 1),
        written.replace("headers: {", f"headers: {{X-Bad: [{BAD_FILE}], ", 1),
        written + f'store: "redis://:{BAD_FILE}@127.0.0.1:x/0"\n',
        written + f'ledger: "postgresql://user:{BAD_FILE}@127.0.0.1:x/db"\n',
        written + f'password: "{BAD_FILE}"\n',
    ):
        begin = gateway.log.stat().st_size
        gateway.config.write_text(wrong, "utf-8")
        gateway.signal(signal.SIGHUP)
        gateway.wait_logged("configuration not reloaded: the old one stays in force", after=begin)
    begin = gateway.log.stat().st_size
    gateway.config.write_text(written, "utf-8")
    gateway.signal(signal.SIGHUP)
    gateway.wait_logged("configuration reloaded", after=begin)


def go_through_deaths(watched: Watched) -> None:
    """Kill a worker, then all, in the middle of answers; start again, and stop in the middle of one."""
    gateway, key = watched.gateway, watched.key("of those who are cut")
    held = request_bytes("POST", "/v1/chat/completions", bodies()["a stream"], key=key.secret)
    watched.on(lambda exchange: (exchange.send(chunked(role(), word(ANSWERED), end=b"")), exchange.wait_gone()))

    def begun() -> RawClient:
        client = gateway.client()
        client.send(held)
        client.head()
        client.body_until(SPOKEN.encode())
        return client

    with begun() as client:
        (worker,) = gateway.workers()
        os.kill(worker, signal.SIGABRT)
        client.rest()
    assert eventually(lambda: gateway.workers() not in ([], [worker]) and gateway.ready())
    with begun() as client:
        for pid in (gateway.process.pid, *gateway.workers()):
            os.kill(pid, signal.SIGKILL)
        gateway.ended()
        client.rest()
    gateway.start()
    assert eventually(gateway.ready)
    everything = [gateway.process.pid, *children(gateway.process.pid)]
    watched.shown["the command lines"] = b" ".join(command_line(pid) for pid in everything)
    with begun() as client:
        gateway.signal(signal.SIGTERM)
        gateway.signal(signal.SIGTERM)
        client.rest()
        assert gateway.ended() == 0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A gateway that has seen all of it and has ended."""
    watched = Watched(tmp_path_factory.mktemp("canary"))
    gateway = watched.gateway
    try:
        gateway.start()
        go_through_requests(watched)
        go_through_refusals(watched)
        go_through_departures(watched)
        go_through_pages(watched)
        go_through_reloads(watched)
        for path in ("/metrics", "/healthz", "/readyz"):
            watched.shown[path] = gateway.admin_page(path)[1]
        go_through_deaths(watched)
        yield watched
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()
        watched.provider.close()


def test_no_file_that_a_gateway_leaves_holds_what_was_said_or_a_credential(watched: Watched):
    assert not watched.canaries.found(watched.gateway)


def test_nothing_that_an_operator_is_shown_holds_what_was_said_or_a_credential(watched: Watched):
    assert len(watched.shown) == len(PAGES) + len(DOCUMENTS) + 4
    assert not {where: found for where, text in watched.shown.items() if (found := watched.canaries.found_in(text))}


def test_all_of_it_has_happened(watched: Watched):
    """What did not happen would be found nowhere either."""
    ended = [line for line in watched.gateway.lines() if line["event"] == "request"]
    assert len(ended) >= watched.asked - 30, "but for what is no HTTP, every request has its line"
    assert {line["ending"] for line in ended} >= {
        *("complete", "refused", "client_gone", "upstream_error", "upstream_truncated"),
    }
    assert {line["status"] for line in ended} >= {200, 400, 401, 403, 404, 415, 429, 502}
    assert sum(line["event"] == "a worker died and is replaced" for line in watched.gateway.lines()) == 1
    asked = b"".join(exchange.body for exchange in watched.provider.asked())
    for said in (SAID, TOOL):
        assert asked.count(said.encode()) > 50


def test_what_is_looked_for_would_be_found(watched: Watched, tmp_path: Path):
    for form in (SAID, SAID[30:60], SAID.upper(), SAID.encode().hex(), json.dumps(SAID)):
        assert watched.canaries.found_in(form.encode()) == ["the prompt"]
    for name, secret in CREDENTIALS.items():
        assert watched.canaries.found_in(f"Bearer {secret},".encode()) == [name]
