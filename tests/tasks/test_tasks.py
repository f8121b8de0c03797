"""The four tasks on small made-up files, their prompts, and what bad input gets."""

import dataclasses
import gzip
import json
import os
import re

import pytest

from toolkit.errors import UserError
from toolkit.tasks import _data, _exemplars, _prompts, gsm8k, gsm_symbolic, jsonl, math
from toolkit.tasks._answers import grade_expression, grade_number

GSM8K = [
    {"id": f"g{n}", "question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(9)
]
MATH = [
    {
        "id": f"test/{n}",
        "problem": f"Simplify ${n}x + x$.",
        "solution": rf"It is $\boxed{{{n + 1}x}}$.",
        "answer": f"{n + 1}x",
        "level": f"Level {n % 5 + 1}",
        "level_num": n % 5 + 1,
        "type": "Algebra" if n < 5 else "Precalculus",
        "in_math500": n == 3,
    }
    for n in range(10)
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    with gzip.open(tmp_path / "gsm8k_test.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in GSM8K)
    (tmp_path / "math_test.jsonl").write_text("\n".join(json.dumps(row) for row in MATH) + "\n\n")
    return tmp_path


def ids(task):
    return [problem.id for problem in task.problems()]


def test_gsm8k(data):
    task = gsm8k.build(gsm8k.Config(limit=2, offset=3, shots=2))
    assert ids(task) == ["g3", "g4"]
    problem = task.problems()[0]
    assert problem.answer == "4"
    messages = task.messages(problem)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[-1]["content"] == problem.question
    assert task.score(problem, problem.meta["solution"]).correct
    assert not task.score(problem, "#### 5").correct


def test_gsm8k_ids_of_upstream_rows_follow_from_the_question(data):
    (data / "gsm8k_train.jsonl").write_text(json.dumps({"question": "1?", "answer": "#### 1,000"}))
    (problem,) = gsm8k.build(gsm8k.Config(split="train")).problems()
    assert re.fullmatch("gsm8k-[0-9a-f]{12}", problem.id)
    assert problem.answer == "1,000"


def test_selection_is_the_same_every_time(data):
    first, again = (ids(gsm8k.build(gsm8k.Config(limit=4, shuffle_seed=1))) for _ in range(2))
    assert first == again != ids(gsm8k.build(gsm8k.Config(limit=4)))
    whole = ids(gsm8k.build(gsm8k.Config(shuffle_seed=1)))
    assert whole[:4] == first
    assert sorted(whole) == [row["id"] for row in GSM8K]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(10)),
        ({"tier": "medium"}, [0, 1, 5, 6]),
        ({"tier": "hard", "subjects": ["Precalculus"]}, [7, 8]),
        ({"levels": [5]}, [4, 9]),
        ({"math500": True}, [3]),
    ],
)
def test_math_filters(data, options, expected):
    assert ids(math.build(math.Config(**options))) == [f"test/{n}" for n in expected]


def test_math_tier_easy_is_gsm8k_under_the_prompt_of_math(data):
    easy, medium = (math.build(math.Config(tier=tier, shots=1)) for tier in ("easy", "medium"))
    assert ids(easy) == ids(gsm8k.build(gsm8k.Config()))
    problem = easy.problems()[0]
    assert easy.messages(problem)[:-1] == medium.messages(medium.problems()[0])[:-1]
    assert easy.score(problem, r"\boxed{1}").correct
    assert easy.name == "math-easy"


