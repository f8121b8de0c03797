"""Tasks whose answers are programs, on made-up rows: where the program is found, what runs it, and bad input."""

import base64
import dataclasses
import json
import pickle
import zlib

import pytest

from toolkit.errors import UserError
from toolkit.tasks import _code, _livecodebench, humaneval, livecodebench, mbpp
from toolkit.tasks._sandbox import Asserts, Cases

HUMANEVAL = {
    "task_id": "HumanEval/900",
    "prompt": "import math\n\ndef half(x):\n    return x / 2\n\n"
    'def root(x: float) -> float:\n    """ Of half of it. """\n',
    "entry_point": "root",
    "canonical_solution": "    return math.sqrt(half(x))\n",
    "test": "METADATA = {}\ndef check(candidate):\n    assert abs(candidate(8) - math.sqrt(half(8))) < 1e-6\n",
}
MBPP = {
    "task_id": 900,
    "split": "train",
    "prompt": "Write a function to add.",
    "code": "import math\nclass Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
    "def sum(pair):\n    return pair.a + pair.b\ndef helper(): pass",
    "test_imports": ["import cmath"],
    "test_list": ["assert sum(Pair(1, 2)) == 3", "assert math.isclose(sum(Pair(1, 0.5)), 1.5)"],
}
FUNCTIONAL = {
    "question_id": "f1",
    "question_title": "t",
    "question_content": "Add all.",
    "platform": "leetcode",
    "contest_id": "c",
    "contest_date": "2024-09-30T00:00:00",
    "difficulty": "easy",
    "starter_code": "class Solution:\n    def addAll(self, numbers: List[int], start: int) -> int:\n        ",
    "func_name": "addAll",
    "public_test_cases": [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}],
    "release": "v5_increment",
}
STDIN = {
    **FUNCTIONAL,
    "question_id": "s1",
    "platform": "atcoder",
    "contest_date": "2023-05-07T00:00:00",
    "difficulty": "hard",
    "starter_code": "",
    "func_name": None,
    "public_test_cases": [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}],
    "release": "release_v1",
}
PRIVATE = [{"input": "5 5\n", "output": "10\n", "testtype": "stdin"}]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))

    def write(name, *rows):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("humaneval", HUMANEVAL)
    write("mbpp_sanitized", MBPP, {**MBPP, "task_id": 11, "split": "test"})
    write("livecodebench_public", FUNCTIONAL, STDIN)
    return write


def fenced(code):
    return f"Sure:\n```python\n{code}\n```\nThat is it."


def scored(task, *texts):
    [problem] = task.problems()
    return [(score.correct, score.extracted, score.path) for score in task.scores([(problem, text) for text in texts])]


def test_humaneval(data):
    task = humaneval.build(humaneval.Config(system="Be brief."))
    [problem] = task.problems()
    assert (task.metric, problem.id, problem.answer) == ("pass@1", "HumanEval/900", "pass")
    assert [message["role"] for message in task.messages(problem)] == ["system", "user"]
    assert "def root" in problem.question and "METADATA" not in problem.question
    whole = HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]
    assert scored(
        task,
        fenced(whole),
        fenced("def root(x):\n    return math.sqrt(half(x))"),  # the prompt's imports and helpers are there
        fenced("return math.sqrt(half(x))"),  # the body alone
        fenced("root = lambda x: math.sqrt(half(x))"),
        whole,
        HUMANEVAL["canonical_solution"] + "\nprint(root(2))\n1 / 0",  # a base model that runs on
        fenced("def root(x):\n    return 2.0"),
        fenced("def root(x):\n    return 1 / 0") + fenced("root(3)"),
        "It cannot be done.",
    ) == [
        (True, "pass", "code_block"),
        (True, "pass", "code_block"),
        (True, "pass", "code_block"),
        (True, "pass", "code_block"),
        (True, "pass", "whole_text"),
        (True, "pass", "whole_text"),
        (True, "pass", "code_block"),
        (False, "crash", "code_block"),
        (False, None, "none"),
    ]


