"""Runner: a Hugging Face causal LM as one function, tokens at given slots -> logits (and hidden states asked for).

It owns what is particular to a model: its attention implementation, packed weights on a CPU, the width of its
vocabulary, its longest context. Rollback, masks and batching are the cache's business; sampling is the loop's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit.engine import attention, packed
from toolkit.engine.cache import SlotCache
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError


@dataclass
class Output:
    """Of one forward over [B, n] tokens."""

    logits: Tensor | None  # [B, n, V], [B, 1, V] (last) or None; of a model with its own vocabulary: D in V's place
    hidden: dict[int, Tensor]  # k -> [B, n, H]: the state entering layer k; k = n_layers: after the final norm


class Runner:
    """A causal LM that decodes over a SlotCache.

    vocab: logits are cut to this width (padded vocabularies differ between a target and its draft).
    vocabulary: of a draft whose head was trimmed to these tokens; None where the model has all of them.
    Raises UserError for models whose state is not a KV cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        name: str = "model",
        vocab: int | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        refuse_recurrent(model, name)
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.device, self.dtype = model.device, model.dtype
        config = model.config.get_text_config()
        self.n_layers: int = config.num_hidden_layers
        self.max_length: int = config.max_position_embeddings
        self.vocabulary = None if vocabulary is None else vocabulary.to(self.device)
        self.vocab: int = config.vocab_size
        self.narrow(vocab or self.vocab)
        self._decoder = model.get_decoder()
        self._captured: dict[int, Tensor] = {}
        self._hooked: set[int] = set()
        model.set_attn_implementation(attention.NAME)
        self.packed = packed.pack(model) if self.device.type == "cpu" else 0

    @property
    def eos_ids(self) -> list[int]:
        """The token ids that end a generation, as the model's generation config (else its config) names them."""
        eos = self.model.generation_config.eos_token_id
        if eos is None:
            eos = self.model.config.get_text_config().eos_token_id
        return [] if eos is None else [eos] if isinstance(eos, int) else list(eos)

    def narrow(self, vocab: int) -> None:
        """Cut the logits to target tokens below `vocab`, where they are not already."""
        self.vocab = min(self.vocab, vocab)
        if self.vocabulary is not None:
            self.vocabulary = self.vocabulary.below(self.vocab)
        self._width = self.vocab if self.vocabulary is None else len(self.vocabulary)

    def cache(self, rows: int, capacity: int) -> SlotCache:
        return SlotCache(rows, capacity, self.device)

    @torch.inference_mode()
    def forward(
        self,
        cache: SlotCache,
        tokens: Tensor,  # [B, n] int64
        start: np.ndarray,  # [B] on the host: token i of row b goes to slot and position start[b] + i
        *,
        logits: Literal["all", "last", "none"] = "all",
        hidden: frozenset[int] = frozenset(),
    ) -> Output:
        """One forward over the first B rows of the cache."""
        for layer in hidden - self._hooked:
            self._hook(layer)
        cache.begin(start, tokens.shape[1])
        # Only padding can lie past the last position (the loop checks real tokens), so clamping hurts nobody.
        positions = cache.positions.clamp(max=self.max_length - 1)
        common = {"input_ids": tokens, "position_ids": positions, "past_key_values": cache, "slots": cache}
        if logits == "none":
            self._decoder(**common, use_cache=True)
            scores = None
        else:
            kept = 1 if logits == "last" else 0  # transformers' 0 means all
            scores = self.model(**common, use_cache=True, logits_to_keep=kept).logits[..., : self._width]
        return Output(scores, {layer: self._captured.pop(layer) for layer in hidden})

    def _hook(self, layer: int) -> None:
        """Capture the state entering `layer` from now on (n_layers: what leaves the decoder, after its final norm)."""
        if layer == self.n_layers:
            self._decoder.register_forward_hook(
                lambda _module, _args, output: self._captured.update({layer: output.last_hidden_state})
            )
        else:
            self._layers()[layer].register_forward_pre_hook(self._catch_input(layer))
        self._hooked.add(layer)

    def _catch_input(self, layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, args: self._captured.update({layer: args[0]})

    def _layers(self) -> nn.ModuleList:
        lists = [m for m in self._decoder.children() if isinstance(m, nn.ModuleList) and len(m) == self.n_layers]
        if len(lists) != 1:
            raise UserError(
                f"model {self.name}: cannot tell which of its modules are the {self.n_layers} decoder layers"
            )
        return lists[0]


def refuse_recurrent(model: PreTrainedModel, name: str) -> None:
    """Raise UserError where a rejected token could not be rolled back: its trace stays in a recurrent state."""
    kinds = set(model.config.get_text_config().to_dict().get("layer_types") or ())
    recurrent = sorted(kinds - {"full_attention", "sliding_attention"})
    if model._is_stateful or recurrent:
        state = ", ".join(recurrent) or "recurrent layers"
        raise UserError(
            f"model {name} ({type(model).__name__}) is not supported: it keeps a state that cannot be rolled back "
            f"({state}). Decoding here needs attention with a KV cache (Llama, Qwen, GPT-2, Gemma, Mistral)."
        )
