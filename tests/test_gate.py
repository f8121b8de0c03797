"""The gate of Consensus AutoJudge: its features by hand, the rule by its text, the learned one beside scikit-learn."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.decode import consensus
from toolkit.errors import UserError
from toolkit.nets import gate as gates
from toolkit.nets.gate import D1, D1_ONLY, D2, ENSEMBLE, FEATURES, TARGET, GateSettings, LearnedGate, RuleGate

ROWS, V, TOP, BLOCK = 400, 23, 4, 16


def laws(seed=0, rows=ROWS, absent=()):
    """Two drafts that agree now and then; `absent`: tokens that the second does not have -> log-laws, float32."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=(rows, V)) * 2
    found = []
    for missing in ((), absent):
        scores = shared + random.normal(size=(rows, V)) * random.choice([0.1, 1.0, 3.0], size=(rows, 1))
        scores[:, list(missing)] = -np.inf
        found.append(torch.from_numpy(scores).float().log_softmax(-1))
    return found


def counts(rows=ROWS):
    random = np.random.default_rng(1)
    return torch.from_numpy(random.integers(0, 9, rows)), torch.from_numpy(random.integers(0, 50, rows))


@pytest.mark.parametrize("absent", [(), (0, 3, 4, 5, 11)], ids=["whole", "trimmed"])
def test_features_by_hand(absent):
    law1, law2 = laws(absent=absent)
    found = gates.ensemble(law1, law2, *counts(), TOP, BLOCK)
    assert found.shape == (ROWS, 17) and found.dtype == torch.float32 and found.isfinite().all()
    for row, (streak, since) in enumerate(zip(*(count.tolist() for count in counts()), strict=True)):
        own = (law[row].double().numpy() for law in (law1, law2))
        wanted = consensus.features(*own, streak, since, TOP, BLOCK)
        assert list(wanted) == list(ENSEMBLE)
        assert found[row].tolist() == pytest.approx(list(wanted.values()), abs=2e-6)
    assert (found.std(0) > 0).all(), "a feature is the same in every row of this test"


def test_d1_only_are_five_of_them():
    law1, law2 = laws()
    alone = gates.d1_only(law1, *counts(), TOP, BLOCK)
    columns = [ENSEMBLE.index(name) for name in D1_ONLY]
    assert torch.equal(alone, gates.ensemble(law1, law2, *counts(), TOP, BLOCK)[:, columns])


def test_a_vocabulary_smaller_than_m():
    law = torch.tensor([[0.7, 0.2, 0.1]]).log()
    zero = torch.zeros(1, dtype=torch.int64)
    found = dict(zip(ENSEMBLE, gates.ensemble(law, law, zero, zero, 8, 64)[0].tolist(), strict=True))
    assert found["same"] == 1 and found["divergence"] == pytest.approx(0, abs=1e-7)
    assert found["y1_rank_d2"] == pytest.approx(1 / 9)


def test_the_rule_by_its_text():
    law1, law2 = laws(rows=3000)
    zero = torch.zeros(3000, dtype=torch.int64)
    seen = gates.ensemble(law1, law2, zero, zero, 8, 64)
    choice = RuleGate().choose(seen).tolist()
    assert choice == [consensus.rule(dict(zip(ENSEMBLE, row, strict=True))) for row in seen.tolist()]
    assert min(choice.count(one) for one in (D1, D2, TARGET)) > 100


@pytest.mark.parametrize(
    ("changes", "choice"),
    [
        ({}, D1),
        ({"margin_1": 0.09}, D2),  # the same token, but not sure enough: D2's, which is the same
        ({"divergence": 0.21}, D2),
        ({"same": 0.0}, D2),
        ({"same": 0.0, "y2_rank_d1": 3 / 9}, TARGET),
        ({"same": 0.0, "p2_y2": 0.4, "p1_y1": 0.5}, D2),  # sure: 0.35, the larger margin, near enough
        ({"same": 0.0, "p2_y2": 0.34, "p1_y1": 0.5}, TARGET),
        ({"same": 0.0, "p2_y2": 0.4, "p1_y1": 0.5, "margin_2": 0.2}, TARGET),
        ({"same": 0.0, "p2_y2": 0.4, "p1_y1": 0.5, "divergence": 0.46}, TARGET),
        ({"same": 0.0, "p2_y2": 0.2, "p1_y1": 0.2, "divergence": 0.6}, D2),  # or simply as sure as D1
    ],
)
def test_each_bound_of_the_rule(changes, choice):
    plain = {"same": 1.0, "margin_1": 0.3, "margin_2": 0.3, "divergence": 0.1, "p2_y2": 0.6, "p1_y1": 0.5}
    plain |= {"y2_rank_d1": 2 / 9}
    seen = torch.tensor([[(plain | changes).get(name, 0.0) for name in ENSEMBLE]])
    assert RuleGate().choose(seen).tolist() == [choice]


