"""Somebody with a browser: pages, signing in, and a record of everything that a browser complains about.

Elements are found as people find them, by role and name, so that a page may change its markup.
"""

import os
import re
import shutil
import time
from collections.abc import Callable

from installation import ADMIN_TOKEN, Installation
from playwright.sync_api import APIResponse, Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect

PATIENCE_MS = 30_000
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  window.policyViolated(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}


def chromium_program() -> str | None:
    """Find the machine's Chromium."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def launch(playwright: Playwright, program: str) -> Browser:
    """Start the browser; without its sandbox where we are root, since it refuses to be that."""
    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=program, args=words)


class Visitor:
    """One browser profile with one page, pointed at an installation."""

    def __init__(self, browser: Browser, installation: Installation, **options: object) -> None:
        self.installation = installation
        self.troubles: list[str] = []
        """Dialogs, errors of scripts, and whatever the content security policy forbade."""
        self.context: BrowserContext = browser.new_context(
            base_url=installation.url, **{"viewport": DESK, "reduced_motion": "reduce", **options}
        )
        self.context.set_default_timeout(PATIENCE_MS)
        if options.get("java_script_enabled", True):
            self.context.expose_function("policyViolated", lambda said: self.troubles.append(f"policy: {said}"))
            self.context.add_init_script(WATCH)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.troubles.append(f"script: {error.error}"))
        self.context.on("dialog", self._asked)
        self.page: Page = self.context.new_page()

    def _said(self, message: ConsoleMessage) -> None:
        # That a page was refused with 4xx is what some tests want; the page itself says so.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.troubles.append(f"console: {message.text}")

    def _asked(self, dialog: object) -> None:
        self.troubles.append(f"dialog: {dialog}")
        dialog.dismiss()  # type: ignore[attr-defined]

    def sign_in(self, token: str = ADMIN_TOKEN) -> "Visitor":
        """Send the form of the sign-in page; no page is opened."""
        answer = self.send("/sign-in", token=token)
        assert answer.status == 303, answer.text()
        return self

    def send(self, path: str, **form: str) -> APIResponse:
        """Send a form with the browser's cookie, as a page of ours would, whether or not there is such a page."""
        return self.context.request.post(path, form=form, max_redirects=0)

    def open(self, path: str, status: int = 200) -> Page:
        """Go to a page, which has to answer with this status."""
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.status == status, f"{path}: {answer.status}\n{self.page.locator('body').inner_text()}"
        return self.page

    def follow(self, name: str) -> Page:
        """Follow a link of the navigation, from the overview if no page is open."""
        if self.page.url == "about:blank":
            self.open("/")
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
        expect(self.page.get_by_role("heading", level=1, name=name)).to_be_visible()
        return self.page

    def eventually(self, is_so: Callable[[], bool]) -> None:
        """Wait for what no locator can say, while the browser goes on."""
        deadline = time.monotonic() + PATIENCE_MS / 1_000
        while not is_so():
            assert time.monotonic() < deadline, "it never came true"
            self.page.wait_for_timeout(20)


def new_key_of(page: Page) -> str:
    """The key that a page shows this once."""
    found = re.search(r"sk-aion-\w+-[0-9A-Za-z]{38}", page.get_by_role("region", name="The new key").inner_text())
    assert found
    return found[0]
