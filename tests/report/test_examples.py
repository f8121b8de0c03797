"""Example generations: the question above each, and as much of the answer as is said."""

import json

import pytest

from tests.evaluation.conftest import Tiny
from tests.report.synthetic import METHODS, Size, write
from toolkit.errors import UserError
from toolkit.report import examples, html
from toolkit.report.content import page
from toolkit.report.page import Example, Text

SOME = METHODS[:3]


def section(*paths):
    return next(one for one in page(paths).sections if one.id == "examples").parts


def shown(*paths):
    return [part for part in section(*paths) if isinstance(part, Example)]


def test_each_has_its_prompt(tmp_path):
    write(tmp_path / "run", SOME)
    found = shown(tmp_path / "run")
    assert len(found) == 4
    for one in found:
        question = one.title.rpartition(": ")[2]
        assert one.prompt == [("system", "You add."), ("user", f"{question}: <b>how</b> many?")]
    written = html.render(page([tmp_path / "run"]))
    assert "&lt;b&gt;how&lt;/b&gt; many?" in written and "<b>how" not in written


def test_a_run_without_prompts_says_so(tmp_path):
    write(tmp_path / "run", SOME)
    (tmp_path / "run" / "prompts.jsonl").unlink()
    said, *found = section(tmp_path / "run")
    assert isinstance(said, Text) and f"prompts are not shown: no prompts.jsonl in {tmp_path / 'run'}." in said.text
    assert len(found) == 4 and not any(one.prompt for one in found)


def test_of_two_runs_one_has_them(tmp_path):
    for name in "ab":
        write(tmp_path / name, SOME)
    (tmp_path / "a" / "prompts.jsonl").unlink()
    found = section(tmp_path / "a", tmp_path / "b")
    assert all(isinstance(one, Example) and one.prompt for one in found)


def test_why_there_are_none_is_said_once(tmp_path):
    for seed, task in enumerate(("gsm8k", "steps", "code")):
        write(tmp_path / task, SOME, task=task, seed=seed, size=Size(6, 6, windows=task == "code"))
    said, *found = section(*sorted(tmp_path.iterdir()))
    older = "rows that do not say what was rejected, as an older version wrote them."
    assert said.text == f"None of tiny-random:llama, gsm8k; tiny-random:llama, steps: {older}"
    assert found and all(one.title.startswith("tiny-random:llama, code: ") for one in found)


def test_prompts_that_are_none_are_refused(tmp_path):
    write(tmp_path / "run", SOME)
    (tmp_path / "run" / "prompts.jsonl").write_text(json.dumps({"id": "gsm8k-0", "messages": [{"role": 1}]}))
    with pytest.raises(UserError, match="prompts.jsonl line 1: expected a prompt's id"):
        page([tmp_path / "run"])


def test_all_turns_of_a_conversation_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_DATA_DIR", str(tmp_path))
    common = {"category": "math", "reference": None}
    rows = [common | {"question_id": i, "turns": [f"Is {i} odd?", "Why?"]} for i in (1, 2)]
    (tmp_path / "mt_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = Tiny(tmp_path)
    draft = "{name: draft, proposer: {type: draft_model, model: {name: target, draft_from: {layers: [0]}}}}"
    assert tiny.run(f"methods=[{draft}]", "task={type: mt_bench}", "speed.prompts=2", "target.device=cpu") == 0
    for i, one in enumerate(shown(tiny.out), start=1):
        assert one.prompt == [("user", f"Is {i} odd?"), ("user, after the answer", "Why?")]
        assert "Why?" in "".join(span.text for span in one.spans if span.kind == "prompt")


@pytest.mark.parametrize("left", [1, 0])
def test_as_many_tokens_are_shown_as_is_said(tmp_path, monkeypatch, left):
    rows = write(tmp_path / "run", SOME)
    row = next(row for row in rows if row.drafts and row.n_tokens > 20)
    monkeypatch.setattr(examples, "LONGEST", row.n_tokens - left)
    [one] = [one for one in shown(tmp_path / "run") if one.title.endswith(row.prompt_id) and one.method == row.method]
    text = "".join(span.text for span in one.spans if span.kind != "rejected")
    assert text == row.text[: row.n_tokens - left], "a letter is a token here"
    said = f"{row.n_tokens} (the first {row.n_tokens - 1} shown)" if left else f"{row.n_tokens}"
    assert dict(one.facts)["tokens"] == said


def test_what_was_rejected_is_none_of_the_tokens_that_are_shown():
    found = [("accepted", [1, 2]), ("rejected", [9, 9]), ("target", [3]), ("prompt", [7]), ("accepted", [4, 5])]
    assert examples._first(found, 3) == found[:3]
    assert examples._first(found, 2) == found[:2]
    assert examples._first(found, 4) == [*found[:4], ("accepted", [4])]
    assert examples._first(found, 1) == [("accepted", [1])]
    assert examples._first(found, 5) == found
