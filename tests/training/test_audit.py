"""The data report on invented rows: every figure counted by hand."""

import json

import pytest

from toolkit import tiny
from toolkit.errors import UserError
from toolkit.tasks import jsonl
from toolkit.training import audit, leaks, report
from toolkit.training.audit import Lengths

RUN = "one two three four five six seven eight nine ten eleven twelve thirteen"
ROWS = [
    {"prompt": f"Say: {RUN.upper()}, please!", "response": "a b c d e f; g #### 4", "answer": 4},
    {"prompt": f"Count {RUN.removesuffix('thirteen')} sheep?", "response": "2 + 2 = 4 #### 4", "answer": 4},
    {"prompt": "Two  twos?", "response": "It is 5.", "answer": 4},
    {"prompt": "two twos?", "response": "2 + 2 = 4 #### 4"},
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tests = [f"Who says {RUN}?", "Two twos?"]
    (tmp_path / "gsm8k_test.jsonl").write_text("\n".join(json.dumps({"question": question}) for question in tests))
    write(tmp_path / "mine.jsonl", ROWS)
    return tmp_path


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))


def task(data, name="mine"):
    return jsonl.build(jsonl.Config(path=str(data / f"{name}.jsonl")))


def test_leaks_by_runs_and_by_copies(data):
    splits, missing = leaks.at_hand()
    assert (set(splits), missing) == ({"gsm8k_test"}, ["math_test"])
    questions = [row["prompt"] for row in ROWS]
    assert leaks.scan(questions, splits["gsm8k_test"]) == leaks.Leaks(runs=1, copies=2)
    assert leaks.scan(questions[1:2], splits["gsm8k_test"]) == leaks.Leaks(runs=0, copies=0)  # twelve words only


def test_a_run_is_thirteen_words():
    twelve = RUN.removesuffix(" thirteen")
    assert len(leaks.runs(twelve)) == 0
    assert len(leaks.runs(RUN)) == 1
    assert leaks.runs(f"{twelve}, THIRTEEN.") == leaks.runs(RUN)
    assert len(leaks.runs(f"{RUN} fourteen")) == 2


def test_figures(data):
    found = audit.audit([task(data), task(data)])
    assert found.repeated == 5  # of 8 rows, 3 ask something new
    assert found.splits_missing == ["math_test"]
    one = found.tasks[0]
    assert (one.name, one.rows, one.unanswered, one.repeated) == ("mine", 4, 0, 1)
    assert one.prompt_words == Lengths(2, 2, 15, 15)
    assert one.answer_words == Lengths(3, 7, 9, 9)
    assert (one.prompt_tokens, one.answer_tokens, one.overlong) == (None, None, None)
    assert one.leaks == {"gsm8k_test": leaks.Leaks(runs=1, copies=2)}
    assert (one.structure.marked, one.structure.correct, one.structure.graded) == (3 / 4, 2 / 3, 3)
    assert one.structure.long_rows == 1 / 4


def test_tokens_are_those_of_training(data):
    write(data / "short.jsonl", [{"prompt": "ab", "response": "c"}, {"prompt": "a", "response": "bcd"}])
    tokens = audit.Tokens(tiny.byte_tokenizer(), longest=20)
    (one,) = audit.audit([task(data, "short")], tokens=tokens).tasks
    assert one.prompt_tokens.most - one.prompt_tokens.least == 1
    assert one.answer_tokens.most - one.answer_tokens.least == 2
    assert one.prompt_tokens.most == len("user: ab\nassistant: ")
    assert one.overlong == 2
    (roomy,) = audit.audit([task(data, "short")], tokens=audit.Tokens(tiny.byte_tokenizer(), longest=99)).tasks
    assert roomy.overlong == 0


def test_generated_answers_take_the_place_of_the_tasks_own(data):
    (one,) = audit.audit([task(data)], generated={"mine/row-1": ("#### 4", None), "mine/row-2": ("", "empty")}).tasks
    assert (one.rows, one.unanswered, one.structure.empty) == (1, 3, 0)  # what training drops is no row
    assert one.structure.correct == 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], None),
        ([3], Lengths(3, 3, 3, 3)),
        (range(100, 0, -1), Lengths(1, 50, 95, 100)),
        ([1, 9], Lengths(1, 1, 9, 9)),
    ],
)
def test_lengths(counts, expected):
    assert audit.lengths(list(counts)) == expected


def test_histogram():
    lines = report.histogram({1: 5, 6: 10, 9: 10, 30: 1}).splitlines()
    assert [line.split() for line in lines] == [
        ["1", "#" * 10, "5"],
        *([label, "0"] for label in "2345"),
        ["6-10", "#" * 40, "20"],
        ["11-20", "0"],
        ["21+", "##", "1"],
    ]


RECIPE = """\
model: {model}
data:
  tasks:
    - {{type: jsonl, path: mine.jsonl}}
    - {{type: jsonl, path: mine.jsonl, limit: 2}}
"""


def test_the_program_prints_and_writes_the_report(data, capsys):
    (data / "mix.yaml").write_text(RECIPE.format(model="tiny-random:llama"))
    assert report.main(["mix.yaml", "data.max_length=8"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (data / "results/data/mix.md").read_text().strip()
    assert "| rows | 4 | 2 |" in printed
    assert "| longer than data.max_length | 4 | 2 |" in printed
    assert "| share 13 words with gsm8k_test (same question) | 1 (2) | 1 (0) |" in printed
    assert "Not compared with, as not in DRAFTSMITH_DATA_DIR: math_test." in printed
    written = json.loads((data / "results/data/mix.json").read_text())
    assert written["data"]["max_length"] == 8
    assert [one["rows"] for one in written["tasks"]] == [4, 2]
    assert written["tasks"][0]["leaks"] == {"gsm8k_test": {"runs": 1, "copies": 2}}


def test_a_model_that_is_elsewhere_costs_the_tokens_only(data, capsys):
    (data / "mix.yaml").write_text(RECIPE.format(model="./absent"))
    assert report.main(["mix.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "tokens not counted: model './absent'" in printed
    assert "| tokens, prompt | – | – |" in printed


def test_no_test_split_at_hand(data, monkeypatch, capsys):
    monkeypatch.delenv("DRAFTSMITH_DATA_DIR")
    (data / "mix.yaml").write_text(RECIPE.format(model="tiny-random:llama"))
    assert report.main(["mix.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "Not compared with, as not in DRAFTSMITH_DATA_DIR: gsm8k_test, math_test." in printed
    assert "share 13 words" not in printed


def test_bad_recipe(data, capsys):
    (data / "mix.yaml").write_text(RECIPE.format(model="tiny-random:llama"))
    assert report.main(["mix.yaml", "data.responses=none.jsonl"]) == 2
    assert "none.jsonl is not there" in capsys.readouterr().err
    (data / "results").write_text("a file where the report's directory should be")
    assert report.main(["mix.yaml"]) == 2
    assert "the report cannot be written" in capsys.readouterr().err


def test_an_answer_that_cannot_be_read_names_its_line(data):
    write(data / "mine.jsonl", [*ROWS, {"prompt": "a"}])
    with pytest.raises(UserError, match="mine.jsonl, line 5: field 'response' is missing"):
        task(data)
