"""Every planted bug is caught by the check that is named for it, and the same check passes without the bug."""

from dataclasses import dataclass

import pytest

from tests.decode import bugs, checks
from tests.decode.broken import StaleRunner
from tests.decode.compose import Case
from tests.decode.draws import draw
from tests.decode.stats import CAUGHT, judge
from tests.decode.test_cache import LENGTHS, TOLERANCE, spied
from tests.decode.test_law import CASES
from tests.decode.test_lossy import LAGGED

FAR_1 = Case("qwen3", kind="far", window=1, warp="t1")
NEAR_1 = Case("qwen3", kind="near", window=1, warp="t0.7")
FAR_COLD = Case("qwen3", kind="far", window=4, warp="t0.7")
FAR_TOP_P = Case("qwen3", kind="far", window=4, warp="top-p0.8")
NEAR = Case("llama", kind="near", window=4, warp="t1")
TRIMMED = Case("llama", kind="trimmed", window=4, warp="t1")
HEAD = Case("qwen3", "eagle3", window=4, warp="top-p0.8")

SPEC = Case("llama", kind="far", length="specdecpp", window=4, warp="t1")
JOINT = Case("llama", kind="far", length="jointadaspec", window=4, warp="t1")
JOINT_HEAD = Case("gpt2", "eagle3", length="jointadaspec", window=4, warp="t1")

FIRST = "tokens 1-3"
SECOND = "tokens 2-4"  # k+1 to k+3
PLANTED_DRAWS = 5_000  # bugs are not subtle


@dataclass(frozen=True)
class Planted:
    """A bug, where it is planted, the check that must catch it, and in what. clean: what to run beside it."""

    bug: bugs.Bug
    case: Case
    check: checks.Check
    which: str
    clean: bugs.Bug | None = None


PLANTED = [
    Planted(bugs.residual_skipped, FAR_1, checks.law, FIRST),
    Planted(bugs.residual_absolute, FAR_1, checks.law, FIRST),
    Planted(bugs.bonus_from_row_before, NEAR_1, checks.law, SECOND),
    Planted(bugs.accept_after_rejection, FAR_COLD, checks.law, FIRST),
    Planted(bugs.candidate_dropped, FAR_COLD, checks.law, FIRST),
    Planted(bugs.stale_target_slot, FAR_COLD, checks.law, FIRST),
    Planted(bugs.window_positions_off, NEAR, checks.law, FIRST),
    Planted(bugs.target_unwarped, FAR_COLD, checks.law, FIRST),
    Planted(bugs.two_temperatures, FAR_COLD, checks.law, FIRST),
    Planted(bugs.two_temperatures, FAR_COLD, checks.law, FIRST, clean=bugs.unwarped_draft),
    Planted(bugs.top_p_not_renormalised, FAR_TOP_P, checks.law, FIRST),
    Planted(bugs.one_stream, FAR_1, checks.law, FIRST),
    Planted(bugs.reused_draws, FAR_COLD, checks.law, FIRST, clean=bugs.remembering),
    Planted(bugs.eos_ignored_in_window, NEAR, checks.law, FIRST),
    Planted(bugs.rows_share_randomness, NEAR, checks.independence, "neighbours"),
    Planted(bugs.untranslated_tokens, TRIMMED, checks.law, FIRST),
    Planted(bugs.law_not_spread, TRIMMED, checks.law, FIRST),
    Planted(bugs.missing_tokens_shared_in, TRIMMED, checks.law, FIRST),
    Planted(bugs.untranslated_tokens, HEAD, checks.law, FIRST),
    Planted(bugs.law_not_spread, HEAD, checks.law, FIRST),
    Planted(bugs.newest_dropped, SPEC, checks.law, FIRST),
    Planted(bugs.newest_dropped, JOINT, checks.law, FIRST),
    Planted(bugs.peeking, JOINT, checks.law, FIRST),
    Planted(bugs.one_coin, JOINT, checks.law, FIRST),
    # What no law can see, because the output stays exact
    Planted(bugs.stale_draft_slot, NEAR, checks.counts, "accepted 1"),
    Planted(bugs.unfed_candidate, NEAR_1, checks.counts, "accepted 1 after a full window"),
    Planted(bugs.stale_head_slot, HEAD, checks.counts, "accepted 1"),
    Planted(bugs.k_prev_of_all_places, JOINT, checks.counts, "drafted 1"),
    Planted(bugs.state_not_compacted, JOINT_HEAD, checks.counts, "drafted 1"),
]


def _name(planted: Planted) -> str:
    beside = f"-beside-{planted.clean.__name__}" if planted.clean else ""
    return f"{planted.bug.__name__}{beside}-{planted.case.proposer}-{planted.case.length}"


@pytest.mark.parametrize("planted", PLANTED, ids=_name)
def test_check_catches(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """p < CAUGHT with the bug; without it, the suite's own level."""
    case, which = planted.case, planted.which
    assert case in CASES, "the clean run must be one of the law tests' own"
    clean = checks.clean(case)
    if planted.clean:
        clean = draw(planted.clean(monkeypatch, case), case.sampling, PLANTED_DRAWS)
    judge(f"beside {_name(planted)} {which}", planted.check(case, clean)[which])
    p = planted.check(case, draw(planted.bug(monkeypatch, case), case.sampling, PLANTED_DRAWS))[which]
    print(f"{_name(planted)}: p = {p:.1e} ({case.name}, {planted.check.__name__}, {which})")
    assert p < CAUGHT


@pytest.mark.parametrize("bug", [bugs.stale_draft_slot, bugs.unfed_candidate], ids=lambda bug: bug.__name__)
def test_law_does_not_catch_a_misreading_draft(bug: bugs.Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is why `counts` exists: whatever the draft believes, rejection makes good for it."""
    for which, p in checks.law(NEAR, draw(bug(monkeypatch, NEAR), NEAR.sampling, PLANTED_DRAWS)).items():
        judge(f"law under {bug.__name__} {which}", p)


@pytest.mark.parametrize("bug", [bugs.k_prev_of_all_places, bugs.state_not_compacted], ids=lambda bug: bug.__name__)
def test_law_does_not_catch_a_misremembering_policy(bug: bugs.Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it knows of earlier rounds, and of whose, is no bias: it stops before it sees the next candidate."""
    for which, p in checks.law(JOINT, draw(bug(monkeypatch, JOINT), JOINT.sampling, PLANTED_DRAWS)).items():
        judge(f"law under {bug.__name__} {which}", p)


def test_lossy_law_catches_the_lenience_of_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    case = LAGGED[0]
    judge("beside lenience_of_place_before", checks.lagged_law(case, checks.clean(case))["first round"])
    draws = draw(bugs.lenience_of_place_before(monkeypatch, case), case.sampling, PLANTED_DRAWS)
    assert checks.lagged_law(case, draws)["first round"] < CAUGHT


def test_cache_catches_stale_slots() -> None:
    """Both the target's and the draft's."""
    for worst in spied("llama", LENGTHS["fixed"]):
        assert worst.logits < TOLERANCE
    for worst in spied("llama", LENGTHS["fixed"], StaleRunner):
        assert worst.logits > 1000 * TOLERANCE
