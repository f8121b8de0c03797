"""An EAGLE-3 recipe, and from recipe to artifact: `train/eagle3.py`.

`init: target` begins with the target's own last layer, norms and head rows: the head then knows from its first step how
to read a hidden state, and has to learn only to bring in the next token. `random` is the paper's beginning.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LlamaConfig

from toolkit import config, heads
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.nets.eagle3 import Eagle3, Eagle3Config, aux_layers
from toolkit.training import drafts, losses, vocab
from toolkit.training.drafts import DraftRecipe
from toolkit.training.eagle3 import Eagle3Learner, UnrollConfig
from toolkit.training.features import Teacher
from toolkit.training.losses import LossConfig
from toolkit.training.texts import Texts

_READS_BOTH = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_SAME = ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "post_attention_layernorm")
_QUIET = 0.1  # of a fresh layer's weights


@dataclass
class HeadConfig:
    """The head's shape. null: the target's own."""

    draft_vocab: int = 32000  # its own vocabulary: the most frequent tokens of the answers
    aux_layers: list[int] | None = None  # the states entering these target layers are fused; null: [2, n//2, n-3]
    intermediate_size: int | None = None
    norm_before_residual: bool = False
    init: Literal["target", "random"] = "target"


@dataclass
class Eagle3Recipe(DraftRecipe):
    method: str = "EAGLE-3 head by training-time test on the target's answers"
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    unroll: UnrollConfig = field(default_factory=UnrollConfig)


def load(path: Path | str, overrides: list[str]) -> Eagle3Recipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(Eagle3Recipe, path, overrides)
    drafts.check(recipe, path)
    losses.check(recipe.loss, f"{path}: key 'loss")
    unroll, head = recipe.unroll, recipe.head
    rules = [
        ("data.answers", recipe.data.answers, recipe.data.answers, "one file or more"),
        ("unroll.steps", unroll.steps, 1 <= unroll.steps <= 16, "1 to 16"),
        ("unroll.decay", unroll.decay, 0 < unroll.decay <= 1, "above 0, at most 1"),
        ("head.draft_vocab", head.draft_vocab, head.draft_vocab >= 1, "1 or more"),
        ("head.aux_layers", head.aux_layers, head.aux_layers is None or len(head.aux_layers) == 3, "three layers"),
    ]
    config.require(path, rules)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def run(recipe: Eagle3Recipe, command: dict[str, Any]) -> Path:
    """Train, keep the best head by tau, write and try the artifact -> its directory."""
    return drafts.run(recipe, command, lambda teacher, texts: Head(recipe, teacher, texts, command["path"]))


class Head:
    """A head in training."""

    kind = "eagle3"
    provides = ["proposer"]
    base: dict[str, Any] = {}
    shares = ["embed_tokens"]

    def __init__(self, recipe: Eagle3Recipe, teacher: Teacher, texts: Texts, where: Path | str) -> None:
        model = teacher.runner.model
        chosen = head_config(model.config.get_text_config(), recipe.head, teacher.vocab, where)
        self.vocabulary = vocab.chosen(chosen.draft_vocab_size, texts.train, teacher.runner.eos_ids, teacher.vocab)
        vocab.say(self.vocabulary, texts.valid)
        self.vocabulary.ids = self.vocabulary.ids.to(teacher.device)
        self.head = Eagle3(chosen)
        if recipe.head.init == "target":
            _from_target(self.head, teacher, self.vocabulary, where)
        self.head.to(teacher.device)
        self.layers = [*chosen.aux_layers, teacher.final]
        self.learner = Eagle3Learner(self.head, self.vocabulary, teacher, recipe.loss, recipe.unroll)
        self._verifier = {"name_or_path": recipe.target.name, "architectures": list(model.config.architectures or [])}

    def write(self, directory: Path) -> None:
        heads.save(self.head, self.vocabulary, directory, self._verifier, min(self.learner.k, 5))


def head_config(target: Any, settings: HeadConfig, width: int, where: Path | str) -> Eagle3Config:  # noqa: ANN401
    """The head's shape beside this target. target: its Hugging Face config; width: its vocabulary."""
    layers = tuple(settings.aux_layers or aux_layers(target.num_hidden_layers))
    if not all(0 <= layer < target.num_hidden_layers for layer in layers):
        raise UserError(
            f"{where}: key 'head.aux_layers': {list(layers)}; expected three layers of the target, which has "
            f"layers 0 to {target.num_hidden_layers - 1}."
        )
    known = target.to_dict()
    wide = settings.intermediate_size or known.get("intermediate_size")
    if wide is None:
        raise UserError(
            f"{where}: key 'head.intermediate_size': the target's config ({target.model_type}) has none to take over; "
            "give a number, four times its hidden size for instance."
        )
    rope = known.get("rope_parameters") or {"rope_type": "default", "rope_theta": 10000.0}
    rope = rope.get("full_attention", rope)  # where layers of different attention have their own
    layer = LlamaConfig(
        vocab_size=target.vocab_size,
        hidden_size=target.hidden_size,
        intermediate_size=wide,
        num_hidden_layers=1,
        num_attention_heads=target.num_attention_heads,
        num_key_value_heads=known.get("num_key_value_heads") or target.num_attention_heads,
        head_dim=known.get("head_dim") or target.hidden_size // target.num_attention_heads,
        rms_norm_eps=known.get("rms_norm_eps", 1e-6),
        max_position_embeddings=target.max_position_embeddings,
        rope_parameters=rope,
        tie_word_embeddings=False,
    )
    return Eagle3Config(layer, min(settings.draft_vocab, width), layers, settings.norm_before_residual)


@torch.no_grad()
def _from_target(head: Eagle3, teacher: Teacher, vocabulary: Vocabulary, where: Path | str) -> None:
    """The target's last layer reads the hidden half of the input; the embedding's half begins near zero.

    Biases and norms of queries and keys have no place in the head and are left out.
    """
    layer, width = head.layers[0], head.config.layer.hidden_size
    last = f"layers.{teacher.runner.n_layers - 1}"
    if teacher.runner.model.config.get_text_config().model_type.startswith("gemma"):
        raise UserError(
            f"{where}: key 'head.init': norms of Gemma scale by 1 + weight, those of the head by weight, so it cannot "
            "begin from this target. Set head.init=random."
        )

    def weight(name: str, shape: Sequence[int]) -> Tensor:
        found = teacher.weights.get(name)
        if found is None or list(found.shape) != list(shape):
            raise UserError(
                f"{where}: key 'head.init': the target has no {name} of shape {list(shape)}, from which the head could "
                "begin. Set head.init=random."
            )
        return found

    for name in _READS_BOTH:
        to = layer.get_submodule(name).weight  # [out, 2H]
        to[:, :width] *= _QUIET
        to[:, width:] = weight(f"{last}.{name}.weight", [len(to), width])
    for name in _SAME:
        to = layer.get_submodule(name).weight
        to.copy_(weight(f"{last}.{name}.weight", to.shape))
    layer.hidden_norm.weight.copy_(weight(f"{last}.input_layernorm.weight", [width]))
    head.fc.weight.zero_()
    head.fc.weight[:, -width:] = torch.eye(width)  # the highest of the three layers, as it is
    head.norm.weight.copy_(weight("norm.weight", [width]))
    head.lm_head.weight.copy_(teacher.rows(vocabulary.ids))
