"""The consensus gate from answers: what it learns from, what is reported, and a whole tiny run with its refusals."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.decode.caches import ragged
from tests.decode.compose import Case
from tests.decode.models import TARGETS, VOCAB, draft_recipe, model
from tests.training.distilling import write_answers
from tests.training.runs import TINY
from toolkit import cli, config, methods
from toolkit.acceptance.gated import Gated
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation import plan
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.nets.gate import D1, D2, FEATURES, TARGET, GateSettings
from toolkit.proposers.consensus import Consensus, Follower
from toolkit.training import consensus, consensus_fit, main, processes
from toolkit.training.consensus_fit import Examples
from toolkit.training.texts import Text

TOP, BLOCK = 3, 4
LIMIT = 14


def drawn(seed=0, count=600, label=None):
    """The first three features say which label, among noise."""
    random = np.random.default_rng(seed)
    seen = random.normal(size=(count, 17)) * 2 + 1
    if label is None:
        label = (seen[:, :3] * [1, 1, 0.6] + random.normal(size=(count, 3)) * 0.5).argmax(1)
    hits = np.stack([label == D1, (label == D2) | (random.random(count) < 0.3)], axis=1)
    return Examples(torch.from_numpy(seen).float(), label, hits, np.zeros(count, np.int64))


SETTINGS = GateSettings("ensemble", 0.5, TOP, BLOCK)


def test_counts_go_as_under_a_gate_that_is_right():
    label = np.array([D1, D1, D2, TARGET, D1, D2, D1])
    agreed = np.array([True, True, False, False, True, True, True])
    streak, since = consensus_fit.counts(label, agreed)
    assert since.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert streak.tolist() == [0, 1, 2, 0, 0, 1, 2]


class Oracle:
    """A gate that takes each token as its label says, and notes what it was shown."""

    def __init__(self, features, label):
        self.features, self.top, self.block = features, TOP, BLOCK
        self.label, self.seen = iter(label.tolist()), []

    def choose(self, seen):
        self.seen.append(seen[0])
        return torch.tensor([next(self.label)])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("draft", ["far", "trimmed"])
def test_training_sees_what_decoding_shows(features, draft):
    """A whole answer at once, and the loop under a gate that is always right: the same numbers, and the same text."""
    target = model(TARGETS["llama"]).runner
    runners = [model(draft_recipe("llama", kind)).runner for kind in (draft, "near")]
    prompts = ragged(10, longest=9, vocab=VOCAB)
    sampling = Sampling(max_new_tokens=LIMIT)
    whole = Case("llama", "none").decoder().generate([Request(i, prompt) for i, prompt in enumerate(prompts)], sampling)
    texts = [Text(str(g.id), prompts[g.id], tuple(g.tokens), g.finish == "eos") for g in whole]
    settings = GateSettings(features, 0.5, TOP, BLOCK)
    kinds = set()
    for text in texts:
        found = consensus_fit.examples(*runners, [text], settings, 4)
        gate = Oracle(features, found.label)
        made = Consensus(*(Follower(runner) for runner in runners), gate, True, 64)
        [done] = SpecDecoder(target, made, Fixed(64), Gated()).generate([Request(0, text.prompt)], sampling)
        assert tuple(done.tokens) == text.answer
        assert torch.allclose(torch.stack(gate.seen), found.seen, atol=2e-5)
        kinds |= set(found.label.tolist())
        assert (found.hits[:, 0] == (found.label == D1)).all() and found.hits[found.label == D2, 1].all()
    assert kinds == {D1, D2, TARGET}
    together = consensus_fit.examples(*runners, texts, settings, 4)
    ordered = sorted(texts, key=lambda text: len(text.tokens))
    single = [consensus_fit.examples(*runners, [text], settings, 1) for text in ordered]
    assert torch.allclose(together.seen, torch.cat([one.seen for one in single]), atol=2e-5)
    assert together.label.tolist() == np.concatenate([one.label for one in single]).tolist()


def test_what_features_say_is_learned():
    train, valid = drawn(0), drawn(1, 300)
    gate = consensus_fit.fit(train, SETTINGS, 1.0)
    figures = consensus_fit.quality(gate, train, valid)
    assert figures["val_accuracy"] > 0.8 and figures["val_macro_f1"] > 0.75
    assert figures["chance"]["val_accuracy"] < 0.6 and figures["chance"]["val_macro_f1"] < 0.3
    assert np.array(figures["confusion"]).sum() == 300
    assert np.trace(figures["confusion"]) / 300 == pytest.approx(figures["val_accuracy"])
    noise = drawn(2, label=np.random.default_rng(2).integers(0, 3, 600))
    assert consensus_fit.quality(consensus_fit.fit(noise, SETTINGS, 1.0), noise, drawn(3))["val_accuracy"] < 0.5


def test_a_higher_threshold_asks_less_and_is_right_less():
    gate, valid = consensus_fit.fit(drawn(0), SETTINGS, 1.0), drawn(1)
    rows = [consensus_fit.taken(gate, valid, threshold) for threshold in (0.1, 0.3, 0.5, 0.8)]
    assert [row["fallback"] for row in rows] == sorted((row["fallback"] for row in rows), reverse=True)
    assert rows[0]["right"] > rows[-1]["right"]
    assert all(sum(row[name] for name in consensus_fit.NAMES) == pytest.approx(1) for row in rows)
    assert consensus_fit.taken(gate, valid, 0.0) == {"d1": 0.0, "d2": 0.0, "fallback": 1.0, "right": None}
    assert consensus_fit.taken(gate, valid, 1.0)["fallback"] == 0
    own = gate.choose(valid.seen)
    assert torch.equal(own, consensus_fit.fit(drawn(0), SETTINGS, 1.0).choose(valid.seen)), "its threshold is as before"


def test_without_escalation_d2_s_tokens_are_the_target_s():
    gate, valid = consensus_fit.fit(drawn(0), SETTINGS, 1.0), drawn(1)
    both, single = (consensus_fit.taken(gate, valid, 0.5, escalation=on) for on in (True, False))
    assert single["d2"] == 0 and single["d1"] == both["d1"]
    assert single["fallback"] == pytest.approx(both["fallback"] + both["d2"])


def test_right_is_of_the_draft_that_was_taken():
    hits = np.array([[True, False], [False, True], [False, True], [False, False]])
    found = Examples(torch.zeros(4, 17), np.array([D1, D2, D2, TARGET]), hits, np.array([D1, D2, D1, TARGET]))
    shares = consensus_fit.taken_by_rule(found)
    assert shares == {"d1": 0.5, "d2": 0.25, "fallback": 0.25, "right": pytest.approx(2 / 3)}


@pytest.mark.parametrize("absent", [D1, D2, TARGET])
def test_a_label_that_never_occurs_is_never_chosen(absent):
    rest = [one for one in (D1, D2, TARGET) if one != absent]
    base = drawn(0)
    label = np.where(base.seen[:, 0].numpy() > 1, *rest)
    train = Examples(base.seen, label, base.hits, base.rule)
    gate = consensus_fit.fit(train, SETTINGS, 1.0)
    found = gate(base.seen).argmax(-1).numpy()
    assert (found == label).mean() > 0.95 and absent not in found
    if absent != TARGET:
        assert absent not in gate.choose(base.seen)


def test_one_label_alone_teaches_nothing():
    with pytest.raises(UserError, match=r"all 600 positions have one label \(d2\)"):
        consensus_fit.fit(drawn(0, label=np.full(600, D2)), SETTINGS, 1.0)


# A run as a user starts it: a tiny target, and either half of it as a draft

HALVES = {name: {"name": "target", "draft_from": {"layers": [layer]}} for layer, name in enumerate(("d1", "d2"))}


class Run:
    """Answers, a recipe, and the artifact that comes of it."""

    def __init__(self, directory):
        self.directory, self.recipe, self.out = directory, directory / "gate.yaml", directory / "gate"
        self.answers = write_answers(directory / "sums.jsonl", {"name": TINY}, count=40, length=24)
        data = {"answers": [str(self.answers)], "valid": 0.25, "max_length": 1024}
        recipe = {"target": {"name": TINY, "device": "cpu"}, "data": data, "out": str(self.out)} | HALVES
        self.recipe.write_text(json.dumps(recipe))  # YAML is a superset of JSON

    def train(self, *overrides):
        return main.consensus([str(self.recipe), *overrides])

    def manifest(self, name="gate"):
        return json.loads((self.directory / name / "manifest.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = Run(tmp_path_factory.mktemp("consensus"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.directory)
        assert made.train() == 0
        assert made.train("features=d1_only", f"out={made.directory / 'alone'}") == 0
    return made


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Whatever a test's run reports, it reports there."""
    monkeypatch.chdir(tmp_path)


