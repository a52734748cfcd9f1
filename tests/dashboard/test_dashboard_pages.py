"""The pages without any script: what they show, what their forms do, and what they never let through."""

import gzip
import re
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser

import pytest
from dashboard_bench import NOW_MS, Bench, row

from proxy.accounts import digest_of_key
from proxy.dashboard.assets import _FOLDER

DAY = 86_400_000
MOMENTS = ("09:30:00.000", "09:30:00.012", "09:30:00.312")
"""NOW_MS, 12 ms later and 300 ms after that."""
MARKUP = "<script>alert(1)</script>\"'&{{7*7}}"
PAGES = (
    *("/", "/?window=hour", "/?window=month", "/accounts", "/accounts/acme", "/keys?account=acme", "/usage", "/audit"),
    *("/models", "/limits", "/system", "/playground"),
)


def secret_of(text: str, pattern: str) -> str:
    found = re.findall(pattern, text)
    assert found
    return str(found[0])


class TestEveryPage:
    @pytest.mark.parametrize("path", PAGES)
    async def test_it_lets_browsers_run_and_load_nothing_but_ours(self, operator: Bench, path: str):
        page = await operator.page(path)
        assert page.status == 200
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<script(?![^>]* src=)|\son\w+=|style=|javascript:", page.text)
        assert not re.findall(r'(?:src|href|action|hx-get)="(?!/|#|data:,")', page.text)

    @pytest.mark.parametrize("path", PAGES)
    async def test_it_has_one_heading_landmarks_and_labels(self, operator: Bench, path: str):
        page = Outline()
        page.feed((await operator.page(path)).text)
        assert page.count["h1"] == page.count["main"] == page.count["title"] == 1
        assert page.open_elements == []
        assert page.unlabelled == []
        assert len(page.ids) == len(set(page.ids))

    @pytest.mark.parametrize("path", ["/nothing", "/accounts/nobody", "/keys/key_none", "/usage/req_none"])
    async def test_what_is_not_there_is_said(self, operator: Bench, path: str):
        assert (await operator.page(path)).status == 404


