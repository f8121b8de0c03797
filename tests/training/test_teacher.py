"""Answers from a stronger model: what is sent, what is recorded, what becomes training data."""

import json

import pytest

from tests.training.stub_endpoint import KEY, Response, Stub, solved
from tests.training.teaching import SYSTEM, Teaching, surround
from toolkit.tasks import jsonl
from toolkit.training.teacher import main


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    surround(tmp_path, monkeypatch)


def test_dry_run_sends_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY")  # nor is a key needed
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("dry_run=true", "prices={input: 1.0, output: 10.0}", "endpoint.max_tokens=100") == 0
    assert server.asked == []
    assert not teaching.out.exists()
    said = capsys.readouterr().out
    assert "6 requests" in said
    assert json.dumps(SYSTEM) in said
    assert "600 out" in said
    tokens_in = -(-sum(len(SYSTEM) + len(question) for question in teaching.questions) // 4)
    assert f"cost, estimated: {(tokens_in + 600 * 10) / 1e6:.4f}" in said


def test_a_whole_run(tmp_path, capsys):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("prices={input: 1.0, output: 2.0}") == 0
        assert sorted(server.asked) == sorted(teaching.questions)
        assert teaching.run() == 0
        assert len(server.asked) == 6, "a finished request was sent again"
    body = server.bodies[0]
    assert body["path"] == "/v1/chat/completions"
    assert body["messages"][0] == {"role": "system", "content": SYSTEM}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("stub", 0.0, 1024)
    assert set(server.authorization) == {f"Bearer {KEY}"}
    row = next(row for row in teaching.rows() if row["id"] == "sum-3")
    assert row["response"] == "3 + 2 = 5. #### 5"
    assert (row["answer"], row["correct"], row["path"], row["verdict"]) == ("5", True, "hashes", "good")
    assert (row["model"], row["finish_reason"], row["style"]) == ("stub-0125", "stop", "response")
    state = teaching.state()
    assert state["counts"] == {"good": 6}
    assert state["totals"]["prompt_tokens"] == 120
    assert "cost 0.0002" in capsys.readouterr().out  # (6 * 20 * 1 + 6 * 10 * 2) / 1e6


def test_the_jsonl_task_reads_what_was_exported(tmp_path):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        teaching.run()
    assert teaching.rows("train")[2] == {
        "id": "sum-2",
        "prompt": "What is 2 + 2?",
        "response": "2 + 2 = 4. #### 4",
        "answer": "4",
    }
    task = jsonl.build(jsonl.Config(path=str(teaching.out / "train.jsonl"), system=SYSTEM))
    assert [task.messages(problem) for problem in task.problems()] == [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        for question in teaching.questions
    ]
    assert [task.response(problem) for problem in task.problems()] == [solved(q).text for q in teaching.questions]


@pytest.mark.parametrize("change", ["endpoint.model=larger", "task.system=Be brief.", "endpoint.temperature=1.0"])
def test_another_recipe_is_refused(tmp_path, capsys, change):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        teaching.run()
        assert teaching.run(change) == 2
        assert len(server.asked) == 6
    assert change.partition("=")[0] in capsys.readouterr().err


def test_a_changed_style_is_refused(tmp_path, monkeypatch, capsys):
    rows = [{"question": f"What is {i} + 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(4)]
    (tmp_path / "gsm8k_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("task={type: gsm8k, split: train, style: cod}") == 0
        assert {row["style"] for row in teaching.rows()} == {"cod"}
        assert "at most five words" in server.bodies[0]["messages"][0]["content"]
        assert teaching.run("task={type: gsm8k, split: train, style: cot}") == 2
        assert "task.style is 'cod' there, 'cot' in" in capsys.readouterr().err
        assert teaching.run("task={type: gsm8k, style: cod}") == 2  # the test split, by default
        assert "split: train" in capsys.readouterr().err
    assert len(server.asked) == 4


BAD = {
    "What is 0 + 2?": Response(text="0 + 2 = 3. #### 3"),
    "What is 1 + 2?": Response(text="1 + 2 = 3"),  # right, without the mark
    "What is 2 + 2?": Response(text="2 + 2 = 4. #### 4 and so", finish="length"),
    "What is 3 + 2?": Response(text="  "),
}


def test_bad_answers_are_recorded_and_not_exported(tmp_path):
    with Stub(lambda question, _: BAD.get(question) or solved(question)) as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run() == 0
        verdicts = {row["id"]: row["verdict"] for row in teaching.rows()}
        assert verdicts == {
            "sum-0": "wrong",
            "sum-1": "no_mark",
            "sum-2": "cut",
            "sum-3": "empty",
            "sum-4": "good",
            "sum-5": "good",
        }
        assert [row["id"] for row in teaching.rows("train")] == ["sum-4", "sum-5"]
        assert teaching.run("keep_wrong=true") == 0
        assert [row["id"] for row in teaching.rows("train")] == ["sum-0", "sum-1", "sum-4", "sum-5"]
        assert len(server.asked) == 6, "at temperature 0 the same request has the same answer"
        assert teaching.run("endpoint.max_tokens=2048") == 0
        assert server.asked[6:] == ["What is 2 + 2?"], "only a cut answer is longer with more room"


def test_at_a_temperature_the_gaps_are_asked_again(tmp_path):
    def answer(question, before):
        return BAD[question] if question in BAD and not before else solved(question)

    with Stub(answer) as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("endpoint.temperature=0.7") == 0
        assert len(teaching.rows("train")) == 2
        assert teaching.run("endpoint.temperature=0.7") == 0
        assert sorted(server.asked[6:]) == sorted(BAD)
        assert [row["id"] for row in teaching.rows("train")] == [f"sum-{i}" for i in range(6)]
        assert {row["response"] for row in teaching.rows("train")} == {solved(q).text for q in teaching.questions}


def test_fill_keeps_to_its_problems_and_extend_takes_more(tmp_path, capsys):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        assert teaching.run("task.limit=2") == 0
        assert teaching.run("task.limit=5") == 0
        assert len(server.asked) == 2
        assert "3 more problems are selected; mode=extend" in capsys.readouterr().out
        assert teaching.run("task.limit=5", "mode=extend") == 0
        assert sorted(server.asked) == sorted(teaching.questions[:5])


def test_the_same_question_is_sent_once(tmp_path):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        with (tmp_path / "sums.jsonl").open("a") as file:
            file.write(json.dumps({"id": "again", "prompt": teaching.questions[0], "answer": "2"}) + "\n")
        assert teaching.run() == 0
        assert sorted(server.asked) == sorted(teaching.questions)


def test_the_shipped_recipe_runs(tmp_path, monkeypatch):
    rows = [{"question": f"What is {i} + 2?", "answer": f"It is {i + 2}.\n#### {i + 2}"} for i in range(4)]
    (tmp_path / "gsm8k_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Stub() as server:
        overrides = [f"endpoint.url={server.url}", "task.limit=3", f"out={tmp_path / 'out'}"]
        assert main(["recipes/train/teach/openai_compatible.yaml", *overrides]) == 0
    assert len(server.asked) == 3
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("mode=all", "mode"),
        ("endpoint.parallel=0", "endpoint.parallel"),
        ("endpoint.url=ftp://example.org", "endpoint.url"),
        ("endpoint.url=http://user:pass@example.org", "endpoint.url"),
        ("endpoint.key_env=sk-secret", "endpoint.key_env"),
        ("endpoint.key=sk-secret", "endpoint.key"),
        ("prices={input: -1, output: 0}", "prices"),
    ],
)
def test_a_bad_recipe(tmp_path, capsys, override, key):
    assert Teaching(tmp_path, "http://127.0.0.1:9/v1").run(override) == 2
    said = capsys.readouterr().err
    assert f"'{key}'" in said
    assert "user:pass" not in said
