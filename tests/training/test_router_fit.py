"""What a router learns from times: a network that finds whose a prompt is, its confidences, its splits, its luck."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from toolkit.errors import UserError
from toolkit.training import router, router_fit, router_report
from toolkit.training.router_fit import Part, TrainConfig

QUICK = TrainConfig(epochs=40, valid=0.25, test=0.25)


def parts(count=400, seed=0, drafts=3, width=12):
    """Prompts whose features say, with some noise, which draft is fast on them -> train, valid, test."""
    random = np.random.default_rng(seed)
    whose = random.integers(drafts, size=count)
    features = random.normal(size=(count, width)) * 5 + 3
    features[:, :drafts] += 12 * np.eye(drafts)[whose]
    ms = random.normal(40, 2, size=(count, drafts))
    ms[np.arange(count), whose] -= 12
    rows = [torch.from_numpy(one).float() for one in (features, ms)]
    return [Part(*(one[at] for one in rows)) for at in (slice(0, 200), slice(200, 300), slice(300, 400))]


@pytest.mark.parametrize("loss", ["soft", "regret"])
def test_it_finds_whose_a_prompt_is(loss):
    train, valid, test = parts()
    fitted = router_fit.fit(train, valid, 0, TrainConfig(epochs=40, loss=loss))
    probabilities = (router_fit.outputs(fitted.net, test) / fitted.temperature).softmax(-1)
    chosen = router_fit.choices(probabilities, fitted.threshold, 0)
    ms = test.ms
    regret = (ms.gather(1, chosen[:, None]).squeeze(1) - ms.amin(1)).mean()
    single = (ms[:, int(train.ms.mean(0).argmin())] - ms.amin(1)).mean()
    assert regret < 0.5 * single
    assert fitted.curve[-1]["train"] < fitted.curve[0]["train"]
    assert fitted.curve[fitted.best_epoch]["valid"] == min(one["valid"] for one in fitted.curve)


def test_nothing_to_learn_is_no_worse_than_the_best_draft():
    """Times that have nothing to do with the features: the fallback serves, or a draft as good."""
    random = torch.Generator().manual_seed(0)
    rows, ms = torch.randn(300, 6, generator=random), 40 + 8 * torch.randn(300, 3, generator=random)
    ms[:, 1] -= 4
    train, valid, test = (Part(rows[at], ms[at]) for at in (slice(0, 100), slice(100, 200), slice(200, 300)))
    fitted = router_fit.fit(train, valid, 1, TrainConfig(epochs=10))
    probabilities = (router_fit.outputs(fitted.net, valid) / fitted.temperature).softmax(-1)
    chosen = router_fit.choices(probabilities, fitted.threshold, 1)
    assert valid.ms.gather(1, chosen[:, None]).mean() <= valid.ms[:, 1].mean() + 1e-4


def test_the_same_seed_the_same_network():
    train, valid, _ = parts(seed=1)
    one, other = (router_fit.fit(train, valid, 0, TrainConfig(epochs=3, seed=5)) for _ in range(2))
    assert all(torch.equal(tensor, other.net.state_dict()[name]) for name, tensor in one.net.state_dict().items())
    third = router_fit.fit(train, valid, 0, TrainConfig(epochs=3, seed=6))
    assert not torch.equal(one.net.hidden.weight, third.net.hidden.weight)


def test_losses_by_hand():
    logits, ms = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[30.0, 32.0], [50.0, 40.0]])
    soft = router_fit.loss(logits, ms, "soft", 2.0, 40.0)
    label = functional.softmax(torch.tensor([0.0, -1.0]), 0)
    assert soft[0] == pytest.approx(float(-(label * functional.log_softmax(logits[0], 0)).sum()), abs=1e-6)
    regret = router_fit.loss(logits, ms, "regret", 2.0, 40.0)
    assert regret.tolist() == pytest.approx([float(logits[0].softmax(0)[1]) * 2 / 40, 0.5 * 10 / 40])


def test_features_that_never_vary_do_not_blow_up():
    train, valid, _ = parts()
    flat = [Part(torch.cat([one.features, torch.full((len(one), 1), 7.0)], 1), one.ms) for one in (train, valid)]
    fitted = router_fit.fit(*flat, 0, TrainConfig(epochs=1))
    assert fitted.net.scale[-1] == 0 and all(tensor.isfinite().all() for tensor in fitted.net.state_dict().values())


def test_a_temperature_brings_confidence_to_how_often_it_is_right():
    random = np.random.default_rng(0)
    truth = random.normal(size=(4000, 3))
    best = [random.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in truth]
    ms = torch.ones(4000, 3)
    ms[torch.arange(4000), torch.tensor(best)] = 0
    temperature, nll = router_fit.calibrated(torch.from_numpy(truth).float() * 4, ms)
    assert temperature == pytest.approx(4, rel=0.15) and nll["after"] < nll["before"]
    probabilities = torch.from_numpy(truth).float().softmax(-1)
    for one in router_fit.calibration(probabilities, ms):
        assert one["confidence"] == pytest.approx(one["right"], abs=0.06)


def test_the_threshold_is_where_the_fallback_begins_to_pay():
    """Below 0.6 the network is wrong, above it right; the fallback is in between."""
    sure = torch.linspace(0.34, 0.99, 200)
    probabilities = torch.stack([sure, (1 - sure) / 2, (1 - sure) / 2], 1)
    ms = torch.full((200, 3), 30.0)
    ms[:, 0] = torch.where(sure < 0.6, 50.0, 10.0)
    threshold = router_fit.chosen_threshold(probabilities, ms, 1)
    assert 0.59 < threshold <= 0.61
    assert router_fit.choices(probabilities, threshold, 1).unique().tolist() == [0, 1]
    ms[:, 0] = 50.0
    assert router_fit.chosen_threshold(probabilities, ms, 1) > 0.9, "where it is never right"


# Splits


def test_splits_are_disjoint_and_keep_equal_prompts_together():
    prompts = [f"p{i % 30}" for i in range(60)]
    found = router.split(prompts, QUICK, "x")
    assert [found.tolist().count(i) for i in range(3)] == [28, 16, 16]
    by_prompt = {name: {part for other, part in zip(prompts, found, strict=True) if other == name} for name in prompts}
    assert all(len(one) == 1 for one in by_prompt.values())
    assert (router.split(prompts, QUICK, "x") == found).all()
    with pytest.raises(UserError, match="3 different prompts were tried; expected 4 or more"):
        router.split(["a", "b", "c"], QUICK, "x")


def test_the_fastest_of_noisy_times_is_judged_by_other_times():
    """All drafts alike: the oracle of one timing seems to gain, judged by the next it gains nothing."""
    ms = np.random.default_rng(0).normal(40, 5, size=(500, 4, 3))
    found = router_report.crossed_oracle(ms, 0)
    assert found["gain"]["value"] == pytest.approx(1, abs=0.02)
    assert ms[:, 0].min(1).mean() < 37
    assert router_report.crossed_oracle(ms[:, :1], 0) is None
