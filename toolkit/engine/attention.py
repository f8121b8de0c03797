"""Attention over the filled part of a SlotCache, plugged into transformers under the name "slots".

transformers hands every unknown attention implementation the raw query, key and value, and builds no mask for
it; the mask comes from the cache, which alone knows which slots a query may see. At one token and in prefill
torch's fused kernel is fastest; for the few-token windows of verification a grouped matrix product is, because
it neither repeats the shared key heads nor tiles a window of five as if it were long (2 CPU cores, batch 8,
5 tokens, 9 query heads on 3: 0.37 ms against 0.70).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from toolkit.engine.cache import SlotCache
from toolkit.errors import UserError

NAME = "slots"
# Passed along by one model or version or another, and of no effect in inference over a SlotCache
_HARMLESS = {
    "cache_position", "dropout", "is_causal", "logits_to_keep", "output_attentions", "output_hidden_states",
    "position_ids", "use_cache",
}  # fmt: skip
_LONGEST_WINDOW = 16


def attend(
    module: nn.Module,
    query: Tensor,  # [B, H, n, D]
    key: Tensor,  # [B, H_kv, fill, D]
    value: Tensor,  # [B, H_kv, fill, D]
    attention_mask: None,
    *,
    slots: SlotCache,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """transformers' attention interface: -> ([B, n, H, D], no weights). UserError for what is not computed here."""
    unknown = [name for name, value in others.items() if value is not None and name not in _HARMLESS]
    if unknown:
        raise UserError(
            f"{type(module).__name__} passes {', '.join(unknown)} to its attention, which is not computed here "
            "(attention sinks, say); the model is not supported"
        )
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    grouped = softcap is not None or (1 < query.shape[2] <= _LONGEST_WINDOW and query.device.type == "cpu")
    if grouped:
        out = _grouped(query, key, value, slots.mask(query.dtype, sliding_window), scaling, softcap)
    else:
        causal = slots.from_empty and sliding_window is None and query.shape[2] > 1  # prefill: no mask is built
        mask = None if causal else slots.mask(query.dtype, sliding_window)
        shared = key.shape[1] != query.shape[1]
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=shared
        )
    return out.transpose(1, 2).contiguous(), None


def _grouped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Plain attention with the query heads of one key head as further rows of one product -> [B, H, n, D]."""
    batch, heads, width, dim = query.shape
    rows = heads // key.shape[1] * width  # query heads of a group x tokens
    queries = query.reshape(-1, rows, dim)  # [B*H_kv, rows, D]
    scores = torch.bmm(queries, key.flatten(0, 1).transpose(1, 2)).mul_(scaling).view(batch, heads, width, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    weights = scores.float().softmax(-1).to(value.dtype).view(-1, rows, key.shape[2])
    return torch.bmm(weights, value.flatten(0, 1)).view(batch, heads, width, dim)


AttentionInterface.register(NAME, attend)
