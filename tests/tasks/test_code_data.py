"""The benchmarks' own solutions pass their tests in the sandbox, all of them. Needs the data."""

import json
import os

import pytest

from toolkit.tasks import _data, _sandbox, humaneval, livecodebench, mbpp

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(_data.DATA_DIR not in os.environ, reason=f"needs the benchmark files in {_data.DATA_DIR}"),
]


def failures(task, texts):
    scores = task.scores(list(zip(task.problems(), texts, strict=True)))
    return {
        problem.id: score.extracted for problem, score in zip(task.problems(), scores, strict=True) if not score.correct
    }


def fenced(code):
    return f"```python\n{code}\n```"


def test_humaneval_solutions():
    task = humaneval.build(humaneval.Config())
    rows = _data.local("humaneval")
    assert len(rows) == 164
    assert failures(task, [fenced(row.text("prompt") + row.text("canonical_solution")) for row in rows]) == {}


def test_humaneval_solutions_as_base_models_write_them():
    task = humaneval.build(humaneval.Config(limit=40))
    rows = _data.local("humaneval")[:40]
    assert failures(task, [row.text("canonical_solution") + "\n# and so on\nprint(1 / 0)" for row in rows]) == {}


def test_humaneval_without_an_answer():
    task = humaneval.build(humaneval.Config(limit=40))
    stubs = [json.loads(problem.tests)["prompt"] + "    return None\n" for problem in task.problems()]
    assert len(failures(task, [fenced(stub) for stub in stubs])) == 40


@pytest.mark.parametrize("split", mbpp.SPLITS)
@pytest.mark.parametrize("sanitized", [True, False], ids=["sanitized", "full"])
def test_mbpp_solutions(sanitized, split):
    task = mbpp.build(mbpp.Config(split=split, sanitized=sanitized))
    assert failures(task, [fenced(problem.meta["solution"]) for problem in task.problems()]) == {}


def test_every_livecodebench_test_can_be_asked():
    """There are no solutions to try; a program that says nothing is wrong, not refused."""
    task = livecodebench.build(livecodebench.Config(limit=12, shuffle_seed=0))
    assert task.metric == "pass@1 on public tests"
    texts = []
    for problem in task.problems():
        name = json.loads(problem.tests)["function"]
        texts.append(fenced(f"def {name}(*_): return None" if name else "print('nothing')"))
    assert set(failures(task, texts).values()) == {"wrong"}


def test_windows_of_livecodebench():
    everything = livecodebench.build(livecodebench.Config()).problems()
    late = livecodebench.build(livecodebench.Config(start="2025-01-01")).problems()
    assert len(everything) == 712 and 0 < len(late) < 712
    assert {problem.meta["date"] >= "2025-01-01" for problem in late} == {True}
    assert _sandbox.WORKERS >= 1
