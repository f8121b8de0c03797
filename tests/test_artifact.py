"""Manifests: written, read, verified; directories put in place whole or not at all."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest

from tests.artifacts import manifest
from toolkit import artifact, files, version
from toolkit.errors import UserError

IDENTITY = {"name": "m", "fingerprint": "f", "tokenizer": "t", "adapters": ["a"]}


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "lora"
    path.mkdir()
    (path / "adapter_config.json").write_text("{}")
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    (path / "README.md").write_text("rendered from the manifest")
    return path


def test_what_is_written_is_read_and_verified(directory):
    written = artifact.write(directory, manifest(binds={"target": IDENTITY}, code=version.code()))
    assert written.files.keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert artifact.read(directory) == artifact.verify(directory) == written
    (directory / "README.md").write_text("a card rendered again")
    assert artifact.verify(directory) == written
    assert artifact.write(directory, dataclasses.replace(written, metrics=[{"tau": 2.0}])).files == written.files


def test_a_key_that_came_later_may_be_missing(directory):
    artifact.write(directory, manifest(shares=["model.embed_tokens"]))
    assert artifact.read(directory).shares == ["model.embed_tokens"]
    path = directory / artifact.MANIFEST
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "shares"}))
    assert artifact.verify(directory).shares == []


def test_code_names_the_version():
    code = version.code()
    assert code.keys() == {"version", "commit", "dirty"}
    assert code["commit"] is None or len(code["commit"]) == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "key 'format' is 2; this version of draftsmith reads 1"),
        ({"base": None}, "key 'base' is None; expected a dict"),
        ({"shares": "lm_head"}, "key 'shares' is 'lm_head'; expected a list"),
        ({"provides": "target"}, "key 'provides' is 'target'; expected a list"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"binds": {"target": {"name": "m"}}}, "key 'binds.target' is .*expected a mapping with adapters, fingerprint"),
        ({"binds": {"target": IDENTITY | {"adapters": None}}}, "key 'binds.target.adapters' is None; expected a list"),
        ({"composes": {"accept": "autojudge"}}, "key 'composes.accept' is 'autojudge'; expected a dict"),
        ({"recipe": {"config": None}}, "key 'recipe.config' is None; expected a dict"),
    ],
)
def test_a_manifest_that_is_not_one_is_named(directory, changes, message):
    artifact.write(directory, manifest())
    path = directory / artifact.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=rf"manifest\.json: {message}"):
        artifact.read(directory)


def test_a_missing_key_and_a_missing_manifest(directory):
    with pytest.raises(UserError, match="no manifest.json, so this is no artifact"):
        artifact.read(directory)
    artifact.write(directory, manifest())
    path = directory / artifact.MANIFEST
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "data"}))
    with pytest.raises(UserError, match="key 'data' is missing"):
        artifact.read(directory)
    path.write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        artifact.read(directory)
    path.write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object, got a list"):
        artifact.read(directory)


def test_a_changed_missing_or_added_file_is_refused(directory):
    artifact.write(directory, manifest())
    before = artifact.digest(directory)
    weights = directory / "adapter_model.safetensors"
    weights.write_bytes(b"Weights")
    assert artifact.digest(directory) != before
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: SHA-256 is .*damaged or was changed"):
        artifact.verify(directory)
    weights.unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: missing"):
        artifact.verify(directory)
    weights.write_bytes(b"weights")
    assert artifact.digest(directory) == before
    (directory / "more.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"more\.safetensors: manifest\.json does not list"):
        artifact.verify(directory)


def test_the_digest_is_of_the_weights_alone(directory):
    before = artifact.digest(directory)
    artifact.write(directory, manifest())
    (directory / "README.md").unlink()
    assert artifact.digest(directory) == before


def test_an_interrupted_write_leaves_the_earlier_manifest(directory, monkeypatch):
    artifact.write(directory, manifest())
    before = (directory / artifact.MANIFEST).read_bytes()
    listing = sorted(path.name for path in directory.iterdir())

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"lora: cannot be written \(No space left on device\).*kept"):
        artifact.write(directory, manifest(method="another"))
    assert (directory / artifact.MANIFEST).read_bytes() == before
    assert sorted(path.name for path in directory.iterdir()) == listing


def filled(final, content):
    beside = artifact.partial(final)
    (beside / "file").write_text(content)
    return beside


def test_a_directory_takes_the_place_of_the_earlier_one(tmp_path):
    final = tmp_path / "deep" / "out"
    artifact.publish(filled(final, "one"), final)
    assert (final / "file").read_text() == "one"
    artifact.partial(final)  # interrupted here
    assert (final / "file").read_text() == "one"
    artifact.publish(filled(final, "two"), final)
    assert (final / "file").read_text() == "two"
    assert [path.name for path in final.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("failing", ["out", ".out.partial"])
def test_a_failed_publish_keeps_the_earlier_directory(tmp_path, monkeypatch, failing):
    monkeypatch.setattr(artifact, "swap", lambda one, other: False)  # where two renames are needed
    final = tmp_path / "out"
    artifact.publish(filled(final, "one"), final)
    beside = filled(final, "two")
    rename = Path.rename

    def broken(self, target):
        if self.name == failing:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(UserError, match=r"out: cannot be written \(Input/output error\)"):
        artifact.publish(beside, final)
    assert (final / "file").read_text() == "one"
    monkeypatch.undo()
    artifact.publish(beside, final)
    assert (final / "file").read_text() == "two"


def test_a_publish_killed_between_its_renames_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "swap", lambda one, other: False)  # where two renames are needed
    final = tmp_path / "out"
    artifact.publish(filled(final, "one"), final)
    final.rename(tmp_path / ".out.old")  # as a killed publish leaves it
    beside = filled(final, "two")
    rename = Path.rename

    def broken(self, target):
        if self == beside:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(UserError):
        artifact.publish(beside, final)
    assert (final / "file").read_text() == "one"
