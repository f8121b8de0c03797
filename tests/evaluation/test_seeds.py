"""Several seeds: decoded again only where something is drawn, paired by prompt, and said in the notes."""

import json
from types import SimpleNamespace

import pytest

from tests.evaluation.conftest import items
from tests.evaluation.rows import row
from toolkit.evaluation.measure import Contender
from toolkit.evaluation.paired import beside, by_question, paired
from toolkit.evaluation.score import quality_summary
from toolkit.evaluation.seeds import varies
from toolkit.proposers.none import Nothing

SEEDS = "seeds=[3,4,5]"
DRAFTS = "drafts: {none: {proposer: none}, prompt: ngram}"
ROUTED = (
    "methods=[ngram,"
    f"{{name: lot, proposer: {{type: routed, {DRAFTS}, router: random}}, accept: topk}},"
    f"{{name: bandit, proposer: {{type: routed, {DRAFTS}, router: bandit}}, accept: topk}}]"
)


def seeds_of(rows, set_name, method):
    return {row["seed"] for row in rows if (row["set"], row["method"]) == (set_name, method)}


def test_greedy_methods_are_decoded_once(tiny, capsys):
    assert tiny.run("methods=[ngram,topk]", SEEDS) == 0
    assert {row["seed"] for row in tiny.rows()} == {3}
    assert len(tiny.rows()) == 3 * 3 + 2 * 5
    assert "seed 3 alone was run, and stands for seeds 3, 4, 5" in capsys.readouterr().out
    [_, _, topk] = tiny.results()["quality"]
    assert (topk["n"], topk["answers"], topk["paired"]["n"]) == (5, 5, 5)
    assert topk["paired"]["p"] is not None


def test_at_a_temperature_all_are(tiny, capsys):
    assert tiny.run("methods=[ngram,topk]", SEEDS, "sampling.temperature=1.0") == 0
    assert set(items(tiny.rows()).values()) == {1}
    assert len(tiny.rows()) == 3 * (3 * 3 + 2 * 5)
    shown = capsys.readouterr().out
    assert "each prompt was decoded with all of them" in shown
    assert "answers of several seeds: baseline (15), topk (15)" in shown
    [_, _, topk] = tiny.results()["quality"]
    assert (topk["n"], topk["answers"], topk["paired"]["n"], topk["paired"]["p"]) == (5, 15, 15, None)


def test_a_router_that_learns_is_decoded_with_each_and_the_baseline_timed_beside_it(tiny, capsys):
    assert tiny.run(ROUTED, SEEDS) == 0
    rows = tiny.rows()
    for method, timed in {"baseline": {3, 4, 5}, "ngram": {3}, "lot": {3}, "bandit": {3, 4, 5}}.items():
        assert seeds_of(rows, "speed", method) == timed
    for method, judged in {"baseline": {3}, "lot": {3}, "bandit": {3, 4, 5}}.items():
        assert seeds_of(rows, "quality", method) == judged
    by_name = {one["method"]: one for one in tiny.results()["quality"]}
    assert (by_name["bandit"]["n"], by_name["bandit"]["paired"]["n"], by_name["lot"]["paired"]["n"]) == (5, 15, 5)
    assert [(one["method"], one["n"], one["rows"]) for one in tiny.results()["speed"]] == [
        ("baseline", 3, 9),
        ("ngram", 3, 3),
        ("lot", 3, 3),
        ("bandit", 3, 9),
    ]
    assert all(one["unpaired"] == 0 for one in tiny.results()["speed"])
    assert "bandit, which learns as it decodes" in capsys.readouterr().out
    before = tiny.records.read_bytes()
    assert tiny.run(ROUTED, SEEDS) == 0
    assert tiny.records.read_bytes() == before


def test_a_proposer_says_itself_whether_it_learns():
    class Learner(Nothing):
        learns = True

    found = [Contender("m", {}, SimpleNamespace(proposer=kind()), True) for kind in (Nothing, Learner)]
    assert [varies(one, 0.0) for one in found] == [False, True]
    assert [varies(one, 1.0) for one in found] == [True, True]


def test_rows_of_seeds_that_are_no_longer_decoded_stay_out_of_the_figures(tiny):
    """A directory of before this was so has them."""
    tiny.run("methods=[topk]")
    rows = tiny.rows()
    again = [one | {"seed": 1, "resume_key": "x" + one["resume_key"], "correct": True} for one in rows]
    tiny.records.write_text("".join(json.dumps(one) + "\n" for one in [*rows, *again]))
    assert tiny.run("methods=[topk]", "seeds=[0,1]") == 0
    assert len(tiny.rows()) == 2 * len(rows)
    assert [one["answers"] for one in tiny.results()["quality"]] == [5, 5]


def answers(method, right, seed=0, temperature=0.0, n=8):
    made = [
        row(method, f"p{i}", set="quality", seed=seed, temperature=temperature, correct=i in right) for i in range(n)
    ]
    return by_question(made)


def test_one_greedy_answer_stands_for_every_seed():
    base = answers("baseline", range(4))
    drawn = {**answers("bandit", range(3), seed=0), **answers("bandit", range(6), seed=1)}
    assert [(prompt, here.seed, there.seed) for prompt, here, there in beside(drawn, base)] == [
        (prompt, seed, 0) for prompt, seed in sorted(drawn)
    ]
    found = paired(drawn, base)
    assert (found.n, found.lost, found.gained, found.p) == (16, 1, 2, None)
    assert paired(base, drawn).difference.value == pytest.approx(-found.difference.value)


def test_above_temperature_0_only_the_same_seed_pairs():
    base = answers("baseline", range(4), temperature=1.0)
    drawn = answers("topk", range(3), temperature=1.0) | answers("topk", range(6), seed=1, temperature=1.0)
    assert paired(drawn, base).n == 8


def test_two_greedy_runs_of_other_seeds_are_one_pair_a_prompt():
    """And a prompt that one of them lacks is in none."""
    found = list(beside(answers("topk", [], seed=1), answers("baseline", range(4), n=5)))
    assert [prompt for prompt, _, _ in found] == [f"p{i}" for i in range(5)]
    assert {(here.method, there.method) for _, here, there in found} == {("topk", "baseline")}


def test_seeds_of_a_prompt_are_one_draw_of_the_interval():
    """The same answers three times over are no more evidence than once."""
    base = answers("baseline", range(4), n=20)
    mine = [answers("bandit", range(9), seed=seed, n=20) for seed in range(3)]
    once, thrice = paired(mine[0], base), paired(mine[0] | mine[1] | mine[2], base)
    assert (once.n, thrice.n) == (20, 60)
    assert (once.difference.low, once.difference.high) == (thrice.difference.low, thrice.difference.high)
    assert once.p is not None and thrice.p is None
    rows = [one for each in mine for one in each.values()]
    summary = quality_summary(rows, list(base.values()))
    assert (summary.n, summary.answers, summary.accuracy.value) == (20, 60, pytest.approx(0.45))
