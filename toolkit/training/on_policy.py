"""Answers that the student samples itself, for the teacher to judge (GKD, Agarwal et al. 2024, arXiv 2306.13649).

A draft meets its own mistakes only while it decodes; trained on them it recovers better. Plain sampling with a KV
cache, in the student's own vocabulary. Seeds come of the texts' names: a run that goes on from a checkpoint draws what
it would have drawn.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from toolkit.engine.vocabulary import Vocabulary
from toolkit.training.texts import Text


def turn(texts: Sequence[Text], share: float, seed: int) -> bool:
    """Is this batch one of the share whose answers the student writes? A function of its texts: shuffled each epoch."""
    return share > 0 and _number(texts, seed, "turn") < share * 2**32


@torch.no_grad()
def answered(
    student: PreTrainedModel,
    vocabulary: Vocabulary,
    texts: Sequence[Text],
    temperature: float,
    ends: Sequence[int],
    seed: int,
) -> list[Text]:
    """The same prompts with answers sampled from the student, each at most as long as the recorded one.

    ends: target ids that end an answer.
    """
    device = student.device
    generator = torch.Generator(device).manual_seed(_number(texts, seed, "draw"))
    rows, mask = _left_padded(texts, device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    room = torch.tensor([len(text.answer) for text in texts], device=device)
    stops = torch.tensor(ends, device=device)
    open_ = torch.ones(len(texts), dtype=torch.bool, device=device)
    cache, feed = DynamicCache(config=student.config), rows
    drawn = []
    was_training = student.training
    student.eval()
    for step in range(int(room.max())):
        out = student.get_decoder()(
            input_ids=feed, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        logits = student.get_output_embeddings()(out.last_hidden_state[:, -1])[..., : len(vocabulary)]
        law = (logits.float() / temperature).softmax(-1)
        token = vocabulary.tokens(torch.multinomial(law, 1, generator=generator))  # [B, 1]
        drawn.append(torch.where(open_, token[:, 0], -1))
        open_ = open_ & ~torch.isin(token[:, 0], stops) & (room > step + 1)
        if not open_.any():
            break
        feed, positions = token, positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(texts), 1)], -1)
    student.train(was_training)
    answers = [tuple(t for t in row if t >= 0) for row in torch.stack(drawn, -1).tolist()]
    return [
        Text(text.key, text.prompt, answer, ended=answer[-1] in set(ends), greedy=False)
        for text, answer in zip(texts, answers, strict=True)
    ]


def _left_padded(texts: Sequence[Text], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts [B, P] and which of it is theirs [B, P], int64 both."""
    longest = max(len(text.prompt) for text in texts)
    padding = [longest - len(text.prompt) for text in texts]
    rows = torch.tensor([[0] * pad + list(text.prompt) for pad, text in zip(padding, texts, strict=True)])
    mask = torch.arange(longest) >= torch.tensor(padding)[:, None]
    return rows.to(device), mask.long().to(device)


def _number(texts: Sequence[Text], seed: int, purpose: str) -> int:
    named = " ".join([purpose, str(seed), *(text.name for text in texts)])
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:4])
