"""`draftsmith describe` and `check-conditions` on a real trace of a tiny pair."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.artifacts import manifest
from tests.training.runs import ROOT
from tests.training.traced import PROMPTS, TOKENS, WINDOW, edit
from toolkit import artifact, cli, policy
from toolkit.engine.statistics import LENIENCE
from toolkit.policy import Bins, Policy, Solution
from toolkit.training import conditions_rows, from_traces, main, oracle, replay
from toolkit.training.traces import Trace

BINS = Bins(entropy=(), divergence=(1e-6,), k_max=3)  # a first window, or a later one
PICTURES = {"surfaces.png", "monotonicity.png", "divergence_set.png"}


def solution(order, stop_at, lenient=0, kappa=1.0):
    """Drafts up to stop_at tokens, each with the same T."""
    depth = np.arange(BINS.states) % (BINS.k_max + 1)
    action = np.where((depth >= stop_at) | (depth == BINS.k_max), policy.STOP, 1 + lenient)
    return Solution(order, kappa, 0.5, action.astype(np.int8), np.full(BINS.states, lenient, dtype=np.int8))


@pytest.fixture
def learned(collected, tmp_path):
    """An artifact of two solutions for the trace's pair -> its directory."""
    directory = tmp_path / "learned"
    solutions = (solution("joint", 2, lenient=1), solution("length_then_verif", 3, lenient=1))
    policy.save(Policy(BINS, LENIENCE, solutions, np.full((BINS.states, 2), 9), 1.0), directory)
    recipe = {"path": "r.yaml", "command": "train r.yaml", "config": {"valid": 0.25, "seed": 3}}
    data = {"fingerprint": from_traces.fingerprint(Trace.open([collected.path]))}
    made = manifest(
        kind=policy.KIND, provides=["accept", "length"], binds=collected.header()["binds"], recipe=recipe, data=data
    )
    artifact.write(directory, made)
    return directory


