"""The generated family: every worked answer is right, splits share nothing, and difficulty is what is asked for."""

import random
import re

import pytest

from toolkit.errors import UserError
from toolkit.tasks import _arithmetic, _stories, gsm8k, steps


def task(**options):
    return steps.build(steps.Config(**{"limit": 200, "split": "train"} | options))


def operations(answer):
    """(left, operator, right, result) of each equation in a worked answer."""
    found = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", answer)
    return [(int(a), operator, int(b), int(c)) for a, operator, b, c in found]


@pytest.mark.parametrize("kind", steps.KINDS)
@pytest.mark.parametrize("style", ["cot", "cod"])
def test_worked_answers_are_right(kind, style):
    family = task(kinds=[kind], style=style)
    for problem in family.problems():
        answer = family.response(problem)
        assert family.score(problem, answer).correct
        done = operations(answer)
        assert 2 <= len(done) <= 5
        for a, operator, b, c in done:
            assert c * b == a if operator == "/" else c == {"+": a + b, "-": a - b, "*": a * b}[operator]
        assert str(done[-1][3]) == problem.answer
        assert all(0 <= number <= 100 for a, _, b, c in done for number in (a, b, c))


def test_the_styles_work_out_the_same_steps():
    for problem in task().problems():
        assert operations(problem.worked["cot"]) == operations(problem.worked["cod"])
        assert len(problem.worked["cod"]) < len(problem.worked["cot"])


def test_stories_tell_their_steps_in_order():
    rng = random.Random(0)
    for _ in range(200):
        story = _stories.draw(rng, 4, 100)
        told = [int(n) for n in re.findall(r"\d+", story.question)]
        assert told == [story.steps[0][0], *(n for _, _, n, _ in story.steps)]


@pytest.mark.parametrize(
    ("expression", "order"),
    [
        ("1 + 2 * 3", [(2, "*", 3, 6), (1, "+", 6, 7)]),
        ("( 1 + 2 ) * 3", [(1, "+", 2, 3), (3, "*", 3, 9)]),
        ("9 - 4 - 3", [(9, "-", 4, 5), (5, "-", 3, 2)]),
        ("8 / ( 4 / ( 1 + 1 ) )", [(1, "+", 1, 2), (4, "/", 2, 2), (8, "/", 2, 4)]),
        ("( 5 ) + 1", [(5, "+", 1, 6)]),
        ("7 / 2 + 1", None),
        ("7 / ( 2 - 2 )", None),
    ],
)
def test_expressions_are_worked_out_as_taught(expression, order):
    assert _arithmetic.steps(expression) == order


def test_splits_share_no_question_and_seeds_differ():
    questions = {split: {p.question for p in task(split=split).problems()} for split in ("train", "valid", "test")}
    assert not questions["train"] & questions["test"] and not questions["valid"] & questions["test"]
    assert not questions["train"] & questions["valid"]
    assert {p.question for p in task(seed=1).problems()} != questions["train"]


def test_the_same_problems_again_and_more_of_them():
    few, many = task(limit=20).problems(), task(limit=60).problems()
    assert few == many[:20]
    assert task(limit=20, offset=20).problems() == many[20:40]


def test_difficulty():
    hard = task(steps=[4, 4], kinds=["story"], limit=50)
    assert {len(operations(p.worked["cod"])) for p in hard.problems()} == {4}
    small = task(largest=20, limit=50)
    assert all(n <= 20 for p in small.problems() for step in operations(p.worked["cod"]) for n in (step[0], step[3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["riddle"]}, "kinds is 'riddle'"),
        ({"kinds": []}, "one kind or more"),
        ({"steps": [3]}, r"steps: \[fewest, most\]"),
        ({"steps": [4, 2]}, "fewest <= most"),
        ({"largest": 5}, "largest >= 10"),
        ({"split": "dev"}, "split is 'dev'"),
        ({"kinds": ["story"], "steps": [1, 1], "largest": 10, "limit": 100000}, "different problems"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(UserError, match=message):
        task(**options)


def test_expressions_that_all_fail_come_to_an_end(monkeypatch):
    monkeypatch.setattr(steps, "_ATTEMPTS", 20)
    with pytest.raises(UserError, match="only 0 different problems"):
        task(kinds=["expression"], steps=[14, 14], largest=10)


def test_gsm8k_styles(tmp_path, monkeypatch):
    rows = [
        '{"question": "q1", "answer": "Half is 48/2 = <<48/2=24>>24.\\nAll: 48+24 = <<48+24=72>>72.\\n#### 72"}',
        '{"question": "q2", "answer": "No marks here.\\n#### 5"}',
    ]
    (tmp_path / "gsm8k_train.jsonl").write_text("\n".join(rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    cot, cod = (gsm8k.build(gsm8k.Config(split="train", style=style)) for style in ("cot", "cod"))
    first, second = cot.problems()
    assert cot.response(first) == "Half is 48/2 = 24.\nAll: 48+24 = 72.\n#### 72"
    assert cod.response(first) == "48 / 2 = 24; 48 + 24 = 72 #### 72"
    assert cod.response(second) is None  # nothing to take a draft from: such rows are counted as dropped
    assert all(one.score(first, one.response(first)).correct for one in (cot, cod))
