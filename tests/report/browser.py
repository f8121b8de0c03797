"""A browser without a window, where this machine has one: what a page becomes in it, and what its console says."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
REASON = f"no browser here (any of {', '.join(NAMES)}; on Debian: apt install chromium)"


def found() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


def dump(page: Path) -> tuple[str, list[str]]:
    """-> the document after its script ran, and what was said on the console."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            str(found()),
            "--headless",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=4000",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--window-size=1400,900",
            "--dump-dom",
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r"CONSOLE[^\n]*", done.stderr)
