"""EAGLE-3 heads on disk: the exact keys, shapes and config that others load, and a refusal of everything else."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from toolkit import heads
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.nets.eagle3 import Eagle3, Eagle3Config

H, FFN, V, D = 32, 48, 50, 7  # hidden, feed-forward, target and draft vocabulary
QUERIES, KEYS = 4 * 10, 2 * 10  # heads x width
IDS = [0, 3, 4, 10, 20, 30, 49]
VERIFIER = {"name_or_path": "owner/target", "architectures": ["LlamaForCausalLM"]}

SHAPES = {
    "fc.weight": [H, 3 * H],
    "layers.0.self_attn.q_proj.weight": [QUERIES, 2 * H],
    "layers.0.self_attn.k_proj.weight": [KEYS, 2 * H],
    "layers.0.self_attn.v_proj.weight": [KEYS, 2 * H],
    "layers.0.self_attn.o_proj.weight": [H, QUERIES],
    "layers.0.mlp.gate_proj.weight": [FFN, H],
    "layers.0.mlp.up_proj.weight": [FFN, H],
    "layers.0.mlp.down_proj.weight": [H, FFN],
    "layers.0.input_layernorm.weight": [H],
    "layers.0.hidden_norm.weight": [H],
    "layers.0.post_attention_layernorm.weight": [H],
    "norm.weight": [H],
    "lm_head.weight": [D, H],
    "d2t": [D],
    "t2d": [V],
}
CONFIG = {
    "architectures": ["Eagle3DraftModel"],
    "speculators_model_type": "eagle3",
    "speculators_version": "0.7.0",
    "draft_vocab_size": D,
    "norm_before_residual": True,
    "norm_before_fc": False,
    "fc_norm": False,
    "norm_output": False,
    "eagle_aux_hidden_state_layer_ids": [2, 6, 9],
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "transformer_layer_config": {
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": H,
        "intermediate_size": FFN,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 10,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "max_position_embeddings": 512,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
    },
    "speculators_config": {
        "algorithm": "eagle3",
        "default_proposal_method": "greedy",
        "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 4}],
        "verifier": VERIFIER,
    },
}


def made():
    layer = LlamaConfig(
        vocab_size=V,
        hidden_size=H,
        intermediate_size=FFN,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        rms_norm_eps=1e-05,
        max_position_embeddings=512,
        rope_parameters={"rope_theta": 500000.0, "rope_type": "default"},
    )
    return Eagle3(Eagle3Config(layer, D, (2, 6, 9), norm_before_residual=True))


@pytest.fixture
def directory(tmp_path):
    heads.save(made(), Vocabulary(torch.tensor(IDS), V), tmp_path / "head", VERIFIER, 4)
    return tmp_path / "head"


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_layer(directory, **changes):
    layer = json.loads((directory / "config.json").read_text())["transformer_layer_config"]
    change_config(directory, transformer_layer_config=layer | changes)


def change_tensors(directory, **changes):
    """None drops one."""
    path = directory / "model.safetensors"
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def test_the_directory_is_what_others_load(directory):
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((directory / "config.json").read_text()) == CONFIG
    tensors = load_file(directory / "model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == SHAPES
    kinds = {"d2t": torch.int64, "t2d": torch.bool}
    assert all(tensor.dtype == kinds.get(name, torch.bfloat16) for name, tensor in tensors.items())


def test_the_map_is_of_offsets(directory):
    tensors = load_file(directory / "model.safetensors")
    assert tensors["d2t"].tolist() == [target - i for i, target in enumerate(IDS)]
    assert tensors["t2d"].nonzero().flatten().tolist() == IDS


def test_what_was_saved_is_read(tmp_path):
    torch.manual_seed(0)
    head, vocabulary = made(), Vocabulary(torch.tensor(IDS), V)
    heads.save(head, vocabulary, tmp_path, VERIFIER, 4)
    before = torch.random.get_rng_state()
    again, its = heads.read(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before), "reading a head drew random numbers"
    assert again.config.aux_layers == (2, 6, 9) and again.config.norm_before_residual is True
    assert (its.ids.tolist(), its.size) == (IDS, V)
    assert not again.training
    for name, tensor in head.state_dict().items():
        assert again.state_dict()[name].dtype == torch.float32
        assert torch.equal(again.state_dict()[name], tensor.bfloat16().float())
    for kept in ("inv_freq", "original_inv_freq"):
        assert torch.equal(again.rotary.get_buffer(kept), head.rotary.get_buffer(kept))


def test_a_vocabulary_of_a_cut_target_is_stored_at_the_width_of_its_embeddings(tmp_path):
    """A tokenizer may know fewer tokens than the target has rows."""
    heads.save(made(), Vocabulary(torch.tensor(IDS), 50), tmp_path / "a", VERIFIER, 4)
    heads.save(made(), Vocabulary(torch.tensor([*IDS[:-1], 31]), 40), tmp_path / "b", VERIFIER, 4)
    assert len(load_file(tmp_path / "b" / "model.safetensors")["t2d"]) == V
    assert heads.read(tmp_path / "b")[1].size == V


def test_the_other_name_of_the_layer_is_read(directory):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    save_file({name.replace("layers.0.", "midlayer."): tensor for name, tensor in tensors.items()}, path)
    assert any(name.startswith("midlayer.") for name in load_file(path))
    head, _ = heads.read(directory)
    wanted = tensors["layers.0.self_attn.q_proj.weight"].float()
    assert torch.equal(head.layers[0].self_attn.q_proj.weight, wanted)


def test_embeddings_are_the_target_s(directory, capsys):
    change_tensors(directory, **{"embed_tokens.weight": torch.zeros(V, H)})
    heads.read(directory)
    assert "embed_tokens.weight is not used" in capsys.readouterr().err


def test_a_frequency_in_the_older_spelling_is_read(directory):
    layer = {k: v for k, v in CONFIG["transformer_layer_config"].items() if k != "rope_parameters"}
    change_config(directory, transformer_layer_config=layer | {"rope_theta": 500000.0})
    assert heads.read(directory)[0].config.layer.rope_parameters["rope_theta"] == 500000.0


OFFSETS = torch.tensor(IDS) - torch.arange(D)
MASK = Vocabulary(torch.tensor(IDS), V).mask()


def mapped(ids):
    return torch.tensor(ids) - torch.arange(len(ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d2t": None}, "tensor 'd2t' is missing"),
        ({"t2d": None}, "tensor 't2d' is missing"),
        ({"d2t": OFFSETS.int()}, "'d2t' is int32 of shape .7.; expected one int64 offset"),
        ({"t2d": MASK.long()}, "'t2d' is int64 of shape .50.; expected one bool"),
        ({"d2t": mapped([*IDS[:-1], V])}, "'d2t' maps draft token 6 to 50, and the target has tokens 0 to 49"),
        ({"d2t": mapped([-1, *IDS[1:]])}, "'d2t' maps draft token 0 to -1"),
        ({"d2t": mapped([3, 0, *IDS[2:]])}, "'d2t' maps draft tokens 0 and 1 to 3 and 0; expected ascending"),
        ({"d2t": torch.tensor(IDS)}, "'d2t' maps draft token 6 to 55"),  # ids, not offsets
        ({"d2t": mapped([*IDS[:-1], 48])}, "'t2d' and 'd2t' disagree about target token 48"),
        ({"d2t": mapped(IDS[:-1])}, "'t2d' and 'd2t' disagree about target token 49"),
        (
            {"d2t": mapped(IDS[:-1]), "t2d": Vocabulary(torch.tensor(IDS[:-1]), V).mask()},
            "'d2t' has 6 entries, and key",
        ),
        ({"t2d": torch.cat([MASK, MASK[:1] & False])}, "'t2d' has 51 entries, and key 'transformer_layer_config.vocab"),
        ({"fc.weight": None}, "tensor 'fc.weight' has shape none, and config.json asks for .32, 96."),
        (
            {"fc.weight": torch.zeros(H, 2 * H)},
            "tensor 'fc.weight' has shape .32, 64., and config.json asks for .32, 96.",
        ),
        ({"lm_head.weight": torch.zeros(D + 1, H)}, "tensor 'lm_head.weight' has shape .8, 32."),
        ({"fc_norm.weight": torch.zeros(H)}, "tensor 'fc_norm.weight' has shape .32., and config.json asks for none"),
        ({"norm.weight": torch.full((H,), torch.nan)}, "tensor 'norm.weight' has values that are no numbers"),
    ],
)
def test_weights_that_are_no_head_are_named(directory, changes, message):
    change_tensors(directory, **changes)
    with pytest.raises(UserError, match=rf"model\.safetensors: {message}"):
        heads.read(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speculators_model_type": "eagle"}, "key 'speculators_model_type' is not 'eagle3'"),
        ({"norm_before_residual": None}, "key 'norm_before_residual' is None; expected a bool"),
        ({"draft_vocab_size": "7"}, "key 'draft_vocab_size' is '7'; expected a int"),
        ({"draft_vocab_size": 8}, ""),
        ({"fc_norm": True}, "key 'fc_norm' is True; only false"),
        (
            {"eagle_aux_hidden_state_layer_ids": [2, 6]},
            "key 'eagle_aux_hidden_state_layer_ids' is .2, 6.; expected three",
        ),
        ({"eagle_aux_hidden_state_layer_ids": [2, 6, -1]}, "key 'eagle_aux_hidden_state_layer_ids'"),
        ({"transformer_layer_config": None}, "key 'transformer_layer_config' is None; expected a dict"),
    ],
)
def test_a_config_that_is_no_head_s_is_named(directory, changes, message):
    change_config(directory, **changes)
    with pytest.raises(UserError, match=rf"(config\.json: {message}|'d2t' has 7 entries)"):
        heads.read(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen3"}, "has model_type 'qwen3'"),
        ({"num_hidden_layers": 2}, "num_hidden_layers 2; expected 'llama' and 1"),
        ({"attention_bias": True}, "key 'transformer_layer_config.attention_bias' is True"),
        ({"hidden_size": None}, "key 'transformer_layer_config.hidden_size' is None; expected a int"),
        ({"rms_norm_eps": "small"}, "describes no Llama layer"),
        ({"hidden_act": "sigh"}, "key 'transformer_layer_config.hidden_act' is 'sigh'"),
    ],
)
def test_a_layer_that_is_not_run_here_is_named(directory, changes, message):
    change_layer(directory, **changes)
    with pytest.raises(UserError, match=rf"config\.json: key .*{message}|config\.json: {message}"):
        heads.read(directory)


def test_a_key_that_must_be_written(directory):
    path = directory / "config.json"
    config = json.loads(path.read_text())
    del config["norm_before_residual"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="key 'norm_before_residual' is missing; expected a bool"):
        heads.read(directory)


def test_files_that_are_not_there_or_not_readable(directory, tmp_path):
    with pytest.raises(UserError, match="nowhere: not there"):
        heads.read(tmp_path / "nowhere")
    weights = directory / "model.safetensors"
    weights.write_bytes(b"no safetensors")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        heads.read(directory)
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: missing"):
        heads.read(directory)
