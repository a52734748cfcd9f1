"""Each page as an operator uses it, over both kinds of store and ledger: what it shows, and what its forms do."""

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from installation import Installation
from playwright.sync_api import Page, expect
from visitor import Visitor, new_key_of


@pytest.fixture
def operator(each_installation: Installation, visit: Callable[..., Visitor]) -> Visitor:
    return visit(each_installation).sign_in()


def told(page: Page, name: str) -> str:
    """What a list of facts says of one of them."""
    return page.get_by_role("definition").and_(page.locator(f"dt:text-is('{name}') + dd")).inner_text()


class TestOverview:
    def test_it_says_what_was_used_by_model_and_account(self, operator: Visitor):
        made = operator.installation
        account = made.new_account()
        key = made.new_key(account)
        for model in ("lab/plain", "lab/second", "lab/second"):
            assert made.ask(key, model=model).status == 200
        made.recorded(account, 3)
        page = operator.open("/?window=hour")
        assert int(told(page, "Requests").replace(",", "")) >= 3
        assert float(told(page, "Cost").lstrip("$")) > 0
        by_account = page.get_by_role("region", name="Use by account")
        expect(by_account.get_by_role("row").filter(has=page.get_by_text(account, exact=True))).to_contain_text("3,600")
        models = page.get_by_role("region", name="Use by model")
        expect(models.get_by_text("lab/second")).to_be_visible()

    @pytest.mark.parametrize("window", ["day", "month"])
    def test_its_charts_are_drawn_and_stand_as_tables_beside(self, operator: Visitor, window: str):
        page = operator.open("/")
        page.get_by_role("list", name="Period").get_by_role("link", name=f"last {window}").click()
        expect(page.get_by_role("heading", name=f"Last {window}")).to_be_visible()
        for name in ("Requests", "Cost in USD"):
            figure = page.get_by_role("figure", name=re.compile(f"^{name}"))
            canvas = figure.locator("canvas")
            operator.eventually(lambda canvas=canvas: canvas.evaluate("canvas => canvas.clientWidth") > 250)
            figure.get_by_text(f"{name} as a table").click()
            expect(figure.get_by_role("columnheader", name=name)).to_be_visible()

    def test_its_figures_move_by_themselves(self, operator: Visitor):
        made = operator.installation
        account = made.new_account()
        key = made.new_key(account)
        page = operator.open("/?window=hour")
        page.evaluate("window.sameDocument = true")
        by_account = page.get_by_role("region", name="Use by account").get_by_role("row")
        for number in (1, 2):
            assert made.ask(key).status == 200
            line = by_account.filter(has=page.get_by_text(account, exact=True))
            expect(line.get_by_role("cell", name=str(number), exact=True)).to_be_visible()
        assert page.evaluate("window.sameDocument") is True


