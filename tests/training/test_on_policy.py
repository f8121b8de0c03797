"""Answers that the student samples itself."""

import pytest
import torch

from toolkit import tiny
from toolkit.engine.vocabulary import Vocabulary
from toolkit.training import on_policy
from toolkit.training.student import Student
from toolkit.training.texts import Text

PROMPTS = [(1, 2, 3), (4, 5, 6, 7, 8), (9, 10)]
LENGTHS = (6, 9, 4)
TEXTS = [
    Text(f"t{i}", prompt, (0,) * n, ended=False) for i, (prompt, n) in enumerate(zip(PROMPTS, LENGTHS, strict=True))
]
COLD = 1e-4  # greedy, but for ties


def answered(vocabulary=None, temperature=COLD, ends=(256,), seed=0, texts=TEXTS):
    model, _ = tiny.build("tiny-random:llama")
    whole = Vocabulary(torch.arange(259), 259)
    student = Student(model, vocabulary or whole, trimmed=vocabulary is not None)
    return student, on_policy.answered(student.model, student.vocabulary, texts, temperature, list(ends), seed)


@pytest.mark.parametrize("trimmed", [False, True])
@torch.no_grad()
def test_cold_answers_are_the_students_first_choices(trimmed):
    """Checked by one pass over each text alone: padding and cache have no part in it."""
    vocabulary = Vocabulary(torch.arange(3, 200, 2), 259) if trimmed else None
    student, found = answered(vocabulary, ends=())
    for text, recorded in zip(found, TEXTS, strict=True):
        assert (text.prompt, len(text.answer), text.ended) == (recorded.prompt, len(recorded.answer), False)
        logits = student.model(torch.tensor([text.tokens])).logits[0, len(text.prompt) - 1 : -1]
        assert student.vocabulary.tokens(logits.argmax(-1)).tolist() == list(text.answer)


def test_an_answer_ends_with_its_end():
    _, free = answered(ends=())
    end = free[1].answer[2]
    _, found = answered(ends=(end,))
    first = free[1].answer.index(end)
    assert found[1].answer == free[1].answer[: first + 1] and found[1].ended
    assert [text.ended for text in found] == [end in text.answer for text in free]


def test_draws_are_named():
    _, one = answered(temperature=1.0)
    assert answered(temperature=1.0)[1] == one
    assert answered(temperature=1.0, seed=1)[1] != one
    assert answered(temperature=1.0, texts=TEXTS[::-1])[1][::-1] != one  # another batch


def test_the_share_is_that_of_the_batches():
    batches = [[Text(f"{i}", (i,), (i,), ended=False)] for i in range(2000)]
    turns = [on_policy.turn(batch, 0.3, seed=0) for batch in batches]
    assert sum(turns) / len(turns) == pytest.approx(0.3, abs=0.04)  # four standard deviations
    assert turns == [on_policy.turn(batch, 0.3, seed=0) for batch in batches]
    assert not any(on_policy.turn(batch, 0.0, seed=0) for batch in batches)
    assert all(on_policy.turn(batch, 1.0, seed=0) for batch in batches)
