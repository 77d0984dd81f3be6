"""A real browser, for the tests of pages, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def browse(html: str, folder: Path, script: str, *options: str) -> str:
    """What is in the page's <body> once `script` has run in it, behind everything that the page does itself."""
    assert BROWSER
    path = folder / "browsed.html"
    # The page forbids what is not inline, and so is this.
    path.write_text(html.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    words = [*command, *options, "--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