class TestAccounts:
    def test_the_list_has_each_with_its_plan_its_state_and_what_it_spent(self, operator: Visitor):
        account = operator.installation.new_account(budget_usd="1.50", budget_per="day")
        page = operator.follow("Accounts")
        line = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=account, exact=True))
        for text in ("standard (the default)", "enabled", "$1.5 a day"):
            expect(line).to_contain_text(text)
        line.get_by_role("link", name=f"keys of {account}").click()
        expect(page.get_by_role("heading", level=1, name=f"Keys of {account}")).to_be_visible()

    def test_a_name_that_is_taken_is_told_and_stays_in_the_form(self, operator: Visitor):
        account = operator.installation.new_account()
        page = operator.follow("Accounts")
        page.get_by_label("Name").fill(account)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("alert")).to_contain_text(account)
        expect(page.get_by_label("Name")).to_have_value(account)

    def test_limits_and_plan_are_changed_and_hold_from_the_next_request_on(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account())
        page = operator.open(f"/accounts/{key.account}")
        page.get_by_label("Plan").select_option("unlimited")
        page.get_by_label("Requests per minute").fill("1")
        page.get_by_role("button", name="Change", exact=True).click()
        expect(page.get_by_role("status").filter(has_text="Changed")).to_be_visible()
        assert told(page, "Plan") == "unlimited"
        assert [made.ask(key).status for _ in range(2)] == [200, 429]
        page.reload()
        expect(page.get_by_role("row", name=re.compile("requests per minute"))).to_contain_text("1")

    def test_what_is_used_held_and_left_is_shown(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account(tokens_per_day=100_000))
        assert made.ask(key).status == 200
        row = made.recorded(key.account)[0]
        page = operator.open(f"/accounts/{key.account}")
        used = row["prompt_tokens"] + row["completion_tokens"]
        line = page.get_by_role("row", name=re.compile("tokens per day"))
        expect(line.get_by_role("cell").nth(0)).to_have_text(re.compile("100,?000"))
        expect(line.get_by_role("cell").nth(1)).to_have_text(re.compile(f"{used:,}|{used}"))

    def test_an_account_is_disabled_and_enabled(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account())
        page = operator.open(f"/accounts/{key.account}")
        page.get_by_role("button", name=f"Disable {key.account}").click()
        expect(page.get_by_role("status").filter(has_text="disabled")).to_be_visible()
        assert made.ask(key).status == 403
        page.get_by_role("button", name=f"Enable {key.account}").click()
        expect(page.get_by_role("status").filter(has_text="enabled")).to_be_visible()
        assert made.ask(key).status == 200

    def test_a_dashboard_token_is_shown_once_and_revoked(self, operator: Visitor, visit):
        account = operator.installation.new_account()
        page = operator.open(f"/accounts/{account}")
        page.get_by_label("For whom").fill("their people")
        page.get_by_role("button", name="Make a dashboard token").click()
        secret = page.get_by_role("region", name="The new dashboard token")
        token = re.search(rf"aion-dash-{account}-\w+", secret.inner_text())[0]
        theirs = visit(operator.installation).sign_in(token)
        page.goto(f"/accounts/{account}")
        assert token not in page.content()
        page.get_by_role("button", name=re.compile("^Revoke dt_")).click()
        expect(page.get_by_role("row", name=re.compile("their people"))).to_contain_text("revoked")
        theirs.page.goto("/usage")
        expect(theirs.page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()


class TestKeys:
    def test_one_is_made_with_a_name_an_end_and_models_and_shown_once(self, operator: Visitor):
        made, page = operator.installation, operator.page
        account = made.new_account()
        operator.follow("Keys")
        page.get_by_label("Account").select_option(account)
        page.get_by_role("button", name="Show its keys").click()
        page.get_by_label("Name").fill("the laptop")
        page.get_by_label(re.compile("^Good for")).fill("90d")
        page.get_by_label(re.compile("^Models")).select_option(["lab/second"])
        page.get_by_role("button", name="Make the key").click()
        key = new_key_of(page)
        line = page.get_by_role("row", name=re.compile("the laptop"))
        expect(line).to_contain_text("good until")
        expect(line).to_contain_text("lab/second")
        assert made.ask(key, model="lab/second").status == 200
        assert made.ask(key, model="lab/plain").status == 403
        page.goto(f"/keys?account={account}")
        expect(page.get_by_role("row", name=re.compile("the laptop"))).to_be_visible()
        assert key not in page.content()

    def test_one_is_replaced_with_a_grace(self, operator: Visitor):
        made = operator.installation
        old = made.new_key(made.new_account(), name="old")
        page = operator.open(f"/keys/{old.key_id}")
        page.get_by_label(re.compile("^This key stays good for")).fill("1h")
        page.get_by_role("button", name="Replace the key").click()
        new = new_key_of(page)
        assert [made.ask(key).status for key in (new, old)] == [200, 200]
        page.goto(f"/keys/{old.key_id}")
        assert told(page, "State").startswith("good until")
        page.get_by_label(re.compile("^This key stays good for")).fill("0s")
        page.get_by_role("button", name="Replace the key").click()
        assert [made.ask(key).status for key in (new_key_of(page), old)] == [200, 401]

    def test_revoking_says_that_it_is_for_good_and_asks_for_a_tick(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account())
        page = operator.open(f"/keys/{key.key_id}")
        expect(page.get_by_text("cannot be brought back")).to_be_visible()
        page.get_by_label(re.compile("cannot be undone")).check()
        page.get_by_role("button", name="Revoke the key for good").click()
        expect(page.get_by_role("status").filter(has_text="Revoked.")).to_be_visible()
        assert made.ask(key).status == 401
        page.goto(f"/keys/{key.key_id}")
        assert told(page, "State").startswith("revoked")
        expect(page.get_by_role("button", name="Revoke the key for good")).to_have_count(0)


class TestUsage:
    @pytest.fixture
    def account(self, each_installation: Installation) -> str:
        """An account with a good request of each of two keys and models, and one that failed."""
        made = each_installation
        account = made.new_account()
        first, second = made.new_key(account), made.new_key(account)
        assert made.ask(first, metadata={"order": "4711"}).status == 200
        assert made.ask(second, model="lab/second").status == 200
        assert made.ask(second, "fail: 400").status == 400
        made.recorded(account, 3)
        return account

    def test_requests_are_filtered_by_each_of_its_fields(self, operator: Visitor, account: str):
        rows = operator.installation.recorded(account)
        page = operator.follow("Usage")
        page.get_by_label("Account").select_option(account)
        lines = page.get_by_role("region", name="Requests").get_by_role("row").filter(has=page.get_by_role("rowheader"))

        def shown(number: int) -> None:
            page.get_by_role("button", name="Show").click()
            expect(lines).to_have_count(number)

        shown(len(rows))
        page.get_by_label("Model").select_option("lab/second")
        shown(sum(row["model"] == "lab/second" for row in rows))
        page.get_by_label("Model").select_option("")
        page.get_by_label("Ending").select_option("complete")
        shown(sum(row["ending"] == "complete" for row in rows))
        page.get_by_label("Ending").select_option("")
        page.get_by_label("Key id").fill(rows[0]["key_id"])
        shown(sum(row["key_id"] == rows[0]["key_id"] for row in rows))
        page.get_by_label("Key id").fill("")
        page.get_by_label(re.compile("^Since")).fill("1h")
        shown(len(rows))
        page.get_by_label("Until").fill("2020-01-31")
        page.get_by_label(re.compile("^Since")).fill("")
        shown(0)
        expect(page.get_by_text("No request matches.")).to_be_visible()

    def test_a_time_that_is_none_is_told(self, operator: Visitor, account: str):
        page = operator.open(f"/usage?account={account}&since=sometime", 400)
        expect(page.get_by_role("alert")).to_contain_text("since")

    def test_a_request_tells_its_time_tokens_prices_cost_and_metadata(self, operator: Visitor, account: str):
        (row,) = [one for one in operator.installation.recorded(account) if one["metadata"]]
        page = operator.open(f"/usage?account={account}")
        page.get_by_role("link", name=row["request_id"]).click()
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
        expect(page.get_by_text("Counted by: the provider")).to_be_visible()
        tokens = page.get_by_role("region", name="Tokens and cost")
        for kind, number, price in (("cached", "1,000", "0.0000002"), ("completion", "5", "0.0000016")):
            named = page.get_by_role("rowheader", name=re.compile(rf"^(of these |prompt, )?{kind}$"))
            line = tokens.get_by_role("row").filter(has=named)
            expect(line).to_contain_text(number)
            expect(line).to_contain_text(price)
        expect(tokens.get_by_role("cell", name="1,200", exact=True)).to_be_visible()
        expect(page.get_by_text(f"Cost: ${row['cost_usd']}")).to_be_visible()
        expect(page.get_by_text("4711")).to_be_visible()

    def test_the_rows_are_a_file_of_comma_separated_values(self, operator: Visitor, account: str):
        page = operator.open(f"/usage?account={account}")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename == "usage.csv"
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
        recorded = operator.installation.recorded(account)
        assert {row["request_id"] for row in rows} == {row["request_id"] for row in recorded}


class TestModels:
    def test_each_has_its_prices_its_routes_and_how_its_provider_is(self, operator: Visitor):
        made = operator.installation
        assert made.ask(made.new_key(made.new_account())).status == 200
        page = operator.follow("Models")
        line = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="lab/plain"))
        for text in ("A plain model", "enabled", "0.8", "0.2", "1.6", "32,768", "main", "plain-upstream"):
            expect(line).to_contain_text(text)
        page.reload()
        expect(line.get_by_text("up", exact=True)).to_be_visible()


