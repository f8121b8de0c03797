"""Export: what would be sent, that nothing is sent unasked, and the full model that needs neither PEFT nor us."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModelForCausalLM

from tests import artifacts
from tests.artifacts import config, draft_lora, manifest, target_lora
from toolkit import adapters, artifact, cli
from toolkit.export import card, merge, push, standalone
from toolkit.hub import ModelConfig, Models, load_hf
from toolkit.loading import DraftFrom

IDS = torch.tensor([list(b"Ten apples and two")])


@pytest.fixture
def small(tmp_path):
    """An artifact that is quick to make; nothing here loads it."""
    directory = tmp_path / "small"
    directory.mkdir()
    (directory / "adapter_model.safetensors").write_bytes(b"12345")
    (directory / "adapter_config.json").write_text("{}")
    artifact.write(directory, manifest())
    return directory


@pytest.fixture
def explosive(monkeypatch):
    """Any use of the hub fails the test."""

    def explode(*_, **__):
        pytest.fail("the hub was asked")

    for name in ("create_repo", "upload_folder", "upload_file", "create_commit", "whoami"):
        monkeypatch.setattr(HfApi, name, explode)
    monkeypatch.setattr(ModelCard, "validate", explode)


# ---- to the hub


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(small, explosive, capsys):
    (small / "notes.txt").write_text("not listed in the manifest")
    assert cli.main(["export", str(small), "--push", "acme/mine", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"{small} -> acme/mine (4 files, " in shown
    sizes = dict(line.split()[:2] for line in shown.splitlines() if line.endswith(" bytes"))
    assert sizes["adapter_model.safetensors"] == "5"
    assert sizes["README.md"] == f"{(small / 'README.md').stat().st_size:,}"
    assert set(sizes) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    assert "license: apache-2.0" in shown
    assert shown.endswith("dry run: nothing was sent\n")


def test_exactly_the_listed_files_are_sent(small, monkeypatch, capsys):
    calls = []

    class Commit:
        commit_url = "https://hub.invalid/acme/mine/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: calls.append((repo_id, options)))
    monkeypatch.setattr(
        HfApi, "upload_folder", lambda self, **options: calls.append(options["allow_patterns"]) or Commit()
    )
    monkeypatch.setattr(push, "get_token", lambda: "hf_invented")
    assert cli.main(["export", str(small), "--push", "acme/mine", "--private"]) == 0
    assert calls == [
        ("acme/mine", {"private": True, "exist_ok": True}),
        ["README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"],
    ]
    assert capsys.readouterr().out.endswith(f"{Commit.commit_url}\n")


def refused(capsys, directory, *options, repository="acme/mine"):
    assert cli.main(["export", str(directory), "--push", repository, *options]) == 2
    return capsys.readouterr().err


def test_no_login_is_a_users_error(small, explosive, monkeypatch, capsys):
    monkeypatch.setattr(push, "get_token", lambda: None)
    assert "hf auth login" in refused(capsys, small)


def test_a_hub_that_refuses_or_is_away_is_a_users_error(small, monkeypatch, capsys):
    def refuse(*_, **__):
        raise huggingface_hub.errors.HTTPError("403 Forbidden")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    monkeypatch.setattr(push, "get_token", lambda: "hf_invented")
    assert "not uploaded (403 Forbidden)" in refused(capsys, small)


def test_a_damaged_file_is_not_sent(small, explosive, capsys):
    (small / "adapter_model.safetensors").write_bytes(b"12346")
    assert "damaged" in refused(capsys, small, "--dry-run")


@pytest.mark.parametrize("repository", ["mine", "a/b/c", "acme/mi ne"])
def test_a_repository_has_an_owner_and_a_name(small, explosive, capsys, repository):
    assert "expected OWNER/NAME" in refused(capsys, small, "--dry-run", repository=repository)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda text: text.replace("license: apache-2.0", "license: Apache 2"), "key 'license' is 'Apache 2'"),
        (lambda text: text.replace("- draftsmith\n", ""), "lacks the tag 'draftsmith'"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_not_sent(small, explosive, capsys, spoil, expected):
    path = card.write(small)
    path.write_text(spoil(path.read_text()))
    assert expected in refused(capsys, small, "--dry-run")


def test_figures_recorded_after_the_card_are_sent(small, explosive):
    assert "Nothing measured yet." in card.write(small).read_text()
    row = {"task": "steps", "method": "baseline", "accuracy": 0.625, "n": 8}
    artifact.write(small, manifest(metrics=[row]))
    upload = push.prepare(small, "acme/mine")
    sent = (small / card.FILE).read_text()
    assert "62.5" in sent and "Nothing measured yet." not in sent
    assert upload.card.data.to_dict()["model-index"]


def test_someone_elses_card_is_left_as_it_is(small, explosive, capsys):
    foreign = "---\nlicense: mit\n---\n[More Information Needed]\n"
    (small / card.FILE).write_text(foreign)
    assert "lacks the tag 'draftsmith'" in refused(capsys, small, "--dry-run")
    assert (small / card.FILE).read_text() == foreign


# ---- as a full model


def test_a_target_adapter_becomes_a_model(tmp_path, capsys):
    lora, out = target_lora(tmp_path / "lora"), tmp_path / "out"
    assert cli.main(["export", lora, "--merge", str(out)]) == 0
    assert "tried: prompts 4" in capsys.readouterr().out
    expected = load_hf(config(adapters=[lora]))[0](IDS).logits
    assert torch.equal(AutoModelForCausalLM.from_pretrained(out)(IDS).logits, expected)
    written = artifact.verify(out)
    assert (written.kind, written.provides) == ("model", ["target"])
    assert card.read(out).data["library_name"] == "transformers"
    assert not (out / standalone.SIDE_FILE).exists()


@pytest.fixture
def drafted(tmp_path):
    """A target with an adapter, and a draft made of two of its layers in another order -> (adapter, draft)."""
    adapter = target_lora(tmp_path / "adapter")
    target = config(adapters=[adapter])
    draft, _ = draft_lora(tmp_path / "draft", Models(target).identity(), target, [0])
    return adapter, draft


def test_a_draft_made_of_its_target_becomes_a_model(tmp_path, drafted, capsys):
    adapter, draft = drafted
    (tmp_path / "draft" / "LICENSE").write_text("as is")
    artifact.write(tmp_path / "draft", artifact.read(tmp_path / "draft"))
    out = tmp_path / "out"
    assert cli.main(["export", draft, "--merge", str(out), "--target-adapter", adapter]) == 0
    target = config(adapters=[adapter])
    alone = AutoModelForCausalLM.from_pretrained(out)
    assert alone.config.num_hidden_layers == 1
    assert torch.equal(alone(IDS).logits, load_hf(ModelConfig(draft, device="cpu"), target)[0](IDS).logits)
    untrained = load_hf(config(adapters=[adapter], draft_from=DraftFrom([0])))[0]
    assert not torch.equal(alone(IDS).logits, untrained(IDS).logits), "this adapter changes nothing"
    side = json.loads((out / standalone.SIDE_FILE).read_text())
    assert (side["method"], side["model"]) == ("draft_model", "out")
    assert str(tmp_path) not in (out / standalone.SIDE_FILE).read_text(), "hashed and uploaded: no place of this user's"
    assert (
        f"{out / standalone.SIDE_FILE} gives 'model' by its name alone; put the path there" in capsys.readouterr().err
    )
    assert (out / "LICENSE").read_text() == "as is"
    assert {"tokenizer.json", "generation_config.json"} <= {path.name for path in out.iterdir()}
    assert artifact.verify(out).smoke["prompts"] == 4
    models = Models(target)
    models.load(ModelConfig(str(out), device="cpu"))  # bound to this target still


@pytest.mark.parametrize("given", ["none", "other"])
def test_the_targets_adapters_must_be_given(tmp_path, drafted, capsys, given):
    other = target_lora(tmp_path / "other", seed=9)
    options = [] if given == "none" else ["--target-adapter", other]
    assert cli.main(["export", drafted[1], "--merge", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert "key 'binds.target.adapters'" in error
    assert f"{artifact.digest(tmp_path / 'adapter')[:12]}..." in error
    assert not (tmp_path / "out").exists()


def test_another_target_is_refused(tmp_path, drafted, capsys):
    adapter, draft = drafted
    options = ["--target-adapter", adapter, "--target", "tiny-random:llama:7"]
    shutil.rmtree(tmp_path / "adapter")
    artifacts.lora(tmp_path / "adapter")  # the same weights, without a manifest that would say so first
    assert cli.main(["export", draft, "--merge", str(tmp_path / "out"), *options]) == 2
    assert "trained for another model" in capsys.readouterr().err


def test_a_target_is_not_asked_for_where_none_is_needed(tmp_path, small, capsys):
    assert cli.main(["export", str(small), "--merge", str(tmp_path / "out"), "--target", "x"]) == 2
    assert "leave out --target" in capsys.readouterr().err


def test_a_model_is_not_merged_again(tmp_path, small, capsys):
    artifact.write(small, manifest(kind="model"))
    assert cli.main(["export", str(small), "--merge", str(tmp_path / "out")]) == 2
    assert "full model already" in capsys.readouterr().err


def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch, capsys):
    lora, out = target_lora(tmp_path / "lora"), tmp_path / "out"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "write_json", full)
    assert cli.main(["export", lora, "--merge", str(out)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not out.exists()


def test_nothing_is_written_over(tmp_path, small, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("")
    monkeypatch.setattr(merge.whole, "load_whole", lambda *_: pytest.fail("loaded"))
    assert cli.main(["export", str(small), "--merge", str(out)]) == 2
    assert "not an empty directory" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_an_adapter_that_is_none_is_named(tmp_path, drafted, capsys):
    options = ["--target-adapter", str(tmp_path)]
    assert cli.main(["export", drafted[1], "--merge", str(tmp_path / "out"), *options]) == 2
    assert f"no {adapters.CONFIG} there" in capsys.readouterr().err
