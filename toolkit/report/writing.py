"""The report's directory: everything is written beside it, then the two trade places. A kill leaves one of them.

report.html      the page, which can travel alone
report.md        the same for GitHub
tables/NAME.csv  charts/NAME.png  charts/NAME.pdf
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from toolkit import artifact
from toolkit.errors import UserError
from toolkit.files import lock
from toolkit.report import html, markdown, tables
from toolkit.report.page import Chart, Page, Table

HTML, MARKDOWN, TABLES, CHARTS = "report.html", "report.md", "tables", "charts"
Part = TypeVar("Part", Table, Chart)
_ENDS = {TABLES: {".csv"}, CHARTS: {".png", ".pdf"}}


def write(page: Page, out: Path, say: Callable[[str], None]) -> list[Path]:
    """Over an earlier report -> what was written. `say`: is told what is being done. UserError where it cannot."""
    check(out)
    with artifact.writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        held = lock(
            out.with_name(f".{out.name}.lock"),
            f"{out}: another process writes a report there; wait, or choose another --out DIR.",
        )
    with held:
        beside = artifact.partial(out)
        with artifact.writing(out):
            _fill(page, beside, say)
        artifact.publish(beside, out)
    return sorted(path for path in out.rglob("*") if path.is_file())


def check(out: Path) -> None:
    """UserError where a report in this place would put away what is none."""
    if out.is_dir():
        other = next((path for path in out.rglob("*") if not _ours(path.relative_to(out))), None)
        if other is None:
            return
        raise UserError(f"{out}: holds {other.relative_to(out)}, which is no report's. Choose another --out DIR.")
    if out.exists():
        raise UserError(f"{out}: is a file; a report is a directory. Choose another --out DIR.")


def _ours(path: Path) -> bool:
    top, *below = path.parts
    return not below and top in (HTML, MARKDOWN, *_ENDS) or len(below) == 1 and path.suffix in _ENDS.get(top, ())


def _fill(page: Page, into: Path, say: Callable[[str], None]) -> None:
    for folder in _ENDS:
        (into / folder).mkdir()
    (into / HTML).write_text(html.render(page), encoding="utf-8", newline="")
    (into / MARKDOWN).write_text(markdown.render(page), encoding="utf-8", newline="")
    parts = [part for section in page.sections for part in section.parts]
    drawn = _named([part for part in parts if isinstance(part, Table)])
    for name, table in drawn.items():
        (into / TABLES / f"{name}.csv").write_bytes(tables.to_csv(table).encode("utf-8", "replace"))
    charts = _named([part for part in parts if isinstance(part, Chart)])
    if charts:
        from toolkit.report import pictures  # matplotlib takes a second

        for i, (name, chart) in enumerate(charts.items(), start=1):
            say(f"drawing {i}/{len(charts)}: {name}")
            pictures.save(chart, into / CHARTS / f"{name}.png", into / CHARTS / f"{name}.pdf")


def _named(parts: Sequence[Part]) -> dict[str, Part]:
    """By name, which is a file's: each once, and no path."""
    for name, times in Counter(part.name for part in parts).items():
        if times > 1 or Path(name).name != name:
            raise ValueError(f"{name!r}: {times} times in the page, or no name of a file")
    return {part.name: part for part in parts}
