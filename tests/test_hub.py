"""Models by name: tiny ones, pruned ones, ones that do not fit, and what each is on record as."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from tests.artifacts import config, eagle_head, manifest, target_lora
from toolkit import artifact, methods, prune, sources, tiny
from toolkit.engine.runner import Runner
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, ModelConfig, Models, check_compatible, load_hf

TEXT = "Hello, Wörld: 12 + 30 = ?\n"


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No test here may reach a network, or the weights that this machine happens to have."""
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))


def ids(tokenizer):
    return torch.tensor([tokenizer(TEXT)["input_ids"]])


def save(directory, model, tokenizer):
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


# ---- tiny models


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_tiny_is_seeded_and_reads_its_context(family):
    torch.manual_seed(1)
    model, tokenizer = tiny.build(f"tiny-random:{family}")
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn, "building a model moved the global generator"
    again, _ = tiny.build(f"tiny-random:{family}:0")
    other, _ = tiny.build(f"tiny-random:{family}:1")
    x = ids(tokenizer)
    changed = x.clone()
    changed[0, -3] += 1
    with torch.no_grad():
        p, same, q, moved = (
            m(t).logits[0, -1].softmax(-1) for m, t in ((model, x), (again, x), (other, x), (model, changed))
        )
    assert torch.equal(p, same)
    assert (p - q).abs().sum() / 2 > 0.1
    assert (p - moved).abs().sum() / 2 > 0.02


def test_byte_tokenizer_returns_any_text():
    tokenizer = tiny.byte_tokenizer()
    encoded = tokenizer(TEXT)["input_ids"]
    assert len(encoded) == len(TEXT.encode())
    assert tokenizer.decode(encoded) == TEXT
    assert (tokenizer.eos_token_id, len(tokenizer)) == (256, 259)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "user: hi\nassistant: "


@pytest.mark.parametrize("name", ["tiny-random:lama", "tiny-random:", "tiny-random:llama:x"])
def test_unknown_tiny_lists_the_families(name):
    with pytest.raises(UserError, match="llama, qwen2, qwen3, gpt2, mistral, gemma2"):
        tiny.build(name)


# ---- pruned drafts


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_pruned_draft_shares_its_tensors_and_survives_a_save(family, tmp_path):
    model, tokenizer = tiny.build(f"tiny-random:{family}")
    draft = prune.pruned(model.eval(), [1], family)
    owned = {tensor.data_ptr() for tensor in model.parameters()}
    assert all(tensor.data_ptr() in owned for tensor in draft.parameters())
    assert model.config.num_hidden_layers == 2
    assert draft.config.num_hidden_layers == 1
    x = ids(tokenizer)
    with torch.no_grad():
        whole, part = model(x).logits, draft(x).logits
        draft.save_pretrained(tmp_path)
        reloaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(x).logits
    assert not torch.allclose(whole, part, atol=1e-2)
    torch.testing.assert_close(reloaded, part)


def test_a_pruned_draft_computes_its_layer_and_nothing_else():
    model, tokenizer = tiny.build("tiny-random:llama")
    x = ids(tokenizer)
    with torch.no_grad():
        state = model.model.embed_tokens(x)
        positions = model.model.rotary_emb(state, torch.arange(x.shape[1])[None])
        state = model.model.layers[1](state, position_embeddings=positions)
        expected = model.lm_head(model.model.norm(state))
        torch.testing.assert_close(prune.pruned(model, [1], "x")(x).logits, expected)


@pytest.mark.parametrize("layers", [[], [2], [-1], [0, 0]])
def test_wrong_layers_are_named(layers):
    model, _ = tiny.build("tiny-random:gpt2")
    with pytest.raises(UserError, match=r"draft_from.layers = .*'gpt2', which has layers 0 to 1"):
        prune.pruned(model, layers, "gpt2")


# ---- Models


def test_models_load_once():
    models = Models(ModelConfig("tiny-random:llama", device="cpu"))
    assert models.load(ModelConfig("target")) is models.target
    pruned = ModelConfig("target", draft_from=DraftFrom([0]))
    assert models.load(pruned) is models.load(pruned)
    assert models.load(pruned).n_layers == 1
    assert models.target.n_layers == 2
    assert models.load(ModelConfig("tiny-random:llama:1", device="cpu")) is not models.target


def test_the_target_must_have_a_name_of_its_own():
    with pytest.raises(UserError, match="name the model itself"):
        Models(ModelConfig("target"))


def test_dtype_and_device_are_honoured():
    model, _ = load_hf(ModelConfig("tiny-random:llama", dtype="bfloat16", device="cpu"))
    assert model.dtype == torch.bfloat16
    assert not model.training
    with pytest.raises(UserError, match="device 'cuda:99'"):
        load_hf(ModelConfig("tiny-random:llama", device="cuda:99"))
    with pytest.raises(UserError, match="device 'gpu': expected auto"):
        load_hf(ModelConfig("tiny-random:llama", device="gpu"))


