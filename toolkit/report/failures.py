"""What went wrong: rows that died, answers that ran into the limit, and wrong ones by how the answer was found."""

from collections import defaultdict
from collections.abc import Sequence

from toolkit.evaluation.records import Record
from toolkit.report.page import Column, Section, Table, Text, Value
from toolkit.report.runs import Group

NAMED = 3  # prompts of a kind that are named
_LONGEST = 160  # letters of a message
# rows are of several tasks, so no figure of a column is the best of them
_WHERE = [Column("target", "target"), Column("task", "task"), Column("method", "method"), Column("set", "set")]
_ERRORS = [
    *_WHERE,
    Column("error_type", "error"),
    Column("message", "message"),
    Column("rows", "rows", "count"),
    Column("prompts", "first prompts"),
]
_CUT = [
    *_WHERE,
    Column("cut", "cut", "count"),
    Column("rows", "of", "count"),
    Column("share", "share", "percent"),
    Column("prompts", "first prompts"),
]
_PATHS = [
    *_WHERE,
    Column("extraction", "found by"),
    Column("right", "right", "count"),
    Column("wrong", "wrong", "count"),
    Column("share_wrong", "share wrong", "percent"),
    Column("prompts", "first wrong"),
]


def section(groups: Sequence[Group]) -> Section | str:
    errors: list[list[Value]] = []
    cut: list[list[Value]] = []
    paths: list[list[Value]] = []
    for group in groups:
        for (method, name), rows in _sets(group).items():
            where: list[Value] = [group.target, group.task, method, name]
            errors += [where + line for line in _errors(rows)]
            if line := _truncated(rows):
                cut.append(where + line)
            if name == "quality":
                paths += [where + line for line in _extracted(rows)]
    count = sum(len(group.rows) for group in groups)
    found: list[Table | Text] = [
        Table("errors", "Rows that failed", _ERRORS, errors, ["records.jsonl has the tracebacks"])
        if errors
        else Text(f"None of the {count:,} rows failed.")
    ]
    if cut:
        note = "a judged answer that was cut counts as wrong, unless it was whole before"
        found.append(Table("truncated", "Cut off by max_new_tokens", _CUT, cut, [note]))
    if paths:
        note = "quality set; none: no answer was found in the text"
        found.append(Table("wrong_answers", "Answers by the path that found them", _PATHS, paths, [note]))
    intro = "Failed rows are in no figure of this report. The same command that made a run decodes them again."
    return Section("failures", "Failures", intro, found)


def _sets(group: Group) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in group.rows:
        found[row.method, row.set].append(row)
    return found


def _errors(rows: Sequence[Record]) -> list[list[Value]]:
    kinds: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in rows:
        if not row.ok:
            kinds[row.error_type or "", (row.message or "").strip()[:_LONGEST]].append(row)
    return [[kind, message, len(found), _prompts(found)] for (kind, message), found in kinds.items()]


def _truncated(rows: Sequence[Record]) -> list[Value] | None:
    ok = [row for row in rows if row.ok]
    cut = [row for row in ok if row.finish == "length"]
    return [len(cut), len(ok), len(cut) / len(ok), _prompts(cut)] if cut else None


def _extracted(rows: Sequence[Record]) -> list[list[Value]]:
    kinds: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        if row.ok and row.correct is not None:
            kinds[row.extraction or "none"].append(row)
    found: list[list[Value]] = []
    for path, some in sorted(kinds.items()):
        wrong = [row for row in some if not row.correct]
        found.append([path, len(some) - len(wrong), len(wrong), len(wrong) / len(some), _prompts(wrong)])
    return found


def _prompts(rows: Sequence[Record]) -> str:
    ids = list(dict.fromkeys(row.prompt_id for row in rows))
    return ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")
