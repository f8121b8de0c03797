"""An EAGLE-3 head of a tiny target: trained as a user starts it, killed, resumed, reloaded, drafting."""

import json

import pytest
import torch

from tests.training.distilling import Distilling
from tests.training.runs import furthest, kill_when, start
from tests.training.test_distill import held_out_of, target_of
from toolkit import methods
from toolkit.engine.types import Request, Sampling
from toolkit.hub import Models
from toolkit.training import eagle3, features, heads, main
from toolkit.training.eagle3 import Eagle3Learner, UnrollConfig
from toolkit.training.losses import LossConfig
from toolkit.training.walk import total

EVERY, STEPS = 20, 60
RISEN = 0.8  # tau on held-out answers, above that of the untrained head (about 1)
SAME = 1e-6  # of the largest weight: the very same sums in the same order
CLOSE = 0.02  # stored in bfloat16; and two processes add their gradients up in another order


class Heading(Distilling):
    """A recipe of a head, and its output."""

    def __init__(self, directory, target, answers, **changes):
        self.recipe, self.out = directory / "head.yaml", directory / "out" / "head"
        self.work = self.out.parent / ".runs" / self.out.name
        recipe = {
            "target": target,
            "data": {"answers": [str(answers)], "valid": 0.2},
            "head": {"draft_vocab": 48, "aux_layers": [0, 1, 1]},
            "unroll": {"steps": 4},
            "train": {"epochs": 6, "lr": 0.01, "batch": 8, "eval_every": EVERY},
            "out": str(self.out),
        }
        self.recipe.write_text(json.dumps(recipe | changes))  # YAML is a superset of JSON

    def run(self, *overrides):
        return main.eagle3([str(self.recipe), *overrides])

    def weights(self):
        return {name: weight for name, weight in super().weights().items() if weight.is_floating_point()}

    def start(self, *overrides, processes=1):
        return start("train/eagle3.py", self.recipe, *overrides, processes=processes)


@pytest.fixture(scope="module")
def headed(adapted, answers, tmp_path_factory):
    """By one process from beginning to end."""
    made = Heading(tmp_path_factory.mktemp("headed"), adapted, answers)
    made.launch()
    return made


def test_tau_on_held_out_answers_rises(headed):
    training = headed.training()
    assert training["untrained"]["tau"] < 1.3
    assert headed.gain() > RISEN
    assert training["best"]["tau"] == max(row["tau"] for row in training["curve"][1:])
    assert training["steps"] == STEPS


def test_the_manifest_is_complete(headed, adapted):
    manifest = headed.manifest()
    assert (manifest["kind"], manifest["provides"], manifest["base"]) == ("eagle3", ["proposer"], {})
    assert manifest["shares"] == ["embed_tokens"]
    assert manifest["binds"] == {"target": Models(target_of(adapted)).identity()}
    assert manifest["smoke"]["accepted"] > 0
    assert not headed.work.exists()


def test_the_walk_is_what_decoding_does(headed, adapted, answers):
    """Round for round: what the trainer foretells of the saved head, and what the loop does with it."""
    held_out = held_out_of(adapted, answers)
    node = {
        "name": "head",
        "proposer": {"type": "eagle3", "head": str(headed.out)},
        "length": {"type": "fixed", "k": 4},
    }
    models = Models(target_of(adapted))
    decoder = methods.decoder(methods.resolve(node, "test"), models)
    head, vocabulary = Models(target_of(adapted)).head(str(headed.out))
    learner = Eagle3Learner(head, vocabulary, features.Teacher(target_of(adapted)), LossConfig(), UnrollConfig(steps=4))
    with torch.inference_mode():
        walks = learner.walks(held_out)
    for i, (text, foretold) in enumerate(zip(held_out, walks, strict=True)):
        limit = len(text.answer) + 8 * text.ended  # where it ended by itself, no limit cut its windows short
        (done,) = decoder.generate([Request(i, text.prompt)], Sampling(max_new_tokens=limit))
        assert tuple(done.tokens) == text.answer
        assert (len(done.windows), sum(kept for _, kept in done.windows)) == (foretold.rounds, sum(foretold.accepted))
    assert total(walks, 4).tau > 1.5


def test_steps_in_parallel_are_steps_one_by_one(headed, adapted, answers):
    """Training-time test at all positions at once, against the head run from one position at a time."""
    texts = sorted(held_out_of(adapted, answers), key=lambda text: len(text.tokens))[::6]
    head, vocabulary = Models(target_of(adapted)).head(str(headed.out))
    teacher = features.Teacher(target_of(adapted))
    learner = Eagle3Learner(head, vocabulary, teacher, LossConfig(), UnrollConfig(steps=3))
    with torch.inference_mode():
        batch = learner._batch(texts)
        steps = learner._steps(batch)
        row = 0
        for number, text in enumerate(texts):
            ids = torch.tensor([text.tokens])
            states = teacher.compute([text], head.config.aux_layers)
            fused = head.fuse([states[layer] for layer in head.config.aux_layers])
            for place in range(len(text.prompt) - 1, len(text.tokens) - 1):
                assert (int(batch.text[row]), int(batch.place[row])) == (number, place)
                for step, (found, real) in enumerate(steps):
                    origin = place - 1 - step
                    assert bool(real[row]) == (origin >= 0)
                    if origin >= 0:
                        expected = one_by_one(head, teacher, fused, ids, origin, step)
                        assert torch.allclose(found[row], expected, atol=1e-4)
                row += 1


