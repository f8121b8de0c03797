"""Exported directories: names, shapes and config as others expect them; plain transformers loads and uses them."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.artifacts import config, target_lora
from tests.export.drafts import delta_draft, head, trimmed_lora, vocabulary
from toolkit import artifact, cli, heads
from toolkit.export import card, standalone
from toolkit.export.metadata import problems
from toolkit.hub import ModelConfig, Models, load_hf

IDS = torch.tensor([list(b"Ten apples and two")])
H, F, V, KEYS = 64, 128, 259, 32  # the tiny model: hidden, feed-forward, vocabulary, width of its keys


def shapes(path):
    with safe_open(path, framework="pt") as file:
        return {name: (file.get_slice(name).get_dtype(), file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def layer(index, hidden=H, into=H, inner=F):
    """Name -> shape of a Llama layer, without its norms."""
    prefix = f"layers.{index}"
    return {
        f"{prefix}.self_attn.q_proj.weight": [hidden, into],
        f"{prefix}.self_attn.k_proj.weight": [KEYS, into],
        f"{prefix}.self_attn.v_proj.weight": [KEYS, into],
        f"{prefix}.self_attn.o_proj.weight": [hidden, hidden],
        f"{prefix}.mlp.gate_proj.weight": [inner, hidden],
        f"{prefix}.mlp.up_proj.weight": [inner, hidden],
        f"{prefix}.mlp.down_proj.weight": [hidden, inner],
        f"{prefix}.input_layernorm.weight": [hidden],
        f"{prefix}.post_attention_layernorm.weight": [hidden],
    }


# ---- plain drafts


@pytest.fixture(scope="module")
def models():
    return Models(config())


@pytest.fixture
def delta(tmp_path, models):
    return delta_draft(tmp_path / "delta", models.identity(), config(), [1])


def exported(directory, tmp_path, *options):
    out = tmp_path / "out"
    assert cli.main(["export", str(directory), "--merge", str(out), *options]) == 0
    return out


def test_a_plain_draft_is_an_ordinary_model_of_its_targets_width(delta, tmp_path):
    out = exported(delta, tmp_path)
    found = json.loads((out / "config.json").read_text())
    assert (found["architectures"], found["model_type"]) == (["LlamaForCausalLM"], "llama")
    assert (found["vocab_size"], found["num_hidden_layers"], found["tie_word_embeddings"]) == (V, 1, False)
    body = layer(0) | {"norm.weight": [H], "embed_tokens.weight": [V, H]}
    expected = {f"model.{name}": shape for name, shape in body.items()} | {"lm_head.weight": [V, H]}
    assert {name: shape for name, (_, shape) in shapes(out / "model.safetensors").items()} == expected
    files = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert files | {"README.md", "manifest.json", standalone.SIDE_FILE} <= {path.name for path in out.iterdir()}
    assert not (out / "vocabulary.safetensors").exists()
    assert json.loads((out / standalone.SIDE_FILE).read_text()) == {
        "method": "draft_model",
        "model": "out",
        "num_speculative_tokens": 5,
        "draft_tensor_parallel_size": 1,
    }


def test_over_its_vocabulary_an_exported_draft_says_what_it_said(delta, tmp_path, capsys):
    out = exported(delta, tmp_path)
    ids = vocabulary(V).ids
    others = torch.tensor(sorted(set(range(V)) - set(ids.tolist())))
    trimmed, _ = load_hf(ModelConfig(delta, device="cpu"), config())
    alone = AutoModelForCausalLM.from_pretrained(out)
    ours, theirs = trimmed(IDS).logits, alone(IDS).logits
    assert ours.shape[-1] == len(ids) and theirs.shape[-1] == V
    torch.testing.assert_close(theirs[..., ids], ours, rtol=1e-5, atol=1e-5)
    targets = load_hf(config())[0].get_output_embeddings().weight
    assert torch.equal(alone.get_output_embeddings().weight[others], targets[others])
    assert not torch.equal(alone.get_output_embeddings().weight[ids], targets[ids]), "the draft's own rows"
    assert theirs.softmax(-1)[..., others].sum() > 0.01, "another q: it says the others, too"

    assert f"its head was trained for {len(ids)} of {V} tokens" in capsys.readouterr().err
    text = (out / "README.md").read_text()
    assert f"| draft vocabulary | {len(ids)} |" in text
    assert "with them its acceptance may differ" in text


def test_a_trimmed_head_that_was_not_trained_is_tied_again(tmp_path):
    target = config("tiny-random:gpt2")
    draft = trimmed_lora(tmp_path / "lora", Models(target).identity(), target, [0])
    out = exported(draft, tmp_path)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in shapes(out / "model.safetensors")
    trimmed, _ = load_hf(ModelConfig(draft, device="cpu"), target)
    alone = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(alone(IDS).logits[..., vocabulary(V).ids], trimmed(IDS).logits, rtol=1e-5, atol=1e-5)


def test_an_exported_draft_assists_its_target_in_transformers(delta, tmp_path):
    target, _ = load_hf(config())
    draft = AutoModelForCausalLM.from_pretrained(exported(delta, tmp_path))
    asked = {"attention_mask": torch.ones_like(IDS), "max_new_tokens": 24, "do_sample": False}
    calls = []
    draft.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        alone = target.generate(IDS, **asked)
        helped = target.generate(IDS, assistant_model=draft, **asked)
    assert calls, "it was not asked"
    assert torch.equal(helped, alone)


def test_the_tokenizer_comes_along(delta, tmp_path, models):
    again = AutoTokenizer.from_pretrained(exported(delta, tmp_path))
    assert again("Wörld")["input_ids"] == models.target.tokenizer("Wörld")["input_ids"]


def test_a_full_model_is_not_exported_again(delta, tmp_path, capsys):
    out = exported(delta, tmp_path)
    assert cli.main(["export", str(out), "--merge", str(tmp_path / "more")]) == 2
    assert "is a full model already" in capsys.readouterr().err


# ---- an EAGLE-3 head


@pytest.fixture
def eagle(tmp_path, models):
    return head(tmp_path / "head", models, (0, 1, 1), vocabulary(V))


def test_a_head_has_the_names_shapes_and_config_of_the_speculators_format(eagle, tmp_path):
    out = exported(eagle, tmp_path)
    d = len(vocabulary(V))
    weights = layer(0, into=2 * H) | {"layers.0.hidden_norm.weight": [H], "fc.weight": [H, 3 * H], "norm.weight": [H]}
    expected = {name: ("BF16", shape) for name, shape in (weights | {"lm_head.weight": [d, H]}).items()}
    expected |= {"d2t": ("I64", [d]), "t2d": ("BOOL", [V])}
    assert shapes(out / "model.safetensors") == expected
    assert [path.name for path in sorted(out.glob("*.safetensors"))] == ["model.safetensors"]
    assert json.loads((out / "config.json").read_text()) == {
        "architectures": ["Eagle3DraftModel"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.7.0",
        "draft_vocab_size": d,
        "norm_before_residual": False,
        "norm_before_fc": False,
        "fc_norm": False,
        "norm_output": False,
        "eagle_aux_hidden_state_layer_ids": [0, 1, 1],
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "transformer_layer_config": {
            "model_type": "llama",
            "vocab_size": V,
            "hidden_size": H,
            "intermediate_size": F,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-06,
            "max_position_embeddings": 8192,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"name_or_path": "tiny-random:llama", "architectures": ["LlamaForCausalLM"]},
        },
    }
    side = {"method": "eagle3", "model": "out", "num_speculative_tokens": 3, "draft_tensor_parallel_size": 1}
    assert json.loads((out / standalone.SIDE_FILE).read_text()) == side


def test_the_map_holds_offsets(eagle, tmp_path):
    with safe_open(exported(eagle, tmp_path) / "model.safetensors", framework="pt") as file:
        d2t, t2d = file.get_tensor("d2t"), file.get_tensor("t2d")
    targets = torch.arange(len(d2t)) + d2t
    assert targets.tolist() == list(range(0, V, 3))
    assert t2d.nonzero().flatten().tolist() == targets.tolist()


def test_a_head_is_exported_with_its_targets_embeddings_and_another_name(eagle, tmp_path, models):
    out = exported(eagle, tmp_path, "--embeddings", "--verifier", "models/target")
    found = json.loads((out / "config.json").read_text())["speculators_config"]["verifier"]
    assert found == {"name_or_path": "models/target", "architectures": ["LlamaForCausalLM"]}
    with safe_open(out / "model.safetensors", framework="pt") as file:
        embeddings = file.get_tensor("embed_tokens.weight")
    expected = load_hf(config())[0].get_input_embeddings().weight
    assert torch.equal(embeddings, expected.to(torch.bfloat16))
    ours, theirs = (heads.read(directory)[0].state_dict() for directory in (tmp_path / "head", out))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert artifact.verify(out).kind == "eagle3"
    assert models.head(str(out))[1].ids.tolist() == vocabulary(V).ids.tolist(), "still loads beside its target"


def test_a_head_of_an_adapted_target_asks_where_that_is(tmp_path, capsys):
    adapter = target_lora(tmp_path / "adapter")
    made = head(tmp_path / "head", Models(config(adapters=[adapter])), (0, 1, 1), vocabulary(V))
    assert cli.main(["export", made, "--merge", str(tmp_path / "out")]) == 2
    assert "as --verifier" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    out = exported(made, tmp_path, "--verifier", "x", "--embeddings", "--target-adapter", adapter)
    assert "adapters" in (out / "README.md").read_text()


@pytest.mark.parametrize("options", [["--verifier", "x"], ["--embeddings"]])
def test_only_a_head_has_a_verifier(delta, tmp_path, capsys, options):
    assert cli.main(["export", delta, "--merge", str(tmp_path / "out"), *options]) == 2
    assert "is no EAGLE-3 head" in capsys.readouterr().err


def test_a_target_is_named_only_where_something_of_it_is_written(eagle, tmp_path, capsys):
    assert cli.main(["export", eagle, "--merge", str(tmp_path / "out"), "--target", "tiny-random:llama"]) == 2
    assert "leave out --target" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["delta", "eagle"])
def test_the_card_says_what_is_not_stored_and_the_hub_would_take_it(kind, tmp_path, request):
    directory = tmp_path / request.getfixturevalue(kind).rpartition("/")[2]
    card.write(directory)
    written = card.read(directory)
    assert problems(written) == []
    assert "not stored, as they are its target's" in written.text
    assert "Drafts for: `tiny-random:llama`" in written.text
    library, tag = {"delta": ("transformers", "draft-model"), "eagle": ("speculators", "eagle3")}[kind]
    assert written.data["library_name"] == library and tag in written.data["tags"]
