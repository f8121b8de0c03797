"""What a draft is trained to lower, by name: how far the student's law q is from the teacher's law p.

Logits are [N, D], a row an answer token, over the vocabulary of the student. A loss is the sum over the rows in
float32: whoever divides it by the number of tokens, over all processes, has the mean over tokens (a mean over sequences
would weigh them by their lengths, and a KL that is summed over tokens is thousands of times too large).
With temperature T both laws are softmax(logits / T). The gradient of a KL then shrinks with 1/T^2, so KLs, and the JSD
that is made of them, are multiplied by T^2 (Hinton et al. 2015, arXiv 1503.02531): their scale does not depend on T.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from toolkit import registry
from toolkit.errors import UserError

NOWHERE = -1  # a target token that the student's vocabulary does not have


@dataclass
class LossConfig:
    """One loss by its name (`loss: forward_kl`), or a weighted sum (`loss: {mix: {forward_kl: 0.9, ce: 0.1}}`)."""

    name: str = "forward_kl"  # forward_kl | reverse_kl | jsd | tv | ce
    mix: dict[str, float] = field(default_factory=dict)  # name -> weight, instead of one name
    temperature: float = 1.0  # of both laws
    beta: float = 0.5  # of the JSD: the teacher's share in the mean law; near 0 forward KL, near 1 reverse KL

    @property
    def weights(self) -> dict[str, float]:
        return self.mix or {self.name: 1.0}


class Loss(Protocol):
    """log p and log q, [N, D] float32 and finite -> the sum over rows."""

    def __call__(self, teacher: Tensor, student: Tensor, settings: LossConfig) -> Tensor: ...


def forward_kl(teacher: Tensor, student: Tensor, settings: LossConfig) -> Tensor:
    """KL(p || q): the student covers whatever the teacher may say."""
    return settings.temperature**2 * functional.kl_div(student, teacher, reduction="sum", log_target=True)


def reverse_kl(teacher: Tensor, student: Tensor, settings: LossConfig) -> Tensor:
    """KL(q || p): the student says only what the teacher may."""
    return settings.temperature**2 * functional.kl_div(teacher, student, reduction="sum", log_target=True)


def jsd(teacher: Tensor, student: Tensor, settings: LossConfig) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (GKD, arXiv 2306.13649); symmetric at 0.5."""
    share = torch.tensor(settings.beta, device=student.device)
    mean = torch.logaddexp(teacher + share.log(), student + (-share).log1p())
    parts = [functional.kl_div(mean, law, reduction="sum", log_target=True) for law in (teacher, student)]
    return settings.temperature**2 * (settings.beta * parts[0] + (1 - settings.beta) * parts[1])


def tv(teacher: Tensor, student: Tensor, settings: LossConfig) -> Tensor:
    """Half the L1 distance, which is the chance that a sampled draft is rejected (DistillSpec, arXiv 2310.08461)."""
    return (teacher.exp() - student.exp()).abs().sum() / 2


DIVERGENCES: dict[str, Loss] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl, "jsd": jsd, "tv": tv}
NAMES = [*DIVERGENCES, "ce"]


def ce(student: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of student logits [N, D] on the tokens that stand there ([N] int64; NOWHERE: does not count).

    At temperature 1 always: there is one law only.
    """
    return functional.cross_entropy(student.float(), tokens, ignore_index=NOWHERE, reduction="sum")


def mixed(student: Tensor, teacher: Tensor | None, tokens: Tensor, settings: LossConfig) -> Tensor:
    """The weighted sum of the losses in `settings.weights`.

    student, teacher: raw logits [N, D] (no teacher is needed for `ce` alone); tokens: [N] int64 as in `ce`.
    """
    total = student.new_zeros((), dtype=torch.float32)
    weights = settings.weights
    if needs_teacher(settings):
        laws = [(logits.float() / settings.temperature).log_softmax(-1) for logits in (teacher, student)]
        for name, loss in DIVERGENCES.items():
            if name in weights:
                total = total + weights[name] * loss(*laws, settings)
    if "ce" in weights:
        total = total + weights["ce"] * ce(student, tokens)
    return total


def needs_teacher(settings: LossConfig) -> bool:
    return bool(settings.weights.keys() & DIVERGENCES.keys())


def check(settings: LossConfig, where: str) -> None:
    """Refuse what cannot be meant. `where` opens the message: the file and the key, without its closing quote."""
    if unknown := sorted(settings.weights.keys() - set(NAMES)):
        near = registry.nearest(unknown[0], NAMES)
        raise UserError(f"{where}': no loss is called '{unknown[0]}'.{near} Losses: {', '.join(NAMES)}.")
    if not all(0 < weight < float("inf") for weight in settings.weights.values()):
        raise UserError(f"{where}.mix' is {settings.mix}; expected losses with weights above 0.")
    if not 0 < settings.temperature < float("inf"):
        raise UserError(f"{where}.temperature' is {settings.temperature}; expected a number above 0.")
    if not 0 < settings.beta < 1:
        raise UserError(
            f"{where}.beta' is {settings.beta}; expected a share between 0 and 1. The ends have names of their own: "
            "forward_kl, reverse_kl."
        )
