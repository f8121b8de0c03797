"""Losses against their definitions, computed another way."""

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from toolkit.errors import UserError
from toolkit.training import losses
from toolkit.training.losses import NOWHERE, LossConfig, mixed

ROWS, WIDTH = 6, 11
TOKENS = torch.arange(ROWS)


@pytest.fixture
def logits():
    """Student's, teacher's."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, ROWS, WIDTH, generator=generator, dtype=torch.float32)


def one(name, **settings):
    return LossConfig(name, **settings)


def value(student, teacher, settings, tokens=TOKENS):
    return float(mixed(student, teacher, tokens, settings))


def by_definition(name, student, teacher, temperature=1.0, beta=0.5):
    """In float64, from probabilities; KLs of torch.distributions."""
    q, p = (Categorical(logits=x.double() / temperature) for x in (student, teacher))
    m = Categorical(probs=beta * p.probs + (1 - beta) * q.probs)
    scale = temperature**2
    return {
        "forward_kl": lambda: scale * kl_divergence(p, q).sum(),
        "reverse_kl": lambda: scale * kl_divergence(q, p).sum(),
        "jsd": lambda: scale * (beta * kl_divergence(p, m) + (1 - beta) * kl_divergence(q, m)).sum(),
        "tv": lambda: (p.probs - torch.minimum(p.probs, q.probs)).sum(),  # the mass that is rejected
    }[name]()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("name", losses.DIVERGENCES)
def test_divergences_are_their_definitions(name, temperature, logits):
    expected = float(by_definition(name, *logits, temperature))
    assert value(*logits, one(name, temperature=temperature)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jsd_has_its_beta(beta, logits):
    student, teacher = logits
    expected = float(by_definition("jsd", student, teacher, beta=beta))
    assert value(student, teacher, one("jsd", beta=beta)) == pytest.approx(expected, rel=1e-5)
    assert value(student, teacher, one("jsd", beta=beta)) == pytest.approx(
        value(teacher, student, one("jsd", beta=1 - beta)), rel=1e-5
    )


def test_jsd_over_beta_tends_to_the_forward_kl(logits):
    beta, (student, teacher) = 1e-3, logits / 3
    forward = value(student, teacher, one("forward_kl"))
    assert value(student, teacher, one("jsd", beta=beta)) / beta == pytest.approx(forward, rel=0.02)


def test_two_laws_by_hand():
    """p = (3/4, 1/4), q = (1/4, 3/4): KL = ln 3 / 2, tv = 1/2, and JSD against the even law."""
    teacher, student = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[1.0, 3.0]]).log()
    token = torch.tensor([0])
    assert value(student, teacher, one("forward_kl"), token) == pytest.approx(0.5493061)
    assert value(student, teacher, one("tv"), token) == pytest.approx(0.5)
    assert value(student, teacher, one("jsd"), token) == pytest.approx(0.1308120, rel=1e-5)
    assert value(student, None, one("ce"), token) == pytest.approx(1.3862944)


@pytest.mark.parametrize("name", losses.DIVERGENCES)
def test_equal_laws_are_no_loss(name, logits):
    student, _ = logits
    shifted = student + torch.arange(ROWS)[:, None]  # the same law
    assert value(student, shifted, one(name)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", losses.DIVERGENCES)
def test_it_is_a_sum_over_rows(name, logits):
    student, teacher = logits
    parts = [value(student[[i]], teacher[[i]], one(name)) for i in range(ROWS)]
    assert min(parts) > 0
    assert value(student, teacher, one(name)) == pytest.approx(sum(parts), rel=1e-5)


def test_ce_counts_the_tokens_it_has_at_temperature_one(logits):
    student, _ = logits
    tokens = TOKENS.clone()
    tokens[2] = NOWHERE
    kept = [i for i in range(ROWS) if i != 2]
    expected = -Categorical(logits=student).log_prob(TOKENS)[kept].sum()
    for temperature in (1.0, 4.0):
        assert value(student, None, one("ce", temperature=temperature), tokens) == pytest.approx(float(expected))


def test_ce_of_no_token_is_zero_and_has_a_gradient(logits):
    student = logits[0].clone().requires_grad_()
    loss = mixed(student, None, torch.full((ROWS,), NOWHERE), one("ce"))
    loss.backward()
    assert loss.item() == 0 and not student.grad.any()


def test_a_mix_is_a_weighted_sum(logits):
    mix = {"forward_kl": 0.7, "tv": 2.0, "ce": 0.1}
    parts = {name: value(*logits, one(name, temperature=2.0)) for name in mix}
    expected = sum(weight * parts[name] for name, weight in mix.items())
    assert value(*logits, LossConfig(mix=mix, temperature=2.0)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", losses.DIVERGENCES)
def test_gradients_are_those_of_the_definition(name, temperature, logits):
    student, teacher = logits[0].clone().requires_grad_(), logits[1]
    mixed(student, teacher, TOKENS, one(name, temperature=temperature)).backward()
    checked = logits[0].double().requires_grad_()
    by_definition(name, checked, teacher, temperature).backward()
    assert torch.allclose(student.grad, checked.grad.float(), atol=1e-5)
    assert student.grad.abs().max() > 1e-2


def test_gradients_do_not_shrink_with_the_temperature(logits):
    """T^2 at work: where T is far above the logits, the KL's gradient is (student - teacher) / D, centred."""
    student, teacher = logits / 1000
    expected = sum(sign * (x - x.mean(-1, keepdim=True)) for sign, x in ((1, student), (-1, teacher))) / WIDTH
    student = student.clone().requires_grad_()
    for temperature in (1.0, 10.0):
        loss = mixed(student, teacher, TOKENS, one("forward_kl", temperature=temperature))
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.allclose(gradient, expected, atol=0.03 * float(expected.abs().max()))


@pytest.mark.parametrize("name", losses.NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peaked_laws_stay_finite(name, dtype):
    """All mass on one token each, on different ones: p and q are 0 in float32 nearly everywhere."""
    student, teacher = torch.zeros(2, ROWS, WIDTH, dtype=dtype)
    student[:, 1], teacher[:, 0] = 1e4, 1e4
    student.requires_grad_()
    loss = mixed(student, teacher, torch.zeros(ROWS, dtype=torch.int64), one(name))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and student.grad.isfinite().all()
    expected = {"forward_kl": 1e4, "reverse_kl": 1e4, "ce": 1e4, "tv": 1.0, "jsd": 0.6931}[name]  # a row; JSD: ln 2
    assert loss.item() / ROWS == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (LossConfig("forward_lk"), "Did you mean 'forward_kl'"),
        (LossConfig(mix={"tv": 1.0, "kl": 1.0}), "no loss is called 'kl'"),
        (LossConfig(mix={"tv": 0.0}), "weights above 0"),
        (LossConfig(mix={"tv": float("nan")}), "weights above 0"),
        (LossConfig(temperature=0.0), "loss.temperature' is 0.0"),
        (LossConfig(beta=1.0), "reverse_kl"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, said):
    with pytest.raises(UserError, match="recipe.yaml: key 'loss") as refused:
        losses.check(settings, "recipe.yaml: key 'loss")
    assert said in str(refused.value)
