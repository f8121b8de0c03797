"""Training an EAGLE-3 head by training-time test (Li et al. 2025, arXiv 2503.01840).

The head drafts `steps` tokens from every position at once, each step on its own states of the steps before, as it will
when it decodes; only the tokens it reads are the answer's. Step s from position i reads token i+1+s and predicts token
i+2+s, against the target's law there. What a decoding round would have accepted is read off the same pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.engine.vocabulary import Vocabulary
from toolkit.nets.eagle3 import Eagle3
from toolkit.training import losses
from toolkit.training.features import Teacher, tokens
from toolkit.training.losses import NOWHERE, LossConfig
from toolkit.training.texts import Text
from toolkit.training.walk import Walk, walk


@dataclass
class UnrollConfig:
    """Training-time test."""

    steps: int = 5  # drafted tokens from each position
    decay: float = 0.9  # weight of a step's loss against the one before


class Unrolled:
    """Attention of the steps: the first one is causal; in a later one a query sees what its own position saw then.

    Keys of step 0 are those of known tokens, up to the query's position; of each later step there is one key for it,
    of the token that was drafted from this very position.
    """

    def __init__(self) -> None:
        self._first: tuple[Tensor, Tensor] | None = None  # [B, kv, n, D] each
        self._own: list[tuple[Tensor, Tensor]] = []  # [B, kv, A, D] each
        self._hidden: Tensor | None = None  # [B, 1, 1, A, n]: the first step's keys a query must not see

    def origins(self, positions: Tensor) -> None:
        """The later steps are for these positions only: [B, A] int64."""
        count = self._first[0].shape[2]
        self._hidden = (torch.arange(count, device=positions.device) > positions[..., None])[:, None, None]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self._first is None:
            self._first = key, value
            out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            return out.transpose(1, 2)
        self._own.append((key, value))
        groups = query.unflatten(1, (key.shape[1], -1)) * query.shape[-1] ** -0.5  # [B, kv, g, A, D]
        scores = torch.einsum("bkgad,bknd->bkgan", groups, self._first[0])
        scores = scores.masked_fill(self._hidden, torch.finfo(scores.dtype).min)
        own = [(groups * k[:, :, None]).sum(-1, keepdim=True) for k, _ in self._own]  # [B, kv, g, A, 1] each
        weights = torch.cat([scores, *own], -1).float().softmax(-1).to(value.dtype)
        known = weights.shape[-1] - len(own)
        out = torch.einsum("bkgan,bknd->bkgad", weights[..., :known], self._first[1])
        for at, (_, v) in enumerate(self._own):
            out = out + weights[..., known + at, None] * v[:, :, None]
        return out.flatten(1, 2).transpose(1, 2)


@dataclass
class _Batch:
    """Texts as tensors. Row r of a text is the place whose token's law is predicted for r+1."""

    rows: Tensor  # [B, L] token ids
    states: list[Tensor]  # the three fused layers, [B, L, H]
    final: Tensor  # [B, L, H]
    text: Tensor  # [N]: of each predicted token, which row of the batch
    place: Tensor  # [N]: and the place before it (its origin at step 0 is one less)