def test_math_answer_from_the_solution(data):
    rows = [
        {"id": "a", "problem": "?", "solution": r"\boxed{\frac{1}{2}}", "level": "Level ?", "type": "Algebra"},
        {"id": "b", "problem": "?", "solution": r"nothing: \boxed{}", "level": "Level 2", "type": "Algebra"},
    ]
    (data / "math_train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = math.build(math.Config(split="train"))
    first, second = task.problems()
    assert (first.answer, first.meta["level"]) == (r"\frac{1}{2}", None)
    assert (second.answer, second.meta["level"]) == (None, 2)
    assert task.score(second, r"\boxed{0}").correct is None


def test_gsm_symbolic_splits_are_disjoint_and_stable():
    tasks = {
        split: gsm_symbolic.build(gsm_symbolic.Config(split=split, limit=400)) for split in ("train", "valid", "test")
    }
    questions = {split: {problem.question for problem in task.problems()} for split, task in tasks.items()}
    assert all(len(found) == 400 for found in questions.values())
    assert not questions["train"] & questions["valid"]
    assert not (questions["train"] | questions["valid"]) & questions["test"]
    assert ids(gsm_symbolic.build(gsm_symbolic.Config(limit=5, offset=10))) == ids(tasks["test"])[10:15]
    assert ids(gsm_symbolic.build(gsm_symbolic.Config(seed=1, limit=5))) != ids(tasks["test"])[:5]
    for task in tasks.values():
        for problem in task.problems():
            assert task.score(problem, problem.meta["solution"]).correct
            assert not task.score(problem, f"#### {problem.answer}1").correct


def test_jsonl(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"prompt": "Half of 1?", "answer": 0.5}\n\n{"prompt": "Say hi.", "id": "hi"}\n')
    task = jsonl.build(jsonl.Config(path=str(path), system="Be brief."))
    half, greeting = task.problems()
    assert (task.name, half.id, half.answer, greeting.id, greeting.answer) == ("mine", "row-1", "0.5", "hi", None)
    assert task.messages(half) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Half of 1?"},
    ]
    assert task.score(half, r"\boxed{\frac{1}{2}}").correct
    assert task.score(greeting, "hi 5").correct is None
    exact = jsonl.build(jsonl.Config(path=str(path), score="exact"))
    assert exact.score(half, " 0.5\n").correct and not exact.score(half, "1/2").correct
    assert jsonl.build(jsonl.Config(path=str(path), score="none")).score(half, "0.5").correct is None


def test_fingerprint_covers_what_is_asked_and_nothing_else(data):
    def fingerprint(**options):
        return gsm8k.build(gsm8k.Config(**options)).fingerprint()

    base = fingerprint(limit=3)
    assert base == fingerprint(limit=3)
    different = [fingerprint(), fingerprint(limit=3, offset=1), fingerprint(limit=3, style="cod")]
    different += [fingerprint(limit=3, shots=1), fingerprint(limit=3, system="Hello.")]
    assert len({base, *different}) == 6


@pytest.mark.parametrize("exemplars", [_exemplars.GRADE_SCHOOL, _exemplars.COMPETITION])
def test_exemplars(exemplars):
    """Drafts keep to five words a step, answers come out of the worked text, and the sums are right."""
    for exemplar in exemplars:
        for style in _prompts.STYLES:
            assert grade_number(_prompts.worked(exemplar, style, "hashes"), exemplar.answer).correct
            score = grade_expression(_prompts.worked(exemplar, style, "boxed"), exemplar.answer)
            assert (score.correct, score.path) == (True, "boxed")
        assert all(len(re.sub(r"[^\w\s]+", " ", step).split()) <= 5 for step in exemplar.cod.split(";"))
        for left, right in re.findall(
            r"(?<![\d.])(\d[\d.]*(?: [*/+-] \d[\d.]*)+) = ([\d.]*\d)", f"{exemplar.cot} {exemplar.cod}"
        ):
            assert eval(left) == float(right), left


def test_one_system_prompt_a_style(data):
    systems = {style: gsm8k.build(gsm8k.Config(style=style)).preamble[0]["content"] for style in _prompts.STYLES}
    assert len(set(systems.values())) == 3
    assert all("####" in system for system in systems.values())
    assert gsm_symbolic.build(gsm_symbolic.Config(style="cod", limit=1)).preamble[0]["content"] == systems["cod"]
    assert r"\boxed{}" in math.build(math.Config(style="cod")).preamble[0]["content"]
    assert gsm8k.build(gsm8k.Config(system="")).preamble == []


def bad_line(data):
    (data / "math_test.jsonl").write_text(json.dumps(MATH[0]) + "\n{oops\n")
    return math.build(math.Config())


def damaged_gzip(data):
    path = data / "gsm8k_test.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    return gsm8k.build(gsm8k.Config())


def jsonl_of(data, text, **options):
    path = data / "mine.jsonl"
    path.write_text(text)
    return jsonl.build(jsonl.Config(path=str(path), **options))


