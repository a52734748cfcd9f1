"""The admin API over HTTP: what the commands do, who may do it, and what it says when it will not."""

from typing import Any

import msgspec
import pytest
from dashboard_bench import ADMIN_TOKEN, NOW_MS, Bench, row

from proxy.accounts import account_of_key, digest_of_key
from proxy.dashboard.api import ROUTES
from proxy.dashboard.attempts import PER_ADDRESS, WINDOW
from proxy.ledger import export

DAY = 86_400_000
OTHERS = {("GET", "/export"), ("POST", "/keys/{key_id}/try")}
"""Operations whose answer is no document."""


async def test_an_account_is_made_shown_and_listed(bench: Bench):
    made = await bench.api("POST", "/accounts", json={"account": "acme", "plan": "unlimited"})
    assert (made.status, made.document["account"], made.document["plan"]) == (201, "acme", "unlimited")
    assert (await bench.api("GET", "/accounts/acme")).document == made.document
    assert (await bench.api("GET", "/accounts")).document == {"accounts": [made.document]}


async def test_plan_limits_and_budget_are_changed_and_go_back_to_the_plan(bench: Bench):
    await bench.account()
    own = {"requests_per_minute": 5, "tokens_per_day": "none", "budget_usd": "0.01", "budget_per": "day"}
    changed = await bench.api("PATCH", "/accounts/acme", json=own)
    assert changed.document["overrides"] == {
        "requests_per_minute": 5, "tokens_per_day": None, "budget_usd": "0.01", "budget_per": "day",
    }  # fmt: skip
    back = await bench.api("PATCH", "/accounts/acme", json={"requests_per_minute": "plan", "budget_usd": "plan"})
    assert back.document["overrides"] == {"tokens_per_day": None}
    assert back.document["budget"]["limit_usd"] == "25"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests_per_minute": 0},
        {"requests_per_minute": "many"},
        {"requests_per_minute": 1.5},
        {"budget_usd": "1.00"},
        {"budget_per": "day"},
        {"budget_usd": "-1", "budget_per": "day"},
        {"budget_usd": "0", "budget_per": "day"},
        {"unknown": 1},
        [],
    ],
)
async def test_a_change_that_cannot_be_is_refused_and_changes_nothing(bench: Bench, body: Any):
    await bench.account()
    before = (await bench.api("GET", "/accounts/acme")).document
    refused = await bench.api("PATCH", "/accounts/acme", json=body)
    assert refused.status == 400
    assert refused.document["error"]["type"] == "invalid_request_error"
    assert (await bench.api("GET", "/accounts/acme")).document == before


async def test_an_account_is_disabled_and_enabled(bench: Bench):
    await bench.account()
    assert (await bench.api("POST", "/accounts/acme/disable")).document["disabled"] is True
    assert (await bench.api("POST", "/accounts/acme/enable")).document["disabled"] is False


async def test_a_key_is_told_once_and_listed_by_its_hint(bench: Bench):
    await bench.account()
    made = await bench.key(name="laptop", expires="90d", models=["short"])
    assert account_of_key(made["key"]) == "acme"
    assert digest_of_key(made["key"]) in bench.records.by_digest
    assert made["models"] == ["lab/model"]
    listed = await bench.api("GET", "/accounts/acme/keys")
    assert [key["key_id"] for key in listed.document["keys"]] == [made["key_id"]]
    assert made["key"] not in listed.text


