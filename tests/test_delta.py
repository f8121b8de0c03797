"""Drafts that store little: deltas of a pruned target, heads trimmed to a vocabulary; refused where some is missing."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.artifacts import TINY, config, draft_lora, lora, manifest, target_lora
from toolkit import artifact, delta, methods, sources, tiny, trim
from toolkit.engine.types import Request, Sampling
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, Models
from toolkit.loading import load

TEXT = torch.tensor([list(b"Hello, 12 + 30 = ?")])
TOKENS = [*range(10, 70, 3), 256]
BASE = {"name": "target", "draft_from": {"layers": [1]}}
SHARES = ["model.embed_tokens", "model.norm", "model.layers.0.self_attn"]  # what is left: the mlp, two norms, the head


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))


def vocabulary():
    return Vocabulary(torch.tensor(TOKENS), 259)


@torch.no_grad()
def saved(directory, target, *, trimmed, shares=SHARES):
    """A delta of the target's second layer, with changed weights -> the logits function of the draft in memory."""
    student, _, _ = load(dataclasses.replace(target, draft_from=DraftFrom([1])), None)
    if trimmed:
        trim.trim(student, vocabulary())
    torch.manual_seed(0)
    for name, parameter in student.named_parameters():
        if not any(name.startswith(f"{module}.") for module in shares):
            parameter.add_(0.05 * torch.randn_like(parameter))
    delta.save(student, shares, directory, torch.float32)
    if trimmed:
        trim.save(directory, vocabulary(), 259)
    bound = {"target": Models(target).identity()}
    artifact.write(directory, manifest(kind="delta", provides=["draft"], base=BASE, binds=bound, shares=shares))
    return lambda: student(TEXT).logits.detach()


def says(runner):
    return runner.forward(runner.cache(1, TEXT.shape[1]), TEXT, np.zeros(1, dtype=np.int64)).logits


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_delta_is_its_base_with_the_stored_tensors(tmp_path, trimmed):
    target = config(adapters=[target_lora(tmp_path / "cot")])
    logits = saved(tmp_path / "draft", target, trimmed=trimmed)
    stored = load_file(tmp_path / "draft" / "model.safetensors")
    assert "model.embed_tokens.weight" not in stored and "model.layers.0.mlp.up_proj.weight" in stored
    models = Models(target)
    path = str(tmp_path / "draft")
    runner = models.load(config(path))
    torch.testing.assert_close(says(runner), logits(), atol=1e-5, rtol=1e-5)
    assert runner.n_layers == 1
    assert runner.vocabulary is None if not trimmed else runner.vocabulary.ids.tolist() == TOKENS
    assert models.provenance[path]["source"].startswith("seeded + adapter ")
    assert " + delta " in models.provenance[path]["source"]
    before = models.provenance[path]["fingerprint"]
    plain = models.load(config("target", draft_from=DraftFrom([1])))
    assert (says(plain).shape != says(runner).shape) is trimmed
    weights = tmp_path / "draft" / "model.safetensors"
    save_file({name: tensor + 1e-3 for name, tensor in stored.items()}, weights)
    artifact.write(tmp_path / "draft", artifact.read(tmp_path / "draft"))
    again = Models(target)
    again.load(config(path))
    assert again.provenance[path]["fingerprint"] != before


def test_an_adapter_says_what_it_is_merged_into(tmp_path, capfd):
    """The model that its manifest names: a draft that is a delta of its target, or some layers of that."""
    saved(tmp_path / "draft", config(), trimmed=False)
    lora(tmp_path / "a", config(draft_from=DraftFrom([1])))
    for base, called in ({"name": str(tmp_path / "draft")}, tmp_path / "draft"), (BASE, f"layers 1 of {TINY}"):
        artifact.write(tmp_path / "a", manifest(provides=["draft"], base=base))
        Models(config()).load(config(str(tmp_path / "a")))
        assert f"adapter {tmp_path / 'a'} merged into {called}\n" in capfd.readouterr().err
    lora(tmp_path / "b")
    Models(config(adapters=[str(tmp_path / "b")]))
    assert f"adapter {tmp_path / 'b'} merged into {TINY}\n" in capfd.readouterr().err