def decoded(models, gate, **options):
    node = {"name": "test", "base": "consensus_autojudge", "proposer": {"gate": str(gate)} | HALVES | options}
    decoder = methods.decoder(methods.resolve(node, "test"), models)
    return decoder.generate([Request(i, tuple(range(40 + i, 60 + i))) for i in range(4)], Sampling(max_new_tokens=16))


def test_the_artifact_and_its_report(run):
    manifest = run.manifest()
    assert (manifest["kind"], manifest["provides"]) == ("consensus", ["proposer"])
    assert manifest["binds"].keys() == {"target", "draft", "draft2"}
    assert manifest["binds"]["draft"]["fingerprint"] != manifest["binds"]["draft2"]["fingerprint"]
    assert manifest["composes"]["proposer"] == {"type": "consensus", "gate": "."} | HALVES
    assert manifest["smoke"]["tokens"] > 0
    report = json.loads((run.directory / "results/consensus/gate/report.json").read_text())
    training = manifest["training"]
    assert {key: training[key] for key in report} == report
    assert sum(report["labels"]["held_out"].values()) == report["positions"]["held_out"] > 100
    assert report["texts"]["train"] + report["texts"]["held_out"] == 40
    config = json.loads((run.out / "config.json").read_text())
    assert config == {"kind": "consensus", "features": "ensemble", "fallback_threshold": 0.5, "top": 8, "block": 64}


