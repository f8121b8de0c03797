"""The house rules that a machine can check."""

import ast
import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import cli, registry

ROOT = Path(__file__).parent.parent
SOURCES = [path for top in ("toolkit", "eval", "train", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST = 350  # lines
PIECES = [(role, name) for role in registry.ROLES for name in registry.names(role)]


def test_layers():
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_open_with_a_docstring(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize(("role", "name"), PIECES)
def test_a_piece_has_a_config_and_a_build(role, name):
    module = registry.load(role, name)
    assert dataclasses.is_dataclass(module.Config)
    assert "type" not in {field.name for field in dataclasses.fields(module.Config)}
    assert callable(module.build)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_opens_with_the_command_that_runs_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    named = path.stem if path.parent.name == "methods" else str(path.relative_to(ROOT))
    assert named in first
    check_command(first.removeprefix("# "))


@pytest.mark.parametrize("page", ["README.md", "docs/evaluation.md"])
def test_commands_of_a_page_exist(page):
    fences = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    blocks = [text for language, text in fences if language in ("", "bash", "sh", "console")]
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    commands = [
        line
        for line in lines
        if re.match(r"(\S+=\S+ )*(make|(\S*/)?draftsmith|accelerate|python3? (-m eval|train))\b", line)
    ]
    assert len(commands) >= 4, f"{page} shows only {commands}"
    for command in commands:
        check_command(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(page):
    """The anchors that a page of Markdown has."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found]


def check_command(command):
    """The make target, subcommand and recipe that a command names are there."""
    words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
    program = Path(words[0]).name
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(words[1:]) <= targets, command
    elif program == "draftsmith":
        assert words[1] in {*cli.PROGRAMS, "list", "--version"}, command
    elif program == "accelerate":
        assert words[1:3] == ["launch", "--config_file"] and (ROOT / words[3]).is_file(), command
        check_command(shlex.join(["python", *(word for word in words[4:] if not word.startswith("--"))]))
    elif words[1].startswith("train/"):
        assert (ROOT / words[1]).is_file(), command
    else:
        assert words[1] == "-m" and words[2].startswith("eval"), command
        assert (ROOT / "eval" / f"{words[2].partition('.')[2] or '__main__'}.py").is_file(), command
    for word in words:
        if word.startswith("recipes/"):
            assert (ROOT / word).is_file(), command
