"""For everybody: axe finds nothing on any page, in light and dark, on a phone and on a desk; and hands that only have a
keyboard do what others do."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from installation import ADMIN_TOKEN, Installation, Issued
from playwright.sync_api import Locator, Page, expect
from sights import NAMES, furnish, sights
from visitor import DESK, PHONE, Visitor, new_key_of

MOST_TABS = 80


@pytest.fixture(scope="module")
def furnished(installations: Callable[[str], Installation]) -> tuple[Installation, Issued]:
    installation = installations("embedded")
    return installation, furnish(installation)


def violations(page: Page) -> list[str]:
    """What axe has against a page, in every scheme and size."""
    axe, found = Axe(), []
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for wrong in axe.run(page).response["violations"]:
                places = "; ".join(str(node["html"])[:200] for node in wrong["nodes"][:3])
                found.append(f"{page.url} {scheme} {size['width']}: {wrong['id']}: {wrong['help']}: {places}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_axe_has_nothing_against_a_page(
    furnished: tuple[Installation, Issued], visit: Callable[..., Visitor], name: str
):
    installation, key = furnished
    sight = sights(installation, key)[name]
    page = visit(installation).sign_in().page
    page.goto(sight.path)
    expect(page.get_by_role("heading", level=1, name=sight.heading)).to_be_visible()
    assert not violations(page)


def test_axe_has_nothing_against_what_forms_lead_to(
    furnished: tuple[Installation, Issued], visit: Callable[..., Visitor]
):
    installation, key = furnished
    visitor = visit(installation).sign_in()
    page, found = visitor.page, []
    page.goto(f"/keys?account={key.account}")
    page.get_by_role("button", name="Make the key").click()
    new_key_of(page)
    found += violations(page)
    page.goto("/accounts")
    page.get_by_label("Name").fill(key.account)
    page.get_by_role("button", name="Make the account").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found += violations(page)
    page.goto("/playground")
    page.get_by_label(re.compile("^Key")).fill(key.secret)
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("link", name="its row in the ledger")).to_be_visible()
    found += violations(page)
    assert not found


def test_axe_has_nothing_against_what_an_account_s_person_sees(
    furnished: tuple[Installation, Issued], visit: Callable[..., Visitor]
):
    installation, key = furnished
    page = visit(installation).sign_in(installation.new_token(key.account)).page
    found = []
    for path in ("/accounts", f"/accounts/{key.account}", "/keys", "/limits", "/system"):
        page.goto(path)
        found += violations(page)
    assert not found


def test_no_page_is_wider_than_a_phone(furnished: tuple[Installation, Issued], visit: Callable[..., Visitor]):
    installation, key = furnished
    page = visit(installation, viewport=PHONE).sign_in().page
    too_wide = []
    for sight in sights(installation, key).values():
        page.goto(sight.path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            too_wide.append(f"{sight.path}: {width}")
    assert not too_wide


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it has the focus, which has to be seen."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none", "the focus cannot be seen"
            return
    raise AssertionError(f"no Tab leads to {wanted}")


def test_a_key_is_issued_and_revoked_with_the_keyboard_alone(installation: Installation, visit: Callable[..., Visitor]):
    account = installation.new_account()
    page = visit(installation, permissions=["clipboard-read", "clipboard-write"]).page
    page.goto("/")
    page.keyboard.type(ADMIN_TOKEN)  # the field has the focus already
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Overview")).to_be_visible()

    tab_to(page, page.get_by_role("link", name="Keys", exact=True))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Account"))
    page.keyboard.type(account)
    expect(page.get_by_label("Account")).to_have_value(account)
    tab_to(page, page.get_by_role("button", name="Show its keys"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name=f"Keys of {account}")).to_be_visible()

    tab_to(page, page.get_by_label("Name"))
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    key = new_key_of(page)
    tab_to(page, page.get_by_role("button", name="Copy it"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == key
    assert installation.ask(key).status == 200

    tab_to(page, page.get_by_role("row", name=re.compile("typed")).get_by_role("link"))
    page.keyboard.press("Enter")
    tick = page.get_by_label(re.compile("cannot be undone"))
    tab_to(page, tick)
    page.keyboard.press("Space")
    tab_to(page, page.get_by_role("button", name="Revoke the key for good"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Revoked.")).to_be_visible()
    assert installation.ask(key).status == 401


def test_the_first_tab_leads_past_the_navigation(installation: Installation, visit: Callable[..., Visitor]):
    page = visit(installation).sign_in().open("/accounts")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.get_by_role("main").evaluate("main => main.contains(document.activeElement)")


def test_the_focus_stays_where_it_is_when_figures_move(installation: Installation, visit: Callable[..., Visitor]):
    key = installation.new_key(installation.new_account())
    assert installation.ask(key).status == 200
    installation.recorded(key.account)
    visitor = visit(installation).sign_in()
    page = visitor.open(f"/usage?account={key.account}")
    lines = page.get_by_role("region", name="Requests").get_by_role("row").filter(has=page.get_by_role("rowheader"))
    link = lines.last.get_by_role("link")
    name = link.inner_text()
    visitor.eventually(lambda: link.evaluate("link => { link.focus(); return document.activeElement === link; }"))
    assert installation.ask(key).status == 200
    expect(lines).to_have_count(2)
    expect(page.get_by_role("link", name=name)).to_be_focused()


def test_what_is_unfolded_stays_so_when_figures_move(installation: Installation, visit: Callable[..., Visitor]):
    key = installation.new_key(installation.new_account())
    page = visit(installation).sign_in().open("/?window=day")
    page.get_by_text("Requests as a table").click()
    table = page.get_by_role("columnheader", name="Requests", exact=True)
    expect(table).to_be_visible()
    assert installation.ask(key).status == 200
    expect(page.get_by_role("region", name="Use by account").get_by_text(key.account, exact=True)).to_be_visible()
    expect(table).to_be_visible()
