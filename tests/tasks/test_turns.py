"""Questions in turns, and questions without a score."""

import json

import pytest

from toolkit.errors import UserError
from toolkit.tasks import mt_bench, spec_bench, truthfulqa

ROWS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Write again."], "reference": None},
    {"question_id": 111, "category": "math", "turns": ["Add.", "Add more."], "reference": ["1", "2"]},
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))

    def write(name, *rows):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / f"{name}.jsonl"

    write("mt_bench", *ROWS)
    return write


def test_both_turns_are_one_question(data):
    task = mt_bench.build(mt_bench.Config(system="Be brief."))
    first, second = task.problems()
    assert (first.id, first.question, first.follow_ups) == ("mt_bench-81", "Write.", ("Write again.",))
    assert second.follow_ups == ("Add more.",) and task.metric is None
    assert task.messages(first)[-1] == {"role": "user", "content": "Write."}
    assert task.score(first, "Here you are: 5").correct is None
    alone = mt_bench.build(mt_bench.Config(turns=1))
    assert [problem.follow_ups for problem in alone.problems()] == [(), ()]
    assert alone.fingerprint() != mt_bench.build(mt_bench.Config()).fingerprint()
    assert [problem.id for problem in mt_bench.build(mt_bench.Config(categories=["math"])).problems()] == [
        "mt_bench-111"
    ]


def test_spec_bench_from_a_file_or_the_data_directory(data, tmp_path):
    row = {"question_id": "1", "category": "translation", "turns": ["Translate."]}
    path = data("questions", row, {**ROWS[0], "turns": ["a", "b", "c"]})
    task = spec_bench.build(spec_bench.Config(path=str(path)))
    assert [problem.follow_ups for problem in task.problems()] == [(), ("b", "c")]
    with pytest.raises(UserError, match="it is on no hub. Set task.path to"):
        spec_bench.build(spec_bench.Config())
    data("spec_bench", row)
    assert [problem.id for problem in spec_bench.build(spec_bench.Config()).problems()] == ["spec_bench-1"]


@pytest.mark.parametrize("turns", [None, [], "Write.", ["Write.", 2], [" "]])
def test_turns_are_texts(data, turns):
    data("mt_bench", {**ROWS[0], "turns": turns})
    with pytest.raises(UserError, match="mt_bench.jsonl, line 1: field 'turns' is .* expected a list"):
        mt_bench.build(mt_bench.Config())


def test_what_cannot_be_meant_is_refused(data):
    with pytest.raises(UserError, match="turns is 0; expected 1 or more"):
        mt_bench.build(mt_bench.Config(turns=0))
    with pytest.raises(UserError, match="categories is 'maths'; expected one of math, writing"):
        mt_bench.build(mt_bench.Config(categories=["maths"]))


def test_truthfulqa(data):
    data("truthfulqa", {"question": "Is the earth flat?", "category": "Myths", "best_answer": "No.", "source": "x"})
    task = truthfulqa.build(truthfulqa.Config())
    [problem] = task.problems()
    assert (problem.question, problem.meta["best"], task.metric) == ("Is the earth flat?", "No.", None)
    assert problem.id.startswith("truthfulqa-") and task.score(problem, "No.").correct is None
