"""Two-turn prompts and programs through a run, on a tiny model."""

import json

import pytest

from toolkit.engine.types import Request, Sampling
from toolkit.evaluation import measure, prompts, turns
from toolkit.evaluation.prompts import Prompt
from toolkit.hub import ModelConfig, Models
from toolkit.methods import decoder, resolve
from toolkit.tasks import _sandbox
from toolkit.tasks._types import Problem

TINY = "tiny-random:llama"


@pytest.fixture(scope="module")
def baseline():
    return decoder(resolve("baseline", "test"), Models(ModelConfig(TINY, device="cpu")))


@pytest.fixture
def mt_bench(tiny, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tiny.out.parent))
    rows = [
        {"question_id": i, "category": "math", "turns": [f"What is {i} + {i}?", f"And {i} more?"], "reference": None}
        for i in range(4)
    ]
    (tiny.out.parent / "mt_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["task={type: mt_bench}", "quality.enabled=false"]


def test_a_conversation_is_its_turns_one_after_the_other(baseline):
    sampling = Sampling(max_new_tokens=5)
    asked = [Prompt(Problem("a", "", None), (5, 6, 7), ((8, 9), (3,))), Prompt(Problem("b", "", None), (4, 5))]
    outcomes = [outcome for _, outcome, _ in measure.decode(baseline, asked, sampling)]
    context, tokens, windows = asked[0].tokens, [], []
    for follow_up in ((), *asked[0].follow_ups):
        [answer] = baseline.generate([Request(asked[0].request_id, (*context, *tokens, *follow_up))], sampling)
        tokens += [*follow_up, *answer.tokens]
        windows += answer.windows
    talk, plain = outcomes
    assert talk.tokens == tokens and talk.windows == windows and talk.told == 3
    assert turns.generated(talk) == len(tokens) - 3 == sum(accepted + 1 for _, accepted in windows)
    assert talk.prompt_tokens == 3 and talk.text.count("\n\n") >= 2
    assert not isinstance(plain, turns.Conversation) and turns.generated(plain) == len(plain.tokens)


def test_an_end_of_turn_is_not_said_twice(baseline):
    ended = turns.Conversation(id=0, sample=0, prompt_tokens=1, tokens=[4, 2])
    assert turns._between(ended, (2, 9)) == (9,) and turns._between(ended, (3, 9)) == (3, 9)


def test_what_stands_between_two_answers_is_the_templates(baseline):
    """Prompt, answer and what is said in between are, as text, the chat that the template writes."""
    tokenizer = baseline.target.tokenizer
    task = type("Talk", (), {"name": "t", "problems": lambda _: [Problem("a", "One?", None, follow_ups=("Two?",))]})()
    task.messages = lambda problem: [{"role": "user", "content": problem.question}]
    [prompt] = prompts.prepare(task, tokenizer, chat_template=True)
    chat = [
        {"role": role, "content": text} for role, text in (("user", "One?"), ("assistant", "Yes"), ("user", "Two?"))
    ]
    written = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    said = tokenizer.decode(prompt.tokens) + "Yes" + tokenizer.decode(prompt.follow_ups[0])
    assert said == written
    [plain] = prompts.prepare(task, tokenizer, chat_template=False)
    assert tokenizer.decode(plain.follow_ups[0]).strip() == "Two?"
    assert prompt.digest != plain.digest


def test_a_run_over_two_turns(tiny, mt_bench):
    assert tiny.run("methods=[ngram,speculative]", "speed.prompts=4", *mt_bench) == 0
    rows = tiny.rows()
    assert len(rows) == 12 and {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert row["correct"] is None and row["n_tokens"] < len(row["tokens"])
        assert row["rounds"] + row["accepted"] == row["n_tokens"] <= 32
        phases = row["times"]
        assert sum(phases[p] for p in ("prefill", "draft", "verify", "host")) == pytest.approx(phases["total"])
    assert [(e["n"], e["bugs"]) for e in tiny.results()["equality"]] == [(4, 0), (4, 0)]


def test_one_turn_is_another_recipe(tiny, mt_bench):
    tiny.run("methods=[]", *mt_bench)
    first = tiny.rows()[0]
    tiny.run("methods=[]", "task={type: mt_bench, turns: 1}", "quality.enabled=false", f"out={tiny.out}-1")
    tiny.records = tiny.out.parent / "out-1" / "records.jsonl"
    other = tiny.rows()[0]
    assert first["prompt_id"] == other["prompt_id"] and first["resume_key"] != other["resume_key"]
    assert first["tokens"][: len(other["tokens"])] == other["tokens"]


@pytest.fixture
def code(tiny, monkeypatch):
    """HumanEval of made-up functions, and a model that writes what it is told to."""
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tiny.out.parent))
    rows = [
        {
            "task_id": f"H/{i}",
            "prompt": f"def f{i}(x):\n    ''' {i} more '''\n",
            "entry_point": f"f{i}",
            "test": f"def check(f):\n    assert f(1) == {i + 1}\n",
        }
        for i in range(3)
    ]
    (tiny.out.parent / "humaneval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = {"text": "```python\ndef f1(x): return x + 1\n```\nand so on"}
    real = measure.decode

    def writing(*arguments):
        outcomes = real(*arguments)
        for _, outcome, _ in outcomes:
            outcome.text, outcome.finish = written["text"], "length"
        return outcomes

    monkeypatch.setattr(measure, "decode", writing)
    return written


def test_programs_are_judged_together_and_a_whole_block_counts(tiny, code, monkeypatch):
    jobs = []
    real = _sandbox.judge
    monkeypatch.setattr(_sandbox, "judge", lambda given: jobs.append(len(given)) or real(given))
    options = ["task={type: humaneval}", "methods=[]", "speed.prompts=0"]
    assert tiny.run(*options) == 0
    assert jobs == [3], "the batch's programs at once"
    found = {row["prompt_id"]: (row["correct"], row["extracted"], row["extraction"]) for row in tiny.rows()}
    assert found == {
        "H/0": (False, "wrong", "code_block"),
        "H/1": (True, "pass", "code_block"),
        "H/2": (False, "wrong", "code_block"),
    }
    assert tiny.results()["quality"][0]["accuracy"]["value"] == pytest.approx(1 / 3)


def test_half_a_block_does_not_count(tiny, code):
    code["text"] = "```python\ndef f1(x): return x + 1"
    tiny.run("task={type: humaneval}", "methods=[]", "speed.prompts=0")
    assert {row["prompt_id"]: row["correct"] for row in tiny.rows()} == dict.fromkeys(("H/0", "H/1", "H/2"), False)
    assert {row["extracted"] for row in tiny.rows()} == {"pass", "wrong"}


def test_a_verdict_that_fails_costs_its_own_row_alone(tiny, code, monkeypatch):
    real = _sandbox.judge

    def fails(jobs):
        if any("f2" in str(job.tests) for job in jobs):
            raise OSError("no process")
        return real(jobs)

    monkeypatch.setattr(_sandbox, "judge", fails)
    tiny.run("task={type: humaneval}", "methods=[]", "speed.prompts=0")
    assert {row["prompt_id"]: row["status"] for row in tiny.rows()} == {"H/0": "ok", "H/1": "ok", "H/2": "error"}
