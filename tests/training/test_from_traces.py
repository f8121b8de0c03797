"""What is learned from traces: tried where their pair is at hand, never with another, and not taken for up to date."""

import json
import re

import pytest

from tests.training.traced import edit, rewritten
from toolkit import artifact
from toolkit.binding import shortened
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.training import finish, from_traces
from toolkit.training.from_traces import TraceRecipe
from toolkit.training.traces import Trace


def recipe_of(directory, out):
    return TraceRecipe(traces=[str(directory)], method="a test", out=str(out))


def learn(directory, out):
    """An artifact that composes the trace's pair with windows of three, put in place."""
    recipe = recipe_of(directory, out)
    command = {"path": "dummy.yaml", "command": "python train/dummy.py dummy.yaml"}
    return from_traces.put(
        recipe,
        command,
        Trace.open(recipe.traces),
        kind="dummy",
        pieces={"length": {"type": "fixed", "k": 3}},
        figures={"records": 1},
        fill=lambda path: (path / "policy.json").write_text("{}"),
    )


def test_an_artifact_is_made_where_the_model_is_not_at_hand(trace_alone, tmp_path, capsys):
    assert len(Trace.open([trace_alone]).windows(1.0)) > 0
    manifest = learn(trace_alone, tmp_path / "learned")
    assert manifest == artifact.verify(tmp_path / "learned")
    assert list(manifest.smoke) == ["skipped"]
    assert "target or draft not at hand" in manifest.smoke["skipped"] and "gone" in manifest.smoke["skipped"]
    said = capsys.readouterr().err
    assert "not tried" in said and f"draftsmith check {tmp_path / 'learned'}" in said


def test_an_artifact_is_tried_where_the_model_is_at_hand(collected, tmp_path):
    manifest = learn(collected.path, tmp_path / "learned")
    assert manifest == artifact.verify(tmp_path / "learned")
    assert manifest.smoke["prompts"] == 4 and manifest.smoke["tokens"] > 0 < manifest.smoke["proposed"]
    assert manifest.provides == ["length"] and manifest.binds == collected.header()["binds"]
    assert manifest.composes["length"] == {"type": "fixed", "k": 3} and manifest.files.keys() == {"policy.json"}
    assert len(manifest.data["fingerprint"]) == 64


def test_the_pair_is_loaded_once(collected, tmp_path, monkeypatch):
    """Compared with the trace and tried as one: the second time would cost as much as the first."""
    made = []

    class Counted(Models):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    for module in (from_traces, finish):
        monkeypatch.setattr(module, "Models", Counted)
    assert learn(collected.path, tmp_path / "learned").smoke["prompts"] == 4
    assert len(made) == 1


@pytest.mark.parametrize(("role", "key"), [("target", "fingerprint"), ("target", "adapters"), ("draft", "fingerprint")])
def test_another_pair_than_the_traced_one_is_refused(copied, tmp_path, role, key):
    """It is there, and under the same name; only its weights are others."""
    binds = json.loads((copied / "trace.json").read_text())["binds"]
    here = binds[role][key]
    binds[role][key] = ["ab" * 32] if key == "adapters" else "ab" * 32
    edit(copied / "trace.json", binds=binds)
    shown = shortened(here) if key == "adapters" else shortened([here])
    with pytest.raises(
        UserError,
        match=rf"trace\.json: key 'binds\.{role}\.{key}' is abababababab\.\.\., .* has {re.escape(shown)}: not",
    ):
        learn(copied, tmp_path / "learned")
    assert not (tmp_path / "learned").exists()


def test_a_draft_that_is_there_and_broken_is_an_error(copied, tmp_path):
    header = json.loads((copied / "trace.json").read_text())
    header["proposer"]["model"]["draft_from"] = {"layers": [99]}
    edit(copied / "trace.json", proposer=header["proposer"])
    with pytest.raises(UserError, match="99"):
        learn(copied, tmp_path / "learned")
    gone = {"type": "eagle3", "head": str(tmp_path / "gone")}
    edit(copied / "trace.json", proposer=gone)
    assert "gone: not there" in learn(copied, tmp_path / "learned").smoke["skipped"]
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        learn(copied, tmp_path / "learned")


def test_what_is_there_is_finished_if_it_is_of_these_records(copied, tmp_path):
    out = tmp_path / "learned"
    recipe = recipe_of(copied, out)
    assert not from_traces.finished(out, recipe, Trace.open([copied]))
    learn(copied, out)
    assert from_traces.finished(out, recipe, Trace.open([copied]))
    costs = json.loads((copied / "costs.json").read_text())
    edit(copied / "costs.json", costs=costs["costs"] | {"0": costs["costs"]["0"] | {"host_ms": 123.0}})
    assert from_traces.finished(out, recipe, Trace.open([copied])), "learned from temperature 1"
    edit(copied / "costs.json", costs=costs["costs"] | {"1": costs["costs"]["1"] | {"host_ms": 123.0}})
    with pytest.raises(UserError, match=rf"{out}: was learned from other costs than .*{copied} has now.*Delete {out}"):
        from_traces.finished(out, recipe, Trace.open([copied]))
    edit(copied / "costs.json", **costs)
    part = Trace.open([copied]).parts("positions")[0]
    rewritten(part, lambda table: table.slice(0, len(table) - 1))
    with pytest.raises(UserError, match=rf"{out}: was learned from other positions than .*{copied} has now"):
        from_traces.finished(out, recipe, Trace.open([copied]))
