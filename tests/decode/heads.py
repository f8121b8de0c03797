"""Random EAGLE-3 heads, and what they draft by brute force: whole texts, dense attention, no cache."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel

from tests.decode.models import EOS, TOKENS, VOCAB, Recipe, model
from toolkit.engine.vocabulary import Vocabulary
from toolkit.nets.eagle3 import Eagle3, Eagle3Config


@dataclass(frozen=True)
class Drafting:
    """A head, and the plain target that it was made for."""

    head: Eagle3
    vocabulary: Vocabulary
    plain: PreTrainedModel

    @torch.inference_mode()
    def fused(self, text: Tensor) -> Tensor:
        """[B, L] tokens -> the target's fused states of all of them but the last, [B, L-1, H]."""
        output = self.plain(text[:, :-1], use_cache=False, output_hidden_states=True)
        return self.head.fuse([output.hidden_states[layer] for layer in self.head.config.aux_layers])

    @torch.inference_mode()
    def step(self, fused: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """About the token behind `text` [B, L+d], of which the last d were drafted -> logits [B, D], state [B, H].

        fused: the target's states of the first L-1 tokens; behind them the head goes on with its own.
        """
        hidden = fused
        while True:
            count = hidden.shape[1]
            states = self._states(text[:, 1 : count + 1], hidden)
            if count == text.shape[1] - 1:
                return self.head.logits(states[:, -1]), self.head.norm(states[:, -1])
            hidden = torch.cat([hidden, states[:, -1:]], 1)

    def _states(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        return self.head(self.plain.get_input_embeddings()(tokens), hidden, positions, _dense)


def _dense(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention by its definition."""
    groups, width = query.shape[1] // key.shape[1], query.shape[2]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    later = torch.ones(width, width, dtype=torch.bool).triu(1)
    return (scores.masked_fill(later, float("-inf")).softmax(-1) @ value).transpose(1, 2)


def random_head(target: PreTrainedModel, aux: tuple[int, int, int], tokens: int, seed: int, sharp: float) -> Eagle3:
    """A head whose law depends on the context; `sharp` scales its logits."""
    config = target.config
    layer = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=2 * config.hidden_size,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=config.max_position_embeddings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Eagle3(Eagle3Config(layer, tokens, aux, norm_before_residual=bool(seed % 2)))
        for module in head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1.5 * module.in_features**-0.5)
        head.lm_head.weight.data *= sharp
    return head.eval()


SEEDS = {"llama": 1, "qwen3": 2, "gpt2": 3}


@functools.cache
def drafting(target: Recipe) -> Drafting:
    """The head of the exactness suite for this target: four of its five tokens, EOS never far off."""
    plain = model(target).plain
    last = plain.config.num_hidden_layers  # the state after the final norm
    head = random_head(plain, (0, last, last), len(TOKENS), SEEDS[target.family], sharp=0.8)
    rows = head.lm_head.weight.data
    rows[TOKENS.index(EOS)] = 0.0
    return Drafting(head, Vocabulary(torch.tensor(TOKENS), VOCAB), plain)