async def test_a_key_is_replaced_with_a_grace_and_revoked(bench: Bench):
    await bench.account()
    old = await bench.key()
    new = await bench.api("POST", f"/keys/{old['key_id']}/rotate", json={"grace": "1h"})
    assert new.status == 201
    assert new.document["key"] != old["key"]
    assert bench.records.by_digest[digest_of_key(old["key"])].expires_ms == NOW_MS + 3_600_000
    revoked = await bench.api("POST", f"/keys/{new.document['key_id']}/revoke")
    assert revoked.document["revoked"] is not None
    again = await bench.api("POST", f"/keys/{new.document['key_id']}/rotate")
    assert again.status == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/accounts/nobody", None, 404),
        ("POST", "/accounts", {"account": "acme"}, 409),
        ("POST", "/accounts", {"account": "No Name"}, 400),
        ("POST", "/accounts", {"account": "other", "plan": "no-plan"}, 404),
        ("POST", "/accounts", {}, 400),
        ("POST", "/accounts/nobody/keys", {}, 404),
        ("POST", "/accounts/acme/keys", {"expires": "soon"}, 400),
        ("POST", "/accounts/acme/keys", {"models": ["no/model"]}, 404),
        ("POST", "/accounts/acme/keys", {"name": "two\nlines"}, 400),
        ("POST", "/accounts/acme/tokens", {"expires": "0s"}, 400),
        ("POST", "/accounts/nobody/tokens", {}, 404),
        ("POST", "/keys/key_none/revoke", None, 404),
        ("POST", "/tokens/dt_none/revoke", None, 404),
        ("GET", "/requests/req_none", None, 404),
        ("GET", "/requests/%00", None, 404),
        ("GET", "/usage?by=colour", None, 400),
        ("GET", "/usage?by=day,day", None, 400),
        ("GET", "/usage?since=yesterday", None, 400),
        ("GET", "/usage?colour=red", None, 400),
        ("GET", "/usage?account=a&account=b", None, 400),
        ("GET", "/requests?before=nowhere", None, 400),
        ("GET", "/audit?before=nowhere", None, 400),
        ("GET", "/requests?count=0", None, 400),
        ("GET", "/requests?model=%00", None, 400),
        ("GET", "/export?format=pdf", None, 400),
        ("GET", "/export", None, 400),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/accounts", None, 405),
    ],
)
async def test_every_refusal_is_an_error_with_a_message(bench: Bench, method: str, path: str, body: Any, status: int):
    await bench.account()
    refused = await bench.api(method, path, json=body)
    assert refused.status == status, refused.text
    assert refused.document["error"]["message"]


async def test_a_body_that_is_no_json_is_refused(bench: Bench):
    for body in (b"{", b"\xff", b'{"account": "a"} x'):
        assert (await bench.api("POST", "/accounts", data=body)).status == 400


async def test_a_key_given_as_its_own_id_is_never_repeated(bench: Bench):
    await bench.account()
    made = await bench.key()
    refused = await bench.api("POST", f"/keys/{made['key']}/revoke")
    assert refused.status == 400
    assert made["key"] not in refused.text
    assert made["key"] not in (await bench.api("GET", "/audit")).text


