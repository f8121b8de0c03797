"""SpecDec++ from traces: which states and labels are learned from, what a head is worth, and a whole tiny run."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from toolkit import methods
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets import heads
from toolkit.training import main, processes, specdecpp, specdecpp_fit, specdecpp_report
from toolkit.training.specdecpp import SpecDecPPRecipe
from toolkit.training.specdecpp_fit import HeadFitConfig
from toolkit.training.traces import Costs, Windows

N, K, WIDTH = 600, 6, 8
KEPT = 0.7  # of the tokens that are drafted
CPU = torch.device("cpu")


def windows(log_ratio, hidden, valid=None, temperature=1.0):
    """Twenty windows a request; the columns that nothing here reads are zero."""
    n, k = log_ratio.shape
    rows, places = np.zeros(n, np.int64), np.zeros((n, k), np.float32)
    columns = {field.name: places for field in dataclasses.fields(Windows)}
    columns |= dict.fromkeys(("window", "committed", "k_prev"), rows) | {"following": rows - 1}
    columns |= {
        "temperature": temperature,
        "lenience": np.ones(1),
        "valid": np.ones((n, k), bool) if valid is None else valid,
        "accepted": np.cumprod(log_ratio >= 0, axis=1).astype(bool),
        "log_ratio": log_ratio.astype(np.float32),
        "accept_T": np.full((n, k, 1), KEPT, np.float32),
        "tv_T": np.zeros((n, k, 1), np.float32),
        "request": np.arange(n) // 20,
        "draft_hidden": hidden.astype(np.float16),
    }
    return Windows(**columns)


def drawn(signal, seed=0):
    """Tokens that pass or do not, by chance. signal: the state of a token says which, among noise.

    A token's state is recorded at the next place, from which the next token was drawn.
    """
    random = np.random.default_rng(seed)
    passes = random.random((N, K)) < KEPT
    hidden = random.normal(size=(N, K, WIDTH)) * 3 + 5
    if signal:
        hidden[:, 1:, 2] = 100 * (2 * passes[:, :-1] - 1) + random.normal(size=(N, K - 1)) * 50
    return windows(np.where(passes, 0.5, -6.0), hidden)


def costs(k=K):
    return Costs(
        draft_ms=[1.0 * steps for steps in range(k + 1)],
        verify_ms=[3 + 0.1 * width for width in range(k + 1)],
        host_ms=0.1,
        rounds=[9] * (k + 1),
        batch=1,
        threads=1,
        hardware={},
    )


def recipe(**changes):
    train = HeadFitConfig(epochs=8, batch=64, lr=1e-2)
    return SpecDecPPRecipe(max=K - 1, blocks=2, train=train, method="a test", out="out", **changes)


@pytest.fixture(scope="module")
def learned():
    return specdecpp.learn(recipe(), drawn(signal=True), costs(), CPU)


def test_a_token_s_state_is_at_the_next_place():
    hidden = np.arange(3 * 4 * 2).reshape(3, 4, 2)
    ratio = np.log(np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 2.0, 0.7, 0.8], [0.9, 0.9, 0.9, 0.9]]))
    valid = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]], bool)
    data = specdecpp_fit.examples(windows(ratio, hidden, valid), np.array([True, True, False]))
    assert data.hidden.tolist() == [[2, 3], [4, 5], [6, 7], [10, 11], [12, 13]], "the last token's is not there"
    assert data.label.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.5, 1.0]), "past a rejection too, and never above 1"


def test_labels_at_temperature_0_are_hard():
    ratio = np.array([[0.0, -1e-4, -3.0]])
    assert specdecpp_fit.labels(windows(ratio, np.zeros((1, 3, 2)), temperature=0.0)).tolist() == [[1, 0, 0]]
    assert specdecpp_fit.labels(windows(ratio, np.zeros((1, 3, 2)))) == pytest.approx(np.exp(ratio))


def test_the_loss_is_weighted_by_class():
    logits, label = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([0.25, 1.0])
    f = torch.sigmoid(logits[:, 1] - logits[:, 0]).tolist()
    summed, weight = specdecpp_fit.loss(logits, label, HeadFitConfig(reject=6.0, accept=1.0))
    wanted = -(0.25 * np.log(f[0]) + 6 * 0.75 * np.log(1 - f[0]) + np.log(f[1]))
    assert float(summed) == pytest.approx(wanted) and float(weight) == 0.25 + 6 * 0.75 + 1


def test_states_are_brought_to_unit_scale():
    data = specdecpp_fit.examples(drawn(signal=True), np.ones(N, bool))
    head = specdecpp_fit.made(data, HeadFitConfig(), 1, seed=0)
    seen = (data.hidden.float() - head.mean) * head.scale
    assert torch.allclose(seen.mean(0), torch.zeros(WIDTH), atol=1e-3)
    assert torch.allclose(seen.std(0), torch.ones(WIDTH), atol=1e-2)
    still = dataclasses.replace(data, hidden=torch.ones_like(data.hidden))
    assert specdecpp_fit.made(still, HeadFitConfig(), 1, seed=0).probability(still.hidden).isfinite().all()


def test_what_states_say_is_learned(learned):
    """Only with the right shift: the state a place earlier says what became of another token."""
    _, report = learned
    assert report["head"]["auc"] > 0.95
    assert report["head"]["loss"] < 0.6 * report["chance"]["loss"]
    assert report["head"]["kl_unweighted"] < 0.6 * report["chance"]["kl_unweighted"]
    assert report["chance"]["auc"] == 0.5 and report["most_auc"] > 0.99
    assert report["positions"] == {"train": 480 * (K - 1), "choice": 60 * (K - 1), "held_out": 60 * (K - 1)}
    assert report["requests"] == {"train": 24, "choice": 3, "held_out": 3}


def test_noise_teaches_nothing():
    _, report = specdecpp.learn(recipe(), drawn(signal=False), costs(), CPU)
    assert 0.42 < report["head"]["auc"] < 0.58


def test_the_chosen_threshold_beats_fixed_windows_where_states_tell(learned):
    _, report = learned
    rates = report["rates"]
    own = (report["threshold"], report["max"])  # chosen on other requests than those that these rates are of
    best = next(row for row in rates["thresholds"] if (row["threshold"], row["max"]) == own)
    assert best["per_second"] > 0.95 * max(row["per_second"] for row in rates["thresholds"])
    assert {row["max"] for row in rates["thresholds"]} == set(range(2, K))
    assert best["per_second"] > max(row["per_second"] for row in rates["fixed"])
    assert [row["k"] for row in rates["fixed"]] == list(range(1, K))
    informed = rates["oracles"][0]["per_second"]
    assert informed > best["per_second"], "who knows the tokens that will be drafted is faster still"
    drafted = [row["drafted"] for row in rates["thresholds"] if row["max"] == K - 1]
    assert drafted == sorted(drafted) and drafted[0] < drafted[-1]


def test_calibration_is_of_the_labels(learned):
    rows = learned[1]["calibration"]
    assert sum(row["count"] for row in rows) == learned[1]["positions"]["held_out"]
    for row in rows:
        assert row["from"] <= row["f"] <= row["from"] + 0.1 and row["unweighted"] >= row["f"]
    mean = sum(row["count"] * row["unweighted"] for row in rows) / learned[1]["positions"]["held_out"]
    assert mean == pytest.approx(KEPT, abs=0.08), "with the weights undone, f is a chance"


def test_the_same_seed_the_same_head(learned):
    head, report = learned
    again, figures = specdecpp.learn(recipe(), drawn(signal=True), costs(), CPU)
    assert figures == report
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in head.state_dict().items())
    other, _ = specdecpp.learn(recipe(seed=1), drawn(signal=True), costs(), CPU)
    assert not torch.equal(other.out.weight, head.out.weight)


def test_figures_are_of_what_is_stored(learned, tmp_path):
    head, _ = learned
    heads.save(head, tmp_path, heads.HeadSettings(0.5, 4, 1.0))
    stored, _ = heads.read(tmp_path)
    assert all(torch.equal(tensor, stored.state_dict()[name]) for name, tensor in head.state_dict().items())


def test_stops_are_the_policy_s():
    kept = np.cumprod([[1, 0.9, 0.9, 0.1, 0.9], [1, 0.3, 0.9, 0.9, 0.9], [1, 1, 1, 1, 1]], axis=1)
    assert specdecpp_report.stops(kept, 0.5, 4).tolist() == [3, 1, 4]
    assert specdecpp_report.stops(kept, 0.5, 3).tolist() == [3, 1, 3], "nobody is asked at the limit"
    assert specdecpp_report.stops(kept, 1.0, 5).tolist() == [5, 5, 5]
    assert specdecpp_report.stops(kept, 0.15, 5).tolist() == [2, 1, 5]


def test_soft_labels_count_on_both_sides():
    score, label = np.array([0.2, 0.8]), np.array([0.25, 0.75])
    # accepted draws: 0.25 at 0.2, 0.75 at 0.8; rejected: 0.75 at 0.2, 0.25 at 0.8; ties count half
    assert specdecpp_report.auc(score, label) == pytest.approx(0.75 * 0.75 + 0.5 * (0.25 * 0.75 + 0.75 * 0.25))
    assert specdecpp_report.auc(score, np.ones(2)) is None


def test_states_that_are_no_numbers_are_refused():
    broken = drawn(signal=True)
    broken.draft_hidden[7, 3, 1] = np.inf
    with pytest.raises(UserError, match="hidden states have values that are no numbers"):
        specdecpp.learn(recipe(), broken, costs(), CPU)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("max=1", "max"),
        ("thresholds=[]", "thresholds"),
        ("thresholds=[0.5, 1.5]", "thresholds"),
        ("blocks=0", "blocks"),
        ("train.epochs=0", "train.epochs"),
        ("train.reject=0", "train.reject"),
        ("valid=1.0", "valid"),
        ("traces=[]", "traces"),
    ],
)
def test_values_that_cannot_be_meant(override, key):
    with pytest.raises(UserError, match=f"key '{key}' is"):
        specdecpp.load("recipes/train/smoke/specdecpp.yaml", [override])


# A run as a user starts it: a tiny target, half of it as its draft


@dataclasses.dataclass
class Run:
    """A collected trace, and the artifact that was trained on it."""

    directory: object
    trace: object
    out: object

    def train(self, *overrides, trace=None, out=None):
        arguments = [f"traces=[{trace or self.trace}]", f"out={out or self.out}", "train.batch=64", "max=4", *overrides]
        return main.specdecpp(["recipes/train/smoke/specdecpp.yaml", *arguments])

    def changed(self, name, **header):
        """A copy of the trace whose header says something else."""
        copy = shutil.copytree(self.trace, self.directory / name)
        path = copy / "trace.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | header))
        return copy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("specdecpp")
    made = Run(directory, directory / "trace", directory / "head")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)  # recipes are found in the package; reports go to ./results
        settings = ["data.tasks.0.limit=8", "trace.max_new_tokens=12", "trace.costs.max_new_tokens=8"]
        settings += [f"trace.path={made.trace}", "trace.costs.prompts=1", "trace.batch=8"]
        assert main.collect(["recipes/train/smoke/trace.yaml", *settings]) == 0
        assert made.train() == 0
    return made


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Whatever a test's run reports, it reports there."""
    monkeypatch.chdir(tmp_path)