def one_by_one(head, teacher, fused, ids, origin, steps):
    """The head's state after so many steps of its own, from true states up to `origin`."""
    hidden = fused[:, : origin + 1]
    for step in range(steps + 1):
        positions = torch.arange(hidden.shape[1])[None]
        attend = eagle3.Unrolled()  # its first step is plain causal attention, here over all that was drafted
        state = head(teacher.embed(ids[:, 1 : hidden.shape[1] + 1]), hidden, positions, attend)
        if step < steps:
            hidden = torch.cat([hidden, state[:, -1:]], 1)
    return state[0, -1]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed(processes, adapted, answers, headed, tmp_path):
    settings = ["train.batch=4"] if processes == 2 else []
    killed = Heading(tmp_path, adapted, answers)
    kill_when(killed.start(*settings, processes=processes), killed.checkpoints)
    reached = killed.checkpoints()[-1]
    assert 0 < reached < STEPS and not killed.out.exists()
    assert f"going on from step {reached} of {STEPS}" in killed.launch(*settings, processes=processes)
    assert killed.training()["world_size"] == processes
    assert furthest(killed.weights(), headed.weights()) < (SAME if processes == 1 else CLOSE)
    assert killed.training()["best"]["tau"] == pytest.approx(headed.training()["best"]["tau"], rel=0.02)


def test_a_random_beginning_and_kept_states(adapted, answers, tmp_path):
    made = Heading(tmp_path, adapted, answers)
    kept = ["features.keep=true", f"features.directory={tmp_path / 'states'}"]
    assert made.run("head.init=random", *kept) == 0
    assert made.gain() > RISEN / 2
    assert len(list((tmp_path / "states").rglob("*.safetensors"))) == 3 * 100  # layers 0, 1 and final; 100 texts


REFUSED = {
    "layers": (["head.aux_layers=[0, 1, 5]"], "head.aux_layers", "layers 0 to 1"),
    "two layers": (["head.aux_layers=[0, 1]"], "head.aux_layers", "three layers"),
    "steps": (["unroll.steps=0"], "unroll.steps", "1 to 16"),
    "loss": (["loss={mix: {kl: 1.0}}"], "loss", "forward_kl"),
    "not a number": (["train.lr=1e30", "train.clip=1e30"], "the loss is", "lower train.lr"),
    "few texts": (["train.batch=500"], "texts to train on", "train.batch x train.accumulate x processes"),
    "another target": (["target=tiny-random:llama"], "data.answers", "another target"),
    "no answers": (["data.answers=[missing.jsonl]"], "missing.jsonl", "train/collect.py"),
    "budget": (["features={keep: true, budget_gb: 0.000001}"], "features.budget_gb", "features.keep=false"),
    "all held out": (["data.valid=0.999"], "data.valid", "held out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name, adapted, answers, tmp_path, capsys, monkeypatch):
    overrides, *said = REFUSED[name]
    made = Heading(tmp_path, adapted, answers)
    if name == "budget":
        overrides = ["features.keep=true", "features.budget_gb=0.000001", f"features.directory={tmp_path}"]
    assert made.run(*overrides) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in said), message
    assert not made.out.exists()


def test_a_gradient_that_is_no_number_leaves_no_checkpoint(adapted, answers, tmp_path, capsys, monkeypatch):
    """The loss is still a number, the update would not be."""
    made = Heading(tmp_path, adapted, answers)
    real = Eagle3Learner.forward

    def poisoned(learner, texts):
        loss, metrics = real(learner, texts)
        weight = learner.head.fc.weight
        return loss + _steep(weight), metrics

    monkeypatch.setattr(Eagle3Learner, "forward", poisoned)
    assert made.run("train.eval_every=1") == 2
    assert "the norm of the gradient is" in capsys.readouterr().err
    assert not made.checkpoints() and not made.out.exists()


def _steep(weight):
    """0, with an infinite slope."""
    return (weight - weight.detach()).clamp(min=0).sqrt().sum()


def test_damaged_states_are_named(adapted, answers, tmp_path, capsys):
    made = Heading(tmp_path, adapted, answers)
    kept = ["features.keep=true", f"features.directory={tmp_path / 'states'}"]
    assert made.run("train.epochs=0.2", *kept) == 0
    victims = sorted((tmp_path / "states").rglob("*.safetensors"))
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:-8])
    assert made.run("train.epochs=0.4", f"out={tmp_path / 'again'}", *kept) == 2
    assert "missing or damaged" in capsys.readouterr().err


def test_the_shape_follows_the_target(adapted):
    settings = heads.HeadConfig(draft_vocab=10_000, aux_layers=[0, 1, 1])
    model = features.Teacher(target_of(adapted)).runner.model
    shape = heads.head_config(model.config, settings, 259, "test")
    assert shape.draft_vocab_size == 259  # all there are
    assert shape.layer.num_hidden_layers == 1 and shape.layer.hidden_size == model.config.hidden_size
