"""Several tasks as one: whose each problem is, how it is posed and judged, and one split for all."""

import json

import pytest

from toolkit import config
from toolkit.errors import UserError
from toolkit.training import data


def built(**options):
    module, parsed = config.piece("tasks", {"type": "mixed"} | options, "test")
    return module.build(parsed)


STEPS = {"domain": "sums", "type": "steps", "style": "cod", "limit": 3}


@pytest.fixture
def prompts(tmp_path):
    rows = [{"id": f"c{i}", "prompt": f"Say {i}", "answer": str(i), "response": f"It is {i}."} for i in range(2)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "domain": "chat",
        "type": "jsonl",
        "path": str(tmp_path / "chat.jsonl"),
        "score": "exact",
        "system": "Be brief.",
    }


def test_problems_take_turns_and_keep_their_tasks(prompts):
    task = built(tasks=[STEPS, prompts])
    problems = task.problems()
    assert [one.meta["domain"] for one in problems] == ["sums", "chat", "sums", "chat", "sums"]
    assert problems[1].id == "chat/c0" and problems[0].id.startswith("sums/steps-")
    assert len({one.id for one in problems}) == 5
    chat, sums = problems[1], problems[0]
    assert task.messages(chat) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say 0"}]
    assert "draft of each step" in task.messages(sums)[0]["content"]
    assert task.score(chat, "0").correct and not task.score(chat, "1").correct
    assert task.score(sums, f"so #### {sums.answer}").path == "hashes"
    assert task.response(chat) == "It is 0." and task.response(sums).endswith(f"#### {sums.answer}")
    assert [one.id for one in built(tasks=[STEPS, prompts], limit=2).problems()] == [problems[0].id, problems[1].id]
    told = [(sums, f"#### {sums.answer}"), (chat, "1"), (chat, "0")]
    assert task.scores(told) == [task.score(*one) for one in told]
    assert task.metric == "accuracy" and built(tasks=[prompts | {"score": "none"}]).metric is None
    assert task.fingerprint() != built(tasks=[STEPS | {"limit": 2}, prompts]).fingerprint()


def test_all_are_of_one_split(prompts):
    train = {one.id for one in built(tasks=[STEPS, prompts], split="train").problems()}
    test = {one.id for one in built(tasks=[STEPS, prompts]).problems()}
    assert not {one for one in train & test if one.startswith("sums/")}
    with pytest.raises(UserError, match="tasks.0: split is 'test'; expected 'train'"):
        built(tasks=[STEPS | {"split": "test"}], split="train")
    node = {"type": "mixed", "tasks": [STEPS]}
    with pytest.raises(UserError, match="data.tasks.0.split. is 'test'; expected 'train'"):
        data.tasks([node], "r.yaml")
    assert len(data.tasks([node | {"split": "train"}], "r.yaml")[0].problems()) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": ["gsm8"]}, "tasks.0: unknown type 'gsm8'"),
        ({"tasks": [STEPS, STEPS]}, "tasks.1: two tasks are of domain 'sums'"),
        ({"tasks": [{"type": "steps", "stile": "cot"}]}, "unknown key 'stile'"),
        ({"tasks": [STEPS], "limit": 0}, "limit=0"),
    ],
)
def test_mixes_that_cannot_be_meant(options, message):
    with pytest.raises(UserError, match=message):
        built(**options)