class Outline(HTMLParser):
    """The elements of a page: which are open at its end, and which inputs nobody names."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open_elements: list[str] = []
        self.unlabelled: list[str] = []
        self.ids: list[str] = []
        self.count: dict[str, int] = dict.fromkeys(("h1", "main", "title"), 0)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in self.count:
            self.count[tag] += 1
        if "id" in given:
            self.ids.append(given["id"])
        if (
            tag in ("input", "select", "textarea")
            and given.get("type") != "hidden"
            and "label" not in self.open_elements
        ):
            self.unlabelled.append(str(given))
        if tag not in self.VOID:
            self.open_elements.append(tag)

    def handle_endtag(self, tag):
        assert self.open_elements.pop() == tag


class TestAccounts:
    async def test_one_is_made_with_a_form(self, operator: Bench):
        made = await operator.send("/accounts", {"account": "more", "plan": "unlimited"})
        assert (made.status, made.headers["Location"]) == (303, "/accounts/more?done=made")
        page = await operator.page("/accounts/more?done=made")
        assert "Made." in page.words
        assert "unlimited" in page.words

    async def test_a_name_that_cannot_be_is_told_and_stays_in_the_form(self, operator: Bench):
        refused = await operator.send("/accounts", {"account": "No Name"})
        assert refused.status == 400
        assert "cannot name an account" in refused.alert
        assert 'value="No Name"' in refused.text

    async def test_limits_are_shown_with_what_is_used_held_and_left(self, operator: Bench):
        operator.limits.used, operator.limits.spent_nusd, operator.limits.held_nusd = 7, 2_000_000_000, 500_000_000
        words = (await operator.page("/accounts/acme")).words
        assert "requests per minute 600 7 593" in words
        assert "budget per month $25 $2 $0.5 $22.5" in words

    async def test_plan_limits_and_budget_are_changed_with_a_form(self, operator: Bench):
        form = {"plan": "unlimited", "requests_per_minute": "1,000", "budget_usd": "0.50", "budget_per": "day"}
        assert (await operator.send("/accounts/acme/limits", form)).status == 303
        account = operator.records.by_name["acme"]
        assert (account.plan, account.overrides) == (
            "unlimited", {"requests_per_minute": 1_000, "budget_nusd": 500_000_000, "budget_per": "day"},
        )  # fmt: skip
        form = {"plan": "(default)", "requests_per_minute": "plan", "budget_usd": "none"}
        assert (await operator.send("/accounts/acme/limits", form)).status == 303
        account = operator.records.by_name["acme"]
        assert (account.plan, account.overrides) == (None, {"budget_nusd": "none"})

    @pytest.mark.parametrize(
        ("form", "why"),
        [
            ({}, "nothing to change"),
            ({"requests_per_minute": "0"}, "requests per minute"),
            ({"tokens_per_day": "many"}, "tokens per day"),
            ({"budget_usd": "1"}, "give both together"),
            ({"budget_per": "day"}, "give both together"),
            ({"budget_usd": "1e3", "budget_per": "day"}, "decimal string"),
            ({"budget_usd": "1", "budget_per": "week"}, "week"),
            ({"plan": "no-plan"}, "no plan"),
        ],
    )
    async def test_a_change_that_cannot_be_is_told_and_not_made(self, operator: Bench, form: dict, why: str):
        before = operator.records.by_name["acme"]
        refused = await operator.send("/accounts/acme/limits", form)
        assert refused.status in (400, 404)
        assert why in refused.alert
        assert operator.records.by_name["acme"] == before

    async def test_one_is_disabled_and_enabled(self, operator: Bench):
        await operator.send("/accounts/acme/disable")
        assert operator.records.by_name["acme"].disabled
        assert "Enable acme" in (await operator.page("/accounts/acme")).words
        await operator.send("/accounts/acme/enable")
        assert not operator.records.by_name["acme"].disabled

    async def test_a_dashboard_token_is_shown_once_and_lets_somebody_in_until_it_is_revoked(self, operator: Bench):
        made = await operator.send("/accounts/acme/tokens", {"name": "Ann", "expires": "90d"})
        token = secret_of(made.text, r"aion-dash-acme-\w{32}")
        assert (await operator.api("GET", "/accounts/acme", token=token)).status == 200
        page = await operator.page("/accounts/acme")
        assert token not in page.text
        await operator.send(secret_of(page.text, r"/tokens/dt_\w+/revoke"))
        assert (await operator.api("GET", "/accounts/acme", token=token)).status == 401
        assert "revoked" in (await operator.page("/accounts/acme")).words


class TestKeys:
    async def test_one_is_made_shown_once_and_ready_to_paste(self, operator: Bench):
        made = await operator.send("/accounts/acme/keys", {"name": "laptop", "expires": "90d", "models": ["lab/model"]})
        key = secret_of(made.text, r"sk-aion-acme-\w{38}")
        record = operator.records.by_digest[digest_of_key(key)]
        assert (record.name, record.models, record.expires_ms) == ("laptop", {"lab/model"}, NOW_MS + 90 * DAY)
        assert "curl http://127.0.0.1:1/v1/chat/completions" in unescape(made.text)
        assert f"-H 'Authorization: Bearer {key}'" in unescape(made.text)
        assert made.headers["Cache-Control"] == "no-store"
        page = await operator.page("/keys?account=acme")
        assert key not in page.text
        assert record.hint in page.words

    async def test_a_form_with_a_mistake_keeps_what_was_typed(self, operator: Bench):
        refused = await operator.send("/accounts/acme/keys", {"name": "laptop", "expires": "soon"})
        assert refused.status == 400
        assert "good for" in refused.alert
        assert 'value="laptop"' in refused.text
        assert 'value="soon"' in refused.text
        assert not operator.records.by_digest

    async def test_one_is_replaced_and_the_old_one_has_its_grace(self, operator: Bench):
        old = await operator.key(name="ci")
        page = await operator.send(f"/keys/{old['key_id']}/rotate", {"grace": "2h"})
        new = secret_of(page.text, r"sk-aion-acme-\w{38}")
        assert new != old["key"]
        assert operator.records.by_digest[digest_of_key(old["key"])].expires_ms == NOW_MS + 7_200_000
        assert "good until" in page.words

    async def test_one_is_revoked_only_by_somebody_who_says_that_they_mean_it(self, operator: Bench):
        key = await operator.key()
        unsure = await operator.send(f"/keys/{key['key_id']}/revoke")
        assert (unsure.status, "tick the box" in unsure.alert) == (400, True)
        assert (await operator.send(f"/keys/{key['key_id']}/revoke", {"sure": "yes"})).status == 303
        assert operator.records.by_digest[digest_of_key(key["key"])].revoked_ms == NOW_MS
        page = await operator.page(f"/keys/{key['key_id']}")
        assert "revoked" in page.words
        assert "rotate" not in page.text

    async def test_a_bad_grace_is_told(self, operator: Bench):
        key = await operator.key()
        refused = await operator.send(f"/keys/{key['key_id']}/rotate", {"grace": "a while"})
        assert (refused.status, "stays good for" in refused.alert) == (400, True)


class TestUsage:
    async def test_a_request_is_listed_and_has_a_page_of_its_own(self, operator: Bench):
        await operator.rows(row(1, metadata='{"user": "u"}', usage_source="estimated"))
        assert row(1).request_id in (await operator.page("/usage")).words
        words = (await operator.page(f"/usage/{row(1).request_id}")).words
        for told in ("345 ms after its arrival", "12 ms later", "1,200", "0.0000002", "$0.00084", '{"user": "u"}'):
            assert told in words
        assert "this gateway's estimate" in words

    async def test_it_is_filtered_and_goes_on_on_another_page(self, operator: Bench):
        await operator.rows(*(row(number) for number in range(60)), row(61, ending="cut"))
        assert (await operator.page("/usage?ending=cut")).text.count("/usage/req_") == 1
        first = await operator.page("/usage?ending=complete&since=1h")
        older = unescape(secret_of(first.text, r'href="(/usage\?[^"]*before=[^"]*)"'))
        second = await operator.page(older)
        assert (first.text.count("/usage/req_"), second.text.count("/usage/req_")) == (50, 10)

    async def test_a_moment_that_is_none_is_told(self, operator: Bench):
        refused = await operator.page("/usage?since=soon")
        assert (refused.status, "since" in refused.alert) == (400, True)

    async def test_rows_are_downloaded_as_a_file(self, operator: Bench):
        await operator.rows(row(1), row(2, account="other"))
        link = unescape(secret_of((await operator.page("/usage?account=acme")).text, r'href="(/usage/export[^"]*csv)"'))
        file = await operator.page(link)
        assert "attachment" in file.headers["Content-Disposition"]
        assert file.text.count("\n") == 2

    async def test_a_file_holds_what_the_page_is_filtered_by(self, operator: Bench):
        await operator.rows(
            row(1), row(2, account="other"), row(3, key_id="key_2"), row(4, model="m"), row(5, ending="cut"),
            row(6, started_at=NOW_MS - 2 * DAY),
        )  # fmt: skip
        for query, numbers in (
            ("account=other", "2"), ("key_id=key_2", "3"), ("model=m", "4"), ("ending=cut", "5"), ("until=1d", "6"),
            ("account=acme&key_id=key_1&model=test%2Fmodel&ending=complete&since=1d", "1"),
        ):  # fmt: skip
            page = await operator.page(f"/usage?{query}")
            link = unescape(secret_of(page.text, r'href="(/usage/export[^"]*csv)"'))
            for file in (await operator.page(link), await operator.api("GET", f"/export?format=csv&{query}")):
                assert re.findall(r"^req_0*(\d)", file.text, re.MULTILINE) == list(numbers), query

    async def test_a_request_s_cost_is_taken_apart_exactly(self, operator: Bench):
        await operator.rows(row(1))
        words = (await operator.page(f"/usage/{row(1).request_id}")).words
        assert "prompt, not cached 200 0.0000008 0.00016" in words
        assert "prompt, cached 1,000 0.0000002 0.0002" in words
        assert "completion 300 0.0000016 0.00048" in words
        assert "of the completion, reasoning 20 Cost: $0.00084" in words

    async def test_a_request_s_timeline_has_every_moment(self, operator: Bench):
        await operator.rows(row(1, started_at=NOW_MS, ttft_ms=12, duration_ms=312), row(2, ttft_ms=None))
        words = (await operator.page(f"/usage/{row(1).request_id}")).words
        begun, first, ended = (f"2026-11-23 {time} UTC" for time in MOMENTS)
        assert f"{begun}: it arrived" in words
        assert f"{first}, 12 ms later: the first byte" in words
        assert f"{ended}, 312 ms after its arrival: the end, at 1,000 completion tokens a second" in words
        assert "first byte" not in (await operator.page(f"/usage/{row(2).request_id}")).words

    async def test_the_overview_adds_up_the_chosen_time(self, operator: Bench):
        await operator.rows(
            row(1), row(2, ending="upstream_error", status=502, ttft_ms=None), row(3, started_at=NOW_MS - 2 * DAY),
            row(4, started_at=NOW_MS - 40 * DAY), row(5, account="other", ttft_ms=40),
        )  # fmt: skip
        assert "Requests 3 Failed 1 of the latest 3 Tokens 4,500" in (await operator.page("/?window=hour")).words
        assert "Requests 3" in (await operator.page("/")).words
        month = (await operator.page("/?window=month")).words
        assert "Requests 4 Failed 1 of the latest 4" in month
        assert "Cost $0.00336" in month
        assert "12 ms median" in month

    async def test_every_minute_hour_or_day_is_a_point_of_the_chart(self, operator: Bench):
        await operator.rows(row(1))
        for window, points in (("hour", 60), ("day", 24), ("month", 30)):
            page = await operator.page(f"/?window={window}")
            assert page.text.count("data-at=") == 2 * points
        assert 'data-value="1"' in page.text

    async def test_the_overview_tells_how_the_requests_of_each_model_and_account_went(self, operator: Bench):
        await operator.rows(
            row(1), row(2, model="m", ending="upstream_error", ttft_ms=None), row(3, account="other", ttft_ms=40)
        )
        words = (await operator.page("/")).words
        assert "test/model 2 0 2,400 600 0.00168 40 ms" in words
        assert "m 1 1 1,200 300 0.00084 –" in words
        assert "acme 2 1 2,400 600 0.00168 12 ms" in words
        told = (await operator.api("GET", "/overview?window=hour")).document
        assert [(line["model"], line["failed"], line["ttft_ms"]) for line in told["by_model"]] == [
            ("test/model", 0, 40), ("m", 1, None),
        ]  # fmt: skip
        assert (told["total"]["requests"], sum(point["requests"] for point in told["points"])) == (3, 3)


class TestPeopleOfAnAccount:
    async def test_they_see_their_own_and_nothing_else(self, person: Bench):
        await person.key("other", name="secret-name-of-others")
        await person.rows(row(1), row(2, account="other"))
        for path in ("/", "/accounts", "/accounts/acme", "/keys", "/usage", "/audit"):
            page = await person.page(path)
            assert page.status == 200
            assert "other" not in page.words.replace("Older", ""), path
        assert row(1).request_id in (await person.page("/usage")).words

    async def test_what_is_others_is_not_there(self, person: Bench):
        key = await person.key("other")
        await person.rows(row(2, account="other"))
        for path in (
            *("/accounts/other", "/keys/" + key["key_id"], f"/usage/{row(2).request_id}"),
            *("/usage?account=other", "/usage/export?format=csv&account=other"),
        ):
            assert (await person.page(path)).status == 404, path
        for path in (f"/keys/{key['key_id']}/revoke", f"/keys/{key['key_id']}/rotate", "/accounts/other/keys"):
            refused = await person.send(path, {"sure": "yes", "grace": "0s"})
            assert refused.status == 404, path
        assert person.records.by_digest[digest_of_key(key["key"])].revoked_ms is None
        assert len(person.records.by_digest) == 1

    async def test_they_make_and_revoke_their_own_keys(self, person: Bench):
        made = await person.send("/accounts/acme/keys", {"name": "mine"})
        key = secret_of(made.text, r"sk-aion-acme-\w{38}")
        key_id = person.records.by_digest[digest_of_key(key)].key_id
        assert (await person.send(f"/keys/{key_id}/revoke", {"sure": "yes"})).status == 303

    async def test_they_change_no_limits_and_let_nobody_in(self, person: Bench):
        assert "Change plan" not in (await person.page("/accounts/acme")).words
        for path in (
            *("/accounts", "/accounts/acme/limits", "/accounts/acme/disable", "/accounts/acme/enable"),
            *("/accounts/acme/tokens", "/tokens/dt_1/revoke"),
        ):
            refused = await person.send(path, {"account": "new", "requests_per_minute": "none"})
            assert refused.status == 403, path
        assert not person.records.by_name["acme"].overrides


class TestTextOfOthers:
    async def test_no_name_becomes_markup(self, operator: Bench):
        await operator.key(name=MARKUP)
        await operator.token(name=MARKUP)
        await operator.send("/accounts", {"account": MARKUP})
        await operator.rows(
            row(1, metadata='{"a":"<script>alert(1)</script>"}', model=MARKUP, upstream_model=MARKUP, key_id=MARKUP),
        )
        paths = ("/", "/accounts", "/accounts/acme", "/keys?account=acme", "/usage", "/audit")
        for path in (
            *paths,
            f"/usage/{row(1).request_id}",
            "/usage?key_id=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        ):
            page = await operator.page(path)
            assert page.status == 200, path
            assert "<script>alert" not in page.text
            assert "49" not in page.words.replace("49 ", "")
        refused = await operator.send("/accounts", {"account": MARKUP})
        assert "<script>alert" not in refused.text


class TestWithoutTheLedger:
    async def test_pages_that_need_it_say_so_and_the_others_work(self, operator: Bench, tmp_path):
        operator.ledger.close()
        operator.ledger.__init__("postgresql://127.0.0.1:1/nothing?connect_timeout=2", tmp_path)
        assert (await operator.page("/accounts")).status == 200
        away = await operator.page("/")
        assert (away.status, "the ledger cannot be used" in away.alert) == (503, True)

    async def test_a_store_that_is_away_is_said(self, operator: Bench):
        operator.records.fail_on = {"accounts"}
        away = await operator.page("/accounts")
        assert (away.status, "The store cannot be asked" in away.alert) == (503, True)


class TestAssets:
    async def test_a_page_s_files_are_kept_for_ever_and_change_their_url_with_their_content(self, bench: Bench):
        page = await bench.page("/sign-in")
        urls = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
        assert len(urls) == 4
        for url in urls:
            file = await bench.ask("GET", url)
            assert file.status == 200
            assert "immutable" in file.headers["Cache-Control"]
            assert sha256(file.text.encode()).hexdigest().startswith(url.split("/")[2])
        assert (await bench.ask("GET", urls[0].replace(urls[0].split("/")[2], "0" * 16))).status == 404
        assert (await bench.ask("GET", "/static/0/..%2Fsite.py")).status == 404

    def test_everything_together_is_light(self):
        files = [path for path in _FOLDER.iterdir() if path.suffix in (".js", ".css")]
        assert sum(len(gzip.compress(path.read_bytes())) for path in files) < 50_000

    def test_files_of_others_are_those_that_their_authors_published(self):
        told = (_FOLDER / "LICENSES.txt").read_text()
        for path in _FOLDER.glob("*.min.js"):
            assert path.name in told
            assert sha256(path.read_bytes()).hexdigest() in told
