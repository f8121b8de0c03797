"""Lossy rules emit exactly the law that they state: the closed form, enumerated round by round."""

from dataclasses import dataclass

import pytest

from tests.decode import checks, rounds
from tests.decode.compose import Case
from tests.decode.draws import draw
from tests.decode.stats import DRAWS, judge
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.topk import TopK
from toolkit.engine.types import AcceptanceRule


@dataclass(frozen=True)
class Lossy:
    """A rule of the toolkit beside the rule it should be."""

    name: str
    accept: AcceptanceRule
    rule: rounds.Rule
    case: Case


CASES = [
    Lossy("T=1.5", Fuzzy(1.5, []), rounds.lenient(1.5), Case("llama", kind="far", window=2)),
    Lossy("T=1.5", Fuzzy(1.5, []), rounds.lenient(1.5), Case("qwen3", kind="near", window=4)),
    Lossy("T=3", Fuzzy(3.0, []), rounds.lenient(3.0), Case("gpt2", kind="far", window=4)),
    Lossy("T=3", Fuzzy(3.0, []), rounds.lenient(3.0), Case("qwen3", kind="far", window=2, warp="t0.7")),
    Lossy("T=3,1,1.5", Fuzzy(1.5, [3.0, 1.0]), rounds.lenient(3.0, 1.0, 1.5), Case("llama", kind="far", window=3)),
    Lossy("T=1,4", Fuzzy(4.0, [1.0]), rounds.lenient(1.0, 4.0), Case("qwen3", kind="far", window=2, warp="top-p0.8")),
    Lossy("top-2", TopK(2), rounds.rescued_by_rank(2), Case("llama", kind="far", window=2)),
    Lossy("top-2", TopK(2), rounds.rescued_by_rank(2), Case("gpt2", kind="far", window=4)),
    Lossy("top-all", TopK(None), rounds.rescued_by_rank(5), Case("qwen3", kind="far", window=2)),
]


@pytest.mark.parametrize("lossy", CASES, ids=lambda lossy: f"{lossy.name}-{lossy.case.name}")
def test_lossy_law(lossy: Lossy) -> None:
    decoder = lossy.case.decoder(lossy.accept)
    assert not decoder.accept.lossless(lossy.case.sampling)
    draws = draw(decoder, lossy.case.sampling, DRAWS)
    for which, p in checks.lossy_law(lossy.case, draws, lossy.rule).items():
        judge(f"{lossy.name} {lossy.case.name} {which}", p)


LAGGED = [
    Case("llama", kind="far", length="jointadaspec-lossy", window=2),
    Case("qwen3", kind="far", length="jointadaspec-lossy", window=3),
    Case("gpt2", kind="near", length="jointadaspec-lossy", window=2),
]


@pytest.mark.parametrize("case", LAGGED, ids=lambda case: case.name)
def test_lossy_law_by_state(case: Case) -> None:
    """JointAdaSpec: T, and where a window ends, by (H, K_prev, k)."""
    assert not case.decoder().accept.lossless(case.sampling)
    for which, p in checks.lagged_law(case, checks.clean(case)).items():
        judge(f"lagged {case.name} {which}", p)
