"""The loss and the walk of a draft that is a language model of its own: what `fit` trains in a distillation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.training import losses, on_policy
from toolkit.training.documents import Packed
from toolkit.training.features import Teacher, tokens
from toolkit.training.losses import NOWHERE, LossConfig
from toolkit.training.student import Student
from toolkit.training.texts import Text
from toolkit.training.walk import Walk, walk


@dataclass
class OnPolicyConfig:
    """Answers that the student samples itself."""

    share: float = 0.0  # of the batches
    temperature: float = 1.0


class DistillLearner(nn.Module):
    """The student with its loss and its walk: a `fit.Learner`."""

    def __init__(
        self, student: Student, teacher: Teacher, loss: LossConfig, k: int, policy: OnPolicyConfig, seed: int
    ) -> None:
        super().__init__()
        self.student, self.k = student.module, k
        self._model = (student.model,)  # in a tuple: not a submodule of this one too
        self._vocabulary, self._teacher, self._loss = student.vocabulary, teacher, loss
        self._ids = student.vocabulary.ids if student.trimmed else None
        self._policy, self._seed = policy, seed
        self._draft_ids = torch.full((teacher.vocab,), NOWHERE, device=teacher.device)  # target id -> draft id
        self._draft_ids[self._vocabulary.ids] = torch.arange(len(self._vocabulary), device=teacher.device)

    def forward(self, texts: Sequence[Text]) -> tuple[Tensor, dict[str, Tensor]]:
        """-> the loss, summed over answer tokens, and how many of them the student would say itself.

        Where fewer tokens are predicted than recorded (the student's own answer was shorter, a document begins), the
        others weigh more, so that the batch weighs what it should.
        """
        recorded = sum(len(text.answer) for text in texts)
        own = on_policy.turn(texts, self._policy.share, self._seed)
        texts = self._answered(texts) if own else texts
        logits, wanted, row, place = self._predicted(texts)
        law = None
        if losses.needs_teacher(self._loss):
            states = (
                self._teacher.compute(texts, [self._teacher.final])
                if own
                else self._teacher.states(texts, [self._teacher.final])
            )
            law = self._teacher.logits(states[self._teacher.final][row, place], self._ids)[:, : len(self._vocabulary)]
        weight = recorded / max(1, len(wanted))
        hits = (logits.detach().argmax(-1) == wanted).sum().float()
        return weight * losses.mixed(logits, law, wanted, self._loss), {"hits": weight * hits}

    def walks(self, texts: Sequence[Text]) -> list[Walk]:
        """What greedy decoding with windows of k would have accepted of each text.

        Behind drafted tokens that all stand, a plain draft reads the answer: a depth hits where any other would.
        """
        logits, wanted, _, _ = self._predicted(texts)
        hits = (logits.argmax(-1) == wanted).cpu().split([len(text.answer) for text in texts])
        return [walk(part.expand(self.k, -1), text.ended) for part, text in zip(hits, texts, strict=True)]

    def _answered(self, texts: Sequence[Text]) -> list[Text]:
        ends = self._teacher.runner.eos_ids
        model = self._model[0]
        return on_policy.answered(model, self._vocabulary, texts, self._policy.temperature, ends, self._seed)

    def _predicted(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits [N, D] of each predicted token, its draft id, its row in the batch, and the place before it."""
        device, model = self._teacher.device, self._model[0]
        rows, (row, place) = tokens(texts, device), (x.to(device) for x in _places(texts))
        states = model.get_decoder()(
            input_ids=rows, position_ids=_positions(texts, rows.shape[1]).to(device), use_cache=False
        ).last_hidden_state
        logits = model.get_output_embeddings()(states[row, place])[:, : len(self._vocabulary)]
        return logits, self._draft_ids[rows[row, place + 1]], row, place


def _places(texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Of each predicted token its row and the place before it, [N] both."""
    places = [
        [at for at in range(len(text.prompt) - 1, len(text.tokens) - 1) if at + 1 not in _starts(text)]
        for text in texts
    ]
    row = [torch.full((len(of_row),), number) for number, of_row in enumerate(places)]
    return torch.cat(row), torch.tensor([at for of_row in places for at in of_row], dtype=torch.int64)


def _positions(texts: Sequence[Text], length: int) -> Tensor:
    """[B, L]: counted anew where a document begins, which is also how transformers keeps documents apart."""
    positions = torch.arange(length).repeat(len(texts), 1)
    for row, text in zip(positions, texts, strict=True):
        for start in _starts(text):
            row[start:] = torch.arange(length - start)
    return positions


def _starts(text: Text) -> tuple[int, ...]:
    return text.starts if isinstance(text, Packed) else ()
