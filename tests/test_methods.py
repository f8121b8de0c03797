"""Named methods and what a recipe may make of them."""

import numpy as np
import pytest
import torch
import yaml

from tests.artifacts import eagle_head, manifest
from toolkit import artifact, config, methods, policy
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets import judge
from toolkit.policy import ORDERS, Bins, Policy, Solution
from toolkit.proposers import draft_model

DRAFT = {"model": {"name": "target", "draft_from": {"layers": [0]}}}


@pytest.fixture(scope="module")
def models():
    return Models(ModelConfig("tiny-random:llama", device="cpu"))


@pytest.fixture(scope="module")
def own(tmp_path_factory, models):
    """What a named method cannot name for every target: changes to its pieces."""
    table = {"policy": solved(tmp_path_factory.mktemp("policy"), models)}
    learned = {"proposer": {"type": "draft_model"} | DRAFT, "length": table, "accept": table}
    return {
        "eagle3": {"proposer": {"head": eagle_head(tmp_path_factory.mktemp("head"))[0]}},
        "distilled": {"proposer": DRAFT},
        "jointadaspec": learned,
        "cascade_length_then_verif": learned,
        "cascade_verif_then_length": learned,
        "routed": {
            "proposer": {"artifact": None, "drafts": {"half": {"type": "draft_model"} | DRAFT}, "router": "random"}
        },
        "autojudge": {"proposer": DRAFT, "accept": {"judge": judged(tmp_path_factory.mktemp("judge"), models)}},
    }


def judged(directory, models):
    """A judge that finds about half of all mismatches unimportant -> its path."""
    width = models.target.model.config.hidden_size
    weight = torch.randn(width, generator=torch.Generator().manual_seed(0))
    net = judge.Logistic(torch.zeros(width), torch.ones(width), weight, torch.zeros(()))
    table = (judge.Recall(0.9, 0.5, 0.0, 0.9, 0.5),)
    judge.save(judge.Judge(net, "logistic", ("target",), {"target": width}, 0.9, table), directory)
    binds = {"target": models.identity()}
    artifact.write(directory, manifest(kind="autojudge", provides=["accept"], base={}, binds=binds))
    return str(directory)


def solved(directory, models):
    """A policy for DRAFT that drafts two tokens, whatever it sees, and verifies them leniently -> its path."""
    bins = Bins(entropy=(1.0,), divergence=(0.1,), k_max=2)
    action = np.full(bins.shape, 2, np.int8)
    action[..., 2] = policy.STOP
    lenient = np.ones(bins.states, np.int8)
    solutions = tuple(Solution(order, 1.0, 0.01, action.reshape(-1), lenient) for order in ORDERS)
    policy.save(Policy(bins, (1.0, 2.0), solutions, np.zeros((bins.states, 2), np.int32), 1.0), directory)
    target = models.identity()
    weights = draft_model.build(config.piece("proposers", {"type": "draft_model"} | DRAFT, "test")[1], models).weights
    draft = {"name": "draft", "fingerprint": weights, "tokenizer": target["tokenizer"], "adapters": []}
    binds = {"target": target, "draft": draft}
    artifact.write(directory, manifest(kind="jointadaspec", provides=["accept", "length"], base={}, binds=binds))
    return str(directory)


@pytest.fixture(scope="module")
def request_():
    return Request(0, tuple(b"one two three one two three one two"))


def test_a_name_is_a_file_with_every_default_filled_in():
    method = methods.resolve("ngram", "r.yaml")
    assert method.name == "ngram"
    assert method.proposer == {"type": "ngram", "min": 2, "max": 4}
    assert method.length == {"type": "fixed", "k": 4}
    assert method.accept == {"type": "rejection"}


def test_two_spellings_of_one_method_are_one_method():
    spelled = {"name": "ngram", "proposer": {"type": "ngram", "max": 4}, "length": "fixed"}
    assert methods.resolve(spelled, "r.yaml") == methods.resolve("ngram", "r.yaml")


def test_a_base_is_changed_key_by_key():
    method = methods.resolve({"name": "mine", "base": "ngram", "proposer": {"max": 8}, "accept": "topk"}, "r.yaml")
    assert method.proposer == {"type": "ngram", "min": 2, "max": 8}
    assert method.accept["type"] == "topk"
    assert method.length == methods.resolve("ngram", "r.yaml").length


def test_another_type_forgets_the_base_options():
    node = {"name": "mine", "base": "ngram", "proposer": {"type": "draft_model", "model": "target"}}
    method = methods.resolve(node, "r.yaml")
    assert method.proposer["model"]["name"] == "target"
    assert "max" not in method.proposer


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("ngrm", "r.yaml: unknown method 'ngrm'. Did you mean 'ngram'.*baseline"),
        ({"base": "ngram"}, "needs a 'name'"),
        ({"name": "x", "base": "y"}, "unknown method 'y'"),
        ({"name": "x", "propose": "ngram"}, "method 'x': unknown key 'propose'. Did you mean 'proposer'"),
        ({"name": "x", "accept": "topp"}, "method 'x', accept: unknown type 'topp' in acceptance. Did you mean 'topk'"),
        ({"name": "x", "length": {"type": "fixed", "k": "a"}}, "method 'x', length 'fixed': key 'k'"),
        (3, "a name or a mapping"),
    ],
)
def test_a_mistake_shows_before_a_model_is_loaded(node, expected):
    with pytest.raises(UserError, match=expected):
        methods.resolve(node, "r.yaml")


@pytest.mark.parametrize("path", config.named_methods(), ids=lambda path: path.stem)
def test_every_named_method_decodes(path, models, own, request_):
    method = methods.resolve({"name": "own", "base": path.stem} | own.get(path.stem, {}), "r.yaml")
    assert set(yaml.safe_load(path.read_text())) <= {"proposer", "length", "accept"}
    sampling = Sampling(max_new_tokens=16)
    [generation] = methods.decoder(method, models).generate([request_], sampling)
    [baseline] = methods.decoder(methods.resolve("baseline", "r.yaml"), models).generate([request_], sampling)
    assert len(generation.tokens) == len(baseline.tokens) or not generation.lossless
    if generation.lossless:
        assert generation.tokens == baseline.tokens