def decoded(models, length, temperature, header):
    node = {"name": "test", "proposer": header["proposer"], "length": length}
    decoder = methods.decoder(methods.resolve(node, "test"), models)
    sampling = Sampling(temperature, max_new_tokens=16, seed=3)
    return decoder.generate([Request(i, tuple(range(40 + i, 60 + i))) for i in range(4)], sampling)


def test_the_artifact_and_its_report(run):
    manifest = json.loads((run.out / "manifest.json").read_text())
    header = json.loads((run.trace / "trace.json").read_text())
    assert (manifest["kind"], manifest["provides"], manifest["binds"]) == ("specdecpp", ["length"], header["binds"])
    assert manifest["smoke"]["tokens"] > 0
    report = json.loads((run.directory / "results/specdecpp/head/report.json").read_text())
    config = json.loads((run.out / "config.json").read_text())
    assert (config["threshold"], config["max"]) == (report["threshold"], report["max"]) and config["blocks"] == 3
    assert manifest["training"]["head"] == report["head"]
    names = {path.name for path in (run.directory / "results/specdecpp/head").iterdir()}
    assert names == {"report.json", "calibration.png", "thresholds.png"}
    assert {path.name for path in run.out.iterdir()} >= {"config.json", "head.safetensors", "manifest.json"}