def test_describe_says_what_is_in_a_trace(collected, capsys):
    assert cli.main(["describe", str(collected.path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "tiny-random:llama, weights",
        f"up to {WINDOW} tokens",
        "states kept    draft",
        "informed",
        "fixed 4",
    ):
        assert " ".join(words.split()) in " ".join(shown.split())
    assert "rounds measured" in shown and "Temperature 0: predicted speed" in shown


def test_describe_json_counts_what_the_files_hold(collected, capsys):
    assert cli.main(["describe", "--json", str(collected.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    rows, rounds = collected.rows().to_pylist(), collected.rows("rounds").to_pylist()
    assert (found["requests"], found["rounds"]) == (PROMPTS, len(rounds))
    assert found["bytes"] == sum(path.stat().st_size for path in collected.path.rglob("*") if path.is_file())
    for temperature, one in found["temperatures"].items():
        own = [row for row in rows if row["temperature"] == float(temperature)]
        turns = [row for row in rounds if row["temperature"] == float(temperature)]
        assert (one["positions"], one["rounds"]) == (len(own), len(turns))
        assert one["tau"] == pytest.approx(1 + sum(row["accepted"] for row in turns) / len(turns))
        first = [row for row in own if row["depth"] == 0]
        assert one["drafted_by_depth"][0] == one["windows"] == sum(one["accepted_prefixes"]) == len(first)
        assert one["accepted_of_reached"][0] == pytest.approx(np.mean([row["accepted"] for row in first]))
        assert one["analytic"][0] == pytest.approx(np.mean([row["accept_T"][0] for row in first]), abs=1e-3)
        assert one["means"]["kl"] == pytest.approx(np.mean([row["kl"] for row in own]), rel=1e-3)
        assert set(one["fixed"]) == {str(k) for k in range(1, WINDOW + 1)}
    best = max(one["per_second"] for one in found["temperatures"]["0"]["fixed"].values())
    assert best <= found["temperatures"]["0"]["oracles"]["hindsight"]["per_second"] * (1 + 1e-9)
    assert len(found["temperatures"]) == 2 and found["header"]["max_new_tokens"] == TOKENS


def test_describe_does_without_costs(copied, capsys):
    (copied / "costs.json").unlink()
    assert cli.main(["describe", str(copied)]) == 0
    shown = capsys.readouterr().out
    assert "Temperature 1: " in shown and "predicted speed" not in shown


def test_describe_has_costs_of_each_temperature(copied, capsys):
    assert cli.main(["describe", str(copied)]) == 0
    shown = capsys.readouterr().out
    assert "Temperature 0: milliseconds a round" in shown and "Temperature 1: milliseconds a round" in shown
    costs = json.loads((copied / "costs.json").read_text())["costs"]
    slow = costs["0"] | {"verify_ms": [1000.0 * value for value in costs["0"]["verify_ms"]]}
    edit(copied / "costs.json", costs={"0": slow})
    assert cli.main(["describe", "--json", str(copied)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["costs"].keys() == {"0"} and "fixed" not in found["temperatures"]["1"]
    seconds = min(slow["verify_ms"]) / 1000
    assert found["temperatures"]["0"]["fixed"]["1"]["per_second"] < (WINDOW + 1) / seconds


def empty(directory):
    shutil.rmtree(directory / "parts")


def damage_part(directory):
    part = next((directory / "parts").glob("positions-*"))
    part.write_bytes(part.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_part, "not readable as Parquet"),
        (empty, "holds nothing yet. Run its train/collect.py"),
        (lambda directory: edit(directory / "costs.json", format=1), "key 'format' is 1; expected 2"),
        (lambda directory: edit(directory / "trace.json", schema_version=99), "key 'schema_version' is 99"),
        (lambda directory: (directory / "trace.json").unlink(), "no artifact and no trace"),
    ],
)
def test_describe_refuses_what_it_cannot_read(copied, damage, message, capsys):
    damage(copied)
    assert cli.main(["describe", str(copied)]) == 2
    assert message in capsys.readouterr().err


def test_conditions_of_a_policy(learned, collected, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["check-conditions", str(learned), str(collected.path), "--out", str(out)]) == 0
    found = json.loads((out / "conditions.json").read_text())
    assert {path.name for path in out.iterdir()} == {"conditions.json"} | PICTURES
    counts = {name: sum(one["condition"] == name for one in found["conditions"]) for name in ("C1", "C2", "C3", "C4")}
    actions = 1 + len(LENIENCE)
    assert counts == {"C1": 2 * actions, "C2": 2, "C3": actions - 1, "C4": actions - 2}
    seen = found["coverage"]
    assert seen["states_judged"] <= seen["states_visited"] <= seen["states"] == BINS.states
    assert seen["pairs_judged"] <= seen["pairs_visited"] <= seen["pairs"] == 2 * (4 + 3 * len(LENIENCE))
    [apart] = found["cascades"]
    assert (apart["cascade"], apart["n1"]) == ("length_then_verif", "pass")
    assert 0 < apart["differing"] <= 2  # at place 2, after a first window or a later one
    shown = capsys.readouterr().out
    for words in ("states visited", "Joint policy against its cascades", "gap from best fixed", "undecided"):
        assert words in shown
    assert "the mean weighted by states" in " ".join(shown.split())


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_policys_rate_is_of_requests_that_it_was_not_solved_from(learned, collected, tmp_path, capsys, temperature):
    """The very requests that its recipe held out, at whatever temperature it is judged."""
    arguments = ["check-conditions", str(learned), str(collected.path), "--out", str(tmp_path / "out")]
    assert cli.main(arguments + ([] if temperature == 1.0 else ["--temperature", "0"])) == 0
    found = json.loads((tmp_path / "out" / "conditions.json").read_text())
    trace = Trace.open([collected.path])
    solved_from, windows, costs = trace.windows(1.0), trace.windows(temperature), trace.costs(temperature)
    held = np.unique(solved_from.request[from_traces.held_out(solved_from.request, 0.25, 3)])
    own = windows.of(np.isin(windows.request, held))
    assert (found["requests"], found["rates"]["requests"]) == (PROMPTS, len(held)) == (PROMPTS, PROMPTS // 4)
    assert (found["temperature"], found["solved_at"], found["rates"]["own"]) == (temperature, 1.0, True)
    k, best = oracle.best_fixed(own, costs)
    assert found["rates"]["best_fixed"] == k
    assert found["rates"]["per_second"][f"fixed {k}"]["value"] == pytest.approx(best.per_second)
    shown = " ".join(capsys.readouterr().out.split())
    assert "n=3 held-out requests" in shown and "the policy was not solved from them" in shown
    assert ("solved at temperature 1, judged at 0" in shown) == (temperature == 0.0)
    assert "solved from other records" not in shown


def test_of_another_trace_it_is_said_that_nobody_knows(learned, copied, tmp_path, capsys):
    next((copied / "parts").glob("positions-*")).unlink()
    assert cli.main(["check-conditions", str(learned), str(copied), "--out", str(tmp_path / "out")]) == 0
    assert "the policy was solved from other records" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "out" / "conditions.json").read_text())["rates"]["own"] is False


def test_a_policy_that_does_not_say_what_it_held_out_is_refused(learned, collected, capsys):
    edit(learned / "manifest.json", recipe={"path": "", "command": "", "config": {"seed": 3}})
    assert cli.main(["check-conditions", str(learned), str(collected.path)]) == 2
    assert "key 'recipe.config' has valid None and seed 3; expected the share" in capsys.readouterr().err


def test_a_trained_policy_from_its_trace_as_a_user_does(collected, tmp_path, monkeypatch):
    """Trained from the trace of one pair, judged on the same: both commands in a process of their own."""
    monkeypatch.chdir(tmp_path)
    bins = {"H": {"count": 1}, "K": {"count": 2, "low": 1e-6, "high": 1e-3}}
    recipe = {"traces": [str(collected.path)], "k_max": 3, "bins": bins, "kappas": [0.0, 1.0], "sweep": []}
    (tmp_path / "trained.yaml").write_text(json.dumps(recipe))  # YAML is a superset of JSON
    assert main.jointadaspec(["trained.yaml"]) == 0
    said = draftsmith("check-conditions", "checkpoints/trained", str(collected.path), "--kappa", "0")
    assert "kappa=0, temperature 1" in said and "verif_then_length" in said
    found = json.loads((tmp_path / "results" / "conditions" / "trained" / "conditions.json").read_text())
    assert [one["cascade"] for one in found["cascades"]] == ["length_then_verif", "verif_then_length"]
    assert {path.name for path in (tmp_path / "results" / "conditions" / "trained").iterdir()} > PICTURES
    assert "milliseconds a round" in draftsmith("describe", str(collected.path))
    assert "provides" in draftsmith("describe", "checkpoints/trained")


def draftsmith(*arguments):
    """-> what it said."""
    command = [sys.executable, "-m", "toolkit.cli", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_policys_rate_is_that_of_the_fixed_length_which_it_always_chooses(collected):
    """But for the looks, which are paid for: costs without draft steps leave none."""
    trace = Trace.open([collected.path])
    windows = trace.windows(1.0)
    costs = dataclasses.replace(trace.costs(1.0), draft_ms=[0.0] * (WINDOW + 1))
    played = conditions_rows.play(windows, BINS, solution("joint", 2), costs)
    always = replay.outcomes(windows, replay.expected(windows, 0), np.full(len(windows), 2), costs, False, 2)
    assert (played.stops == 2).all() and not played.divergence.any()
    assert all((one == other).all() for one, other in zip(played.outcome, always, strict=True))


def test_rows_are_the_places_that_were_drafted(collected):
    trace = Trace.open([collected.path])
    windows = trace.windows(1.0)
    records, moves = conditions_rows.records(windows, BINS, solution("joint", 2), trace.costs(1.0))
    seen = windows.valid[:, : BINS.k_max + 1]
    assert len(records.state) == seen.sum() and moves.begins.sum() == len(windows)
    limit = records.state % (BINS.k_max + 1) == BINS.k_max
    assert np.isnan(records.reward[limit, 1:]).all() and not np.isnan(records.reward[~limit]).any()
    assert (moves.after[limit, 1] == -1).all()
    onwards = moves.after[:, 1] >= 0
    assert (moves.after[onwards, 1] % 4 == records.state[onwards] % 4 + 1).all()
    ended = moves.after[:, 0] >= 0
    assert (moves.after[ended, 0] % 4 == 0).all()


def test_a_policy_of_another_draft_is_refused_with_both(learned, copied, capsys):
    binds = json.loads((copied / "trace.json").read_text())["binds"]
    binds["draft"] |= {"name": "another", "fingerprint": "ab" * 32}
    edit(copied / "trace.json", binds=binds)
    assert cli.main(["check-conditions", str(learned), str(copied)]) == 2
    said = capsys.readouterr().err
    assert "key 'binds.draft'" in said and "another (weights abababababab...)" in said
    assert artifact.read(learned).binds["draft"]["fingerprint"][:12] in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kappa", "7"], "no solution with order 'joint' and kappa 7"),
        (["--temperature", "0.5"], "key 'temperature' is 0.5"),
    ],
)
def test_what_is_not_there_is_refused(learned, collected, arguments, message, capsys):
    assert cli.main(["check-conditions", str(learned), str(collected.path), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"limit": 3}, "key 'limit' is 3"), ({"lenience": [1.0, 2.0]}, "key 'lenience' is [1.0, 2.0]")],
)
def test_a_trace_that_knows_less_than_the_policy_needs_is_refused(learned, copied, changes, message, capsys):
    edit(copied / "trace.json", **changes)
    assert cli.main(["check-conditions", str(learned), str(copied)]) == 2
    assert message in capsys.readouterr().err


def test_another_kind_of_artifact_is_refused(learned, collected, capsys):
    edit(learned / "manifest.json", kind="specdecpp")
    assert cli.main(["check-conditions", str(learned), str(collected.path)]) == 2
    assert "key 'kind' is 'specdecpp'; expected 'jointadaspec'" in capsys.readouterr().err
