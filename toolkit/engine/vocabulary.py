"""A draft's own, smaller vocabulary: the head over a few thousand frequent tokens is what makes a small draft cheap.

Everything outside of a proposer speaks target ids, so a proposer translates its tokens and spreads its law: a token
that the draft does not have gets q = 0, which the acceptance rule needs no rule of its own for.
"""

from pathlib import Path

import torch
from torch import Tensor

from toolkit.errors import UserError

NEVER = float("-inf")
_MEND = "Copy the artifact again, or train it again."


class Vocabulary:
    """ids: [D] int64, ascending: the target id of each draft id. size: the target's vocabulary."""

    def __init__(self, ids: Tensor, size: int) -> None:
        self.ids, self.size = ids, size

    @staticmethod
    def from_map(d2t: Tensor, t2d: Tensor, where: Path) -> "Vocabulary":
        """From the two tensors of EAGLE's formats (see `offsets` and `mask`); `where` they were read from.

        UserError where they are no map: a wrong one would draft wrong tokens, and only slow decoding down.
        """
        if d2t.dtype != torch.int64 or d2t.dim() != 1 or len(d2t) == 0:
            raise UserError(f"{where}: 'd2t' is {_described(d2t)}; expected one int64 offset a draft token. {_MEND}")
        if t2d.dtype != torch.bool or t2d.dim() != 1:
            raise UserError(f"{where}: 't2d' is {_described(t2d)}; expected one bool a target token. {_MEND}")
        ids = d2t + torch.arange(len(d2t))
        outside = (ids < 0) | (ids >= len(t2d))
        if outside.any():
            at = int(outside.nonzero()[0])
            raise UserError(
                f"{where}: 'd2t' maps draft token {at} to {int(ids[at])}, and the target has tokens 0 to "
                f"{len(t2d) - 1}; target id = draft id + offset. {_MEND}"
            )
        if (ids.diff() <= 0).any():
            at = int((ids.diff() <= 0).nonzero()[0])
            raise UserError(
                f"{where}: 'd2t' maps draft tokens {at} and {at + 1} to {int(ids[at])} and {int(ids[at + 1])}; "
                f"expected ascending target ids. It holds offsets: target id = draft id + offset. {_MEND}"
            )
        vocabulary = Vocabulary(ids, len(t2d))
        wrong = (vocabulary.mask() != t2d).nonzero()
        if len(wrong):
            raise UserError(f"{where}: 't2d' and 'd2t' disagree about target token {int(wrong[0])}. {_MEND}")
        return vocabulary

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, draft_ids: Tensor) -> Tensor:
        """Draft ids of any shape -> target ids."""
        return self.ids[draft_ids]

    def spread(self, logq: Tensor) -> Tensor:
        """Log-probabilities [..., D] -> [..., V], -inf where the draft has no token."""
        return torch.full((*logq.shape[:-1], self.size), NEVER, dtype=logq.dtype, device=logq.device).index_copy_(
            -1, self.ids, logq
        )

    def below(self, size: int) -> "Vocabulary":
        """What is left of it in a target that is cut to `size` tokens: the first draft ids, as ids ascend."""
        return self if size == self.size else Vocabulary(self.ids[self.ids < size], size)

    def to(self, device: torch.device) -> "Vocabulary":
        return Vocabulary(self.ids.to(device), self.size)

    def offsets(self) -> Tensor:
        """The `d2t` of EAGLE's formats: target id = draft id + offset, [D] int64."""
        return self.ids - torch.arange(len(self.ids), device=self.ids.device)

    def mask(self) -> Tensor:
        """The `t2d` of EAGLE's formats: [V] bool, whether the draft has the token."""
        return torch.zeros(self.size, dtype=torch.bool, device=self.ids.device).index_fill_(0, self.ids, True)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"
