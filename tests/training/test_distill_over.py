"""A LoRA distilled over a draft that was distilled before: stored without that draft, loaded with it and no other."""

import dataclasses
import shutil

import pytest
import torch

from tests.training.distilling import Distilling
from tests.training.test_distill import decoded_tau, held_out_of, target_of
from toolkit import artifact, methods
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.export import standalone
from toolkit.hub import ModelConfig, Models, load_hf
from toolkit.loading import identify

WORDS = 60  # of the base's vocabulary


@pytest.fixture(scope="module")
def base(adapted, answers, tmp_path_factory):
    """A draft with a head of few tokens, not trained to its best."""
    made = Distilling(tmp_path_factory.mktemp("base"), adapted, answers)
    assert made.run(f"vocabulary.size={WORDS}", "train.epochs=2") == 0
    return made


def over(directory, base, adapted, answers, **changes):
    """A run of a LoRA over it."""
    changes = {"student": str(base.out), "frozen": [], "lora": {"rank": 8, "alpha": 16}} | changes
    return Distilling(directory, adapted, answers, **changes)


@pytest.fixture(scope="module")
def made(base, adapted, answers, tmp_path_factory):
    run = over(tmp_path_factory.mktemp("over"), base, adapted, answers)
    assert run.run("train.epochs=4") == 0
    return run


def node(name, proposer):
    return methods.resolve({"name": name, "proposer": proposer, "length": {"type": "fixed", "k": 4}}, "test")


def test_it_begins_as_its_base_and_gets_better(made, base, adapted, answers):
    training = made.training()
    assert training["untrained"]["tau"] == pytest.approx(base.training()["best"]["tau"], abs=0.01)
    assert training["best"]["tau"] > training["untrained"]["tau"] + 0.1
    found = decoded_tau(adapted, held_out_of(adapted, answers), made.out)
    assert found == pytest.approx(training["best"]["tau"], abs=0.01)


def test_only_the_adapter_is_stored_and_what_it_goes_with(made, base, adapted):
    manifest, target = made.manifest(), target_of(adapted)
    assert (manifest["kind"], manifest["base"]) == ("lora", {"name": str(base.out)})
    stored = {"adapter_config.json", "adapter_model.safetensors"}
    assert {*manifest["files"]} == stored
    bound = manifest["binds"]["base"]
    assert bound["adapters"] == [*identify(target)["adapters"], artifact.digest(base.out)]
    assert bound == identify(ModelConfig(str(base.out)), target)
    assert bound["fingerprint"] != identify(target)["fingerprint"], "the trimmed head is part of what the base is"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_beside_its_base_it_drafts_as_merged_into_it(made, base, adapted, temperature, capsys):
    models = Models(target_of(adapted))
    resident = {"type": "adapted_draft", "model": str(base.out), "adapters": {"sums": str(made.out)}}
    proposers = {
        "merged": {"type": "draft_model", "model": str(made.out)},
        "beside": resident | {"choice": "sums"},
        "base": {"type": "draft_model", "model": str(base.out)},
    }
    requests = [Request(i, (40 + i, 50, 60)) for i in range(3)]
    done = {
        name: methods.decoder(node(name, proposer), models).generate(requests, Sampling(temperature, max_new_tokens=40))
        for name, proposer in proposers.items()
    }
    assert [one.windows for one in done["beside"]] == [one.windows for one in done["merged"]]
    assert [one.tokens for one in done["beside"]] == [one.tokens for one in done["merged"]]
    assert [one.windows for one in done["base"]] != [one.windows for one in done["merged"]]
    assert "trained with other weights" not in capsys.readouterr().err  # the base is known again, head and all


def test_over_another_draft_it_is_refused(made, base, adapted, tmp_path):
    other, moved = tmp_path / "other", tmp_path / "moved"
    shutil.copytree(base.out, other)
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    artifact.write(other, artifact.read(other))
    shutil.copytree(made.out, moved)
    artifact.write(moved, dataclasses.replace(artifact.read(moved), base={"name": str(other)}))
    models = Models(target_of(adapted))
    for proposer in (
        {"type": "draft_model", "model": str(moved)},
        {"type": "adapted_draft", "model": str(other), "adapters": {"sums": str(made.out)}},
    ):
        with pytest.raises(UserError, match=r"key 'binds': trained for another model.*with adapters \(SHA-256\)"):
            methods.decoder(node("x", proposer), models)


def test_a_second_vocabulary_and_another_target_are_refused(base, adapted, answers, tmp_path, capsys):
    assert over(tmp_path, base, adapted, answers).run("vocabulary.size=40") == 2
    assert f"key 'vocabulary': student '{base.out}' says only {WORDS} tokens already" in capsys.readouterr().err
    assert over(tmp_path, base, {"name": adapted["name"]}, answers).run() == 2
    assert "key 'binds': trained for another model" in capsys.readouterr().err


def test_exported_it_is_a_whole_model(made, adapted, tmp_path):
    standalone.export(made.out, tmp_path / "whole", target_adapters=adapted["adapters"])
    ids = torch.tensor([[40, 50, 60, 70]])
    merged, _ = load_hf(ModelConfig(str(made.out)), target_of(adapted))
    whole, _ = load_hf(ModelConfig(str(tmp_path / "whole")))
    known = Models(target_of(adapted)).load(ModelConfig(str(made.out))).vocabulary.ids
    with torch.no_grad():
        torch.testing.assert_close(whole(ids).logits[..., known], merged(ids).logits, atol=1e-5, rtol=1e-5)
