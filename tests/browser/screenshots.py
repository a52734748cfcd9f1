"""Takes the pictures of the dashboard in docs/ (`python3 run.py screenshots`): every page, in light and in dark, of a
gateway that is started for it, with some data.

The same versions of browser and fonts give the same pictures but for what tells the time; nothing compares them.
"""

import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A program, not a test: it finds its modules as the tests find theirs.
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("gateway", "ledger", "browser"))]

import re

from installation import Backends, Installation, Issued, make_gateway, obliging
from playwright.sync_api import Page, expect, sync_playwright
from scripted_provider import ScriptedProvider
from sights import furnish, sights
from visitor import Visitor, chromium_program, launch

FOLDER = ROOT / "docs" / "dashboard"
SIZE = {"width": 1280, "height": 800}
SHOWN = (
    "overview",
    "accounts",
    "account",
    "keys",
    "usage",
    "request",
    "models",
    "limits",
    "playground",
    "audit",
    "system",
)
QUALITY = 0.7
ENCODE = """async ([picture, quality]) => {
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""


def dressed(page: Page, name: str, made: Installation, key: Issued) -> None:
    """Open a page, and have something in it where a page alone has nothing."""
    page.goto(sights(made, key)[name].path)
    if name == "playground":
        page.get_by_label(re.compile("^Key")).fill(key.secret)
        page.get_by_label("Text").fill("What do the lights of a harbour mean?")
        page.get_by_role("button", name="Send it").click()
        expect(page.get_by_role("link", name="its row in the ledger")).to_be_visible()


def as_webp(blank: Page, picture: bytes) -> bytes:
    """What the browser itself makes of a PNG: a third of its size."""
    return b64decode(blank.evaluate(ENCODE, [b64encode(picture).decode(), QUALITY]))


def main() -> int:
    """Take them all; 0 when it is done, 1 when there is nothing to take them with."""
    program = chromium_program()
    if program is None:
        print("screenshots: Chromium is not on this machine: `apt install chromium`", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    provider = ScriptedProvider()
    provider.on("main", obliging)
    with tempfile.TemporaryDirectory(prefix="aion-pictures-") as folder, sync_playwright() as playwright:
        gateway = make_gateway(Path(folder), provider.url("main"), Backends())
        gateway.start()
        try:
            made = Installation(gateway)
            key = furnish(made)
            browser = launch(playwright, program)
            blank = browser.new_page()
            for scheme in ("light", "dark"):
                visitor = Visitor(browser, made, viewport=SIZE, color_scheme=scheme).sign_in()
                for name in SHOWN:
                    dressed(visitor.page, name, made, key)
                    picture = as_webp(blank, visitor.page.screenshot())
                    (FOLDER / f"{name}-{scheme}.webp").write_bytes(picture)
                    print(f"{name}-{scheme}.webp: {len(picture) / 1024:.0f} KiB")
                assert not visitor.troubles, visitor.troubles
                visitor.context.close()
            browser.close()
        finally:
            gateway.stop()
            provider.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