def test_a_delta_of_another_target_is_refused(tmp_path):
    saved(tmp_path / "draft", config(), trimmed=False)
    path = str(tmp_path / "draft")
    with pytest.raises(UserError, match="trained for another model"):
        Models(config("tiny-random:llama:1")).load(config(path))
    with pytest.raises(UserError, match="is made of its target .*name a target too"):
        load(config(path), None)


def stored(directory, change):
    """Change the stored tensors, and the manifest's hashes with them."""
    tensors = load_file(directory / "model.safetensors")
    save_file(change(tensors), directory / "model.safetensors")
    artifact.write(directory, artifact.read(directory))


def test_a_delta_that_does_not_fit_is_refused(tmp_path):
    directory = tmp_path / "draft"
    name = "model.layers.0.mlp.up_proj.weight"

    def refused(message):
        with pytest.raises(UserError, match=message):
            Models(config()).load(config(str(directory)))

    def fresh():
        saved(directory, config(), trimmed=False)

    fresh()
    stored(directory, lambda tensors: {k: v for k, v in tensors.items() if k != name})
    refused(f"no tensor '{name}', and key 'shares' of manifest.json does not name its module")
    fresh()
    stored(directory, lambda tensors: tensors | {name: torch.zeros(3, 64)})
    refused(rf"tensor '{name}' has shape \[3, 64\], and the draft made of its target has \[128, 64\]")
    fresh()
    stored(directory, lambda tensors: tensors | {"model.layers.1.mlp.up_proj.weight": torch.zeros(1)})
    refused("has no tensor 'model.layers.1.mlp.up_proj.weight'")
    fresh()
    found = artifact.read(directory)
    artifact.write(directory, dataclasses.replace(found, shares=[*SHARES, "model.layers.7"]))
    refused("key 'shares': the draft has no module 'model.layers.7'")
    artifact.write(directory, dataclasses.replace(found, base={"name": "target", "draft_from": {"layers": [0, 1]}}))
    refused("key 'num_hidden_layers' is 1, and key 'base.draft_from' of manifest.json leaves 2")
    fresh()
    (directory / "model.safetensors").write_bytes(b"no safetensors")
    refused(r"model\.safetensors: SHA-256 is .* changed after training")
    artifact.write(directory, artifact.read(directory))
    refused("not a readable safetensors file")


def test_a_trimmed_lora_of_a_pruned_target(tmp_path):
    target = config()
    models = Models(target)
    path, whole = draft_lora(tmp_path / "draft", models.identity(), target, [1])
    trim.save(tmp_path / "draft", vocabulary(), 259)
    artifact.write(tmp_path / "draft", artifact.read(tmp_path / "draft"))
    runner = models.load(config(path))
    torch.testing.assert_close(says(runner), whole(TEXT)[..., TOKENS], atol=1e-5, rtol=1e-5)
    assert runner.vocabulary.ids.tolist() == TOKENS


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("before", [False, True], ids=["trimmed on load", "saved trimmed"])
def test_a_whole_draft_model_with_a_vocabulary(tmp_path, capfd, tied, before):
    model, tokenizer = tiny.build("tiny-random:llama:1")
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    expected = model(TEXT).logits[..., TOKENS].detach()
    if before:
        trim.trim(model, vocabulary())
        with torch.no_grad():  # a head that was trained on
            model.lm_head.weight.mul_(2)
        expected = 2 * expected
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    trim.save(tmp_path, vocabulary(), 259)
    capfd.readouterr()
    models = Models(config())
    runner = models.load(config(str(tmp_path)))
    assert "MISMATCH" not in "".join(capfd.readouterr())
    torch.testing.assert_close(says(runner), expected, atol=1e-5, rtol=1e-5)
    assert runner.model.get_input_embeddings().num_embeddings == 259
    fingerprint = models.provenance[str(tmp_path)]["fingerprint"]
    trim.save(tmp_path, Vocabulary(torch.tensor([*TOKENS[1:], 257]), 259), 259)  # as many others
    other = Models(config())
    other.load(config(str(tmp_path)))
    assert other.provenance[str(tmp_path)]["fingerprint"] != fingerprint


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_trimmed_draft_decodes(tmp_path, temperature):
    saved(tmp_path / "draft", config(), trimmed=True)
    models = Models(config())
    node = {"name": "m", "proposer": {"type": "draft_model", "model": {"name": str(tmp_path / "draft")}}}
    sampling = Sampling(temperature, max_new_tokens=24)
    requests = [Request(i, tuple(range(60, 66 + i))) for i in range(3)]
    done = methods.decoder(methods.resolve(node, "test"), models).generate(requests, sampling)
    assert sum(proposed for generation in done for proposed, _ in generation.windows) > 20
    if sampling.greedy:
        baseline = methods.decoder(methods.resolve("baseline", "test"), models).generate(requests, sampling)
        assert [generation.tokens for generation in done] == [generation.tokens for generation in baseline]