def test_quantised_loading_says_what_it_needs(tmp_path):
    name = save(tmp_path / "m", *tiny.build("tiny-random:llama"))
    with pytest.raises(UserError, match="quant: 8bit needs a CUDA device"):
        load_hf(ModelConfig(name, quant="8bit", device="cpu"))
    with pytest.raises(UserError, match="draft_from needs quant: none"):
        load_hf(ModelConfig(name, quant="4bit", draft_from=DraftFrom([0])))


# ---- vocabularies


def test_padded_widths_are_cut_to_the_tokenizer(tmp_path):
    model, tokenizer = tiny.build("tiny-random:llama")
    model.resize_token_embeddings(300, mean_resizing=False)
    padded = save(tmp_path / "padded", model, tokenizer)
    models = Models(ModelConfig(padded, device="cpu"))
    draft = models.load(ModelConfig("tiny-random:llama:1", device="cpu"))
    assert models.target.vocab == draft.vocab == 259


def test_a_narrower_draft_narrows_the_target_too(tmp_path, capsys):
    model, tokenizer = tiny.build("tiny-random:llama")
    model.resize_token_embeddings(257)
    model.config.pad_token_id = model.config.bos_token_id = None  # they are cut off
    narrow = save(tmp_path / "narrow", model, tokenizer)
    models = Models(ModelConfig("tiny-random:llama", device="cpu"))
    assert models.target.vocab == 259
    assert models.load(ModelConfig(narrow, device="cpu")).vocab == models.target.vocab == 257
    assert "cut from 259 to 257" in capsys.readouterr().err


def test_a_narrower_draft_narrows_the_drafts_before_it(tmp_path):
    models = Models(ModelConfig("tiny-random:llama", device="cpu"))
    drafts = []
    for width in (258, 257, 259):
        model, tokenizer = tiny.build("tiny-random:llama:1")
        model.resize_token_embeddings(width, mean_resizing=False)
        model.config.pad_token_id = model.config.bos_token_id = None
        name = save(tmp_path / str(width), model, tokenizer)
        drafts.append(models.load(ModelConfig(name, device="cpu")))
        assert {models.target.vocab, *(draft.vocab for draft in drafts)} == {min(258, models.target.vocab)}
    assert models.target.vocab == 257


def test_provenance_tells_two_models_of_one_name_apart(tmp_path):
    def seen(*names):
        models = Models(ModelConfig(names[0], device="cpu"))
        for name in names[1:]:
            models.load(ModelConfig(name, device="cpu"))
        assert set(models.provenance) == set(names)
        return models.provenance

    name = save(tmp_path / "m", *tiny.build("tiny-random:llama"))
    first = seen(name, "tiny-random:llama:1")
    assert first == seen(name, "tiny-random:llama:1")
    assert first[name]["source"] == "path"
    assert first[name]["fingerprint"] != first["tiny-random:llama:1"]["fingerprint"]
    save(tmp_path / "m", *tiny.build("tiny-random:llama:2"))  # other weights of the same shapes
    assert seen(name)[name]["fingerprint"] != first[name]["fingerprint"]
    save(tmp_path / "m", *tiny.build("tiny-random:llama"))
    assert seen(name)[name] == first[name]
    config = Path(name) / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": ', '"rope_theta": 1'))
    assert seen(name)[name]["fingerprint"] != first[name]["fingerprint"]


@pytest.mark.parametrize(
    ("draft", "difference"),
    [
        ({"a": 0, "c": 1, "b": 2}, "token 'b' has id 1 in 'T' and has id 2 in 'D'"),
        ({"a": 0, "x": 1, "c": 2}, "token 'b' has id 1 in 'T' and is absent in 'D'"),
        ({"z": 0, "a": 1, "b": 2}, "token 'a' has id 0 in 'T' and has id 1 in 'D'"),
    ],
)
def test_different_tokenizers_are_refused_with_the_first_difference(draft, difference):
    with pytest.raises(UserError, match=f"models 'T' and 'D'.*{difference}"):
        check_compatible(("T", {"a": 0, "b": 1, "c": 2}, 3), ("D", draft, 3))


def test_only_ids_below_the_common_width_count():
    target = {"a": 0, "b": 1, "c": 2}
    assert check_compatible(("T", target, 8), ("D", target, 16)) == 3
    assert check_compatible(("T", target, 8), ("D", {"a": 0, "b": 1}, 16)) == 2
    assert check_compatible(("T", target, 2), ("D", {"a": 0, "b": 1, "z": 2}, 16)) == 2
    with pytest.raises(UserError, match="token 'z' is absent in 'T' and has id 1 in 'D'"):
        check_compatible(("T", {"a": 0, "c": 2}, 3), ("D", {"a": 0, "z": 1, "c": 2}, 3))


