"""Without JavaScript everything is there but what moves: pages are tables, links and forms."""

import re
from collections.abc import Callable

import pytest
from installation import ADMIN_TOKEN, Installation
from playwright.sync_api import expect
from visitor import Visitor, new_key_of


@pytest.fixture
def operator(installation: Installation, visit: Callable[..., Visitor]) -> Visitor:
    visitor = visit(installation, java_script_enabled=False)
    visitor.page.goto("/")
    visitor.page.get_by_label("Token").fill(ADMIN_TOKEN)
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("heading", level=1, name="Overview")).to_be_visible()
    return visitor


def test_a_key_is_issued_used_looked_up_and_revoked(operator: Visitor):
    made, page = operator.installation, operator.page
    account = made.new_account()
    operator.follow("Keys")
    page.get_by_label("Account").select_option(account)
    page.get_by_role("button", name="Show its keys").click()
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Make the key").click()
    key = new_key_of(page)
    expect(page.get_by_role("button", name="Copy it")).to_have_count(0)  # it would do nothing
    assert made.ask(key).status == 200
    (row,) = made.recorded(account)
    operator.follow("Usage")
    page.get_by_label("Account").select_option(account)
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name=row["request_id"]).click()
    expect(page.get_by_text(f"Cost: ${row['cost_usd']}")).to_be_visible()
    page.goto(f"/keys?account={account}")
    page.get_by_role("link", name=re.compile("^key_")).click()
    page.get_by_label(re.compile("cannot be undone")).check()
    page.get_by_role("button", name="Revoke the key for good").click()
    expect(page.get_by_role("status").filter(has_text="Revoked.")).to_be_visible()
    assert made.ask(key).status == 401


def test_the_playground_answers(operator: Visitor):
    key = operator.installation.new_key(operator.installation.new_account())
    page = operator.follow("Playground")
    page.get_by_label(re.compile("^Key")).fill(key.secret)
    page.get_by_label("Text").fill("without a script")
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("region", name="Answer")).to_contain_text("without a script")
    expect(page.get_by_role("region", name="As it came")).to_contain_text("[DONE]")


def test_charts_are_tables(operator: Visitor):
    page = operator.open("/?window=day")
    page.get_by_text("Requests as a table").click()
    expect(page.get_by_role("columnheader", name="Requests").last).to_be_visible()


def test_the_newest_row_is_there_after_a_reload(operator: Visitor):
    made = operator.installation
    key = made.new_key(made.new_account())
    page = operator.open(f"/usage?account={key.account}")
    expect(page.get_by_text("No request matches.")).to_be_visible()
    assert made.ask(key).status == 200
    (row,) = made.recorded(key.account)
    page.reload()
    expect(page.get_by_role("link", name=row["request_id"])).to_be_visible()
