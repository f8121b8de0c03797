"""LoRA adapters over one resident model: every row of the batch has its own adapter, or none.

The factors of all adapters are stacked: y = W x + B (m * A x) with A [R, in] and B [R, out] over the sum R of their
ranks, and m 1 in the columns of the row's own adapter, 0 elsewhere. W x is made once for the whole batch. Where all
rows have one adapter only its columns are computed. For the few adapters that a router chooses among this takes fewer
and larger products than a product a group of rows does. A step pays by the adapted module (two small products
each) more than by the ranks, so a draft's adapters are best on few modules.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from toolkit.engine.packed import Follower, Leader, PackedLinear

Factors = Mapping[str, tuple[Tensor, Tensor]]  # path of a module -> A [rank, in], B [out, rank] with its scale
NONE = -1  # a row without an adapter


class Rows:
    """Which adapter each row has. The modules add nothing but while this is entered: the model may have other users."""

    def __init__(self, ranks: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        ends = [sum(ranks[: number + 1]) for number in range(len(ranks))]
        self._spans = [slice(end - rank, end) for rank, end in zip(ranks, ends, strict=True)]
        self._all = slice(0, sum(ranks))
        table = torch.zeros(len(ranks) + 1, sum(ranks), dtype=dtype)  # the last one's row is NONE's
        for row, span in zip(table, self._spans, strict=False):
            row[span] = 1
        self._table = table.to(device)
        self._index: list[int] = []
        self._some = self.adds = False
        self.columns, self.mask = self._all, None

    def choose(self, index: Sequence[int]) -> None:
        """The adapter of each row, by number, or NONE."""
        self._index = list(index)
        different = set(self._index)
        self._some = different != {NONE}
        self.columns, self.mask = self._all, None  # mask: [B, R], where rows differ
        if len(different) > 1:
            self.mask = self._table[torch.tensor(self._index).to(self._table.device)]
        elif self._some:
            self.columns = self._spans[self._index[0]]

    def __enter__(self) -> None:
        self.adds = self._some

    def __exit__(self, *_: object) -> None:
        self.adds = False


class Lora(nn.Module):
    """A linear module, of whatever kind, and what its row's adapter adds to it. Inference only."""

    def __init__(self, base: nn.Module, rows: Rows, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.base, self._rows = base, rows
        self.register_buffer("a", a, persistent=False)  # [in, R]
        self.register_buffer("b", b, persistent=False)  # [R, out]
        self.in_features, self.out_features = widths(base)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, n, in] -> [B, n, out]."""
        said, rows = self.base(x), self._rows
        if not rows.adds:
            return said
        part = x.reshape(-1, self.in_features) @ self.a[:, rows.columns]  # [B*n, columns]
        if rows.mask is not None:
            part.view(*x.shape[:2], -1).mul_(rows.mask[:, None])
        said.view(-1, self.out_features).addmm_(part, self.b[rows.columns])  # in place: it was made for this call
        return said


def attach(model: nn.Module, adapters: Sequence[Factors], device: torch.device, dtype: torch.dtype) -> Rows:
    """Put the adapters beside the model's modules, in place -> the rows' choice. They fit: see `misfit`."""
    ranks = [max(len(a) for a, _ in factors.values()) for factors in adapters]
    rows = Rows(ranks, device, dtype)
    for path in {path: None for factors in adapters for path in factors}:
        module = model.get_submodule(path)
        a, b = _stacked(path, widths(module), adapters, ranks)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, Lora(module, rows, a.to(device, dtype), b.to(device, dtype)))
    return rows


def misfit(model: nn.Module, factors: Factors) -> str | None:
    """What of an adapter has no place in the model, in words; None where all of it has."""
    modules = dict(model.named_modules())
    for path, (a, b) in sorted(factors.items()):
        module = modules.get(path)
        if not isinstance(module, _LINEAR):
            return f"there is no linear module {path}"
        if (a.shape[1], b.shape[0]) != widths(module):
            return f"{path} is {' -> '.join(map(str, widths(module)))}, and the adapter's {a.shape[1]} -> {b.shape[0]}"
    return None


def size(model: nn.Module) -> int:
    """Bytes of all adapters that are attached to a model."""
    ours = [module for module in model.modules() if isinstance(module, Lora)]
    return sum(buffer.nbytes for module in ours for buffer in module.buffers(recurse=False))


def widths(module: nn.Module) -> tuple[int, int]:
    """(in, out) of a linear module."""
    return (module.nx, module.nf) if isinstance(module, Conv1D) else (module.in_features, module.out_features)


_LINEAR = (nn.Linear, Conv1D, PackedLinear, Leader, Follower, Lora)


def _stacked(
    path: str, shape: tuple[int, int], adapters: Sequence[Factors], ranks: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """A [in, R] and B [R, out] of all adapters at one module; zeros where one has less, or nothing, there."""
    into, out = shape
    a, b = torch.zeros(into, sum(ranks)), torch.zeros(sum(ranks), out)
    start = 0
    for factors, rank in zip(adapters, ranks, strict=True):
        if path in factors:
            its_a, its_b = factors[path]
            a[:, start : start + len(its_a)] = its_a.T
            b[start : start + len(its_a)] = its_b.T
        start += rank
    return a, b
