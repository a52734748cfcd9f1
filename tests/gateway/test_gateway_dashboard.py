"""The dashboard of a running gateway, from the first account to a revoked key, with requests in between."""

import re
import socket
import time
from html import unescape
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from gateway_process import Gateway, Key, eventually
from provider_scripts import usage, whole

TOKEN = "admin-token-of-this-test"


class Browser:
    """Somebody with a browser that has no scripts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""
        self.word = ""

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        headers = {"Cookie": self.cookie, "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({**(form or {}), "form_word": self.word}) if method == "POST" else None
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = unescape(answer.read().decode())
        self.cookie = (answer.headers["Set-Cookie"] or self.cookie).partition(";")[0]
        found = re.search(r'name="form_word" value="([0-9a-f]+)"', text)
        self.word = found[1] if found else self.word
        connection.close()
        if answer.status == 303:
            return self.ask("GET", answer.headers["Location"])
        return answer.status, text

    def open(self, path: str) -> str:
        status, text = self.ask("GET", path)
        assert status == 200, text
        return text

    def send(self, path: str, **form: str) -> str:
        status, text = self.ask("POST", path, form)
        assert status == 200, text
        return text


@pytest.fixture
def own_gateway(make_gateway, tmp_path):
    gateway: Gateway = make_gateway(tmp_path)
    gateway.environ["AION_PROXY_ADMIN_TOKEN"] = TOKEN
    gateway.start()
    return gateway


def test_somebody_makes_an_account_and_a_key_watches_it_sets_a_budget_and_revokes_it(own_gateway, provider):
    provider.on("main", whole("Hi.", usage(3, 1)))
    browser = Browser(own_gateway.admin)
    assert "Sign in" in browser.open("/")
    browser.send("/sign-in", token=TOKEN)
    browser.send("/accounts", account="acme", plan="")
    page = browser.send("/accounts/acme/keys", name="first")
    key = re.search(r"sk-aion-acme-\w{38}", page)[0]
    key_id = re.search(r"key_\w{16}", page)[0]
    assert f"http://127.0.0.1:{own_gateway.api}/v1/chat/completions" in page

    client = Key(own_gateway, "acme", key_id, key)
    assert client.ask().status == 200
    asked = time.monotonic()
    assert eventually(lambda: "/usage/req_" in browser.open("/usage"), within=2)
    assert time.monotonic() - asked < 2
    request = re.search(r"/usage/(req_\w+)", browser.open("/usage"))[1]
    assert "Timeline" in browser.open(f"/usage/{request}")
    assert "complete" in browser.open("/usage")

    played = browser.send("/playground", key=key, model="same", endpoint="chat", text="Hi.")
    assert "3 prompt and 1 completion tokens" in played
    browser.open(f"/playground?key_id={key_id}")
    chosen = browser.send("/playground", key_id=key_id, model="same", endpoint="chat", text="Hi.")
    row = browser.open(re.search(r"/usage/req_\w+", chosen)[0])
    assert f"/keys/{key_id}" in row

    browser.send("/accounts/acme/limits", budget_usd="0.000000001", budget_per="day")
    assert client.ask().status == 429
    browser.send("/accounts/acme/limits", budget_usd="none")
    assert client.ask().status == 200
    browser.send(f"/keys/{key_id}/revoke", sure="yes")
    assert client.ask().status == 401
    own_gateway.command("accounts", "disable", "acme")
    assert eventually(lambda: re.search(r"cli \(\w+\).*disable account", browser.open("/audit"), re.DOTALL))
    log = browser.open("/audit")
    for action in ("create account", "create key", "change account", "revoke key", "try key", "sign in"):
        assert action in log
    assert key not in log
    assert TOKEN not in own_gateway.log.read_text()
    assert key not in own_gateway.log.read_text()


def test_a_plan_that_is_reloaded_is_there_to_be_chosen(own_gateway):
    browser = Browser(own_gateway.admin)
    browser.send("/sign-in", token=TOKEN)
    own_gateway.config.write_text(own_gateway.config.read_text() + "plans: {fresh: {}}\ndefault_plan: fresh\n")
    assert eventually(lambda: "fresh" in browser.open("/accounts"))


def test_a_gateway_makes_its_admin_token_and_stops_with_a_page_open(make_gateway, tmp_path):
    gateway = make_gateway(tmp_path)
    gateway.start()
    token = (gateway.data_dir / "admin-token").read_text().strip()
    browser = Browser(gateway.admin)
    browser.send("/sign-in", token=token)
    live = HTTPConnection("127.0.0.1", gateway.admin, timeout=20)
    live.request("GET", "/live", headers={"Cookie": browser.cookie})
    assert live.getresponse().status == 200
    assert gateway.stop() == 0
    live.close()
    assert "Traceback" not in gateway.log.read_text()
    assert token not in gateway.log.read_text()


def test_a_gateway_with_an_admin_token_that_guards_nothing_does_not_start(make_gateway, tmp_path):
    gateway = make_gateway(tmp_path)
    gateway.environ["AION_PROXY_ADMIN_TOKEN"] = "short"
    with pytest.raises(AssertionError):
        gateway.start()
    assert gateway.ended() == 1
    assert "AION_PROXY_ADMIN_TOKEN holds no admin token" in gateway.log.read_text()


def test_a_header_that_is_none_is_refused_and_not_repeated_in_the_log(own_gateway):
    with socket.create_connection(("127.0.0.1", own_gateway.admin), timeout=20) as sock:
        sock.sendall(f"GET /admin/api/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\0\r\n\r\n".encode())
        assert b" 400 " in sock.recv(4096)
    assert TOKEN not in own_gateway.log.read_text()
    assert "Traceback" not in own_gateway.log.read_text()
