"""Signing in with a browser: cookies that nobody else can make, send or keep, and forms that only our pages send."""

from io import BytesIO

import pytest
from dashboard_bench import ADMIN_TOKEN, Bench

from proxy.admin.people import OPERATOR, person_of_token
from proxy.dashboard.attempts import FROM_ALL, PER_ADDRESS, WINDOW, Attempts
from proxy.dashboard.sessions import LIFETIME, Session, Sessions
from proxy.dashboard.token_file import FILE, BadAdminToken, admin_token
from specimens import Clock

PAGES = ("/", "/accounts", "/accounts/acme", "/keys", "/keys/key_1", "/usage", "/usage/req_1", "/audit", "/live")


async def test_the_operator_signs_in_and_out(bench: Bench):
    reply = await bench.sign_in()
    assert (reply.status, reply.headers["Location"]) == (303, "/")
    assert (await bench.page("/")).status == 200
    out = await bench.send("/sign-out")
    assert (out.status, out.headers["Location"]) == (303, "/sign-in")
    assert (await bench.page("/")).headers["Location"] == "/sign-in"  # although the cookie was kept


async def test_the_cookie_is_for_the_browser_alone(bench: Bench):
    cookie = (await bench.sign_in()).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert ADMIN_TOKEN not in cookie
    behind_tls = await bench.ask(
        "POST", "/sign-in", data={"token": ADMIN_TOKEN}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" in behind_tls.headers["Set-Cookie"]


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_shown_to_who_is_not_signed_in(bench: Bench, path: str):
    reply = await bench.page(path)
    assert (reply.status, reply.headers["Location"]) == (303, "/sign-in")
    inside = await bench.page(path, **{"HX-Request": "true"})
    assert inside.headers["HX-Redirect"] == "/sign-in"


async def test_a_wrong_token_is_told_and_only_so_many_are_tried(bench: Bench):
    for _ in range(PER_ADDRESS):
        refused = await bench.sign_in("wrong")
        assert refused.status == 401
        assert "Set-Cookie" not in refused.headers
    assert "not good" in refused.alert
    limited = await bench.sign_in()
    assert (limited.status, limited.headers["Retry-After"]) == (429, "60")
    bench.monotonic.pass_by(WINDOW)
    assert (await bench.sign_in()).status == 303


async def test_who_signed_in_is_written_down(bench: Bench):
    await bench.sign_in()
    assert "operator sign in" in (await bench.page("/audit")).words


async def test_nobody_is_signed_in_from_another_site(bench: Bench):
    for headers in ({"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        refused = await bench.ask("POST", "/sign-in", data={"token": ADMIN_TOKEN}, headers=headers)
        assert refused.status == 403
        assert "Set-Cookie" not in refused.headers
    same = await bench.ask("POST", "/sign-in", data={"token": ADMIN_TOKEN}, headers={"Origin": bench.base})
    assert same.status == 303


async def test_a_session_ends_by_itself(bench: Bench):
    await bench.sign_in()
    bench.clock.pass_by(LIFETIME - 1)
    assert (await bench.page("/")).status == 200
    bench.clock.pass_by(1)
    assert (await bench.page("/")).status == 303


async def test_who_has_a_dashboard_token_is_in_until_it_is_revoked(bench: Bench):
    await bench.account()
    token = await bench.token()
    assert (await bench.sign_in(token)).status == 303
    assert (await bench.page("/accounts/acme")).status == 200
    listed = (await bench.api("GET", "/accounts/acme/tokens")).document["tokens"]
    await bench.api("POST", f"/tokens/{listed[0]['token_id']}/revoke")
    assert (await bench.page("/accounts/acme")).status == 303


@pytest.mark.parametrize("word", ["", "0" * 64, "\udcff", None])
async def test_a_form_without_its_word_does_nothing(bench: Bench, word: str | None):
    await bench.sign_in()
    form = {"account": "acme"} | ({} if word is None else {"form_word": word.encode("utf-8", "replace").decode()})
    refused = await bench.ask("POST", "/accounts", data=form, headers={"Cookie": bench.cookie})
    assert (refused.status, bench.records.by_name) == (403, {})


async def test_a_form_of_another_session_does_nothing(bench: Bench):
    await bench.sign_in()
    others = bench.form_word
    await bench.sign_in()
    assert bench.form_word != others
    bench.form_word = others
    assert (await bench.send("/accounts", {"account": "acme"})).status == 403


async def test_a_form_from_another_site_does_nothing_even_with_its_word(bench: Bench):
    await bench.sign_in()
    for headers in ({"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "same-site"}):
        assert (await bench.send("/accounts", {"account": "acme"}, **headers)).status == 403
    assert not bench.records.by_name


async def test_a_form_that_is_none_is_refused(bench: Bench):
    await bench.sign_in()
    headers = {"Cookie": bench.cookie, "Content-Type": "application/x-www-form-urlencoded; charset=nonsense"}
    assert (await bench.ask("POST", "/accounts", data=b"a=b", headers=headers)).status == 400
    headers["Content-Type"] = "multipart/form-data"
    assert (await bench.ask("POST", "/accounts", data=b"a=b", headers=headers)).status in (400, 403)


class TestSessions:
    def test_a_cookie_is_read_back(self):
        session = Session(person_of_token("acme", "dt_1"), "nonce", 2_000)
        sessions = Sessions("the-admin-token")
        assert sessions.read(sessions.write(session), 1_000.0) == session

    def test_no_character_of_a_cookie_can_be_changed(self):
        sessions = Sessions("the-admin-token")
        cookie = sessions.write(Session(OPERATOR, "nonce", 2_000))
        for place, character in enumerate(cookie):
            changed = cookie[:place] + ("A" if character != "A" else "B") + cookie[place + 1 :]
            assert sessions.read(changed, 1_000.0) is None

    @pytest.mark.parametrize("cookie", ["", ".", "a.b", "é.é", "\udcff", "W10.", "=" * 50])
    def test_what_is_no_cookie_of_ours_is_none(self, cookie: str):
        assert Sessions("the-admin-token").read(cookie, 0.0) is None

    def test_another_admin_token_signs_everybody_out(self):
        cookie = Sessions("the-admin-token").write(Session(OPERATOR, "nonce", 2_000))
        assert Sessions("another-token").read(cookie, 1_000.0) is None

    def test_the_word_of_forms_does_not_make_a_cookie(self):
        sessions = Sessions("the-admin-token")
        session = Session(OPERATOR, "nonce", 2_000)
        body = sessions.write(session).partition(".")[0]
        assert sessions.read(f"{body}.{sessions.form_word(session)}", 1_000.0) is None

    def test_who_signed_out_is_forgotten_when_the_cookie_would_have_ended_anyway(self):
        sessions = Sessions("the-admin-token")
        sessions.sign_out(Session(OPERATOR, "one", 2_000), 1_000.0)
        sessions.sign_out(Session(OPERATOR, "two", 9_000), 3_000.0)
        assert sessions._signed_out == {"two": 9_000}


class TestAttempts:
    def test_one_address_does_not_shut_out_another(self):
        attempts = Attempts(Clock())
        for _ in range(PER_ADDRESS):
            assert attempts.wait("one") == 0
            attempts.failed("one")
        assert attempts.wait("one") == 60
        assert attempts.wait("two") == 0

    def test_many_addresses_together_are_limited_too(self):
        attempts = Attempts(Clock())
        for number in range(FROM_ALL):
            attempts.failed(f"address {number}")
        assert attempts.wait("another") == 60

    def test_it_may_be_tried_again_when_the_oldest_failure_is_a_minute_ago(self):
        clock = Clock()
        attempts = Attempts(clock)
        for _ in range(PER_ADDRESS):
            attempts.failed("one")
            clock.pass_by(1)
        assert attempts.wait("one") == 60 - PER_ADDRESS
        clock.pass_by(60 - PER_ADDRESS)
        assert attempts.wait("one") == 0

    def test_addresses_of_long_ago_are_forgotten(self, monkeypatch):
        monkeypatch.setattr("proxy.dashboard.attempts._MOST_ADDRESSES", 3)
        clock = Clock()
        attempts = Attempts(clock)
        for number in range(9):
            attempts.failed(f"address {number}")
            clock.pass_by(WINDOW)
        assert len(attempts._of) <= 3


class TestTheAdminToken:
    def test_it_is_made_once_and_is_for_this_user_alone(self, tmp_path):
        made = admin_token(None, tmp_path / "data", lambda size: b"\1" * size)
        assert made == admin_token(None, tmp_path / "data", lambda size: b"\2" * size)
        assert (tmp_path / "data" / FILE).stat().st_mode & 0o777 == 0o600

    def test_the_environment_goes_before_the_file(self, tmp_path):
        assert admin_token("from-the-environment", tmp_path, lambda size: b"") == "from-the-environment"
        assert not (tmp_path / FILE).exists()

    @pytest.mark.parametrize("bad", ["", "short", "with spaces in it", "wörterbuch-eintrag"])
    def test_one_that_guards_nothing_is_refused(self, tmp_path, bad: str):
        with pytest.raises(BadAdminToken, match="12 ASCII characters"):
            admin_token(bad, tmp_path, lambda size: b"")
        (tmp_path / FILE).write_text(bad)
        with pytest.raises(BadAdminToken, match="admin-token"):
            admin_token(None, tmp_path, lambda size: b"")

    def test_a_file_that_is_no_text_is_told(self, tmp_path):
        (tmp_path / FILE).write_bytes(b"\xff\xfe")
        with pytest.raises(BadAdminToken, match="not text"):
            admin_token(None, tmp_path, lambda size: b"")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"token=x", "application/x-www-form-urlencoded; charset=nope", 400),
        (b"token=\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"garbage", "multipart/form-data", 400),
        (b"token=" + b"x" * (2 << 20), "application/x-www-form-urlencoded", 413),
    ],
)
@pytest.mark.parametrize("path", ["/sign-in", "/accounts"])
async def test_a_form_that_cannot_be_read_is_told_on_a_page(
    operator: Bench, path: str, body: bytes, kind: str, status: int
):
    headers = {"Cookie": operator.cookie, "Content-Type": kind}
    reply = await operator.ask("POST", path, data=BytesIO(body), headers=headers)
    assert reply.status == status
    assert reply.alert.startswith("This form ")
