"""Every lossless composition emits exactly the target's law, whatever the draft, the warp and the window."""

import pytest

from tests.decode import checks
from tests.decode.compose import WARPS, Case
from tests.decode.models import TARGETS, Family
from tests.decode.stats import judge

WINDOWS = (1, 4)


def _cases() -> list[Case]:
    """The whole grid; the model family rotates through it, so that every composition meets every family."""
    families, cases = list(TARGETS), []
    for w, warp in enumerate(WARPS):
        cases.append(Case(families[w % 3], "none", warp=warp))
        for k, window in enumerate(WINDOWS):
            cases.append(Case(families[(w + k) % 3], "ngram", window=window, warp=warp))
            for d, kind in enumerate(("far", "near")):
                for n, length in enumerate(("fixed", "entropy")):
                    family = families[(w + k + d + n) % 3]
                    cases.append(Case(family, "draft_model", kind, length, window, warp))
        # Drafts with a vocabulary of their own
        for k, window in enumerate(WINDOWS):
            length = ("fixed", "entropy")[(w + k) % 2]
            cases.append(Case(families[(w + k) % 3], "eagle3", None, length, window, warp))
            cases.append(Case(families[(w + k + 1) % 3], "draft_model", "trimmed", length, window, warp))
    return cases + _learned(families)


def _learned(families: list[Family]) -> list[Case]:
    """Policies that were trained read more of a draft than its law, and one remembers the round before."""
    cases = []
    for w, warp in enumerate(("t1", "t0.7", "top-p0.8")):
        drafts = [("draft_model", ("far", "near")[w % 2]), ("draft_model", "trimmed"), ("eagle3", None)]
        for d, (proposer, kind) in enumerate(drafts):
            cases.append(Case(families[(w + d) % 3], proposer, kind, "jointadaspec", 4, warp))
            if warp != "top-p0.8" or kind == "far":
                cases.append(Case(families[(w + 2 * d) % 3], proposer, kind, "specdecpp", 4, warp))
    return cases


CASES = _cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name, scope="class")
class TestComposition:
    """Three looks at the same draws."""

    def test_law(self, case: Case) -> None:
        """Tokens 1-3, and k+1 to k+3, where the second window begins whatever the first one accepted."""
        _judge(checks.law, case)

    def test_rows_are_independent(self, case: Case) -> None:
        """A law can be right in every row of a batch whose rows are all the same."""
        _judge(checks.independence, case)

    def test_counts(self, case: Case) -> None:
        """Candidates are drafted and accepted exactly as often as they should be, at every place of the window.

        A lossless output says nothing about this: a draft that reads a stale slot emits the right law, only slower.
        """
        _judge(checks.counts, case)


def _judge(check: checks.Check, case: Case) -> None:
    for which, p in check(case, checks.clean(case)).items():
        judge(f"{check.__name__} {case.name} {which}", p)
