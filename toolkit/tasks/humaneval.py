"""HumanEval: functions to complete, judged by their tests (Chen et al. 2021, arXiv 2107.03374).

Posed as a chat: the model gives the whole function in a code block. A text without a block counts as the function, or,
where it opens indented, as its body, up to the first line that is not: so base models are judged as in the paper.
"""

import itertools
import json
import re
import textwrap
from dataclasses import dataclass

from toolkit.tasks import _code, _data
from toolkit.tasks._chat import Options
from toolkit.tasks._code import CodeTask, Found
from toolkit.tasks._sandbox import Asserts, Job
from toolkit.tasks._types import Problem, Task

HUB_ID = "openai/openai_humaneval"
SPLITS = ("test",)
_ASKED = "Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{}\n```"


@dataclass
class Config(Options):
    split: str = "test"  # test: there is no other, so none to train on


def build(config: Config) -> Task:
    """The selected functions."""
    _data.choice("split", config.split, SPLITS)
    rows = _data.load("humaneval", HUB_ID, lambda: _data.hub_rows(HUB_ID, None, "test"))
    problems = [_problem(row) for row in rows]
    return CodeTask(
        name="humaneval",
        selected=config.selected(problems),
        preamble=config.preamble(),
        find=find,
        job=job,
    )


def _problem(row: _data.Row) -> Problem:
    keys = ("prompt", "entry_point", "test")
    return Problem(
        id=row.text("task_id"),
        question=_ASKED.format(row.text("prompt").strip()),
        answer=_code.PASS,
        tests=json.dumps({key: row.text(key) for key in keys}),
    )


def find(problem: Problem, text: str) -> Found | None:
    entry = json.loads(problem.tests)["entry_point"]
    return _code.block(text, entry) or _code.whole(text, rf"^def\s+{re.escape(entry)}\b|\A\n*[ \t]+\S")


def job(problem: Problem, found: Found) -> Job:
    """What the prompt imports and defines is there for the function and for its tests, as in the paper."""
    row = json.loads(problem.tests)
    prompt, entry = row["prompt"], row["entry_point"]
    complete = _code.defines(found.code, entry)
    code = found.code if complete else prompt + _body(found.code)
    asserts = Asserts((entry,), f"{row['test']}\ncheck({entry})\n", context=prompt)
    return Job(code, asserts, prelude=prompt if complete else "")


def _body(text: str) -> str:
    """The function's lines: up to the first that is not indented, where the text opens indented; else all of them."""
    lines = text.strip("\n").split("\n")
    if not lines[0][:1].isspace():
        return textwrap.indent("\n".join(lines), "    ") + "\n"
    return "\n".join(itertools.takewhile(lambda line: not line.strip() or line[0].isspace(), lines)) + "\n"
