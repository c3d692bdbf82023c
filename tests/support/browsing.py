"""A headless Chromium for tests: it reaches nothing but this machine, and axe looks at what it shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
VIEWS = [(width, height, scheme) for width, height in ((1280, 900), (390, 800)) for scheme in ("light", "dark")]
"""A desktop and a phone, light and dark."""


def chromium() -> str:
    """The browser's program; empty where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), "")


def why_not() -> str:
    """Why no browser test can run; empty where it can."""
    if not chromium():
        return "no Chromium: apt-get install chromium"
    missing = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    return f"pip install -e '.[browser]': {' and '.join(missing)} missing" if missing else ""


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    """A browser with a profile of its own; `new_context` gives a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        profile.mkdir(parents=True, exist_ok=True)
        started = playwright.chromium.launch(
            executable_path=chromium(), args=[*FLAGS], env={"HOME": str(profile)}, headless=True
        )
        try:
            yield started
        finally:
            started.close()


def violations(page: Any) -> list[tuple[str, str, str]]:
    """(rule, impact, first element) of what axe finds wrong with a page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [(entry["id"], entry["impact"], entry["nodes"][0]["html"][:200]) for entry in found]