class TestTheLedger:
    async def test_sums_are_those_of_the_rows(self, bench: Bench):
        await bench.rows(row(1), row(2), row(3, account="other"))
        total = (await bench.api("GET", "/usage")).document
        assert [line["requests"] for line in total["rows"]] == [2, 1]
        assert total["total"]["prompt_tokens"] == 3 * 1_200
        mine = (await bench.api("GET", "/usage?account=other&by=account,day&since=7d")).document
        assert [(line["account"], line["requests"]) for line in mine["rows"]] == [("other", 1)]

    async def test_requests_come_page_by_page_each_once_the_latest_first(self, bench: Bench):
        same_moment = [row(number, started_at=NOW_MS - 5_000) for number in range(5)]
        await bench.rows(*same_moment, *(row(number) for number in range(5, 9)))
        seen, path = [], "/requests?count=2"
        while path:
            page = (await bench.api("GET", path)).document
            seen += [(line["started_at"], line["request_id"]) for line in page["requests"]]
            path = page["next"] and f"/requests?count=2&before={page['next']}"
        assert len(seen) == len(set(seen)) == 9
        assert seen == sorted(seen, reverse=True)

    async def test_requests_are_chosen_by_every_word(self, bench: Bench):
        await bench.rows(
            row(1), row(2, account="other"), row(3, key_id="key_2"), row(4, model="m"), row(5, ending="cut"),
            row(6, started_at=NOW_MS - 9 * DAY),
        )  # fmt: skip

        async def found(query: str) -> list[str]:
            page = await bench.api("GET", f"/requests?{query}")
            return [line["request_id"][-1] for line in page.document["requests"]]

        assert await found("account=other") == ["2"]
        assert await found("key_id=key_2") == ["3"]
        assert await found("model=m") == ["4"]
        assert await found("ending=cut") == ["5"]
        assert await found("until=8d") == ["6"]
        assert await found("since=8d&account=acme&ending=complete&model=test/model&key_id=key_1") == ["1"]

    async def test_one_request_has_its_tokens_prices_cost_and_metadata(self, bench: Bench):
        await bench.rows(row(1, metadata='{"user":"u"}'))
        shown = (await bench.api("GET", f"/requests/{row(1).request_id}")).document
        assert (shown["cost_pusd"], shown["cost_usd"], shown["metadata"]) == (840_000_000, "0.00084", {"user": "u"})

    async def test_rows_are_written_out_in_every_format(self, bench: Bench):
        await bench.rows(row(1), row(2, account="other"))
        csv = await bench.api("GET", "/export?format=csv")
        assert csv.headers["Content-Type"].startswith("text/csv")
        assert csv.text.count("\n") == 3
        assert (await bench.api("GET", "/export?format=jsonl&account=other")).text.count("\n") == 1
        assert (await bench.api("GET", "/export?format=parquet")).text.startswith("PAR1")

    async def test_a_format_whose_library_is_missing_is_refused_with_the_remedy(self, bench: Bench, monkeypatch):
        monkeypatch.setattr(export, "_PARQUET_NEEDS", "a_package_that_nobody_has")
        refused = await bench.api("GET", "/export?format=parquet")
        assert refused.status == 503
        assert "requirements-parquet.txt" in refused.text

    async def test_verify_says_what_holds_and_what_could_not_be_compared(self, bench: Bench):
        await bench.rows(row(1))
        found = (await bench.api("POST", "/ledger/verify")).document
        assert found["rows"] == 1
        assert [check["ok"] for check in found["checks"]] == [True] * 5 + [False]  # there is no store to compare with