def test_mbpp(data):
    task = mbpp.build(mbpp.Config(split="train"))
    [problem] = task.problems()
    kept = json.loads(problem.tests)
    assert kept["names"] == ["Pair", "sum"] and kept["context"] == "import math\nimport cmath"
    assert "assert sum(Pair(1, 2)) == 3" in problem.question and task.response(problem).startswith("```python\nimport")
    assert task.response(mbpp.build(mbpp.Config()).problems()[0]) is None
    wrong = MBPP["code"].replace("+", "-")
    assert scored(task, task.response(problem), fenced(wrong), fenced("def sum(pair): return 3")) == [
        (True, "pass", "code_block"),
        (False, "wrong", "code_block"),
        (False, "crash", "code_block"),
    ]


def test_livecodebench_functions(data):
    task = livecodebench.build(livecodebench.Config(release="v5"))
    [problem] = task.problems()
    assert (task.name, task.metric) == ("livecodebench-public", "pass@1 on public tests")
    assert FUNCTIONAL["starter_code"].strip() in problem.question
    method = "class Solution:\n    def addAll(self, numbers: List[int], start: int) -> int:\n        return {}"
    assert scored(
        task,
        fenced(method.format("sum(numbers, start)")),
        fenced("def addAll(numbers, start): return reduce(operator.add, numbers, start)"),
        fenced(method.format("sum(numbers)")),
        fenced(method.format("numbers.nothing")),
    ) == [
        (correct, verdict, "code_block")
        for correct, verdict in ((True, "pass"),) * 2 + ((False, "wrong"), (False, "crash"))
    ]


def test_a_tuple_will_do_where_a_list_is_expected():
    tests = _livecodebench.calls("f", [["1", "[1, 2]"]], in_class=False)
    space = {"f": lambda x: (x, 2)}
    exec(tests, space)
    space = {"f": lambda x: ((x, 2),)}
    with pytest.raises(AssertionError):
        exec(tests, space)


def test_livecodebench_programs(data):
    task = livecodebench.build(livecodebench.Config(release="release_v1"))
    assert scored(task, fenced("print(sum(map(int, input().split())))"), "print(3)", fenced("print(4)"), "No.") == [
        (True, "pass", "code_block"),
        (True, "pass", "whole_text"),
        (False, "wrong", "code_block"),
        (False, None, "none"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["lcb-f1", "lcb-s1"]),
        ({"release": "release_v5"}, ["lcb-f1", "lcb-s1"]),
        ({"release": "release_v4"}, ["lcb-s1"]),
        ({"start": "2023-05-08"}, ["lcb-f1"]),
        ({"start": "2023-05-07", "end": "2024-09-29"}, ["lcb-s1"]),
        ({"difficulties": ["easy"]}, ["lcb-f1"]),
    ],
)
def test_livecodebench_windows(data, options, expected):
    assert [problem.id for problem in livecodebench.build(livecodebench.Config(**options)).problems()] == expected


def test_private_tests_as_upstream_packs_them(data, tmp_path):
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(PRIVATE)))).decode()
    upstream = {key: value for key, value in STDIN.items() if key not in ("func_name", "release")}
    upstream |= {
        "private_test_cases": packed,
        "metadata": "{}",
        "public_test_cases": json.dumps(STDIN["public_test_cases"]),
    }
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(upstream))
    task = livecodebench.build(livecodebench.Config(path=str(path)))
    assert (task.name, task.metric) == ("livecodebench", "pass@1")
    assert scored(task, fenced("print(sum(map(int, input().split())))"), fenced("print(3)")) == [
        (True, "pass", "code_block"),
        (False, "wrong", "code_block"),
    ]
    with pytest.raises(UserError, match="field 'release' is missing"):
        livecodebench.build(livecodebench.Config(path=str(path), release="v5"))