class TestLimits:
    def test_who_is_near_a_limit_and_what_was_refused(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account(budget_usd="0.0001", budget_per="total"))
        assert made.ask(key, max_tokens=1).status == 200
        assert 429 in [made.ask(key, max_tokens=4_000).status for _ in range(2)]
        made.recorded(key.account)
        page = operator.follow("Limits")
        near = page.get_by_role("region", name="Near a limit")
        expect(near.get_by_role("row").filter(has=page.get_by_role("link", name=key.account))).to_contain_text("budget")
        refusals = page.get_by_role("region", name="Refusals")

        def counted() -> bool:
            page.reload()
            return refusals.get_by_role("row", name=re.compile("^budget")).count() > 0

        operator.eventually(counted)


class TestPlayground:
    @pytest.mark.parametrize("endpoint", ["chat", "responses"])
    def test_it_sends_a_request_and_shows_what_came_beside_the_answer_and_its_cost(
        self, operator: Visitor, endpoint: str
    ):
        made = operator.installation
        key = made.new_key(made.new_account())
        page = operator.follow("Playground")
        page.get_by_label(re.compile("^Key")).fill(key.secret)
        page.get_by_label("Model").select_option("lab/plain")
        page.get_by_label("Endpoint").select_option(endpoint)
        page.get_by_label("Text").fill("seven green bottles")
        page.get_by_role("button", name="Send it").click()
        expect(page.get_by_role("region", name="Answer")).to_contain_text("seven green bottles")
        raw = page.get_by_role("region", name="As it came")
        expect(raw).to_contain_text("data: ")
        expect(raw).to_contain_text("[DONE]" if endpoint == "chat" else "response.completed")
        cost = made.recorded(key.account)[0]["cost_usd"]
        expect(page.get_by_text(f"${cost}")).to_be_visible()
        page.get_by_role("link", name="its row in the ledger").click()
        expect(page.get_by_role("heading", name="Timeline")).to_be_visible()

    def test_a_refusal_is_shown_as_it_came(self, operator: Visitor):
        made = operator.installation
        key = made.new_key(made.new_account(), models=["lab/second"])
        page = operator.follow("Playground")
        page.get_by_label(re.compile("^Key")).fill(key.secret)
        page.get_by_label("Model").select_option("lab/plain")
        page.get_by_role("button", name="Send it").click()
        expect(page.get_by_text(re.compile("HTTP 403"))).to_be_visible()
        expect(page.get_by_role("region", name="As it came")).to_contain_text("model_not_allowed")


