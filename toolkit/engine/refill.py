"""A row of a running batch goes on with another request.

What the target's cache holds of the row stays as far as both texts are the same, and only the rest is read, by a
forward over these rows alone.
"""

from collections.abc import Mapping

import numpy as np
import torch

from toolkit.engine.cache import SlotCache, block
from toolkit.engine.runner import Runner
from toolkit.engine.types import Batch, Request, Sampling


def admit(
    target: Runner,
    cache: SlotCache,
    batch: Batch,
    read: np.ndarray,  # [B] tokens of each row's text that the cache holds; changed, as the batch is
    requests: Mapping[int, Request],  # by row
    sampling: Sampling,
) -> None:
    """These rows begin anew; the cache holds all of their prompts but the pending token."""
    for b, request in requests.items():
        prompt = np.array(request.prompt, dtype=np.int64)
        known = min(int(read[b]), len(prompt) - 1)
        same = batch.text[b, :known] == prompt[:known]
        read[b] = known if same.all() else int(same.argmin())
        batch.text[b, : len(prompt)] = prompt
        batch.tokens[b, : len(prompt)] = torch.from_numpy(prompt).to(batch.device)
        batch.lengths[b], batch.room[b], batch.requests[b] = len(prompt), request.room(sampling), request.id
    rows = np.array([b for b in requests if read[b] < batch.lengths[b] - 1], dtype=np.int64)
    if not len(rows):
        return
    start, width = block(read[rows], batch.lengths[rows] - 1)
    tokens = np.take_along_axis(batch.text[rows], start[:, None] + np.arange(width), 1)
    some = cache.of(torch.from_numpy(rows))
    target.forward(some, torch.from_numpy(tokens).to(batch.device), start, logits="none")
    read[rows] = batch.lengths[rows] - 1
