"""The EAGLE-3 head (Li et al. 2025, arXiv 2503.01840): one decoder layer that drafts from its target's hidden states.

At position i it reads the fused states of token i and the embedding of token i+1, and predicts token i+2. Its own state
takes the place of the fused one for the tokens that it drafted itself, whose target states are not known yet.
Modules are named as the speculators format names them, so a state dict is what vLLM loads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

# (query [B, heads, n, D], key and value [B, kv_heads, n, D], all of this forward) -> [B, n, heads, D]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Eagle3Config:
    """`layer` describes the one decoder layer; its vocab_size is the target's."""

    layer: LlamaConfig
    draft_vocab_size: int
    aux_layers: tuple[int, int, int]  # the target's states entering these layers are fused
    norm_before_residual: bool = False  # is the layer's residual the normed hidden state, or the raw one?


def aux_layers(n_layers: int) -> tuple[int, int, int]:
    """A low, a middle and a high layer of the target, as EAGLE-3 chooses them (three from 7 layers on)."""
    return 2, n_layers // 2, n_layers - 3


class Attention(nn.Module):
    """Reads [embedding, hidden] side by side: twice the width of an ordinary layer's input."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(2 * config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(2 * config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(2 * config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """[B, n, 2H] -> [B, n, H]."""
        query, key, value = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, heads, n, D]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *rotary)
        return self.o_proj(attend(query, key, value).flatten(2))


class Layer(nn.Module):
    def __init__(self, config: LlamaConfig, norm_before_residual: bool) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.norm_before_residual = norm_before_residual
        self.input_layernorm = LlamaRMSNorm(width, eps)  # of the embedding
        self.hidden_norm = LlamaRMSNorm(width, eps)  # of the fused or own state
        self.self_attn = Attention(config)
        self.post_attention_layernorm = LlamaRMSNorm(width, eps)
        self.mlp = LlamaMLP(config)

    def forward(self, embeds: Tensor, hidden: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """Both [B, n, H] -> [B, n, H]."""
        normed = self.hidden_norm(hidden)
        residual = normed if self.norm_before_residual else hidden
        mixed = residual + self.self_attn(torch.cat([self.input_layernorm(embeds), normed], -1), rotary, attend)
        return mixed + self.mlp(self.post_attention_layernorm(mixed))


class Eagle3(nn.Module):
    """The head. Embeddings are the target's, handed in by whoever runs it."""

    def __init__(self, config: Eagle3Config) -> None:
        super().__init__()
        layer = config.layer
        self.config = config
        self.fc = nn.Linear(3 * layer.hidden_size, layer.hidden_size, bias=False)
        self.layers = nn.ModuleList([Layer(layer, config.norm_before_residual)])
        self.norm = LlamaRMSNorm(layer.hidden_size, layer.rms_norm_eps)
        self.lm_head = nn.Linear(layer.hidden_size, config.draft_vocab_size, bias=False)
        self.rotary = LlamaRotaryEmbedding(layer)  # its buffers are not saved

    def fuse(self, states: Sequence[Tensor]) -> Tensor:
        """The target's states entering `aux_layers`, each [B, n, H] -> [B, n, H]."""
        return self.fc(torch.cat(list(states), -1))

    def forward(self, embeds: Tensor, hidden: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """One step over [B, n] positions ([B, n] int64) -> the head's state [B, n, H], the next step's `hidden`."""
        return self.layers[0](embeds, hidden, self.rotary(hidden, positions), attend)

    def logits(self, state: Tensor) -> Tensor:
        """[..., H] -> [..., draft vocabulary]."""
        return self.lm_head(self.norm(state))
