"""Pages in a real browser: Chromium, as the system has it, without a window.

``HARNESS_TEST_BROWSER=1`` (as in ``tox -e browser``) asks for these tests. Then the browser must be
there; otherwise the folder is left out. Pages named in ``HARNESS_TEST_PAGES`` (separated like a
PATH) are looked at beside the made-up ones.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "frameworks")]

WANTED = bool(os.environ.get("HARNESS_TEST_BROWSER"))
collect_ignore_glob = [] if WANTED else ["test_*.py"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# It runs as any user, in a container, and does not call home.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail(f"no browser: install one of {', '.join(NAMES)}", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def noise():
    return []


@pytest.fixture
def live(chromium, noise):
    """Opens the page on a stub; at the end it may not have complained, nor asked anyone else."""
    from live_page import opened, watched
    from live_stub import ORIGIN

    with watched(chromium, noise) as window:

        def open_page(stub, width=1280, **options):
            context = window(width, **options)
            stub.install(context)
            return opened(context, f"{ORIGIN}/", noise, (f"{ORIGIN}/", "data:", "blob:"))

        yield open_page
