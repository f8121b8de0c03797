"""Where a generation ends: token limit, EOS inside a window, and windows that the limit clips."""

import numpy as np
import pytest

from tests.decode import checks, exact, learned
from tests.decode.compose import Case, Length
from tests.decode.draws import draw, request
from tests.decode.models import EOS, TARGETS, Family, Kind, model
from tests.decode.stats import DRAWS, judge
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Generation, Sampling

CASES = [
    Case("llama", "none"),
    Case("qwen3", "ngram"),
    Case("llama", kind="far"),
    Case("qwen3", kind="near"),
    Case("gpt2", kind="near", length="entropy"),
    Case("llama", kind="trimmed"),
    Case("qwen3", "eagle3"),
    Case("gpt2", "eagle3", length="entropy"),
    Case("qwen3", kind="far", length="specdecpp"),
    Case("llama", "eagle3", length="jointadaspec"),
]


def _generations(case: Case, limit: int, temperature: float = 1.0) -> list[Generation]:
    sampling = Sampling(temperature=temperature, max_new_tokens=limit, seed=1)
    return case.decoder().generate([request(i) for i in range(60)], sampling)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 11])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_window_reaches_past_the_limit(case: Case, limit: int) -> None:
    for generation in _generations(case, limit):
        tokens, windows = generation.tokens, generation.windows
        ended = tokens[-1] == EOS
        assert EOS not in tokens[:-1]
        assert generation.finish == ("eos" if ended else "length")
        assert len(tokens) <= limit if ended else len(tokens) == limit
        emitted = 0
        for number, (proposed, accepted) in enumerate(windows, start=1):
            assert accepted <= proposed <= min(case.window, limit - emitted - 1)
            last = number == len(windows)
            eos_accepted = last and ended and emitted + accepted == len(tokens)
            emitted += accepted + (not eos_accepted)
        assert emitted == len(tokens), "tokens are the accepted ones and one more a round"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_lower_limit_cuts_greedy_output(case: Case) -> None:
    whole = [g.tokens for g in _generations(case, 12, temperature=0.0)]
    for limit in (1, 4, 7):
        assert [g.tokens for g in _generations(case, limit, temperature=0.0)] == [tokens[:limit] for tokens in whole]


@pytest.mark.parametrize("case", CASES[2:4], ids=lambda case: case.name)
def test_clipped_windows_are_exact_too(case: Case) -> None:
    """Three tokens, windows of four: every window is clipped, and the law is still the target's."""
    sampling = Sampling(temperature=1.0, max_new_tokens=3, seed=2)
    draws = draw(case.decoder(), sampling, DRAWS)
    assert max(d.windows[..., 0].max() for d in draws) == 2
    steps = [exact.autoregressive(exact.law(case.target, d.prompt, sampling, 2)) for d in draws]
    judge(f"clipped {case.name}", checks.triples(draws, steps, 0))


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.name)
def test_eos_ends_a_window(case: Case) -> None:
    """Accepted as a candidate, it is the last token: no bonus follows, and no candidate behind it is counted."""
    inside = 0
    for generation in _generations(case, 12):
        if generation.finish != "eos":
            continue
        before = sum(accepted + 1 for _, accepted in generation.windows[:-1])
        proposed, accepted = generation.windows[-1]
        if before + accepted == len(generation.tokens):  # else it was the correction or the bonus
            assert proposed == accepted
            inside += 1
    assert inside > 0 or case.proposer == "ngram", "no window ended in an EOS"


def test_one_target_forward_a_round() -> None:
    """The longest request's rounds are all the forwards there are; prefill adds one, and computes no logits."""
    case = Case("llama", kind="near")
    runner = model(case.target).runner
    kinds: list[str] = []
    hook = runner.model.register_forward_hook(lambda *_: kinds.append("logits"))
    try:
        generations = _generations(case, 12)
    finally:
        hook.remove()
    assert len(kinds) == max(len(g.windows) for g in generations)


def test_prompt_lookup_proposes() -> None:
    """Its law tests would pass if it never did."""
    windows = np.array([w for g in _generations(Case("llama", "ngram"), 12) for w in g.windows])
    assert (windows[:, 0] == 4).mean() > 0.3
    assert set(windows[:, 1]) == {0, 1, 2, 3, 4}


def test_the_policy_cuts_windows_short() -> None:
    """The law tests of the entropy policy would pass if it never stopped, or always did."""
    for family in ("llama", "qwen3", "gpt2"):
        for kind in ("far", "near"):
            case = Case(family, kind=kind, length="entropy")
            proposed = np.bincount([w[0] for g in _generations(case, 12) for w in g.windows], minlength=5)
            assert (proposed[[0, 4]] > 10).all()
            assert proposed[1:4].sum() > 10


@pytest.mark.parametrize("length", ["specdecpp", "jointadaspec"])
@pytest.mark.parametrize("kind", ["far", "near", "trimmed", None])
@pytest.mark.parametrize("family", TARGETS)
def test_learned_policies_cut_windows_short(family: Family, kind: Kind | None, length: Length) -> None:
    """To every length there is; SpecDec++ always drafts one token."""
    case = Case(family, "draft_model" if kind else "eagle3", kind, length)
    windows = [w for g in _generations(case, 12) for w in g.windows[1:-1]]
    proposed = np.bincount([count for count, _ in windows], minlength=5)
    assert (proposed[1 if length == "specdecpp" else 0 :] > 0).all()


def test_what_k_prev_was_matters() -> None:
    """To every decision of some entropy and place: else a policy without memory would pass for the other."""
    action = learned.solution(learned.EXACT).action.reshape(learned.policy().bins.shape)
    for place in range(learned.K_MAX):
        assert (action[:, :, place].min(1) < action[:, :, place].max(1)).any()


def test_only_what_is_lossless_says_so() -> None:
    case = Case("llama", kind="far")
    sampling = Sampling(temperature=1.0, max_new_tokens=2)
    for accept, lossless in ((Rejection(), True), (Fuzzy(1.0, []), True), (Fuzzy(1.0, [1.5]), False)):
        decoder = SpecDecoder(model(case.target).runner, case.propose(), case.length_policy(), accept)
        assert decoder.generate([request(0)], sampling)[0].lossless is lossless
    for length, lossless in (("specdecpp", True), ("jointadaspec", True), ("jointadaspec-lossy", False)):
        for warped in (sampling, Sampling(max_new_tokens=2)):
            decoder = Case("llama", kind="far", length=length).decoder()
            assert decoder.generate([request(0)], warped)[0].lossless is lossless