def fitted(name="ensemble", threshold=0.5):
    """-> a learned gate, scikit-learn's own chances, and what both were fitted on."""
    random = np.random.default_rng(3)
    seen = random.normal(size=(900, len(FEATURES[name]))) * 3 + 1
    label = (seen[:, :3] + random.normal(size=(900, 3))).argmax(1)
    scaler = StandardScaler().fit(seen)
    model = LogisticRegression(max_iter=500, class_weight="balanced").fit(scaler.transform(seen), label)
    gate = LearnedGate(GateSettings(name, threshold, TOP, BLOCK))
    numbers = {"mean": scaler.mean_, "scale": 1 / scaler.scale_, "weight": model.coef_, "bias": model.intercept_}
    gate.load_state_dict({key: torch.from_numpy(value).float() for key, value in numbers.items()})
    return gate, lambda rows: model.predict_proba(scaler.transform(rows)), seen


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_the_learned_gate_is_scikit_learn_s(threshold):
    gate, chances, seen = fitted(threshold=threshold)
    p = chances(seen)
    assert np.allclose(gate(torch.from_numpy(seen).float()).softmax(-1).numpy(), p, atol=1e-5)
    wanted = np.where(p[:, TARGET] >= threshold, TARGET, p[:, :TARGET].argmax(1))
    unsure = abs(p[:, TARGET] - threshold) < 1e-5
    found = gate.choose(torch.from_numpy(seen).float()).numpy()
    assert (found == wanted)[~unsure].all() and set(found) == {D1, D2, TARGET}


def test_extreme_thresholds():
    """Also where a probability in float32 has long been 0 or 1."""
    gate, _, seen = fitted()
    far = torch.cat([torch.from_numpy(seen).float(), 1e4 * torch.from_numpy(seen).float()])
    gate.use(0.0)
    assert (gate.choose(far) == TARGET).all()
    gate.use(1.0)
    assert (gate.choose(far) != TARGET).all()


@pytest.mark.parametrize("name", FEATURES)
def test_what_was_saved_is_read(name, tmp_path):
    gate, _, seen = fitted(name, threshold=0.65)
    gates.save(gate, tmp_path / "gate")
    found = gates.read(tmp_path / "gate")
    assert found.settings == gate.settings == GateSettings(name, 0.65, TOP, BLOCK)
    assert torch.equal(found.choose(torch.from_numpy(seen).float()), gate.choose(torch.from_numpy(seen).float()))
    assert sorted(path.name for path in (tmp_path / "gate").iterdir()) == ["config.json", "gate.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "specdecpp"}, "key 'kind' is not 'consensus'"),
        ({"features": "all"}, "key 'features' is 'all'; expected one of ensemble, d1_only"),
        ({"features": "d1_only"}, "tensor 'mean' has shape .17., and config.json asks for .5."),
        ({"fallback_threshold": 1.5}, "key 'fallback_threshold' is 1.5; expected a number from 0 to 1"),
        ({"fallback_threshold": None}, "key 'fallback_threshold' is None"),
        ({"top": 0}, "key 'top' is 0"),
        ({"block": 6.5}, "key 'block' is 6.5"),
    ],
)
def test_a_config_that_is_no_gate_s_is_named(changes, message, tmp_path):
    gates.save(fitted()[0], tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        gates.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": None}, "tensor 'bias' has shape none, and config.json asks for .3."),
        ({"more": torch.zeros(2)}, "tensor 'more' has shape .2., and config.json asks for none"),
        ({"weight": torch.full((3, 17), torch.inf)}, "tensor 'weight' has values that are no numbers"),
    ],
)
def test_weights_that_are_no_gate_are_named(changes, message, tmp_path):
    gates.save(fitted()[0], tmp_path)
    path = tmp_path / "gate.safetensors"
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(UserError, match=rf"gate\.safetensors: {message}"):
        gates.read(tmp_path)


def test_files_that_are_not_there_or_not_readable(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: not readable as JSON"):
        gates.read(tmp_path / "nowhere")
    gates.save(fitted()[0], tmp_path)
    weights = tmp_path / "gate.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        gates.read(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"gate\.safetensors: missing"):
        gates.read(tmp_path)