def test_it_decodes_and_changes_no_text(run):
    header = json.loads((run.trace / "trace.json").read_text())
    models = Models(ModelConfig("tiny-random:llama"))
    head = {"type": "specdecpp", "head": str(run.out), "max": 4}
    fixed = {"type": "fixed", "k": 4}
    for temperature in (0.0, 1.0):
        plain, never = (decoded(models, one, temperature, header) for one in (fixed, head | {"threshold": 1.0}))
        assert [(one.tokens, one.windows) for one in plain] == [(one.tokens, one.windows) for one in never]
        always = decoded(models, head | {"threshold": 0.0}, temperature, header)
        assert {proposed for one in always for proposed, _ in one.windows[:-1]} == {1}
    texts = [one.tokens for one in decoded(models, fixed, 0.0, header)]
    assert [one.tokens for one in decoded(models, head | {"threshold": 0.3}, 0.0, header)] == texts


def test_another_draft_is_refused(run):
    header = json.loads((run.trace / "trace.json").read_text())
    header["proposer"]["model"] = {"name": "tiny-random:llama:1"}
    models = Models(ModelConfig("tiny-random:llama"))
    with pytest.raises(UserError, match="was trained with another draft"):
        decoded(models, {"type": "specdecpp", "head": str(run.out)}, 0.0, header)


