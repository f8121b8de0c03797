"""Linear layers with weights packed once for oneDNN: on a CPU, verifying five tokens then costs about what one does.

A plain float32 `F.linear` re-reads its weight badly at 2 to 8 rows: the head of SmolLM2-135M (576 -> 49,152)
takes 10 ms at one row and 16 ms at five, packed 4.4 and 3.4 (2 cores, AVX-512). That difference is where
speculation on a CPU gets its speed from. Projections that read the same input (q, k, v; gate, up) become one
product. Small matrices gain nothing and stay as they are; the rule is fixed, not timed at load, so that two runs
on one machine compute the same numbers.
"""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

SMALLEST = 1 << 18  # weight elements; below, a packed product is no faster than a plain one
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_ROWS_HINT = 8  # rows oneDNN is told to expect when it chooses the layout


class PackedLinear(nn.Module):
    """y = x W^T + b with W [out, in] kept in oneDNN's blocked layout; inference only, float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # Opaque layouts cannot be buffers: they have no storage to move or to save.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS_HINT)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


class Leader(nn.Module):
    """The first of sibling projections: computes them all, returns its own part, keeps the others'."""

    def __init__(self, linear: PackedLinear, sizes: list[int]) -> None:
        super().__init__()
        self.linear, self.sizes = linear, sizes
        self.in_features, self.out_features = linear.in_features, sizes[0]
        self.source: Tensor | None = None
        self.parts: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        self.source = x
        self.parts = self.linear(x).split(self.sizes, dim=-1)
        return self.parts[0]


class Follower(nn.Module):
    """A later sibling: its part was computed by the leader from the same input."""

    def __init__(self, leader: Leader, part: int) -> None:
        super().__init__()
        self._leader = (leader,)  # in a tuple: not a submodule of this one too
        self.part = part
        self.in_features, self.out_features = leader.in_features, leader.sizes[part]
        self.is_last = part == len(leader.sizes) - 1

    def forward(self, x: Tensor) -> Tensor:
        leader = self._leader[0]
        if leader.source is not x:
            raise RuntimeError("sibling projections were fused, but this model gives them different inputs")
        taken = leader.parts[self.part]
        if self.is_last:  # or every layer would hold its activations until the next forward
            leader.source, leader.parts = None, ()
        return taken


def pack(model: nn.Module) -> int:
    """Replace the large linear layers of a float32 CPU model in place -> how many modules were replaced.

    The module tree is changed, the parameter tensors are not: whoever else holds them still has them.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    return sum(_pack_children(module) for module in list(model.modules()))


def _pack_children(parent: nn.Module) -> int:
    replaced = 0
    children = dict(parent.named_children())
    for names in SIBLINGS:
        if all(_packable(children.get(name), smallest=1) for name in names):
            replaced += _fuse(parent, names)
    for name, child in parent.named_children():
        if _packable(child, SMALLEST):
            setattr(parent, name, PackedLinear(*_weights(child)))
            replaced += 1
    return replaced


def _fuse(parent: nn.Module, names: tuple[str, ...]) -> int:
    weights, biases = zip(*(_weights(parent.get_submodule(name)) for name in names), strict=True)
    fused = torch.cat(weights)
    same_bias = len({bias is None for bias in biases}) == 1
    if fused.numel() < SMALLEST or not same_bias:
        return 0
    bias = None if biases[0] is None else torch.cat(biases)
    leader = Leader(PackedLinear(fused, bias), [len(weight) for weight in weights])
    setattr(parent, names[0], leader)
    for part, name in enumerate(names[1:], start=1):
        setattr(parent, name, Follower(leader, part))
    return len(names)


def _packable(module: nn.Module | None, smallest: int) -> bool:
    plain = type(module) in (nn.Linear, Conv1D)  # a quantised subclass computes something else
    return plain and module.weight.dtype == torch.float32 and module.weight.numel() >= smallest


def _weights(module: nn.Linear | Conv1D) -> tuple[Tensor, Tensor | None]:
    """-> (W [out, in], b [out] or None); GPT-2's Conv1D stores the transpose."""
    weight = module.weight if isinstance(module, nn.Linear) else module.weight.T
    return weight, module.bias
