"""A draft as other engines expect it: with a head for all of its target's tokens, also where its own says only some.

The rows that it lacks are its base's. They were not trained with the rest, so the exported draft is another one: over
its own vocabulary its logits are the same, but it gives some probability to the other tokens, too.
"""

import dataclasses
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit import artifact, trim
from toolkit.config import parse
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.loading import ModelConfig, load, spelled_out


def load_whole(
    config: ModelConfig, target: ModelConfig | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Vocabulary | None]:
    """The model with a whole head, its tokenizer, and the vocabulary that it had. `target`: as in `hub.load_hf`."""
    config = config if target is None else spelled_out(config, target)
    model, tokenizer, origin = load(config, target)
    if origin.vocabulary is not None:
        _restore(model, origin.vocabulary, _base(config, target))
    return model, tokenizer, origin.vocabulary


def says(vocabulary: Vocabulary) -> str:
    """What is different about an exported draft that had this vocabulary."""
    return (
        f"its head was trained for {len(vocabulary):,} of {vocabulary.size:,} tokens and is written with all, "
        "the other rows being its base's. Over its own tokens the logits are the same, but it gives some probability "
        "to the others: as a draft its acceptance may differ from what was measured here. Outputs do not"
    )


def _base(config: ModelConfig, target: ModelConfig | None) -> PreTrainedModel:
    """The model that the draft is made of, with all rows of its head."""
    where = Path(config.name).expanduser() / artifact.MANIFEST
    manifest = artifact.read(where.parent)
    base = manifest.base or manifest.recipe.get("config", {}).get("student")  # a whole model began as that one
    if not base:
        raise UserError(
            f"{where.parent / trim.FILE}: the draft's head has only these tokens, and {where.name} names no model that "
            "has the others (keys 'base', 'recipe.config.student'). Train the draft again."
        )
    parsed = parse(ModelConfig, base, f"{where}: key 'base'")
    named = parsed if target is None else spelled_out(parsed, target)
    named = dataclasses.replace(named, dtype=config.dtype, device=config.device, quant="none")
    if (Path(named.name).expanduser() / trim.FILE).is_file():  # a LoRA over a draft that was trimmed already
        return _base(named, target)
    return load(named, target)[0]


@torch.no_grad()
def _restore(model: PreTrainedModel, vocabulary: Vocabulary, base: PreTrainedModel) -> None:
    """Put the draft's rows in their places among the base's; tied again where that makes the embeddings."""
    trimmed, ids = model.get_output_embeddings(), vocabulary.ids.to(model.device)
    whole = base.get_output_embeddings().to(model.device)
    head = nn.Linear(whole.in_features, whole.out_features, bias=trimmed.bias is not None, device="meta")
    head.weight = nn.Parameter(whole.weight.clone().index_copy_(0, ids, trimmed.weight))
    if trimmed.bias is not None:
        head.bias = nn.Parameter(whole.bias.clone().index_copy_(0, ids, trimmed.bias))
    embeddings = model.get_input_embeddings().weight
    tied = base.config.get_text_config().tie_word_embeddings and torch.equal(head.weight, embeddings)
    if tied:
        head.weight = embeddings
        model.all_tied_weights_keys = base.all_tied_weights_keys
    model.set_output_embeddings(head)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = tied