class TestSystem:
    def test_it_says_how_the_gateway_is_and_hides_its_secrets(self, operator: Visitor):
        page = operator.follow("System")
        assert told(page, "Ready") == "yes"
        expect(page.get_by_role("row", name=re.compile(r"providers\.main\.base_url"))).to_be_visible()
        assert "prov-key-of-the-browser-tests" not in page.content()


class TestAuditLog:
    def test_it_has_what_was_done_and_what_was_refused(self, operator: Visitor):
        account = operator.installation.new_account()
        page = operator.open(f"/accounts/{account}")
        page.get_by_label("Plan").select_option("unlimited")
        page.get_by_role("button", name="Change", exact=True).click()
        page.goto("/accounts")
        page.get_by_label("Name").fill(account)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("alert")).to_be_visible()
        operator.follow("Audit log")
        lines = page.get_by_role("row").filter(has_text=account)
        expect(lines.filter(has_text="change account").filter(has_text="unlimited")).to_contain_text("done")
        expect(lines.filter(has_text="create account").filter(has_text="refused")).to_have_count(1)


def test_a_session_ends_with_signing_out(operator: Visitor):
    page = operator.open("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()
    page.go_back()
    page.goto("/accounts")
    expect(page.get_by_role("heading", level=1, name="Sign in")).to_be_visible()


def test_a_wrong_token_is_told_what_a_good_one_is(each_installation: Installation, visit):
    page = visit(each_installation).open("/sign-in")
    page.get_by_label("Token").fill("not a good token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("AION_PROXY_ADMIN_TOKEN")