def test_a_pickle_is_never_run(data, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    packed = base64.b64encode(zlib.compress(pickle.dumps(Bomb()))).decode()
    data("livecodebench", {**STDIN, "private_test_cases": packed})
    with pytest.raises(UserError, match="packs . texts; expected one|not valid JSON"):
        livecodebench.build(livecodebench.Config())
    assert not (tmp_path / "written").exists()


REFUSED = {
    "release is 'v7'": {"release": "v7"},
    "start is 'May'": {"start": "May"},
    "start is '20230508'; expected a date such as": {"start": "20230508"},  # dates, but not sorted as texts
    "end is '2024-W36-1'; expected a date such as": {"end": "2024-W36-1"},
    "start 2024-02-01 is after end 2024-01-01": {"start": "2024-02-01", "end": "2024-01-01"},
    "difficulties is 'medium-hard'": {"difficulties": ["medium-hard"]},
    "no problem of v6 in": {"release": "v6"},
    "no problem is selected": {"start": "2030-01-01"},
    "no such file": {"path": "nowhere.jsonl"},
}


@pytest.mark.parametrize(("message", "options"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused(data, message, options):
    with pytest.raises(UserError, match=message):
        livecodebench.build(livecodebench.Config(**options))


BROKEN = {
    "field 'public_test_cases': expected a list of tests": (
        "livecodebench_public",
        {**STDIN, "public_test_cases": [1]},
    ),
    "field 'public_test_cases' is not valid JSON": ("livecodebench_public", {**STDIN, "public_test_cases": "[1"}),
    "field 'private_test_cases' is not readable": ("livecodebench_public", {**STDIN, "private_test_cases": "!"}),
    "hold no test": ("livecodebench_public", {**FUNCTIONAL, "public_test_cases": []}),
    "field 'contest_date' is missing": ("livecodebench_public", {**STDIN, "contest_date": None}),
    "field 'contest_date' is '8 May 2023'": ("livecodebench_public", {**STDIN, "contest_date": "8 May 2023"}),
    "field 'entry_point' is missing": ("humaneval", {**HUMANEVAL, "entry_point": None}),
    "field 'test_list' is 'assert'": ("mbpp_sanitized", {**MBPP, "test_list": "assert", "split": "test"}),
    "not valid Python": ("mbpp_sanitized", {**MBPP, "code": "def f(:", "split": "test"}),
    "the tests use nothing that 'code' defines": ("mbpp_sanitized", {**MBPP, "code": "x = 1", "split": "test"}),
}


@pytest.mark.parametrize(("message", "case"), BROKEN.items(), ids=BROKEN)
def test_broken_rows_are_named(data, tmp_path, message, case):
    name, row = case
    data(name, row)
    module = {"humaneval": humaneval, "mbpp_sanitized": mbpp}.get(name, livecodebench)
    with pytest.raises(UserError, match=rf"{name}.jsonl, line 1: .*{message}"):
        module.build(module.Config())


def test_humaneval_is_not_trained_on(data):
    with pytest.raises(UserError, match="split is 'train'; expected one of test"):
        humaneval.build(humaneval.Config(split="train"))


def test_the_same_answer_is_the_same_verdict(data):
    """What AutoJudge's search asks: passes like the first text, or fails like it."""
    task = livecodebench.build(livecodebench.Config(release="release_v1"))
    [problem] = task.problems()
    right, wrong, raising = (fenced(code) for code in ("print(3)", "print(4)", "1 / 0"))
    failed = dataclasses.replace(problem, answer=task.score(problem, wrong).extracted)
    assert [task.score(failed, text).correct for text in (right, wrong, raising, "No.")] == [False, True, True, True]
    passed = dataclasses.replace(problem, answer=task.score(problem, right).extracted)
    assert [task.score(passed, text).correct for text in (right, wrong)] == [True, False]
    unknown = dataclasses.replace(problem, answer=None)
    assert task.score(unknown, right).correct is None


def test_fingerprints_cover_the_tests(data):
    before = mbpp.build(mbpp.Config()).fingerprint()
    data("mbpp_sanitized", {**MBPP, "split": "test", "task_id": 11, "test_imports": []})
    assert mbpp.build(mbpp.Config()).fingerprint() != before


@pytest.mark.parametrize(
    ("text", "code", "complete"),
    [
        ("```python\na\n```", "a\n", True),
        ("```\na\n```\n```py\nb\n```", "b\n", True),
        ("```python\na\n```\n```python\nb", "a\n", True),
        ("```python\na", "a", False),
        ("```python\ndef f(): pass\n```\n```python\nf()\n```", "def f(): pass\n", True),
        ("    ```python\n    a\n    ```", "a\n", True),
    ],
)
def test_which_block_counts(text, code, complete):
    found = _code.block(text, "f")
    assert (found.code, found.complete, found.path) == (code, complete, "code_block")


def test_jobs_carry_what_their_kind_needs(data):
    function, program = livecodebench.build(livecodebench.Config()).problems()
    found = _code.Found("def addAll(): pass", "code_block", True)
    assert isinstance(livecodebench.job(function, found).tests, Asserts)
    assert livecodebench.job(program, found).tests == Cases((("1 2\n", "3\n"),))
