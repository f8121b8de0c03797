"""An artifact of every kind that goes into a method, all of one tiny target, small and random."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests import routers
from tests.artifacts import TINY, config, eagle_head, lora, manifest, target_lora
from toolkit import artifact, policy
from toolkit.hub import Models
from toolkit.loading import DraftFrom, ModelConfig
from toolkit.nets import gate as gates
from toolkit.nets import heads, judge
from toolkit.policy import Bins, Policy, Solution

WIDTH = 64  # of the tiny target's states


def everything(home):
    """Writes them -> path by name: a target, two drafts and a head of it, and what was learned beside these."""
    cot = target_lora(home / "cot")
    target = config(adapters=[cot])
    identity = Models(target).identity()
    named = {"name": TINY, "device": "cpu", "adapters": [cot]}
    paths = {"cot": cot, "head": eagle_head(home / "head", target)[0]}
    for name, layer in (("small", 0), ("large", 1)):
        lora(home / name, replace(target, draft_from=DraftFrom([layer])), seed=layer)
        base = {"name": "target", "draft_from": {"layers": [layer]}}
        recipe = {"path": "r", "command": "r", "config": {"target": named}}
        artifact.write(home / name, manifest(provides=["draft"], base=base, binds={"target": identity}, recipe=recipe))
        paths[name] = str(home / name)
    bound = {name: bind(identity, paths[name], target) for name in ("head", "small", "large")}
    for name, write in (("stop", _stop), ("policy", _policy), ("judge", _judge), ("gate", _gate)):
        paths[name] = str(home / name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            made = write(home / name, paths, bound)
        target_of = {"target": identity, **made.pop("binds", {})}
        composes = {"target": named, **made.pop("composes")}
        artifact.write(home / name, manifest(base={}, binds=target_of, composes=composes, **made))
    models = Models(target)
    paths["router"] = routers.write(
        home / "router", models, routers.routing(models, routers.tiny_encoder(home / "words"))
    )
    return paths


def bind(identity, path, target):
    """What an artifact that was trained with a draft is bound to."""
    models = Models(target)
    if artifact.read(Path(path)).kind == "eagle3":
        weights = artifact.digest(Path(path))
    else:
        models.load(ModelConfig(path))
        weights = models.fingerprint(ModelConfig(path))
    return {**identity, "name": path, "fingerprint": weights, "adapters": []}


def change(path, **changes):
    """Other words in a manifest."""
    file = Path(path) / artifact.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _stop(directory, paths, bound):
    heads.save(heads.AcceptanceHead(WIDTH, 1), directory, heads.HeadSettings(0.9, 3, 0.0))
    return {
        "kind": heads.KIND,
        "provides": ["length"],
        "binds": {"draft": bound["head"]},
        "composes": {
            "proposer": {"type": "eagle3", "head": paths["head"]},
            "length": {"type": "specdecpp", "head": "."},
        },
        "recipe": {"path": "r", "command": "r", "config": {"temperature": 0.0}},
    }


def _policy(directory, paths, bound):
    bins = Bins((1.0,), (0.1,), 3)
    action = np.tile(np.array([1, 1, 1, 0], np.int8), 4)
    solutions = tuple(Solution(order, 1.0, 0.1, action, np.zeros(16, np.int8)) for order in policy.ORDERS[:2])
    policy.save(Policy(bins, (1.0, 2.0), solutions, np.zeros((16, 2), np.int32), 0.0), directory)
    piece = {"type": "jointadaspec", "policy": ".", "kappa": 1.0, "order": "joint"}
    return {
        "kind": policy.KIND,
        "provides": ["accept", "length"],
        "binds": {"draft": bound["head"]},
        "composes": {"proposer": {"type": "eagle3", "head": paths["head"]}, "length": piece, "accept": piece},
        "recipe": {"path": "r", "command": "r", "config": {"temperature": 0.0}},
    }


def _judge(directory, paths, bound):
    net = judge.Logistic(torch.zeros(WIDTH), torch.ones(WIDTH), torch.randn(WIDTH), torch.tensor(0.0))
    table = (judge.Recall(0.9, 0.5, 0.0, 0.9, 0.5),)
    judge.save(judge.Judge(net, "logistic", ("target",), {"target": WIDTH}, 0.9, table), directory)
    return {
        "kind": judge.KIND,
        "provides": ["accept"],
        "composes": {
            "proposer": {"type": "draft_model", "model": {"name": paths["large"]}},
            "accept": {"type": "autojudge", "judge": "."},
        },
    }


def _gate(directory, paths, bound):
    gates.save(gates.LearnedGate(gates.GateSettings("d1_only", 0.5)), directory)
    drafts = {"d1": {"name": paths["small"]}, "d2": {"name": paths["large"]}}
    return {
        "kind": gates.KIND,
        "provides": ["proposer"],
        "binds": {"draft": bound["small"], "draft2": bound["large"]},
        "composes": {
            "proposer": {"type": "consensus", **drafts, "gate": "."},
            "length": {"type": "fixed", "k": 64},
            "accept": {"type": "gated"},
        },
    }
