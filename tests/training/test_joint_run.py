"""JointAdaSpec from recipe to artifact: without a model at hand, with it, and on what does not fit."""

import json

import pytest

from toolkit import methods, policy
from toolkit.engine.types import Request, Sampling
from toolkit.hub import ModelConfig, Models
from toolkit.training import main

SETTINGS = {
    "k_max": 3,
    "bins": {"H": {"count": 1}, "K": {"count": 2, "low": 1e-6, "high": 1e-3}},
    "kappas": [0.0, 1e6],
    "sweep": [],
}
REQUESTS = [Request(i, (65 + i, 66, 67)) for i in range(3)]


def solved(directory, trace, *overrides):
    """A run in `directory` -> (exit code, where the artifact is)."""
    path, out = directory / "joint.yaml", directory / "out" / "joint"
    path.write_text(json.dumps(SETTINGS | {"traces": [str(trace)], "out": str(out)}))
    return main.jointadaspec([str(path), *overrides]), out


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Reports go to ./results."""
    monkeypatch.chdir(tmp_path)


def test_no_model_is_needed(trace_alone, tmp_path):
    code, out = solved(tmp_path, trace_alone)
    assert code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "jointadaspec" and sorted(manifest["provides"]) == ["accept", "length"]
    assert "skipped" in manifest["smoke"]
    assert len(policy.read(out).solutions) == 6
    report = json.loads((tmp_path / "results/jointadaspec/joint/report.json").read_text())
    assert {one["order"] for one in report["solutions"]} == set(policy.ORDERS)


def test_the_artifact_decodes(collected, tmp_path):
    code, out = solved(tmp_path, collected.path)
    assert code == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["smoke"]["tokens"] > 0 and manifest["binds"] == collected.header()["binds"]
    assert solved(tmp_path, collected.path)[0] == 0  # it is there already
    models, proposer = Models(ModelConfig("tiny-random:llama", device="cpu")), collected.header()["proposer"]
    plain = methods.decoder(methods.resolve("baseline", "test"), models).generate(REQUESTS, Sampling(max_new_tokens=20))
    for order in policy.ORDERS:
        piece = {"type": "jointadaspec", "policy": str(out), "kappa": 1e6, "order": order}
        method = methods.resolve({"name": "joint", "proposer": proposer, "length": piece, "accept": piece}, "test")
        found = methods.decoder(method, models).generate(REQUESTS, Sampling(max_new_tokens=20))
        assert all(one.lossless for one in found)
        assert [one.tokens for one in found] == [one.tokens for one in plain]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("k_max=4", "key 'k_max' is 4, and the trace has windows of 4"),
        ("bins.K={count: 4, low: 50, high: 60}", "key 'bins.K': all of its 4 bins but one are empty"),
        ("temperature=0.3", "'temperature' is 0.3"),
    ],
)
def test_what_does_not_fit_is_refused(collected, tmp_path, capsys, override, said):
    code, out = solved(tmp_path, collected.path, override)
    assert code == 2 and said in capsys.readouterr().err and not out.exists()