def test_done_is_done(run, capsys):
    assert run.train() == 0
    assert "is there already" in capsys.readouterr().err


def test_no_model_is_needed(run):
    """The very figures of the other run: nothing is decoded again."""
    header = json.loads((run.trace / "trace.json").read_text())
    elsewhere = run.changed("elsewhere", target=header["target"] | {"name": "/nowhere/at/all"})
    assert run.train(trace=elsewhere, out=run.directory / "blind") == 0
    manifests = [json.loads((run.directory / name / "manifest.json").read_text()) for name in ("head", "blind")]
    assert "not at hand" in manifests[1]["smoke"]["skipped"]
    assert manifests[1]["files"] == manifests[0]["files"]
    assert manifests[1]["training"]["head"] == manifests[0]["training"]["head"]


def test_a_trace_that_will_not_do(run, capsys):
    bare = run.changed("bare", hidden=[])
    assert run.train(trace=bare, out=run.directory / "none") == 2
    assert "Collect the trace with trace.hidden=[draft]" in capsys.readouterr().err
    free = run.changed("free")
    (free / "costs.json").unlink()
    assert run.train(trace=free, out=run.directory / "none") == 2
    assert "costs.json: is missing" in capsys.readouterr().err
    assert run.train("max=5", out=run.directory / "none") == 2
    assert "key 'max' is 5, and the trace has windows of 5; expected less" in capsys.readouterr().err
    assert not (run.directory / "none").exists()


def test_several_processes_are_refused(run, monkeypatch, capsys):
    monkeypatch.setattr(processes, "joined", lambda: SimpleNamespace(num_processes=2, device=CPU))
    assert run.train(out=run.directory / "none") == 2
    assert "2 were launched" in capsys.readouterr().err
