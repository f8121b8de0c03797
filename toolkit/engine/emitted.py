"""What a round gave: each row's tokens on the host, and what they add to the counts of its generation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.engine.types import Draft, Generation, TargetView, Verdict


@dataclass
class Emitted:
    """A row's verdict, read back to the host."""

    tokens: list[int]  # the accepted prefix, and the next token if there is one
    proposed: int
    accepted: int
    rejected: list[int]  # what was proposed behind the accepted prefix
    asked: bool  # has the target said a token?
    counted: dict[str, int]  # the verdict's notes
    sources: str  # as in `Generation.sources`


def read(draft: Draft, verdict: Verdict) -> list[Emitted]:
    """One read for all that the host has to know of a round: here it waits for the device."""
    notes = verdict.notes
    counts = torch.stack([draft.valid.sum(1), verdict.accepted, verdict.next, *notes.values()], dim=1)  # [B, 3 + notes]
    columns = [counts, draft.tokens] if draft.gate is None else [counts, draft.tokens, draft.gate.source]
    behind = len(notes) + draft.tokens.shape[1]
    rows = []
    for proposed, accepted, following, *rest in torch.cat(columns, dim=1).tolist():
        asked = following >= 0
        tokens = rest[len(notes) : behind][:accepted] + [following] * asked
        counted = dict(zip(notes, rest, strict=False))
        sources = "" if draft.gate is None else "".join("12"[one] for one in rest[behind:][:accepted]) + "t" * asked
        rejected = rest[len(notes) : behind][accepted:proposed]
        rows.append(Emitted(tokens, proposed, accepted, rejected, asked, counted, sources))
    return rows


def count(generations: Sequence[Generation], emitted: Sequence[Emitted]) -> None:
    for generation, added in zip(generations, emitted, strict=True):
        for name, more in added.counted.items():
            generation.counters[name] = generation.counters.get(name, 0) + more


def route(generations: Sequence[Generation], draft: Draft) -> None:
    if draft.accounts:
        for generation, account in zip(generations, draft.accounts, strict=True):
            generation.routing = account


def add_divergence(generations: Sequence[Generation], draft: Draft, verdict: Verdict, divergence: Tensor) -> None:
    """Of the places up to and including the first rejection: behind it nothing is emitted."""
    places = torch.arange(draft.tokens.shape[1], device=divergence.device)
    seen = draft.valid & (places <= verdict.accepted[:, None])
    for generation, added in zip(generations, (divergence * seen).sum(1).tolist(), strict=True):
        generation.divergence = (generation.divergence or 0.0) + added


def gaps(target: TargetView) -> list[list[float]]:
    """Between the target's two largest logits, of every row and place."""
    best = target.logits.float().topk(2, dim=-1).values  # [B, 1+N, 2]
    return (best[..., 0] - best[..., 1]).tolist()