BAD = [
    (bad_line, r"math_test.jsonl, line 2: not valid JSON"),
    (damaged_gzip, r"gsm8k_test.jsonl.gz.*damaged"),
    (
        lambda data: jsonl_of(data, '{"prompt": "a"}\n{"text": "b"}\n'),
        r"mine.jsonl, line 2: field 'prompt' is missing; found text",
    ),
    (lambda data: jsonl_of(data, '{"prompt": ["a"]}'), r"line 1: field 'prompt' is list; expected text"),
    (lambda data: jsonl_of(data, "[1]"), r"line 1: list; expected a JSON object"),
    (
        lambda data: jsonl_of(data, '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}'),
        r"id '1' occurs more than once",
    ),
    (lambda data: jsonl_of(data, "\n"), r"no problem is selected"),
    (
        lambda data: jsonl_of(data, '{"prompt": "a"}', score="maths"),
        r"score is 'maths'; expected one of math, exact, none",
    ),
    (lambda data: jsonl.build(jsonl.Config(path=str(data / "absent.jsonl"))), r"absent.jsonl: no such file"),
    (lambda data: gsm8k.build(gsm8k.Config(split="dev")), r"split is 'dev'; expected one of test, train"),
    (lambda data: gsm8k.build(gsm8k.Config(style="terse")), r"style is 'terse'; expected one of direct, cot, cod"),
    (lambda data: gsm8k.build(gsm8k.Config(shots=9)), r"shots is 9; .*0 to 8"),
    (lambda data: gsm8k.build(gsm8k.Config(limit=0)), r"limit >= 1"),
    (lambda data: gsm8k.build(gsm8k.Config(offset=9)), r"no problem is selected \(offset=9.*of 9"),
    (lambda data: math.build(math.Config(tier="hard", levels=[5])), r"drop one of them"),
    (lambda data: math.build(math.Config(levels=[6])), r"numbers from 1 to 5"),
    (lambda data: math.build(math.Config(subjects=["algebra"])), r"subjects is 'algebra'; expected one of Algebra"),
    (lambda data: math.build(math.Config(math500=True, split="train")), r"set split: test"),
    (lambda data: math.build(math.Config(tier="easy", subjects=["Algebra"])), r"tier easy is GSM8K"),
    (lambda data: gsm_symbolic.build(gsm_symbolic.Config(seed=-1)), r"seed is -1; expected 0 to 999"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_input(data, build, message):
    with pytest.raises(UserError, match=message):
        build(data)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub in place of the real one; its rows have upstream's fields only."""
    rows = {
        ("openai/gsm8k", "main"): [{"question": row["question"], "answer": row["answer"]} for row in GSM8K],
        ("HuggingFaceH4/MATH-500", None): [{"problem": MATH[3]["problem"]}],
    }
    for subject in math.SUBJECTS:
        folder = subject.lower().replace(" & ", "_and_").replace(" ", "_")
        keys = ("problem", "solution", "level", "type")
        rows["EleutherAI/hendrycks_math", folder] = [
            {k: row[k] for k in keys} for row in MATH if row["type"] == subject
        ]
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda name, config, split: rows[name, config])


def test_from_the_hub_the_same_fields(hub):
    assert [problem.answer for problem in gsm8k.build(gsm8k.Config()).problems()] == [str(n + 1) for n in range(9)]
    (problem,) = math.build(math.Config(math500=True)).problems()
    expected = dataclasses.replace(math._problem(_data.Row(MATH[3], "here")), id="test/algebra/row-3")
    assert problem == expected


def test_neither_file_nor_hub(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    with pytest.raises(
        UserError, match=r"no gsm8k_test.jsonl\[.gz\] in .*'openai/gsm8k'.*no route.*set DRAFTSMITH_DATA_DIR"
    ):
        gsm8k.build(gsm8k.Config())
    monkeypatch.delenv("DRAFTSMITH_DATA_DIR")
    with pytest.raises(UserError, match="DRAFTSMITH_DATA_DIR is not set"):
        math.build(math.Config())


@pytest.mark.real
@pytest.mark.skipif("DRAFTSMITH_DATA_DIR" not in os.environ, reason="DRAFTSMITH_DATA_DIR is not set")
@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("module", [gsm8k, math])
def test_every_reference_solution_scores_correct(module, split):
    task = module.build(module.Config(split=split))
    scored = [(problem, task.score(problem, problem.meta["solution"])) for problem in task.problems()]
    graded = [(problem.id, score) for problem, score in scored if score.correct is not None]
    assert len(graded) >= len(scored) - 2 > 1000  # two MATH train rows have an empty box
    assert [item for item in graded if not item[1].correct] == []
    assert {score.path for _, score in graded} == {"hashes" if module is gsm8k else "boxed"}