class TestWhoMayDoWhat:
    async def test_nobody_gets_in_without_a_token(self, bench: Bench):
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {ADMIN_TOKEN}"}):
            refused = await bench.ask("GET", "/admin/api/accounts", headers=headers)
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")

    async def test_every_operation_needs_one(self, bench: Bench):
        for method, path in {(route.method, route.path) for route in ROUTES} | OTHERS:
            asked = await bench.ask(method, f"/admin/api{path.replace('{', '').replace('}', '')}")
            assert asked.status == 401, path

    async def test_a_browser_s_cookie_opens_no_door_of_the_api(self, bench: Bench):
        await bench.sign_in()
        assert (await bench.ask("GET", "/admin/api/accounts", headers={"Cookie": bench.cookie})).status == 401

    async def test_wrong_tokens_are_tried_only_so_often(self, bench: Bench):
        for _ in range(PER_ADDRESS):
            assert (await bench.api("GET", "/accounts", token="wrong")).status == 401
        limited = await bench.api("GET", "/accounts")
        assert (limited.status, limited.headers["Retry-After"]) == (429, "60")
        bench.monotonic.pass_by(WINDOW)
        assert (await bench.api("GET", "/accounts")).status == 200

    async def test_a_dashboard_token_sees_its_account_alone(self, bench: Bench):
        await bench.account("acme")
        await bench.account("other")
        await bench.rows(row(1), row(2, account="other"))
        token = await bench.token("acme")
        accounts = await bench.api("GET", "/accounts", token=token)
        assert [account["account"] for account in accounts.document["accounts"]] == ["acme"]
        assert (await bench.api("GET", "/usage", token=token)).document["total"]["requests"] == 1
        requests = (await bench.api("GET", "/requests", token=token)).document["requests"]
        assert [request["account"] for request in requests] == ["acme"]
        assert (await bench.api("GET", "/export?format=csv", token=token)).text.count("\n") == 2
        entries = (await bench.api("GET", "/audit", token=token)).document["entries"]
        assert {entry["account"] for entry in entries} == {"acme"}

    async def test_where_a_request_ran_is_told_to_the_operator_alone(self, bench: Bench):
        await bench.account()
        await bench.rows(row(1, provider="secret-one", upstream_model="secret-two", upstream_id="secret-three"))
        token = await bench.token()
        await bench.sign_in(token)
        for path in ("/requests", f"/requests/{row(1).request_id}", "/export?format=csv", "/export?format=jsonl"):
            assert "secret-three" in (await bench.api("GET", path)).text
            theirs = (await bench.api("GET", path, token=token)).text
            assert row(1).request_id in theirs
            assert "secret" not in theirs
        for path in (f"/usage/{row(1).request_id}", "/usage/export?format=csv"):
            assert "secret" not in (await bench.page(path)).text

    async def test_what_is_another_s_is_told_like_what_is_not_there(self, bench: Bench):
        await bench.account("acme")
        await bench.account("other")
        foreign = await bench.key("other")
        await bench.rows(row(2, account="other"))
        token = await bench.token("acme")
        for method, theirs, nobodys in (
            ("GET", "/accounts/other", "/accounts/nobody"),
            ("GET", "/accounts/other/keys", "/accounts/nobody/keys"),
            ("POST", "/accounts/other/keys", "/accounts/nobody/keys"),
            ("GET", "/usage?account=other", "/usage?account=nobody"),
            ("GET", "/requests?account=other", "/requests?account=nobody"),
            ("GET", "/export?format=csv&account=other", "/export?format=csv&account=nobody"),
            ("GET", "/audit?account=other", "/audit?account=nobody"),
            ("GET", f"/requests/{row(2).request_id}", f"/requests/{row(3).request_id}"),
            ("GET", f"/keys/{foreign['key_id']}", "/keys/key_0000000000000000"),
            ("POST", f"/keys/{foreign['key_id']}/try", "/keys/key_0000000000000000/try"),
            ("POST", f"/keys/{foreign['key_id']}/revoke", "/keys/key_0000000000000000/revoke"),
            ("POST", f"/keys/{foreign['key_id']}/rotate", "/keys/key_0000000000000000/rotate"),
        ):
            body = {"request": {}} if theirs.endswith("/try") else None
            one, other = [await bench.api(method, path, token=token, json=body) for path in (theirs, nobodys)]
            assert (one.status, other.status) == (404, 404)
            words = [reply.text.replace("other", "X").replace("nobody", "X") for reply in (one, other)]
            words = [text.replace(foreign["key_id"], "K").replace("key_0000000000000000", "K") for text in words]
            assert words[0] == words[1], theirs
        assert bench.records.by_digest[digest_of_key(foreign["key"])].revoked_ms is None

    async def test_an_account_s_people_manage_their_own_keys(self, bench: Bench):
        await bench.account()
        token = await bench.token()
        made = await bench.api("POST", "/accounts/acme/keys", token=token, json={"name": "mine"})
        assert made.status == 201
        revoked = await bench.api("POST", f"/keys/{made.document['key_id']}/revoke", token=token)
        assert revoked.document["revoked"] is not None

    async def test_only_operators_change_what_is_not_theirs_to_change(self, bench: Bench):
        await bench.account()
        token = await bench.token()
        for method, path, body in (
            ("POST", "/accounts", {"account": "more"}),
            ("PATCH", "/accounts/acme", {"requests_per_minute": "none"}),
            ("POST", "/accounts/acme/disable", None),
            ("POST", "/accounts/acme/enable", None),
            ("GET", "/accounts/acme/tokens", None),
            ("POST", "/accounts/acme/tokens", {}),
            ("POST", "/tokens/dt_none/revoke", None),
            ("POST", "/ledger/verify", None),
            ("GET", "/plans", None),
            ("GET", "/system", None),
            ("GET", "/routes", None),
            ("GET", "/configuration", None),
        ):
            assert (await bench.api(method, path, token=token, json=body)).status == 403, path

    async def test_a_dashboard_token_that_was_revoked_or_is_over_is_no_longer_good(self, bench: Bench):
        await bench.account()
        short, long = await bench.token(expires="1h"), await bench.token()
        bench.clock.pass_by(3_600)
        assert (await bench.api("GET", "/accounts", token=short)).status == 401
        assert (await bench.api("GET", "/accounts", token=long)).status == 200
        listed = (await bench.api("GET", "/accounts/acme/tokens")).document["tokens"]
        assert (await bench.api("POST", f"/tokens/{listed[1]['token_id']}/revoke")).status == 200
        assert (await bench.api("GET", "/accounts", token=long)).status == 401