class Eagle3Learner(nn.Module):
    """The head with its loss and its walk; `k` = the steps that it is trained for."""

    def __init__(
        self, head: Eagle3, vocabulary: Vocabulary, teacher: Teacher, loss: LossConfig, unroll: UnrollConfig
    ) -> None:
        super().__init__()
        self.head, self.k = head, unroll.steps
        self._vocabulary, self._teacher, self._loss, self._unroll = vocabulary, teacher, loss, unroll
        self._draft_ids = torch.full((vocabulary.size,), NOWHERE, device=teacher.device)  # target id -> draft id
        self._draft_ids[vocabulary.ids] = torch.arange(len(vocabulary), device=teacher.device)

    def forward(self, texts: Sequence[Text]) -> tuple[Tensor, dict[str, Tensor]]:
        """-> the loss, summed over answer tokens and averaged over steps by weight; hits of the first and last step."""
        batch = self._batch(texts)
        wanted = self._draft_ids[batch.rows[batch.text, batch.place + 1]]  # [N] draft ids of the predicted tokens
        law = self._teacher.logits(batch.final[batch.text, batch.place], self._vocabulary.ids)  # [N, D]
        weights = [self._unroll.decay**step for step in range(self.k)]
        loss = law.new_zeros(())
        metrics = {}
        for step, (state, real) in enumerate(self._steps(batch)):
            known = real & (wanted != NOWHERE)  # no draft has the others: nothing to learn there
            logits = self.head.logits(state[known])
            loss = loss + weights[step] * losses.mixed(logits, law[known], wanted[known], self._loss)
            if step in (0, self.k - 1):
                metrics[f"hits {step + 1}"] = (logits.detach().argmax(-1) == wanted[known]).sum().float()
        return loss / sum(weights), metrics

    def walks(self, texts: Sequence[Text]) -> list[Walk]:
        """What greedy decoding with windows of k would have accepted of each text."""
        batch = self._batch(texts)
        wanted = self._draft_ids[batch.rows[batch.text, batch.place + 1]]
        hits = torch.stack([(self.head.logits(s).argmax(-1) == wanted) & real for s, real in self._steps(batch)])
        parts = hits.cpu().split([len(text.answer) for text in texts], dim=1)  # of [k, answer]
        return [walk(part, text.ended) for part, text in zip(parts, texts, strict=True)]

    def _batch(self, texts: Sequence[Text]) -> _Batch:
        layers = [*self.head.config.aux_layers, self._teacher.final]
        states = self._teacher.states(texts, layers)
        text = torch.cat([torch.full((len(one.answer),), row) for row, one in enumerate(texts)])
        place = torch.cat([torch.arange(len(one.prompt) - 1, len(one.tokens) - 1) for one in texts])
        device = self._teacher.device
        rows = tokens(texts, device)
        fused = [states[layer].to(self.head.fc.weight.dtype) for layer in layers[:3]]
        return _Batch(rows, fused, states[layers[3]], text.to(device), place.to(device))

    def _steps(self, batch: _Batch) -> list[tuple[Tensor, Tensor]]:
        """A step -> the head's states that predict each token [N, H], and which of them there are ([N] bool).

        The first step is over whole texts; the later ones are only over the places from which an answer is drafted.
        """
        rows, attend = batch.rows, Unrolled()
        count = rows.shape[1] - 1  # origins: each needs a next token
        every = torch.arange(count, device=rows.device).expand(len(rows), -1)  # [B, n]
        embeds = self._teacher.embed(rows).to(self.head.fc.weight.dtype)  # [B, L, H]
        hidden = self.head(embeds[:, 1:], self.head.fuse([s[:, :-1] for s in batch.states]), every, attend)
        found = [(hidden[batch.text, (batch.place - 1).clamp(min=0)], batch.place >= 1)]
        # Origins first[b] .. first[b]+A-1 of row b. Token place+1 is predicted at step s from origin place-1-s.
        first = torch.full((len(rows),), count, device=rows.device).scatter_reduce(
            0, batch.text, (batch.place - self.k).clamp(min=0), "amin"
        )
        wide = int((batch.place - first[batch.text]).max())
        origins = (first[:, None] + torch.arange(wide, device=rows.device)).clamp(max=count - 1)  # [B, A]
        attend.origins(origins)
        pick = origins[..., None].expand(-1, -1, hidden.shape[-1])
        state = hidden.gather(1, pick)  # [B, A, H]
        for step in range(1, self.k):
            ahead = (origins + 1 + step).clamp(max=count)
            read = embeds.gather(1, ahead[..., None].expand(-1, -1, embeds.shape[-1]))
            state = self.head(read, state, origins + step, attend)
            at = batch.place - 1 - step - first[batch.text]
            found.append((state[batch.text, at.clamp(min=0)], (at >= 0) & (batch.place - 1 - step >= 0)))
        return found
