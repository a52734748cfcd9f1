"""Whatever somebody may write into a field is text on every page: nothing of it is run, none of it is an element.

The content security policy stands behind this and would stop scripts; it has to find nothing to stop.
"""

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from installation import MARKUP, Installation, Issued
from playwright.sync_api import Page, expect
from visitor import Visitor

# What MARKUP would leave behind on a page that took it for markup, run or not.
LEFT_BEHIND = "img, body script, svg:not(.uplot svg), [onerror], [onload], [onclick]"


def is_clean(page: Page) -> None:
    assert page.locator(LEFT_BEHIND).count() == 0
    assert "49" not in page.locator("main").inner_text().split()  # {{7*7}}, computed


@pytest.fixture
def operator(installation: Installation, visit: Callable[..., Visitor]) -> Visitor:
    return visit(installation).sign_in()


@pytest.fixture
def key(installation: Installation) -> Issued:
    """A key that is called so."""
    return installation.new_key(installation.new_account(), name=MARKUP)


def test_an_account_cannot_be_called_so_and_the_attempt_is_text(operator: Visitor):
    page = operator.open("/accounts")
    page.get_by_label("Name").evaluate("field => field.removeAttribute('pattern')")
    page.get_by_label("Name").evaluate("field => field.removeAttribute('maxlength')")
    page.get_by_label("Name").fill(MARKUP)
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value(MARKUP)
    is_clean(page)
    operator.follow("Audit log")
    expect(page.get_by_text("onerror=alert").first).to_be_visible()
    is_clean(page)


def test_a_key_s_name_is_text(operator: Visitor, key: Issued):
    page = operator.open(f"/keys?account={key.account}")
    expect(page.get_by_role("cell", name=MARKUP, exact=True)).to_be_visible()
    is_clean(page)
    operator.open(f"/keys/{key.key_id}")
    expect(page.get_by_role("definition").filter(has_text=MARKUP)).to_be_visible()
    is_clean(page)
    page.get_by_role("button", name="Replace the key").click()
    expect(page.get_by_role("heading", name="The new key")).to_be_visible()
    expect(page.get_by_role("cell", name=MARKUP, exact=True)).to_have_count(2)
    is_clean(page)


def test_a_key_s_name_that_is_refused_is_text(operator: Visitor, key: Issued):
    page = operator.open(f"/keys?account={key.account}")
    page.get_by_label("Name").evaluate("field => field.removeAttribute('maxlength')")
    page.get_by_label("Name").fill(MARKUP * 3)
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value(MARKUP * 3)
    is_clean(page)


def test_a_dashboard_token_s_name_is_text(operator: Visitor, key: Issued):
    operator.installation.new_token(key.account, name=MARKUP)
    page = operator.open(f"/accounts/{key.account}")
    expect(page.get_by_role("cell", name=MARKUP, exact=True)).to_be_visible()
    is_clean(page)


def test_what_is_typed_into_a_limit_is_text(operator: Visitor, key: Issued):
    page = operator.open(f"/accounts/{key.account}")
    for label in ("Requests per minute", "Budget in USD"):
        page.get_by_label(label).fill(MARKUP)
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Requests per minute")).to_have_value(MARKUP)
    is_clean(page)


@pytest.mark.parametrize("model", ["lab/plain", "lab/marked"])
def test_a_request_s_metadata_and_its_model_are_text_and_stay_so_when_a_page_moves(
    operator: Visitor, key: Issued, model: str
):
    made = operator.installation
    page = operator.open(f"/usage?account={key.account}")
    expect(page.get_by_text("No request matches.")).to_be_visible()
    assert made.ask(key, MARKUP, model=model, metadata={MARKUP: MARKUP, "order": MARKUP}).status == 200
    (row,) = made.recorded(key.account)
    page.get_by_role("link", name=row["request_id"]).click()  # the row came into the open page by itself
    expect(page.get_by_role("heading", name="Metadata")).to_be_visible()
    expect(page.get_by_text(re.compile("onerror=alert")).first).to_be_visible()
    is_clean(page)


def test_a_model_s_name_and_its_names_at_providers_are_text(operator: Visitor):
    page = operator.follow("Models")
    expect(page.get_by_role("cell", name=MARKUP, exact=True)).to_be_visible()
    is_clean(page)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_model_s_answer_is_text_in_the_playground(operator: Visitor, key: Issued, endpoint: str, streamed: bool):
    page = operator.open("/playground")
    page.get_by_label(re.compile("^Key")).fill(key.secret)
    page.get_by_label("Model").select_option("lab/marked")
    page.get_by_label("Endpoint").select_option(endpoint)
    page.get_by_label("as a stream").set_checked(streamed)
    page.get_by_label("Text").fill(f"</pre></textarea>{MARKUP}")
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("region", name="Answer")).to_contain_text(MARKUP)
    expect(page.get_by_role("region", name="As it came")).to_contain_text("onerror=alert")
    expect(page.get_by_label("Text")).to_have_value(f"</pre></textarea>{MARKUP}")
    is_clean(page)


def test_a_provider_s_error_is_text_in_the_playground(operator: Visitor, key: Issued):
    page = operator.open("/playground")
    page.get_by_label(re.compile("^Key")).fill(key.secret)
    page.get_by_label("Text").fill("fail: 400")
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("region", name="As it came")).to_contain_text("no: fail")
    page.get_by_label(re.compile("^Key")).fill(MARKUP)
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("alert")).to_be_visible()
    is_clean(page)


@pytest.mark.parametrize(
    "path",
    [
        *("/accounts/{}", "/keys/{}", "/usage/{}", "/keys?account={}", "/?window={}", "/accounts?done={}", "/{}"),
        *("/usage?account={}", "/usage?key_id={}", "/usage?model={}", "/usage?ending={}", "/usage?before={}"),
        *("/usage?since={}", "/usage?until={}", "/audit?before={}", "/usage/export?format={}", "/static/{}/x.js"),
    ],
)
def test_what_a_url_says_is_text(operator: Visitor, path: str):
    page = operator.page
    page.goto(path.format(quote(MARKUP, safe="")))
    assert page.locator(LEFT_BEHIND).count() == 0


def test_a_text_too_long_for_the_playground_is_told_and_kept(operator: Visitor, key: Issued):
    page = operator.open("/playground")
    page.get_by_label(re.compile("^Key")).fill(key.secret)
    page.get_by_label("Text").fill("x" * (2 << 20))
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("alert")).to_have_text("That is too much text for this page: say it in less.")
    assert len(page.get_by_label("Text").input_value()) == 2 << 20
