"""Which code this is: the package's version and, in a checkout, the git commit and whether files differ from it."""

import subprocess
from pathlib import Path
from typing import Any

import toolkit

ROOT = Path(__file__).resolve().parents[1]  # the repository, when the library runs from one


def code() -> dict[str, Any]:
    """{"version", "commit", "dirty"}; the last two are None where the library runs from no repository."""
    repository = (ROOT / ".git").exists()  # an installed package must not report the repository around its environment
    status = output("git", "status", "--porcelain") if repository else None
    return {
        "version": toolkit.__version__,
        "commit": output("git", "rev-parse", "HEAD") if repository else None,
        "dirty": None if status is None else bool(status),
    }


def output(*command: str) -> str | None:
    """A program's output; None where there is no such program or it refuses (no repository, no GPU)."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
