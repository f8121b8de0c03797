"""Colours can be read in both themes, and are the same on the page as in the pictures."""

import re
from pathlib import Path

import pytest

from toolkit.report import html, palette

STYLE = (Path(html.__file__).with_name("_page") / "style.css").read_text()
THEMES = ("light", "dark")
COLOURS = {
    name: dict(zip(THEMES, pair, strict=True))
    for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
READ = ["ink/paper", "ink/raised", "ink/sunk", "soft/paper", "soft/raised", "soft/sunk", "link/paper", "star/raised"]
READ += ["star/sunk", "ink/good", "bad-ink/bad", "ink/warn"]
SEEN = [f"c{i}/{paper}" for i in range(len(palette.COLOURS)) for paper in ("paper", "raised")]


def light(colour):
    """Relative luminance, as WCAG has it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(pair, theme):
    one, other = (light(COLOURS[name][theme]) for name in pair.split("/"))
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("pair", READ)
def test_text_is_read(pair, theme):
    assert contrast(pair, theme) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("pair", SEEN)
def test_marks_are_seen(pair, theme):
    assert contrast(pair, theme) >= 3.0


def test_the_pictures_have_the_pages_colours():
    assert [COLOURS[f"c{i}"]["light"] for i in range(len(palette.COLOURS))] == palette.COLOURS


def test_no_two_series_look_alike_before_the_57th():
    looks = [palette.Look(i) for i in range(56)]
    assert len({(look.colour, look.shape) for look in looks}) == 56
    assert len(set(map(tuple, palette.SHAPES))) == len(palette.SHAPES)
