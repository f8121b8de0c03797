"""Domain corpora as tasks: splits that share no prompt, whatever the file; the hub where there is no file."""

import json

import pytest

from toolkit.errors import UserError
from toolkit.tasks import _data, _domain, domain_chat, domain_code

TASKS = {"domain_code": domain_code, "domain_chat": domain_chat}
COUNT = 400


def rows(count=COUNT):
    return [
        {"id": f"r{i}", "prompt": f"Write {i} words.", "response": f"word {i}", "source": ("people", "models")[i % 2]}
        for i in range(count)
    ]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    for name in TASKS:
        write(tmp_path, name, rows())
    return tmp_path


def write(directory, name, content):
    (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))


def questions(module, **options):
    return [problem.question for problem in module.build(module.Config(**options)).problems()]


@pytest.mark.parametrize("name", TASKS)
def test_splits_share_no_prompt_and_leave_none_out(data, name):
    train, test = (questions(TASKS[name], split=split) for split in ("train", "test"))
    assert not {*train} & {*test}
    assert sorted(train + test) == sorted(row["prompt"] for row in rows())
    assert 0.05 * COUNT < len(test) < 0.25 * COUNT
    task = TASKS[name].build(TASKS[name].Config(split="train", limit=3, shuffle_seed=0, system="Be brief."))
    first = task.problems()[0]
    assert task.name == name and len(task.problems()) == 3
    assert [message["role"] for message in task.messages(first)] == ["system", "user"]
    assert task.response(first) == f"word {first.question.split()[1]}"
    assert task.score(first, "anything").correct is None and task.metric is None
    assert first.meta["where"].startswith(str(data / f"{name}.jsonl, line "))


def test_a_prompt_stays_in_its_split_in_another_file(data):
    before = questions(domain_code, split="test")
    write(data, "domain_code", [*reversed(rows(COUNT // 2)), *rows()])  # in another order, half of them twice
    after = questions(domain_code, split="test")
    assert sorted(before) == sorted(after)
    spaced = [row | {"prompt": f"  {row['prompt'].upper()}\n"} for row in rows()]
    write(data, "domain_code", [*rows(), *spaced])
    assert questions(domain_code, split="test") == before


def test_sources(data):
    wanted = {row["prompt"] for row in rows() if row["source"] == "people"}
    assert {*questions(domain_chat, split="train", sources=["people"])} < wanted
    with pytest.raises(UserError, match=r"task domain_chat: sources has 'peple'; expected some of models, people"):
        questions(domain_chat, sources=["peple"])


LEETCODE = {
    "problem_description": "Add two numbers.",
    "starter_code": "class Solution:\n    ",
    "completion": "class Solution: ...",
    "estimated_date": "2020-01-01 00:00:00",
}
DOLLY = {"instruction": "Name a colour.", "context": "", "response": "Red.", "category": "open_qa"}


def from_hub(monkeypatch, module, values):
    monkeypatch.delenv("DRAFTSMITH_DATA_DIR", raising=False)
    found = [_data.Row(dict(row), f"hub, row {i}") for i, row in enumerate(values)]
    monkeypatch.setattr(_data, "hub_rows", lambda hub_id, subset, split: found)
    monkeypatch.setattr(_domain, "split_of", lambda digest: "test")
    return module.build(module.Config()).problems()


def test_code_from_the_hub_ends_before_livecodebench_begins(monkeypatch):
    late = LEETCODE | {"problem_description": "Late.", "estimated_date": "2023-05-07 00:00:00"}
    undated = LEETCODE | {"problem_description": "Undated.", "estimated_date": None}
    (problem,) = from_hub(monkeypatch, domain_code, [LEETCODE, late, undated])
    assert problem.question.startswith("Add two numbers.\n\nPlease complete")
    assert problem.question.endswith("```python\nclass Solution:\n```")
    assert problem.worked == {"response": "class Solution: ..."} and problem.meta["source"] == "leetcodedataset"


def test_chat_from_the_hub(monkeypatch):
    asked = from_hub(monkeypatch, domain_chat, [DOLLY, DOLLY | {"context": "Not red."}])
    assert [problem.question for problem in asked] == ["Name a colour.", "Name a colour.\n\nNot red."]
    assert asked[0].meta["source"] == "dolly-open_qa"


def test_nothing_at_hand_says_what_helps(monkeypatch):
    def offline(*_):
        raise OSError("no network")

    monkeypatch.delenv("DRAFTSMITH_DATA_DIR", raising=False)
    monkeypatch.setattr(_data, "hub_rows", offline)
    with pytest.raises(UserError, match=r"'domain_chat' not found: .*databricks/databricks-dolly-15k.*directory that"):
        questions(domain_chat)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"prompt": None}, {}, r"domain_code.jsonl, line 1: field 'prompt' is missing"),
        ({"prompt": " \n"}, {}, r"domain_code.jsonl, line 1: field 'prompt' is empty"),
        ({"source": None}, {}, r"line 1: field 'source' is missing"),
        ({}, {"split": "valid"}, "split is 'valid'; expected one of test, train"),
        ({}, {"limit": 0}, "limit >= 1"),
    ],
)
def test_bad_input(data, change, options, message):
    write(data, "domain_code", [rows()[0] | change])
    with pytest.raises(UserError, match=message):
        questions(domain_code, **options)
