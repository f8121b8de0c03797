"""Plain fine-tuning on documents: `loss: lm`."""

import json

import pytest
import torch

from tests.training.distilling import Distilling
from toolkit import tiny
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.training import documents, features
from toolkit.training.distill_learner import DistillLearner, OnPolicyConfig
from toolkit.training.documents import DocumentsConfig, pack
from toolkit.training.losses import LossConfig
from toolkit.training.student import Student
from toolkit.training.texts import Text

DOCUMENTS = [f"{i % 10} + {i % 7} = {i % 10 + i % 7}. That is a sum, number {i}." for i in range(200)]
NAME = "tiny-random:llama"


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "hub" / "train.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def load(**settings):
    return documents.load(DocumentsConfig(**settings), tiny.byte_tokenizer(), "recipe.yaml")


def test_every_token_is_packed_and_predicted_once():
    texts = [tuple(range(100 * n, 100 * n + length)) for n, length in enumerate((5, 1, 13, 2, 30, 7), start=1)]
    rows = pack(texts, 8)
    stream = [token for text in texts for token in text]
    assert list(rows[0].prompt) + [token for row in rows for token in row.answer] == stream
    assert {len(row.tokens) for row in rows[:-1]} == {8}
    begun = [row.tokens[start] for row in rows for start in row.starts]
    assert begun == [text[0] for text in texts[1:]]


def test_documents_in_one_row_do_not_see_each_other():
    """The loss of packed documents is the sum of their own losses."""
    model, _ = tiny.build(NAME)
    student = Student(model, Vocabulary(torch.arange(259), 259), trimmed=False)
    teacher = features.Teacher(features.ModelConfig(NAME, device="cpu"))
    learner = DistillLearner(student, teacher, LossConfig("ce"), 2, OnPolicyConfig(), 0)
    texts = [(5, 6, 7, 8, 9), (10, 6, 11), (12, 13, 5, 14)]
    (row,) = pack(texts, 32)
    packed, _ = learner([row])
    alone = sum(learner([Text("", text[:1], text[1:], ended=False)])[0] for text in texts)
    predicted = sum(len(text) - 1 for text in texts)
    assert packed.item() / len(row.answer) == pytest.approx(alone.item() / predicted, rel=1e-5)


def test_held_out_is_by_document(written):
    found = load(path=str(written), valid=0.2, max_length=64, valid_limit=1000)
    tokenizer = tiny.byte_tokenizer()
    held = {tokenizer.decode(text.tokens, skip_special_tokens=True) for text in found.valid}
    trained = tokenizer.decode([t for row in found.train for t in row.answer], skip_special_tokens=False)
    assert 20 < len(held) < 60
    assert [text for text in DOCUMENTS if text in held and f"<bos>{text}<eos>" in trained] == []
    assert sum(trained.count(text + "<eos>") for text in DOCUMENTS) == len(DOCUMENTS) - len(held)
    assert all(text.ended for text in found.valid)


def test_a_stream_has_the_same_documents(written):
    streamed = load(hub=str(written.parent), limit=50, max_length=64, valid=0.2)
    assert streamed.train == load(path=str(written), limit=50, max_length=64, valid=0.2).train


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "expected 'path'"),
        ({"path": "none.jsonl"}, "none.jsonl is not there"),
        ({"path": "{file}", "limit": 1}, "held out; expected some of both"),
        ({"path": "{file}", "field": "body"}, "body"),
        ({"hub": "{folder}", "field": "body"}, "no text 'body'. It has: text"),
        ({"hub": "{folder}/none"}, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(settings, said, written):
    paths = {"{file}": str(written), "{folder}": str(written.parent), "{folder}/none": f"{written.parent}/none"}
    with pytest.raises(UserError) as refused:
        load(**{key: paths.get(value, value) for key, value in settings.items()})
    assert said in str(refused.value)


def test_a_draft_learns_documents(adapted, answers, written, tmp_path):
    """Without answers, tau is measured on held-out documents; with them, on these."""
    settings = ["loss=lm", f"documents.path={written}", "documents.valid=0.2", "documents.max_length=64"]
    made = Distilling(tmp_path, adapted, answers)
    assert made.run(*settings, "data.answers=[]", "train.epochs=3") == 0
    assert made.gain() > 1.0
    assert made.manifest()["data"]["sources"] == [{"documents": str(written), "count": len(DOCUMENTS)}]
    (tmp_path / "both").mkdir()
    both = Distilling(tmp_path / "both", adapted, answers)
    assert both.run(*settings, "train.epochs=1") == 0
    assert len(both.manifest()["data"]["sources"]) == 2
    assert both.training()["untrained"] != made.training()["untrained"]
