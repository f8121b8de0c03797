"""MBPP: short functions from one sentence and their tests, which the prompt shows (Austin et al. 2021, 2108.07732).

`sanitized` is the part that its authors checked by hand. What the tests take from the program is what the reference
solution defines and they use: mostly one function, sometimes a class.
"""

import ast
import json
from dataclasses import dataclass

from toolkit.errors import UserError
from toolkit.tasks import _code, _data
from toolkit.tasks._chat import Options
from toolkit.tasks._code import CodeTask, Found
from toolkit.tasks._sandbox import Asserts, Job, Limits
from toolkit.tasks._types import Problem, Task

HUB_ID = "google-research-datasets/mbpp"
SPLITS = ("test", "train", "validation", "prompt")
_ASKED = "{}\n\nAnswer with Python code in one code block. It should pass these tests:\n\n```python\n{}\n```"
_LIMITS = Limits(cpu_seconds=40, wall_seconds=80.0)  # one of the reference solutions takes ten seconds


@dataclass
class Config(Options):
    split: str = "test"  # test | train | validation | prompt
    sanitized: bool = True  # only what was checked by hand; false: all 974


def build(config: Config) -> Task:
    """The selected functions; those of the train split come with the reference solution as worked answer."""
    split = _data.choice("split", config.split, SPLITS)
    problems = [_problem(row, split) for row in _rows(config.sanitized) if row.text("split") == split]
    return CodeTask(
        name="mbpp",
        selected=config.selected(problems),
        preamble=config.preamble(),
        find=find,
        job=job,
    )


def _rows(sanitized: bool) -> list[_data.Row]:
    part = "sanitized" if sanitized else "full"

    def from_hub() -> list[_data.Row]:
        splits = [(split, _data.hub_rows(HUB_ID, part, split)) for split in SPLITS]
        return [_data.Row({**row.values, "split": split}, row.where) for split, rows in splits for row in rows]

    return _data.load(f"mbpp_{part}", HUB_ID, from_hub)


def _problem(row: _data.Row, split: str) -> Problem:
    asserts = _texts(row, "test_list")
    code = row.text("code")
    imports, names = _defined(code, row)
    setup = row.optional("test_setup_code") or ""
    tests = "\n".join([setup, *asserts])
    used = {node.id for node in ast.walk(_parsed(tests, row)) if isinstance(node, ast.Name)}
    kept = {
        "names": [name for name in names if name in used],
        "tests": tests,
        "context": "\n".join([*imports, *_texts(row, "test_imports", optional=True)]),
    }
    if not kept["names"]:
        raise UserError(f"{row.where}: the tests use nothing that 'code' defines; mend or delete the line")
    question = row.optional("prompt") or row.text("text")
    return Problem(
        id=f"mbpp-{row.text('task_id')}",
        question=_ASKED.format(question.strip(), "\n".join(asserts)),
        answer=_code.PASS,
        meta={"solution": code},
        worked={"response": f"```python\n{code.strip()}\n```"} if split == "train" else {},
        tests=json.dumps(kept),
    )


def _defined(code: str, row: _data.Row) -> tuple[list[str], list[str]]:
    """Import statements of a reference solution, and the names that it defines."""
    imports, names = [], []
    for node in _parsed(code, row).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(ast.unparse(node))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
    return imports, names


def _parsed(code: str, row: _data.Row) -> ast.Module:
    try:
        return ast.parse(code)
    except SyntaxError as error:
        raise UserError(f"{row.where}: not valid Python ({error}); mend or delete the line") from None


def _texts(row: _data.Row, key: str, optional: bool = False) -> list[str]:
    values = row.values.get(key)
    if values is None and optional:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{row.where}: field {key!r} is {values!r}; expected a list of texts")
    return values


def find(problem: Problem, text: str) -> Found | None:
    name = json.loads(problem.tests)["names"][-1]
    return _code.block(text, name) or _code.whole(text, r"^(?:def|class)\s+\w")


def job(problem: Problem, found: Found) -> Job:
    kept = json.loads(problem.tests)
    return Job(found.code, Asserts(tuple(kept["names"]), kept["tests"], kept["context"]), limits=_LIMITS)
