"""LiveCodeBench, code generation: contest problems with their dates (Jain et al. 2024, arXiv 2403.07974).

Two kinds: a method to complete, and a program from standard input to standard output. `start` and `end` are a window
of contest dates: what was published after a model's training ended cannot be in its training data. Releases are
`release_v1` to `release_v6`, each with all before it; `v2` to `v6` are what each added. From the hub they come with the
private tests; a file may have the public ones only, and then the task is called livecodebench-public and its metric
pass@1 on public tests: an upper bound that compares with no published score. The prompt's wording is ours.
"""

import json
import logging
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from toolkit.errors import UserError
from toolkit.tasks import _code, _data, _livecodebench
from toolkit.tasks._chat import Options
from toolkit.tasks._code import CodeTask, Found
from toolkit.tasks._sandbox import Asserts, Cases, Job, Limits
from toolkit.tasks._types import Problem, Task

DIFFICULTIES = ("easy", "medium", "hard")
RELEASES = ("all", *(f"release_v{n}" for n in range(1, 7)), *(f"v{n}" for n in range(2, 7)))
SYSTEM = (
    "You are an expert Python programmer. Answer with a correct Python program in one code block, and nothing else."
)
_FUNCTION = "{}\n\nComplete this code:\n\n```python\n{}\n```"
_PROGRAM = "{}\n\nWrite a program that reads its input from standard input and prints the answer to standard output."
_SECONDS = 6  # of a test, as upstream
_LONGEST = 30  # seconds of all tests of a function

_log = logging.getLogger(__name__)


@dataclass
class Config(Options):
    release: str = "all"  # all | release_v1 .. release_v6 (with all before) | v2 .. v6 (what it added)
    start: str | None = None  # first contest date, as in "2024-09-01"
    end: str | None = None  # last contest date
    difficulties: list[str] = field(default_factory=list)  # easy | medium | hard; [] = all
    path: str | None = None  # a file of upstream's format; null: the data directory's, else the hub's
    system: str | None = SYSTEM  # system prompt; "" for none


def build(config: Config) -> Task:
    """The selected problems; the log says where private tests are missing."""
    _check(config)
    rows = _livecodebench.rows(Path(config.path) if config.path else None, config.release)
    fitting = [row for row in rows if _fits(row, config)]
    selected = config.selected([_problem(row) for row in fitting])
    public = sum(not problem.meta["private_tests"] for problem in selected)
    if public:
        _log.warning("livecodebench: %d of %d problems have public tests only", public, len(selected))
    return CodeTask(
        name="livecodebench-public" if public else "livecodebench",
        selected=selected,
        preamble=config.preamble(),
        find=find,
        job=job,
        metric="pass@1 on public tests" if public else "pass@1",
    )


def _check(config: Config) -> None:
    _data.choice("release", config.release, RELEASES)
    for difficulty in config.difficulties:
        _data.choice("difficulties", difficulty, DIFFICULTIES)
    for key, value in (("start", config.start), ("end", config.end)):
        if value and not _is_date(value):
            raise UserError(f"task livecodebench: {key} is {value!r}; expected a date such as 2024-09-01")
    if config.start and config.end and config.start > config.end:
        raise UserError(f"task livecodebench: start {config.start} is after end {config.end}")


def _is_date(text: str) -> bool:
    """In the one form in which dates are sorted as texts are; there are others, as 20240901."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _fits(row: _data.Row, config: Config) -> bool:
    day = row.text("contest_date")[:10]
    if not _is_date(day):
        raise UserError(f"{row.where}: field 'contest_date' is {day!r}; expected one such as 2024-09-01T00:00:00")
    return (
        (not config.start or day >= config.start)
        and (not config.end or day <= config.end)
        and (not config.difficulties or row.text("difficulty") in config.difficulties)
    )


def _problem(row: _data.Row) -> Problem:
    starter, function = row.optional("starter_code") or "", _livecodebench.function(row)
    public, private = _livecodebench.tests(row, "public_test_cases"), _livecodebench.tests(row, "private_test_cases")
    if not (public or private):
        raise UserError(
            f"{row.where}: fields 'public_test_cases' and 'private_test_cases' hold no test; delete the line"
        )
    content = row.text("question_content").strip()
    return Problem(
        id=f"lcb-{row.text('question_id')}",
        question=_FUNCTION.format(content, starter.rstrip()) if function else _PROGRAM.format(content),
        answer=_code.PASS,
        meta={
            "date": row.text("contest_date")[:10],
            "level": row.text("difficulty"),
            "platform": row.text("platform"),
            "release": row.optional("release"),
            "private_tests": len(private),
        },
        tests=json.dumps({"function": function, "cases": [*public, *private]}),
    )


def find(problem: Problem, text: str) -> Found | None:
    kept = json.loads(problem.tests)
    sign = rf"def\s+{re.escape(kept['function'])}\b" if kept["function"] else r"\bprint\(|\bstdout\.write\("
    return _code.block(text) or _code.whole(text, sign)


def job(problem: Problem, found: Found) -> Job:
    kept = json.loads(problem.tests)
    cases = kept["cases"]
    if kept["function"] is None:
        return Job(found.code, Cases(tuple(map(tuple, cases))), _livecodebench.PRELUDE, Limits(_SECONDS))
    tests = _livecodebench.calls(kept["function"], cases, in_class=_code.defines(found.code, "Solution"))
    names = ("Solution",) if _code.defines(found.code, "Solution") else (kept["function"],)
    limits = Limits(min(_SECONDS * len(cases), _LONGEST), 2 * _LONGEST)
    return Job(found.code, Asserts(names, tests), _livecodebench.PRELUDE, limits)
