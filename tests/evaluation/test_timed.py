"""Who is timed: hand-made quality rows, and a run in which the quality set says it."""

import json

import pytest

from tests.evaluation.conftest import items
from tests.evaluation.rows import row
from toolkit.engine.loop import SpecDecoder
from toolkit.errors import UserError
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.grid import Cell, expand
from toolkit.evaluation.timed import Candidate, accepts_everything, untimed

PROPOSER = {"type": "ngram"}


def candidates(values, name="a", proposer=PROPOSER, lossless=False):
    node = {"name": name, "proposer": proposer, "grid": {"accept.T": values}}
    return [
        Candidate(cell.node["name"], {"proposer": proposer, "accept": {"type": "fuzzy"}}, lossless, cell)
        for cell in expand(node, "r.yaml")
    ]


def quality(method, right, rounds, window=4):
    """Four answers of 20 tokens, `right` of them right, in so many rounds of `window` drafted tokens."""
    windows = [(window, 0)] * rounds
    return [row(method, f"p{i}", tokens=20, windows=windows, set="quality", correct=i < right) for i in range(4)]


GRID = candidates([1, 2, 3, 4, 5])
# accuracy 1 and tau 1; then dominated, on the front (3/4, tau 2), dominated, dominated and beside nobody
ROWS = [
    *quality("a_T=1", 4, 20),
    *quality("a_T=2", 2, 14),
    *quality("a_T=3", 3, 10),
    *quality("a_T=4", 2, 12),
    *quality("a_T=5", 1, 14),
]


def test_the_front_and_who_is_beside_it():
    found = untimed("front", GRID, ROWS)
    assert list(found) == ["a_T=5"]
    assert "a_T=3 is at least as good (accuracy 75.0%, tau 2.00, 2.00 drafted a token; here" in found["a_T=5"]
    assert "here accuracy 25.0%, tau 1.43, 2.80 drafted a token" in found["a_T=5"]


def test_neighbours_of_neighbours_are_not():
    """Beside a cell that is timed only for its neighbour."""
    found = untimed("front", GRID, [r for r in ROWS if r.method != "a_T=1"] + quality("a_T=1", 0, 20))
    assert list(found) == ["a_T=1", "a_T=5"]


def test_who_drafts_less_is_on_the_front():
    """Fewer tokens a target forward, but fewer drafted for each: on some machine that is faster."""
    short = [r for r in ROWS if r.method != "a_T=5"] + quality("a_T=5", 3, 11, window=2)
    assert untimed("front", GRID, short) == {}


def test_other_proposers_are_not_compared():
    other = candidates([1], "b", {"type": "draft_model"})
    assert list(untimed("front", [*GRID, *other], [*ROWS, *quality("b_T=1", 0, 20)])) == ["a_T=5"]
    same = candidates([1], "b")
    assert list(untimed("front", [*GRID, *same], [*ROWS, *quality("b_T=1", 0, 20)])) == ["a_T=5", "b_T=1"]


def test_lossless_methods_controls_and_who_has_no_accuracy_are_timed():
    lossless = Candidate("plain", {"proposer": PROPOSER, "accept": {"type": "rejection"}}, True, Cell("plain"))
    control = Candidate("c", {"proposer": PROPOSER, "accept": {"type": "topk", "k": "all"}}, False, Cell("c"))
    unknown = candidates([9], "u")
    rows = [*ROWS, *quality("c", 0, 20), row("u_T=9", set="quality")]
    assert list(untimed("front", [lossless, control, *unknown, *GRID], rows)) == ["a_T=5"]


def test_equal_cells_are_both_timed():
    rows = [r for r in ROWS if r.method != "a_T=5"] + quality("a_T=5", 3, 10)
    assert untimed("front", GRID, rows) == {}


def test_by_name():
    plain = Candidate("baseline", {"proposer": {"type": "none"}, "accept": {"type": "rejection"}}, True, Cell("x"))
    everyone = [plain, *GRID, *candidates([1, 2], "b")]
    assert list(untimed(["b", "a_T=2"], everyone, [])) == ["a_T=1", "a_T=3", "a_T=4", "a_T=5"]
    assert untimed("all", everyone, []) == {}


@pytest.mark.parametrize(
    ("accept", "control"),
    [
        ({"type": "topk", "k": "all"}, True),
        ({"type": "topk", "k": 32}, False),
        ({"type": "autojudge", "judge": "j", "threshold": 1.0, "recall": None}, True),
        ({"type": "autojudge", "judge": "j", "threshold": 0.99, "recall": None}, False),
        ({"type": "rejection"}, False),
    ],
)
def test_controls(accept, control):
    assert accepts_everything({"accept": accept}) == control


# ---- a run

