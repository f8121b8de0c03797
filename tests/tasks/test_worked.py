"""Worked answers: what each task would have a model say, and that its own grader calls it right."""

import json

import pytest

from toolkit.errors import UserError
from toolkit.tasks import cod_cot_pairs, jsonl, math

MATH = [
    {
        "id": f"train/{n}",
        "problem": f"Halve ${n}$.",
        "solution": rf"We get ${n}/2 = \boxed{{\frac{{{n}}}{{2}}}}$, so \boxed {n}." if n == 3 else solution,
        "level": f"Level {n}",
        "type": "Algebra",
    }
    for n, solution in enumerate((r"\boxed{}", r"It is $\boxed{\frac{1}{2}}$.", r"$\boxed{1}$", ""), start=0)
]
GSM8K = {"question": "Two twos?", "answer": "Two twos are 2*2=<<2*2=4>>4.\n#### 4"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    for split in ("train", "test"):
        (tmp_path / f"math_{split}.jsonl").write_text("\n".join(json.dumps(row) for row in MATH))
        (tmp_path / f"gsm8k_{split}.jsonl").write_text(json.dumps(GSM8K))
    return tmp_path


def responses(task):
    return [task.response(problem) for problem in task.problems()]


def test_math_solutions_are_chains_of_thought_of_the_train_split(data):
    assert responses(math.build(math.Config(split="train"))) == [
        None,  # an empty box: there is no answer to learn
        r"It is $\boxed{\frac{1}{2}}$.",
        r"$\boxed{1}$",
        r"We get $3/2 = \boxed{\frac{3}{2}}$, so \boxed 3.",
    ]
    assert responses(math.build(math.Config(split="train", style="cod"))) == [None] * 4
    assert responses(math.build(math.Config(split="test"))) == [None] * 4


def test_math_ending_hashes_changes_prompt_and_answer_together(data):
    task = math.build(math.Config(split="train", ending="hashes", levels=[1, 2, 3]))
    assert "####" in task.preamble[0]["content"] and "boxed" not in task.preamble[0]["content"]
    assert responses(task) == [
        "It is $\\frac{1}{2}$.\n#### \\frac{1}{2}",
        "$1$\n#### 1",
        "We get $3/2 = \\frac{3}{2}$, so 3.\n#### 3",
    ]
    for problem in task.problems():
        score = task.score(problem, task.response(problem))
        assert (score.correct, score.path) == (True, "hashes")


@pytest.mark.parametrize(("ending", "path", "mark"), [("boxed", "boxed", r"\boxed{4}"), ("hashes", "hashes", "#### 4")])
def test_math_tier_easy_marks_as_the_other_tiers_do(data, ending, path, mark):
    for style, steps in (("cot", "Two twos are 2*2=4.\n"), ("cod", "2 * 2 = 4 ")):
        task = math.build(math.Config(split="train", tier="easy", ending=ending, style=style))
        (problem,) = task.problems()
        assert task.response(problem) == steps + mark
        assert task.score(problem, task.response(problem)).path == path


def test_math_refuses_another_ending(data):
    with pytest.raises(UserError, match="ending is 'none'; expected one of boxed, hashes"):
        math.build(math.Config(ending="none"))


def pair(number, tier="easy", source="gsm8k-train", **flags):
    row = {
        "id": f"{tier}-{number}",
        "tier": tier,
        "question": f"{number} and 1?",
        "cod": f"{number} + 1 = {number + 1} #### {number + 1}",
        "cot": f"We add {number} and 1 -> {number + 1} #### {number + 1}",
        "gold_answer": str(number + 1),
        "source_split": source,
        "source_id": f"s{number}",
        "cod_kept_by_source": True,
        "cot_kept_by_source": True,
        "cod_match": True,
        "cot_match": True,
    }
    return row | flags


PAIRS = [
    pair(0),
    pair(1, cod_kept_by_source=False),
    pair(2, cot_match=False),
    pair(3, tier="medium", source="math-train"),
    pair(4, tier="medium", source="math-test"),
    pair(5, tier="hard", source="math-train"),
]


@pytest.fixture
def pairs(data):
    (data / "cod_cot_pairs.jsonl").write_text("\n".join(json.dumps(row) for row in PAIRS))
    return data


def ids(**options):
    return [problem.id for problem in cod_cot_pairs.build(cod_cot_pairs.Config(**options)).problems()]


def test_pairs_are_the_same_problems_in_both_styles(pairs):
    assert ids(style="cod") == ids(style="cot") == ["easy-0", "medium-3", "hard-5"]
    for style in ("cot", "cod"):
        task = cod_cot_pairs.build(cod_cot_pairs.Config(style=style))
        first = task.problems()[0]
        assert task.response(first) == PAIRS[0][style]
        assert task.score(first, task.response(first)).correct
        assert first.meta["where"].endswith("cod_cot_pairs.jsonl, line 1")
    assert "five words" in task.messages(first)[0]["content"] and "####" in task.messages(first)[0]["content"]


def test_pairs_from_a_test_split_go_whatever_is_asked_for(pairs, caplog):
    assert ids(kept_only=False, matching_only=False) == ["easy-0", "easy-1", "easy-2", "medium-3", "hard-5"]
    assert "5 of 6 rows (easy+medium+hard) used; dropped: 1 from a test split" in caplog.text
    assert ids(tiers=["medium"], kept_only=False, matching_only=False) == ["medium-3"]
    assert ids(tiers=["easy"], matching_only=False) == ["easy-0", "easy-2"]
    assert ids(tiers=["easy"], kept_only=False) == ["easy-0", "easy-1"]


def rewrite_pair(data, **values):
    (data / "cod_cot_pairs.jsonl").write_text(json.dumps(PAIRS[0] | values))
    return cod_cot_pairs.build(cod_cot_pairs.Config())


def jsonl_of(data, *rows):
    path = data / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return jsonl.build(jsonl.Config(path=str(path)))


def test_jsonl_responses(data):
    task = jsonl_of(
        data, {"prompt": "a", "response": "b #### 1", "answer": 1, "tier": "hard"}, {"prompt": "c", "response": "d"}
    )
    first, second = task.problems()
    assert (task.response(first), first.meta["tier"], task.response(second)) == ("b #### 1", "hard", "d")
    assert second.meta == {"where": f"{data / 'mine.jsonl'}, line 2"}
    assert responses(jsonl_of(data, {"prompt": "a"}, {"prompt": "c"})) == [None, None]


BAD = [
    (lambda data: ids(), r"cod_cot_pairs.jsonl\[.gz\] not found; it is on no hub. Set DRAFTSMITH_DATA_DIR"),
    (lambda data: ids(style="direct"), r"style is 'direct'; expected one of cot, cod"),
    (lambda data: ids(tiers=["soft"]), r"tiers is 'soft'; expected one of easy, medium, hard"),
    (lambda data: ids(tiers=[]), r"tiers is empty; expected one or more of easy"),
    (lambda data: rewrite_pair(data, cod=None), r"cod_cot_pairs.jsonl, line 1: field 'cod' is missing"),
    (
        lambda data: rewrite_pair(data, cot_match=None),
        r"'cot_match' and 'cod_match' are None and True; expected true or",
    ),
    (lambda data: rewrite_pair(data, source_split="x-test"), r"no problem is selected"),
    (
        lambda data: jsonl_of(data, {"prompt": "a", "response": "b"}, {"prompt": "c"}),
        r"mine.jsonl, line 2: field 'response' is missing, though other lines have one; mend or delete",
    ),
    (
        lambda data: jsonl_of(data, {"prompt": "a"}, {"prompt": "c", "response": "b"}),
        r"mine.jsonl, line 1: field 'response' is missing",
    ),
    (
        lambda data: jsonl_of(data, {"prompt": "a", "response": "b"}, {"prompt": "c", "response": " \n"}),
        r"mine.jsonl, line 2: field 'response' is empty; mend or delete the line",
    ),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_bad_input(data, build, message):
    with pytest.raises(UserError, match=message):
        build(data)