def test_a_trimmed_draft_is_no_target(tmp_path):
    model, tokenizer = tiny.build("tiny-random:llama")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    trim.save(tmp_path, vocabulary(), 259)
    with pytest.raises(UserError, match="is a draft that says only 21 of its tokens"):
        Models(config(str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d2t": torch.zeros(21, dtype=torch.int64)}, "'t2d' and 'd2t' disagree"),
        ({"d2t": torch.full((21,), 300)}, "'d2t' maps draft token 0 to 300, and the target has tokens 0 to 258"),
        ({"d2t": torch.arange(21) * -1}, "'d2t' maps draft tokens 0 and 1 to 0 and 0; expected ascending"),
        (
            {"t2d": torch.zeros(260, dtype=torch.bool).index_fill_(0, torch.tensor(TOKENS), True)},
            "'t2d' has 260 entries",
        ),
        ({"more": torch.zeros(1)}, "holds d2t, more, t2d; expected d2t and t2d"),
    ],
)
def test_a_vocabulary_that_is_none_is_named(tmp_path, change, message):
    saved(tmp_path / "draft", config(), trimmed=True)
    path = tmp_path / "draft" / "vocabulary.safetensors"
    save_file(load_file(path) | change, path)
    with pytest.raises(UserError, match=r"vocabulary\.safetensors: SHA-256 is"):
        Models(config()).load(config(str(tmp_path / "draft")))
    artifact.write(tmp_path / "draft", artifact.read(tmp_path / "draft"))
    with pytest.raises(UserError, match=rf"vocabulary\.safetensors: {message}"):
        Models(config()).load(config(str(tmp_path / "draft")))


def test_a_vocabulary_of_another_size_than_the_head(tmp_path):
    """The stored head has 21 rows."""
    saved(tmp_path / "draft", config(), trimmed=True)
    trim.save(tmp_path / "draft", Vocabulary(torch.tensor(TOKENS[:-1]), 259), 259)
    artifact.write(tmp_path / "draft", artifact.read(tmp_path / "draft"))
    with pytest.raises(UserError, match=r"tensor 'lm_head.weight' has shape \[21, 64\].* has \[20, 64\] there"):
        Models(config()).load(config(str(tmp_path / "draft")))


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path):
    """As when a delta has lost its manifest."""
    saved(tmp_path / "draft", config(), trimmed=False)
    tiny.byte_tokenizer().save_pretrained(tmp_path / "draft")
    (tmp_path / "draft" / "manifest.json").unlink()
    with pytest.raises(UserError, match="its weights have no model.embed_tokens.weight"):
        load(config(str(tmp_path / "draft")), None)


def test_a_narrower_target_narrows_a_trimmed_draft(tmp_path):
    saved(tmp_path / "draft", config(), trimmed=True)
    models = Models(config())
    runner = models.load(config(str(tmp_path / "draft")))
    model, tokenizer = tiny.build("tiny-random:llama:1")
    model.resize_token_embeddings(200)
    model.config.pad_token_id = model.config.bos_token_id = model.config.eos_token_id = None
    model.save_pretrained(tmp_path / "narrow")
    tokenizer.save_pretrained(tmp_path / "narrow")
    models.load(config(str(tmp_path / "narrow")))
    assert (runner.vocab, len(runner.vocabulary), runner.vocabulary.size) == (200, 20, 200)
    assert json.loads((tmp_path / "draft" / "config.json").read_text())["vocab_size"] == 259
