"""Training rows: the prompt is the one that evaluation poses, and the loss is on the answer alone."""

import json

import pytest

from tests.training.runs import Training, sums
from toolkit import chat, config, tiny
from toolkit.errors import UserError
from toolkit.evaluation.prompts import prepare
from toolkit.training import data, recipe
from toolkit.training.recipe import DataConfig

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
THINKING = (  # as Qwen3's: an empty thought is put before an answer without thinking
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' and not enable_thinking %}<think></think>{% endif %}{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
FORGETFUL = "{% for m in messages %}{{ loop.length }} {{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture
def tokenizer():
    return tiny.byte_tokenizer()


def loaded(training, tokenizer, **changes):
    settings = recipe.load(training.recipe, [])
    return data.load(settings.data, tokenizer, settings.train.seed, training.recipe)


def test_the_prompt_is_evaluations_and_only_the_answer_counts(tmp_path, tokenizer):
    training = Training(tmp_path)
    rows = loaded(training, tokenizer)
    module, options = config.piece("tasks", {"type": "jsonl", "path": str(training.data)}, "test")
    task = module.build(options)
    posed = {f"{task.name}/{p.problem.id}": p.tokens for p in prepare(task, tokenizer, True)}
    answers = {f"{task.name}/row-{number}": row["response"] for number, row in enumerate(sums(), start=1)}
    every = [*rows.train, *rows.valid]
    assert {row.key for row in every} == posed.keys()
    for row in every:
        prompt = len(posed[row.key])
        assert row.input_ids[:prompt] == tuple(posed[row.key])
        assert set(row.labels[:prompt]) == {data.IGNORED}
        assert row.labels[prompt:] == row.input_ids[prompt:]
        assert row.labels[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row.labels[prompt:-1]).strip() == answers[row.key]


def test_a_thinking_mode_is_said_to_the_template(tokenizer):
    tokenizer.chat_template = THINKING
    for thinking, opening in ((False, "[user]2 + 2?[assistant]<think></think>"), (True, "[user]2 + 2?[assistant]")):
        prompt, answer = chat.encode_answered(MESSAGES, "4", tokenizer, thinking)
        assert tokenizer.decode(prompt) == opening
        assert prompt == chat.encode(MESSAGES, tokenizer, thinking)
        assert (tokenizer.decode(answer[:-1]), answer[-1]) == ("4", tokenizer.eos_token_id)  # not the line's end after


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer):
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(UserError, match=r"differently once it is answered.*ends in '1 user: 2 \+ 2\?.*2 user: "):
        chat.encode_answered(MESSAGES, "4", tokenizer)


def test_rows_held_out_are_the_same_for_every_run(tmp_path, tokenizer):
    training = Training(tmp_path)
    first, again = loaded(training, tokenizer), loaded(training, tokenizer)
    assert first.valid == again.valid and first.fingerprint() == again.fingerprint()
    assert not {row.key for row in first.valid} & {row.key for row in first.train}


def rows_of(tmp_path, *lines, tasks=None):
    """`data.load` over generated answers to two problems of a jsonl task."""
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"p{i}", "prompt": f"{i}?", "response": f"r{i}"}) + "\n" for i in range(4))
    )
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = DataConfig(tasks or [{"type": "jsonl", "path": str(path)}], responses=str(answers))
    return data.load(settings, tiny.byte_tokenizer(), 0, "r.yaml")


def test_generated_answers_without_an_end_are_dropped_and_counted(tmp_path):
    found = rows_of(
        tmp_path,
        {"key": "mine/p0", "response": "#### 1", "finish": "eos"},
        {"key": "mine/p1", "response": "and so on and on", "finish": "length"},
        {"key": "mine/p2", "response": "", "finish": "eos"},
        {"key": "mine/p3", "response": "#### 2", "finish": "eos"},
    )
    assert {row.key for row in (*found.train, *found.valid)} == {"mine/p0", "mine/p3"}
    assert found.dropped == {"cut": 1, "empty": 1}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"type": "steps", "style": "cod", "limit": 2}], r"data.tasks.0.split' is 'test'; expected 'train'"),
        ([{"type": "gsm8k", "split": "test", "style": "cod"}], "what is trained on cannot be tested on"),
        (
            [{"type": "steps", "split": "train", "style": style, "limit": 2} for style in ("cot", "cod")],
            "two prompts are 'steps/",
        ),
    ],
)
def test_test_splits_and_problems_taken_twice_are_refused(tmp_path, tasks, message):
    with pytest.raises(UserError, match=message):
        rows_of(tmp_path, tasks=tasks)
