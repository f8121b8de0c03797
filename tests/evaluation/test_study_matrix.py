"""Drafts on domains: tau of each on each with bounds, and on each domain its own draft against the others, paired."""

import json

import numpy as np
import pytest

from tests.evaluation.rows import row
from toolkit.evaluation import study, study_matrix
from toolkit.evaluation.study_matrix import MatrixConfig
from toolkit.evaluation.study_table import Cell

STUDY = """
recipe: recipes/eval/domains_cell.yaml
axes:
  domain:
    stories: ["task={{type: steps, split: test, kinds: [story], limit: 6}}", quality.enabled=false]
    sums: ["task={{type: steps, split: test, kinds: [expression], limit: 6}}", quality.enabled=false]
matrix: {{axis: {axis}}}
out: {out}
"""
SMALL = ["target=tiny-random:llama", "sampling.max_new_tokens=8", "speed.prompts=6", "speed.batch=3"]
DRAFTS = "methods=[{name: stories, base: ngram}, {name: sums, base: speculative}, {name: general, base: ngram}]"


def written(tmp_path, axis="domain"):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(axis=axis, out=tmp_path / "out"))
    return str(path)


def test_a_matrix_of_runs(tmp_path, capsys):
    assert study.main([written(tmp_path), *SMALL, DRAFTS]) == 0
    assert "Tau of each draft on each domain (n=6)" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "study.json").read_text())
    entries = {(entry["cell"][0], entry["draft"]): entry for entry in found["matrix"]}
    assert len(entries) == len(found["matrix"]) == 6
    for cell in found["cells"]:
        taus = {row["method"]: row["tau"] for row in cell["speed"]}
        (domain,) = cell["values"]
        for name in ("stories", "sums", "general"):
            entry = entries[domain, name]
            assert entry["tau"]["value"] == pytest.approx(taus[name]) and entry["n"] == 6
            assert entry["tau"]["low"] <= entry["tau"]["value"] <= entry["tau"]["high"]
            if name == domain:
                assert entry["own_lead"] is None
            else:
                assert entry["own_lead"]["value"] == pytest.approx(taus[domain] - taus[name])
    assert "| stories |" in (tmp_path / "out" / "study.md").read_text()


def test_a_lead_on_every_prompt_is_one_although_prompts_differ_more():
    """The same prompts are drawn for both: what makes a prompt hard for both cancels."""
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(30):
        rounds = int(rng.integers(20, 90))
        for method, fewer in (("code", 1), ("chat", 0), ("twin", 1)):
            rows.append(row(method, f"p{prompt}", tokens=100, rounds=rounds - fewer))
    entries = study_matrix.of(MatrixConfig("domain"), ["domain"], [_cell(rows)])
    by_draft = {entry["draft"]: entry for entry in entries}
    wide, lead = by_draft["code"]["tau"], by_draft["chat"]["own_lead"]
    assert wide["low"] < by_draft["chat"]["tau"]["value"] < wide["high"]
    assert 0 < lead["low"] < lead["value"] < lead["high"] and by_draft["chat"]["verdict"] == "higher"
    assert by_draft["twin"]["own_lead"] == {"value": 0, "low": 0, "high": 0}
    assert by_draft["twin"]["verdict"] == "no difference shown"
    drawn = study_matrix.table(MatrixConfig("domain"), ["domain"], entries)
    assert drawn.columns == ["draft", "code"]
    assert drawn.rows[0][1].endswith("(own)")
    assert drawn.rows[1][1].endswith("]*") and not drawn.rows[2][1].endswith("*")


def _cell(rows):
    cell = Cell(("code",), None, rows)
    cell.__dict__["results"] = {"methods": {"baseline": {}, "code": {}, "chat": {}, "twin": {}}}
    return cell


def test_what_has_no_draft_of_its_own_is_refused(tmp_path, capsys):
    assert study.main([written(tmp_path), *SMALL, "methods=[ngram]"]) == 2
    assert "no method is called 'stories', as a value of axis 'domain' is" in capsys.readouterr().err
    assert study.main([written(tmp_path, axis="subject"), *SMALL, DRAFTS]) == 2
    assert "key 'matrix.axis' is 'subject'; expected an axis of domain" in capsys.readouterr().err
    assert study.main([written(tmp_path), *SMALL, DRAFTS, "seeds=[0, 1]"]) == 2
    assert "key 'matrix' takes speed.repeats: 1" in capsys.readouterr().err