DRAFT = "{type: draft_model, model: {name: target, draft_from: {layers: [0]}}}"
SWEEP = [
    "methods=["
    f"{{name: plain, proposer: {DRAFT}, grid: {{length.k: [2, 4]}}}},"
    f"{{name: topk, proposer: {DRAFT}, accept: topk, grid: {{accept.k: [2, 4, 8, 16, all], length.k: [4]}}}}]",
    "speed.methods=front",
    "sampling.max_new_tokens=12",
]


@pytest.fixture
def judged(monkeypatch):
    """Answers of a random model are worth nothing: those of some cells are made right, by the method's K."""
    from toolkit.evaluation import measure

    honest = measure.measure

    def marked(setting, contender, block):
        rows = honest(setting, contender, block)
        for one in rows:
            one.correct = int(one.prompt_id[1:]) < {2: 5, 4: 3}.get(contender.config["accept"].get("k"), 1)
            one.rounds = 6 if contender.config["accept"].get("k") == 2 else 12
            one.proposed = one.n_tokens
        return rows

    monkeypatch.setattr("toolkit.evaluation.run.measure", marked)


def test_the_quality_set_goes_first_and_says_who_is_timed(tiny, judged, capsys, monkeypatch):
    assert tiny.run(*SWEEP) == 0
    timed = {r["method"] for r in tiny.rows() if r["set"] == "speed"}
    # K = 2 beats all; K = 4 is beside it, and "all" the control
    assert timed == {
        "baseline",
        "plain_k=2",
        "plain_k=4",
        "topk_accept.k=2_length.k=4",
        "topk_accept.k=4_length.k=4",
    } | {"topk_accept.k=all_length.k=4"}
    results = tiny.results()
    assert list(results["untimed"]) == ["topk_accept.k=8_length.k=4", "topk_accept.k=16_length.k=4"]
    place = {"name": "topk", "values": {"accept.k": 4, "length.k": 4}, "place": [1, 0]}
    assert results["methods"]["topk_accept.k=4_length.k=4"]["grid"] == place
    assert results["methods"]["baseline"]["grid"] is None
    shown = (tiny.out / "table.md").read_text()
    assert "- not timed: topk_accept.k=8_length.k=4: in the quality set topk_accept.k=2_length.k=4 is at least" in shown
    assert set(items(tiny.rows()).values()) == {1}
    first_speed = next(i for i, r in enumerate(tiny.rows()) if r["set"] == "speed")
    assert all(r["set"] == "speed" for r in tiny.rows()[first_speed:])
    assert "…" not in capsys.readouterr().out
    # and nothing is done again, nor a session begun
    before, sessions = tiny.records.read_bytes(), json.loads((tiny.out / "run.json").read_text())["sessions"]
    monkeypatch.setattr(SpecDecoder, "generate", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("toolkit.evaluation.report._gaps", lambda plan: lambda *_: 1.0)
    assert tiny.run(*SWEEP) == 0
    assert tiny.records.read_bytes() == before
    assert json.loads((tiny.out / "run.json").read_text())["sessions"] == sessions
    assert list(tiny.results()["untimed"]) == list(results["untimed"])


def test_a_killed_run_goes_on_where_it_was(tiny, judged):
    tiny.run(*SWEEP)
    whole = items(tiny.rows())
    lines = tiny.records.read_text().splitlines(keepends=True)
    for kept in (3, 20, len(lines) - 4):  # within the quality set, within it again, within the speed set
        tiny.records.write_text("".join(lines[:kept]))
        assert tiny.run(*SWEEP) == 0
        assert items(tiny.rows()) == whole


def test_quality_first_speed_another_day(tiny, judged):
    tiny.run(*SWEEP, "speed.prompts=0")
    assert {r["set"] for r in tiny.rows()} == {"quality"}
    assert tiny.results()["untimed"] == {}
    tiny.run(*SWEEP)
    assert len(tiny.results()["untimed"]) == 2


def test_methods_that_are_named(tiny):
    assert tiny.run("methods=[ngram,topk]", "speed.methods=[ngram]") == 0
    assert {r["method"] for r in tiny.rows() if r["set"] == "speed"} == {"baseline", "ngram"}
    assert tiny.results()["untimed"] == {"topk": "not named in speed.methods"}
    assert tiny.run("methods=[ngram,topk]") == 0
    assert {r["method"] for r in tiny.rows() if r["set"] == "speed"} == {"baseline", "ngram", "topk"}


def test_a_front_needs_a_quality_set(tiny, capsys):
    assert tiny.run("speed.methods=front", "quality.enabled=false") == 2
    assert "speed.methods' is 'front'; expected all or a list of names, as quality.enabled" in capsys.readouterr().err
    with pytest.raises(UserError, match="speed.methods"):
        recipes.load(tiny.recipe, ["speed.methods=front", "quality.enabled=false"])