@pytest.mark.parametrize("name", ["gate", "alone"])
def test_it_decodes(run, name):
    models = Models(ModelConfig(TINY, device="cpu"))
    gate = run.directory / name
    baseline = methods.decoder(methods.resolve("baseline", "test"), models)
    texts = baseline.generate([Request(i, tuple(range(40 + i, 60 + i))) for i in range(4)], Sampling(max_new_tokens=16))
    always = decoded(models, gate, fallback_threshold=0.0)
    assert [one.tokens for one in always] == [one.tokens for one in texts]
    never = decoded(models, gate, fallback_threshold=1.0)
    assert all(one.counters["gate_fallback"] == 0 for one in never)
    single = decoded(models, gate, escalation=False)
    assert all(one.counters["gate_d2"] == 0 for one in single)
    assert str(gate) in models.provenance


def test_commands_know_a_gate(run, capsys):
    for command in ("check", "describe", "card"):
        assert cli.main([command, str(run.out)]) == 0
    shown = capsys.readouterr().out
    training = run.manifest()["training"]
    assert f"held-out accuracy {training['val_accuracy']:.4f}" in shown
    card = (run.out / "README.md").read_text()
    assert "a gate between two drafts and their target" in card and "and for no other trio" in card
    assert f"| 0.5 | {100 * training['thresholds'][2]['d1']:.1f}% |" in card
    assert "gate: path/to/gate" in card and "eagle3" not in card


