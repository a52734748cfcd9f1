"""The two kinds of people: what an operator may do and an account's own people may not, by page, by form and by API.

What is another account's is told like what is not there, so that nothing can be learned by asking.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from installation import Installation, Issued
from playwright.sync_api import expect
from visitor import Visitor, new_key_of


@dataclass
class Two:
    """Somebody of one account, signed in, and another account of which they may know nothing."""

    installation: Installation
    visitor: Visitor
    token: str
    mine: Issued
    theirs: Issued
    their_request: str
    their_token_id: str


@pytest.fixture
def two(each_installation: Installation, visit: Callable[..., Visitor]) -> Two:
    made = each_installation
    mine, theirs = (made.new_key(made.new_account(), name=name) for name in ("mine", "of another"))
    assert made.ask(mine).status == made.ask(theirs).status == 200
    made.recorded(mine.account)
    their_request = made.recorded(theirs.account)[0]["request_id"]
    token = made.new_token(mine.account, name="me")
    made.new_token(theirs.account, name="their own")
    their_token_id = made.admin("GET", f"/accounts/{theirs.account}/tokens").document["tokens"][0]["token_id"]
    return Two(made, visit(made).sign_in(token), token, mine, theirs, their_request, their_token_id)


def test_an_account_s_person_sees_the_account_and_manages_its_keys(two: Two):
    page = two.visitor.open("/")
    expect(page.get_by_role("banner")).to_contain_text(two.mine.account)
    by_account = page.get_by_role("region", name="Use by account")
    expect(by_account.get_by_text(two.mine.account, exact=True)).to_be_visible()
    two.visitor.follow("Keys")
    page.get_by_label("Name").fill("one more")
    page.get_by_role("button", name="Make the key").click()
    key = new_key_of(page)
    assert two.installation.ask(key).status == 200
    page.get_by_role("row", name=re.compile("one more")).get_by_role("link").click()
    page.get_by_label(re.compile("cannot be undone")).check()
    page.get_by_role("button", name="Revoke the key for good").click()
    expect(page.get_by_role("row", name=re.compile("one more"))).to_contain_text("revoked")
    assert two.installation.ask(key).status == 401


def test_no_page_offers_an_account_s_person_what_is_the_operator_s(two: Two):
    page = two.visitor.open("/accounts")
    navigation = page.get_by_role("navigation", name="Pages")
    expect(navigation.get_by_role("link", name="Overview")).to_be_visible()
    expect(navigation.get_by_role("link", name="System")).to_have_count(0)
    expect(page.get_by_role("button", name="Make the account")).to_have_count(0)
    page.get_by_role("link", name=two.mine.account, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=f"Account {two.mine.account}")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize(
    "name", ["Overview", "Accounts", "Keys", "Usage", "Models", "Limits", "Playground", "Audit log"]
)
def test_nothing_of_another_account_is_on_a_page(two: Two, name: str):
    two.visitor.open("/")
    page = two.visitor.page
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    text = page.content()
    for secret in (two.theirs.account, two.theirs.key_id, two.their_request, two.their_token_id, "of another"):
        assert not re.search(rf"{secret}\b", text), secret


def test_no_url_of_another_account_opens(two: Two):
    account = two.theirs.account
    refused = {
        f"/accounts/{account}": 404,
        f"/keys/{two.theirs.key_id}": 404,
        f"/usage/{two.their_request}": 404,
        f"/usage?account={account}": 404,
        f"/usage/export?account={account}&format=csv": 404,
        "/system": 403,
    }
    found = {path: two.visitor.context.request.get(path) for path in refused}
    assert {path: answer.status for path, answer in found.items()} == refused
    nobody = two.visitor.context.request.get("/usage?account=account_nobody")
    told = found[f"/usage?account={account}"].text()
    assert told.replace(account, "account_nobody") == nobody.text()
    # Where the URL names another's, their own is what they get.
    for path in (f"/keys?account={account}", f"/usage?key_id={two.theirs.key_id}"):
        answer = two.visitor.context.request.get(path)
        assert answer.status == 200
        assert "of another" not in answer.text()
        assert two.their_request not in answer.text()


def test_no_form_changes_what_is_not_theirs(two: Two):
    made, mine, theirs = two.installation, two.mine.account, two.theirs.account
    page = two.visitor.open("/keys")
    word = page.locator("input[name=form_word]").first.get_attribute("value")
    assert word
    before = [made.admin("GET", path).document for path in (f"/accounts/{theirs}", f"/accounts/{theirs}/keys")]
    refused = {
        "/accounts": 403,
        f"/accounts/{mine}/limits": 403,
        f"/accounts/{mine}/disable": 403,
        f"/accounts/{mine}/tokens": 403,
        f"/accounts/{theirs}/limits": 404,
        f"/accounts/{theirs}/disable": 403,
        f"/accounts/{theirs}/keys": 404,
        f"/accounts/{theirs}/tokens": 404,
        f"/keys/{two.theirs.key_id}/rotate": 404,
        f"/keys/{two.theirs.key_id}/revoke": 404,
        f"/tokens/{two.their_token_id}/revoke": 403,
    }
    form = {"form_word": word, "account": "sneaked_in", "plan": "unlimited", "grace": "0s", "sure": "yes", "name": "x"}
    assert {path: two.visitor.send(path, **form).status for path in refused} == refused
    assert [made.admin("GET", path).document for path in (f"/accounts/{theirs}", f"/accounts/{theirs}/keys")] == before
    assert made.ask(two.theirs).status == 200
    assert made.admin("GET", "/accounts/sneaked_in").status == 404


def test_another_s_key_is_no_use_in_their_playground(two: Two):
    page = two.visitor.open("/playground")
    page.get_by_label(re.compile("^Key")).fill(two.theirs.secret)
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("alert")).to_contain_text("another account")


def test_the_api_closes_to_them_whatever_the_pages_do(two: Two):
    made, mine, theirs = two.installation, two.mine.account, two.theirs.account
    open_to_them = {
        "GET": (
            *("/accounts", f"/accounts/{mine}", f"/accounts/{mine}/keys", "/usage", "/requests", "/audit", "/models"),
            "/export?format=csv",
        )
    }
    closed = {
        "GET": {
            f"/accounts/{theirs}": 404,
            f"/accounts/{theirs}/keys": 404,
            f"/accounts/{theirs}/tokens": 403,
            f"/accounts/{mine}/tokens": 403,
            f"/requests/{two.their_request}": 404,
            f"/requests?account={theirs}": 404,
            f"/usage?account={theirs}": 404,
            f"/export?format=csv&account={theirs}": 404,
            f"/audit?account={theirs}": 404,
            "/plans": 403,
            "/system": 403,
            "/configuration": 403,
        },
        "POST": {
            "/accounts": 403,
            f"/accounts/{mine}/disable": 403,
            f"/accounts/{mine}/enable": 403,
            f"/accounts/{mine}/tokens": 403,
            f"/accounts/{theirs}/keys": 404,
            f"/keys/{two.theirs.key_id}/revoke": 404,
            f"/keys/{two.theirs.key_id}/rotate": 404,
            f"/tokens/{two.their_token_id}/revoke": 403,
            "/ledger/verify": 403,
        },
        "PATCH": {f"/accounts/{mine}": 403, f"/accounts/{theirs}": 403},
    }
    bodies = {"/accounts": {"account": "sneaked_in"}, f"/accounts/{mine}": {"plan": "unlimited"}}
    for path in open_to_them["GET"]:
        answer = made.admin("GET", path, token=two.token)
        assert answer.status == 200, path
        text = answer.document if isinstance(answer.document, str) else json.dumps(answer.document)
        assert not re.search(rf"{theirs}\b|{two.theirs.key_id}|{two.their_request}", text), path
    for method, paths in closed.items():
        body = None if method == "GET" else {"plan": "unlimited"} if method == "PATCH" else {}
        found = {path: made.admin(method, path, bodies.get(path, body), two.token).status for path in paths}
        assert found == paths, method


def test_every_operation_of_the_api_wants_a_token_and_no_cookie_is_one(two: Two):
    described = two.installation.admin("GET", "/openapi.json").document
    for path, operations in described["paths"].items():
        for method in operations:
            url = f"/admin/api{re.sub(r'{.+?}', 'x', path)}"
            answer = two.visitor.context.request.fetch(url, method=method)
            assert answer.status == 401, (method, path)


def test_a_form_from_elsewhere_does_nothing(two: Two):
    made, path = two.installation, f"/accounts/{two.mine.account}/keys"
    before = made.admin("GET", path).document
    assert two.visitor.send(path, name="forged").status == 403
    word = two.visitor.open("/keys").locator("input[name=form_word]").first.get_attribute("value")
    forged = two.visitor.context.request.post(
        path, form={"form_word": word, "name": "forged"}, headers={"Origin": "http://elsewhere.example"}
    )
    assert forged.status == 403
    assert made.admin("GET", path).document == before


def test_the_session_s_cookie_is_out_of_reach_of_scripts(two: Two):
    page = two.visitor.open("/")
    (cookie,) = two.visitor.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert page.evaluate("document.cookie") == ""
