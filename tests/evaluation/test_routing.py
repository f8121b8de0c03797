"""What routing was worth: regret, shares, confusion and gain by hand; and a run of an eval recipe with a router."""

import json
import shutil

import numpy as np
import pytest

from tests.artifacts import config
from tests.routers import routing as untrained
from tests.routers import tiny_encoder, write
from toolkit.evaluation import routing
from toolkit.evaluation.routing import Outcomes
from toolkit.hub import Models

MS = np.array([[10.0, 20.0, 30.0], [40.0, 20.0, 30.0], [10.0, 14.0, 30.0], [12.0, 20.0, 8.0]])
DOMAINS = ["code", "chat", "code", "chat"]


def outcomes(chosen, spent=None, ms=MS, domains=DOMAINS):
    chosen = np.array(chosen)
    return Outcomes(["a", "b", "c"], domains, ms, chosen, ms[np.arange(len(ms)), chosen] if spent is None else spent)


def test_regret_and_gain_by_hand():
    found = routing.report(outcomes([0, 1, 1, 0]))
    expected = {"routed": 14, "single": 18, "single_best_here": 18, "random": 61 / 3, "oracle": 12}
    assert found["ms"] == pytest.approx(expected)
    assert found["regret"]["routed"]["value"] == 2 and found["regret"]["single"]["value"] == 6
    assert found["single"] == found["single_best_here"] == "a"
    assert found["gain"]["value"] == pytest.approx(18 / 14) and found["gain_of_oracle"]["value"] == 1.5
    assert found["gain"]["low"] is None, "four prompts are too few for an interval"
    assert found["right"] == 0.5 and found["never_fastest"] == []
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [1, 0, 0]], "[fastest][chosen]"
    assert found["shares"] == {"chat": {"a": 0.5, "b": 0.5, "c": 0.0}, "code": {"a": 0.5, "b": 0.5, "c": 0.0}}
    assert found["oracle_shares"]["code"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_oracle_has_no_regret_and_what_routing_takes_counts():
    best = MS.argmin(1)
    assert routing.report(outcomes(best))["regret"]["routed"]["value"] == 0
    slow = routing.report(outcomes(best, spent=MS.min(1) + 3))
    assert slow["regret"]["routed"]["value"] == 3 and slow["regret_of_choice"]["value"] == 0
    assert slow["ms"]["routed"] == 15


def test_a_draft_that_never_wins_is_named():
    assert routing.report(outcomes([0, 0, 0, 0], ms=MS + [0, 100, 0]))["never_fastest"] == ["b"]


def test_intervals_resample_prompts():
    random = np.random.default_rng(0)
    ms = random.uniform(10, 30, size=(200, 3))
    chosen = ms.argmin(1)
    chosen[:60] = 0
    found = routing.report(outcomes(chosen, ms=ms, domains=["x"] * 200))
    for one in (found["regret"]["routed"], found["regret"]["single"], found["gain"]):
        assert one["low"] < one["value"] < one["high"]
    assert found["gain"]["low"] > 1
    values = ms[np.arange(200), chosen] - ms.min(1)
    half = 1.96 * values.std() / np.sqrt(200)
    assert found["regret"]["routed"]["high"] - found["regret"]["routed"]["value"] == pytest.approx(half, rel=0.25)


# A run


@pytest.fixture
def router(tmp_path):
    models = Models(config())
    made = untrained(models, tiny_encoder(tmp_path / "encoder"))
    made.net.out.weight.data *= 20
    return write(tmp_path / "router", models, made)


def test_an_eval_with_a_router(tiny, router):
    assert tiny.run(f"use=[{router}]", "methods=[]", "target.device=cpu", "sampling.max_new_tokens=8") == 0
    results = tiny.results()
    assert list(results["methods"]) == ["baseline", "routed", "only_half", "only_ngram", "only_none"]
    assert results["recipe"]["target"]["adapters"] == [] and router in results["models"]
    assert router in results["methods"]["routed"]["weights"]
    rows = [row for row in tiny.rows() if row["set"] == "speed"]
    for row in rows:
        drafts = {"baseline": {}, "routed": row["routed"]}.get(row["method"], {row["method"].removeprefix("only_"): 1})
        assert row["routed"].keys() == drafts.keys() and (not drafts or sum(row["routed"].values()) == row["rounds"])
    [found] = results["routing"].values()
    assert found["drafts"] == ["half", "ngram", "none"] and found["prompts"] == 3
    assert sum(found["shares"]["data"].values()) == pytest.approx(1)
    assert (
        found["ms"]["oracle"] <= min(found["ms_by_draft"].values()) and found["regret"]["routed"]["value"] is not None
    )
    spent = [row for row in rows if row["method"] == "routed"]
    took, total = (
        sum(values) for values in zip(*((r["routing_seconds"], r["times"]["total"]) for r in spent), strict=True)
    )
    assert 0 < took < total and found["choosing"]["share_of_time"] == pytest.approx(took / total)
    expected = np.mean([1e3 * row["times"]["total"] / row["n_tokens"] for row in spent])
    assert found["ms"]["routed"] == pytest.approx(expected)
    shown = (tiny.out / "table.md").read_text()
    assert "Routing: routed (speed set)" in shown and "routing gain over that draft" in shown
    assert all(one["bugs"] == 0 for one in results["equality"])
    before = tiny.records.read_bytes()
    assert tiny.run(f"use=[{router}]", "methods=[]", "target.device=cpu", "sampling.max_new_tokens=8") == 0
    assert tiny.records.read_bytes() == before


def test_two_routers_have_names_of_their_own(tiny, router, tmp_path, capsys):
    other, twin = tmp_path / "other", tmp_path / "twin" / "router"
    for copy in (other, twin):
        shutil.copytree(router, copy)
    overrides = ["methods=[]", "target.device=cpu", "sampling.max_new_tokens=4"]
    assert tiny.run(f"use=[{router}, {twin}]", *overrides) == 2
    assert "methods are named after their directories; rename one of them" in capsys.readouterr().err
    assert tiny.run(f"use=[{router}, {other}]", *overrides) == 0
    results = tiny.results()
    names = [
        f"{kind}_{end}" for end in ("router", "other") for kind in ("routed", "only_half", "only_ngram", "only_none")
    ]
    assert list(results["methods"]) == ["baseline", *names]
    assert results["routing"].keys() == {"routed_router", "routed_other"}
    assert all("regret" in found for found in results["routing"].values()), "each beside its own drafts"


def test_shares_are_known_in_batches_and_times_are_not(tiny, router):
    overrides = [f"use=[{router}]", "methods=[]", "target.device=cpu", "sampling.max_new_tokens=8"]
    assert tiny.run(*overrides, "speed.batch=3") == 0
    [found] = tiny.results()["routing"].values()
    assert found["prompts"] == 3 and found.keys() == {"prompts", "drafts", "shares", "choosing"}


def test_drafts_that_were_not_all_tried_alone_are_not_compared(tiny):
    """The prompts that went to one of them are not those of the others."""
    pieces = "type: routed, drafts: {a: none, b: ngram, c: ngram, d: ngram}"
    alone = f"{{name: only_a, proposer: {{{pieces}, router: {{type: fixed, draft: a}}}}}}"
    lot = f"{{name: lot, proposer: {{{pieces}, router: random}}}}"
    assert tiny.run(f"methods=[{alone}, {lot}]", "target.device=cpu", "sampling.max_new_tokens=4") == 0
    [found] = tiny.results()["routing"].values()
    assert found["prompts"] == 3 and {*found["drafts"]} - {"a"} and "regret" not in found


def test_drafts_within_a_router_are_in_the_rows_identity(tiny):
    half = "{type: draft_model, model: {name: target, draft_from: {layers: [0]}}}"
    methods = (
        f"methods=[{{name: lot, proposer: {{type: routed, router: random, drafts: {{half: {half}, none: none}}}}}}]"
    )
    assert tiny.run(methods, "target.device=cpu", "sampling.max_new_tokens=4") == 0
    assert tiny.results()["methods"]["lot"]["weights"].keys() == {"tiny-random:llama"}
    [found] = tiny.results()["routing"].values()
    assert {*found["drafts"]} <= {"half", "none"}