def test_a_result_says_which_draft_is_not_asked(run):
    """And nothing else of it: that another method has loaded it is no part of this one."""
    models = Models(ModelConfig(TINY, device="cpu"))
    recipe = config.parse(EvalRecipe, {"target": {"name": TINY, "device": "cpu"}, "task": "steps"}, "test")
    gate = str(run.directory / "alone")
    pieces = {"gate": gate, "escalation": False, "d1": HALVES["d1"], "d2": {"name": "nobody/knows-it"}}
    node = {"name": "single", "base": "consensus_autojudge", "proposer": pieces}
    made = plan.contender(methods.resolve(node, "test"), models, recipe)
    assert made.config["weights"].keys() == {TINY, gate} and made.config["not_loaded"] == ["nobody/knows-it"]
    node["proposer"] = pieces | {"d2": {"name": f"{TINY}:1"}}
    before = plan.contender(methods.resolve(node, "test"), models, recipe)
    other = {"name": "other", "proposer": {"type": "draft_model", "model": f"{TINY}:1"}}
    assert plan.contender(methods.resolve(other, "test"), models, recipe).config["weights"].keys() == {f"{TINY}:1"}
    assert plan.contender(methods.resolve(node, "test"), models, recipe).config == before.config
    assert before.config["not_loaded"] == [f"{TINY}:1"]


def test_done_is_done(run, capsys):
    assert run.train() == 0
    assert "is there already" in capsys.readouterr().err


def test_the_same_data_the_same_gate(run):
    other = run.directory / "again"
    assert run.train(f"out={other}") == 0
    assert run.manifest("again")["files"] == run.manifest()["files"]


def test_other_models_are_refused(run):
    for name, reason in (("tiny-random:llama:1", "trained for another model"), ("tiny-random:qwen3", "another model")):
        with pytest.raises(UserError, match=reason):
            decoded(Models(ModelConfig(name, device="cpu")), run.out)
    models = Models(ModelConfig(TINY, device="cpu"))
    with pytest.raises(UserError, match="trained with another d1"):
        decoded(models, run.out, d1=HALVES["d2"], d2=HALVES["d1"])
    with pytest.raises(UserError, match="trained with another d2"):
        decoded(models, run.out, d2={"name": "tiny-random:llama:3"})


def test_changed_files_are_refused(run, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in run.out.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    decoded(Models(ModelConfig(TINY, device="cpu")), copy)
    changed = bytearray((copy / "gate.safetensors").read_bytes())
    changed[-1] ^= 1
    (copy / "gate.safetensors").write_bytes(bytes(changed))
    with pytest.raises(UserError, match="SHA-256"):
        decoded(Models(ModelConfig(TINY, device="cpu")), copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallback_threshold": 1.5}, "fallback_threshold must be from 0"),
        ({"max_window": 0}, "max_window must be at least 1"),
        ({"gate": "rule", "fallback_threshold": 0.5}, "of a learned gate"),
    ],
)
def test_options_that_cannot_be_meant(run, options, message):
    with pytest.raises(UserError, match=message):
        decoded(Models(ModelConfig(TINY, device="cpu")), options.pop("gate", run.out), **options)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.answers=[]", "data.answers"),
        ("data.valid=1.0", "data.valid"),
        ("fallback_threshold=1.5", "fallback_threshold"),
        ("thresholds=[0.5, -1]", "thresholds"),
        ("top=0", "top"),
        ("block=0", "block"),
        ("C=0", "C"),
        ("batch=0", "batch"),
    ],
)
def test_values_that_cannot_be_meant(override, key):
    with pytest.raises(UserError, match=f"key '{key}' is"):
        consensus.load("recipes/train/smoke/consensus.yaml", [override])


def test_sampled_answers_are_refused(run, tmp_path, capsys):
    answers = write_answers(tmp_path / "sampled.jsonl", {"name": TINY}, count=8, length=4)
    identity = answers.with_suffix(".parts") / "identity.json"
    found = json.loads(identity.read_text())
    found["settings"]["temperature"] = 1.0
    identity.write_text(json.dumps(found))
    assert run.train(f"data.answers=[{answers}]", "data.valid=0.5", f"out={tmp_path / 'none'}") == 2
    assert "Collect greedy answers" in capsys.readouterr().err


def test_several_processes_are_refused(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "joined", lambda: SimpleNamespace(num_processes=2, device=torch.device("cpu")))
    assert run.train(f"out={tmp_path / 'none'}") == 2
    assert "2 were launched" in capsys.readouterr().err