class TestTheAuditLog:
    async def test_every_change_is_written_down_with_who_what_when_and_what_came_of_it(self, bench: Bench):
        await bench.account()
        bench.clock.pass_by(1)
        key = await bench.key(name="laptop")
        bench.clock.pass_by(1)
        await bench.api("POST", "/accounts", json={"account": "acme"})
        entries = (await bench.api("GET", "/audit")).document["entries"]
        told = [(entry["action"], entry["subject"], entry["outcome"].partition(":")[0]) for entry in entries]
        assert told == [
            ("create account", "acme", "refused"),
            ("create key", key["key_id"], "done"),
            ("create account", "acme", "done"),
        ]
        assert {entry["person"] for entry in entries} == {"operator"}
        assert entries[1]["at"] > entries[2]["at"]
        assert key["key"] not in str(entries)

    async def test_a_change_that_cannot_be_written_down_is_not_made(self, bench: Bench, tmp_path):
        await bench.account()
        bench.ledger.close()
        bench.ledger._ledger = None
        bench.ledger.__init__("postgresql://127.0.0.1:1/nothing?connect_timeout=2", tmp_path)
        refused = await bench.api("POST", "/accounts/acme/keys", json={})
        assert (refused.status, refused.document["error"]["type"]) == (503, "service_unavailable")
        assert not bench.records.by_digest

    async def test_a_store_that_is_away_is_told_and_written_down(self, bench: Bench):
        await bench.account()
        bench.records.fail_on = {"create_key"}
        refused = await bench.api("POST", "/accounts/acme/keys", json={})
        assert refused.status == 503
        assert (await bench.api("GET", "/audit")).document["entries"][0]["outcome"].startswith("failed: the store")


class TestTheDocument:
    async def test_it_is_served_to_anybody_and_names_every_operation(self, bench: Bench):
        served = (await bench.ask("GET", "/admin/api/openapi.json")).document
        assert served["openapi"].startswith("3.1")
        named = {(method.upper(), path) for path, item in served["paths"].items() for method in item}
        assert named == {(route.method, route.path) for route in ROUTES} | OTHERS

    async def test_answers_have_the_form_that_it_tells(self, bench: Bench):
        await bench.account()
        key = await bench.key()
        await bench.token()
        await bench.rows(row(1))
        paths = {
            "account": "acme", "key_id": key["key_id"], "request_id": row(1).request_id, "token_id": "dt_none",
        }  # fmt: skip
        seen = 0
        for route in ROUTES:
            answer = await bench.api(route.method, route.path.format(**paths))
            if answer.status == route.status:
                msgspec.convert(answer.document, route.answer, strict=True)
                fields = {field.name for field in msgspec.structs.fields(route.answer)}
                assert set(answer.document) <= fields, route.path
                seen += 1
        assert seen >= len(ROUTES) - 4  # a second account, a change, a revoked key to replace, a token to revoke


async def test_models_and_plans_and_the_state_are_told(bench: Bench, reasons: list[str]):
    models = (await bench.api("GET", "/models")).document["models"]
    assert [model["id"] for model in models] == ["lab/model"]
    plans = (await bench.api("GET", "/plans")).document
    assert (plans["default_plan"], plans["plans"]["standard"]["requests_per_minute"]) == ("standard", 600)
    reasons.append("the store is away")
    state = (await bench.api("GET", "/system")).document
    assert (state["ready"], state["reasons"]) == (False, ["the store is away"])