def test_incompatible_models_are_refused_on_load(tmp_path):
    model, tokenizer = tiny.build("tiny-random:llama")
    name = save(tmp_path / "swapped", model, tokenizer)
    path = Path(name) / "tokenizer.json"
    text = path.read_text()
    assert '"A": 32' in text
    path.write_text(text.replace('"A": 32', '"A": -1').replace('"B": 33', '"B": 32').replace('"A": -1', '"A": 33'))
    models = Models(ModelConfig("tiny-random:llama", device="cpu"))
    with pytest.raises(UserError, match="'tiny-random:llama' and '.*swapped' have different tokenizers.*token 'A'"):
        models.load(ModelConfig(name, device="cpu"))


def test_recurrent_state_is_refused_by_name(tmp_path):
    config = MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    name = save(tmp_path / "mamba", MambaForCausalLM(config), tiny.byte_tokenizer())
    with pytest.raises(UserError, match=r"mamba.*\(MambaForCausalLM\) is not supported"):
        Models(ModelConfig(name, device="cpu"))


def test_padding_does_not_change_the_law(tmp_path):
    model, tokenizer = tiny.build("tiny-random:llama")
    x = ids(tokenizer)
    cut = Runner(model, tokenizer, name="cut", vocab=100)
    cache = cut.cache(1, 64)
    start = torch.zeros(1, dtype=torch.int64).numpy()
    assert cut.forward(cache, x, start).logits.shape[-1] == 100


# ---- EAGLE-3 heads


def test_a_head_is_loaded_once_where_its_target_is(tmp_path):
    path, made, vocabulary = eagle_head(tmp_path)
    models = Models(config(dtype="bfloat16"))
    head, its = models.head(path)
    assert models.head(path)[0] is head
    assert {parameter.dtype for parameter in head.parameters()} == {torch.bfloat16}
    assert head.rotary.inv_freq.dtype == torch.float32, "positions lose their precision in bfloat16"
    assert torch.equal(head.norm.weight, made.norm.weight.bfloat16())
    assert torch.equal(its.ids, vocabulary.ids)
    assert models.provenance[path] == {
        "source": f"head {artifact.digest(tmp_path)[:12]}",
        "fingerprint": artifact.digest(tmp_path),
    }


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_a_head_decodes_what_its_target_says(tmp_path, capsys, family):
    """One from elsewhere, without a manifest."""
    path, _, _ = eagle_head(tmp_path, bound=False)
    models = Models(config(f"tiny-random:{family}"))
    sampling = Sampling(max_new_tokens=24)
    requests = [Request(i, tuple(range(60, 61 + 3 * i))) for i in range(3)]
    node = {"name": "m", "proposer": {"type": "eagle3", "head": path}}
    done = methods.decoder(methods.resolve(node, "test"), models).generate(requests, sampling)
    baseline = methods.decoder(methods.resolve("baseline", "test"), models).generate(requests, sampling)
    assert [generation.tokens for generation in done] == [generation.tokens for generation in baseline]
    assert all(proposed for generation in done for proposed, _ in generation.windows[1:-2])
    assert "has no manifest.json that would name its target" in capsys.readouterr().err


def test_a_head_of_another_target_is_refused(tmp_path):
    path, _, _ = eagle_head(tmp_path / "head")
    for other in ("tiny-random:llama:1", "tiny-random:qwen3"):
        with pytest.raises(UserError, match="trained for another model. the model: 'tiny-random:llama' there"):
            Models(config(other)).head(path)
    with pytest.raises(UserError, match="trained for another model. tiny-random:llama with adapters"):
        Models(config(adapters=[target_lora(tmp_path / "lora")])).head(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"width": 32}, "key 'hidden_size' is 32, and target 'tiny-random:llama' has 64"),
        ({"aux": (0, 1, 2)}, r"key 'eagle_aux_hidden_state_layer_ids' is \[0, 1, 2\], and target .* has layers 0 to 1"),
    ],
)
def test_a_head_of_another_shape_is_refused(tmp_path, shape, message):
    path, _, _ = eagle_head(tmp_path, bound=False, **shape)
    with pytest.raises(UserError, match=message):
        Models(config()).head(path)


def test_a_head_for_another_vocabulary_is_refused(tmp_path):
    path, _, _ = eagle_head(tmp_path / "head", bound=False)
    model, tokenizer = tiny.build("tiny-random:llama")
    model.resize_token_embeddings(300, mean_resizing=False)
    padded = save(tmp_path / "padded", model, tokenizer)
    with pytest.raises(UserError, match="key 'vocab_size' is 259, and target .* has 300"):
        Models(config(padded)).head(path)


def test_what_is_no_head_is_refused(tmp_path):
    path, _, _ = eagle_head(tmp_path / "head")
    weights = tmp_path / "head" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-2] + bytes(2))
    with pytest.raises(UserError, match=r"model\.safetensors: SHA-256 is"):
        Models(config()).head(path)
    weights.write_bytes(whole)
    artifact.write(tmp_path / "head", manifest(kind="model"))
    with pytest.raises(UserError, match="key 'kind' is 'model', bound to nothing; expected 'eagle3'"):
        Models(config()).head(path)
    with pytest.raises(UserError, match="nowhere: not there"):
        Models(config()).head(str(tmp_path / "nowhere"))
