"""AutoJudge's classifier: the networks, its directory, its threshold in a method, and what it is refused with."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.artifacts import config as model_config
from tests.artifacts import manifest
from toolkit import artifact
from toolkit.acceptance import autojudge
from toolkit.acceptance.autojudge import Config
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.nets import judge
from toolkit.nets.judge import Boosted, Judge, Logistic, Recall

WIDTH = 64  # of the tiny models' states
TABLE = (Recall(0.8, 0.5, 0.0, 0.8, 0.6), Recall(0.9, 0.2, math.log(0.25), 0.91, 0.4))


def logistic(width=WIDTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, scale, weight = torch.randn(3, width, generator=generator)
    return Logistic(mean, scale.abs() + 0.5, weight, torch.tensor(0.3))


def boosted():
    """Two trees over three features: one of three leaves, one of a single leaf."""
    own = [0, 1, 2, 3, 4]
    return Boosted(
        feature=torch.tensor([[2, 0, 1, 0, 0], [0] * 5]),
        threshold=torch.tensor([[0.5, 0, -1.0, 0, 0], [0.0] * 5]),
        left=torch.tensor([[1, 1, 3, 3, 4], own]),
        right=torch.tensor([[2, 1, 4, 3, 4], own]),
        value=torch.tensor([[9.0, 1.0, 9.0, 2.0, 3.0], [0.25, 9, 9, 9, 9]]),
        bias=torch.tensor(10.0),
    )


def made(net=None, type="logistic", features=("target",), hidden=None):
    return Judge(net or logistic(), type, features, {"target": WIDTH} if hidden is None else hidden, 0.9, TABLE)


def test_a_logistic_is_its_definition():
    net, rows = logistic(), torch.randn(2, 3, WIDTH)
    wanted = ((rows - net.mean) / net.scale * net.weight).sum(-1) + 0.3
    assert torch.allclose(net(rows), wanted, atol=1e-4) and net(rows.bfloat16()).dtype == torch.float32


def test_trees_are_walked_to_their_leaves():
    net = boosted()
    assert net.depth == 2
    rows = torch.tensor([[0, 0, 0.5], [0, 0, 0.4], [0, -1.0, 0.6], [0, -0.9, 0.6]])
    assert net(rows).tolist() == [11.25, 11.25, 12.25, 13.25], "a feature at its threshold goes to the left"
    assert net(rows.view(2, 2, 3)).shape == (2, 2)


def test_features_are_joined_in_their_order():
    parts = {"distribution": torch.ones(2, 1), "target": torch.zeros(2, 3).half(), "draft": torch.full((2, 2), 5.0)}
    assert judge.join(parts, ["draft", "distribution", "target"])[0].tolist() == [0, 0, 0, 5, 5, 1]
    assert judge.join(parts, ["target"]).dtype == torch.float32
    both = made(features=("target", "draft", "distribution"), hidden={"target": 64, "draft": 8})
    assert both.width == 77 and both.reads_draft and not made().reads_draft
    assert made(features=("distribution",), hidden={}).reads_draft, "log q is of one draft"


@pytest.mark.parametrize(
    "stored",
    [
        made(),
        made(boosted(), "boosting", ("draft",), {"draft": 3}),
        made(logistic(5), features=("distribution",), hidden={}),
    ],
    ids=["logistic", "boosting", "distribution"],
)
def test_what_was_saved_is_read(stored, tmp_path):
    judge.save(stored, tmp_path)
    found = judge.read(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "judge.safetensors"}
    assert json.loads((tmp_path / "config.json").read_text())["threshold"] == 0.2
    for key in ("type", "features", "hidden", "recall", "table", "width"):
        assert getattr(found, key) == getattr(stored, key)
    for name, tensor in stored.net.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], tensor)
    rows = torch.randn(9, stored.width)
    assert torch.allclose(found.net(rows), stored.net(rows), atol=1e-5)  # memory may be aligned otherwise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "specdecpp"}, "key 'kind' is not 'autojudge'"),
        ({"type": "forest"}, "key 'type' is forest; expected one of logistic, boosting"),
        ({"type": "boosting"}, "judge.safetensors: tensor 'feature' is missing"),
        ({"features": []}, "key 'features' is .*; expected some of target, draft"),
        ({"features": ["distribution", "target"]}, "in this order"),
        ({"features": ["target", "draft"]}, "key 'hidden_size'"),
        ({"hidden_size": {"target": 0}}, "key 'hidden_size'"),
        ({"hidden_size": {"target": 63}}, "tensor 'mean' has shape .64., and config.json asks for .63."),
        ({"recall": 0.7}, "key 'recall' is 0.7; expected one of the table's"),
        ({"table": []}, "key 'table'"),
        ({"table": [{"recall": 0.9}]}, "key 'table.0'"),
        ({"table": [vars(TABLE[0]) | {"logit": None}]}, "key 'table.0'"),
    ],
)
def test_a_config_that_is_no_judge_s_is_named(tmp_path, changes, message):
    judge.save(made(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        judge.read(tmp_path)


@pytest.mark.parametrize(
    ("stored", "changes", "message"),
    [
        (made(), {"scale": torch.zeros(WIDTH)}, "'scale' has a value that is not above 0"),
        (made(), {"weight": torch.full((WIDTH,), torch.nan)}, "'weight' has values that are no numbers"),
        (made(), {"more": torch.zeros(1)}, "'more' is one too many"),
        (
            made(boosted(), "boosting", ("draft",), {"draft": 3}),
            {"left": torch.tensor([[1, 1, 1, 3, 4], [0, 1, 2, 3, 4]])},
            "are no trees",
        ),
        (
            made(boosted(), "boosting", ("draft",), {"draft": 3}),
            {"right": torch.tensor([[2, 1, 5, 3, 4], [0, 1, 2, 3, 4]])},
            "are no trees",
        ),
        (
            made(boosted(), "boosting", ("draft",), {"draft": 3}),
            {"feature": torch.full((2, 5), 3)},
            "names features beyond the 3",
        ),
        (made(boosted(), "boosting", ("draft",), {"draft": 3}), {"value": torch.zeros(2, 4)}, "'value' has shape"),
    ],
)
def test_weights_that_are_no_judge_are_named(tmp_path, stored, changes, message):
    judge.save(stored, tmp_path)
    path = tmp_path / "judge.safetensors"
    save_file(load_file(path) | changes, path)
    with pytest.raises(UserError, match=message):
        judge.read(tmp_path)


def test_files_that_are_not_there_or_not_readable(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: not readable as JSON"):
        judge.read(tmp_path)
    judge.save(made(), tmp_path)
    (tmp_path / "judge.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        judge.read(tmp_path)


# In a method


def built(**options):
    return build(Config("dir", **options))


def build(config):
    models = SimpleNamespace(judge=lambda name: (made(), None), target=SimpleNamespace(n_layers=2))
    return autojudge.build(config, models)


@pytest.mark.parametrize(("options", "threshold"), [({}, 0.2), ({"recall": 0.8}, 0.5), ({"threshold": 0.3}, 0.3)])
def test_a_config_says_the_threshold_that_is_used(options, threshold):
    config = Config("dir", **options)
    build(config)
    assert config.threshold == threshold


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, math.log(0.25)),
        ({"recall": 0.8}, 0.0),
        ({"threshold": 0.2}, math.log(0.25)),
        ({"threshold": 0.0}, -math.inf),
        ({"threshold": 1.0}, math.inf),
    ],
)
def test_thresholds_are_compared_as_logits(options, limit):
    found = built(**options)
    assert found.limit == pytest.approx(limit)
    assert found.wants.target_layers == ({2} if math.isfinite(limit) else frozenset())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.1, "recall": 0.9}, "both a threshold and a recall"),
        ({"threshold": 1.1}, "threshold is 1.1; expected 0"),
        ({"threshold": -0.1}, "threshold is -0.1; expected 0"),
        ({"threshold": math.nan}, "threshold is nan; expected 0"),
        ({"recall": 0.95}, "autojudge: dir: the judge has no threshold for recall 0.95; its table has 0.8, 0.9"),
    ],
)
def test_thresholds_that_cannot_be_meant(options, message):
    with pytest.raises(UserError, match=message):
        built(**options)


# Beside a target


@pytest.fixture(scope="module")
def models():
    return Models(model_config())


def stored(directory, models, *, of=None, bound=("target",), **changes):
    """A judge of the tiny target, signed -> its path."""
    judge.save(of or made(), directory)
    identity = models.identity()
    draft = {"name": "draft", "fingerprint": "d" * 64, "tokenizer": identity["tokenizer"], "adapters": []}
    binds = {role: one for role, one in (("target", identity | changes), ("draft", draft)) if role in bound}
    artifact.write(directory, manifest(kind="autojudge", provides=["accept"], base={}, binds=binds))
    return str(directory)


def test_a_judge_of_this_target(tmp_path, models):
    path = stored(tmp_path / "one", models)
    found, made_for = models.judge(path)
    assert found.width == WIDTH and made_for is None and models.provenance[path]["source"].startswith("autojudge ")
    of = made(logistic(5), features=("distribution",), hidden={})
    assert models.judge(stored(tmp_path / "two", models, of=of, bound=("target", "draft")))[1] == "d" * 64


def test_a_judge_of_another_target_is_refused(tmp_path, models):
    path = stored(tmp_path / "other", models, name="someone/else", fingerprint="0" * 64)
    with pytest.raises(UserError, match="trained for another model. the model: 'someone/else'"):
        models.judge(path)
    with pytest.raises(UserError, match="with adapters"):
        models.judge(stored(tmp_path / "adapted", models, adapters=["1" * 64]))
    with pytest.raises(UserError, match="expected 'autojudge', bound to its target"):
        models.judge(stored(tmp_path / "unbound", models, bound=()))


def test_a_judge_of_another_width_is_refused(tmp_path, models):
    wide = made(logistic(96), hidden={"target": 96})
    expected = "key 'hidden_size.target' is 96, and target 'tiny-random:llama' has states of 64"
    with pytest.raises(UserError, match=expected):
        models.judge(stored(tmp_path / "wide", models, of=wide))


def test_a_judge_that_reads_a_draft_needs_one(tmp_path, models):
    of = made(logistic(5), features=("distribution",), hidden={})
    with pytest.raises(UserError, match="key 'binds' has no draft, and the judge reads distribution"):
        models.judge(stored(tmp_path / "bare", models, of=of))


@pytest.mark.parametrize("name", ["judge.safetensors", "config.json"])
def test_files_changed_after_signing_are_refused(tmp_path, models, name):
    path = stored(tmp_path / "signed", models)
    file = tmp_path / "signed" / name
    file.write_bytes(file.read_bytes().replace(b"0.2", b"0.3") if name == "config.json" else file.read_bytes() + b" ")
    with pytest.raises(UserError, match=f"{name}: SHA-256 is .* changed after training"):
        models.judge(path)
