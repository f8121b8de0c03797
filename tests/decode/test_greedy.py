"""Temperature 0: token for token autoregression for what is lossless, brute force for what is not."""

import numpy as np
import pytest

from tests.decode import exact, greedy
from tests.decode.caches import ragged
from tests.decode.compose import KAPPAS, Case, Length
from tests.decode.models import TARGETS, VOCAB, Family, model
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.rejection import Rejection
from toolkit.acceptance.topk import TopK
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import AcceptanceRule, Generation, Request, Sampling

LIMIT = 14
SAMPLING = Sampling(max_new_tokens=LIMIT)
PROMPTS = ragged(32, longest=9, vocab=VOCAB)  # some hold an EOS, as a conversation does
COMPOSITIONS = [("none", None, "fixed"), ("ngram", None, "fixed")]
COMPOSITIONS += [
    ("draft_model", kind, length) for kind in ("far", "near", "trimmed") for length in ("fixed", "entropy")
]
COMPOSITIONS += [("eagle3", None, length) for length in ("fixed", "entropy")]
LEARNED = [("draft_model", "far", "specdecpp"), ("eagle3", None, "specdecpp"), ("draft_model", "near", "jointadaspec")]
LEARNED += [("draft_model", "trimmed", "jointadaspec"), ("eagle3", None, "jointadaspec")]


def _requests() -> list[Request]:
    return [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]


def _decode(case: Case, accept: AcceptanceRule) -> list[Generation]:
    return case.decoder(accept).generate(_requests(), SAMPLING)


@pytest.mark.parametrize("accept", [Rejection(), Fuzzy(1.0, []), TopK(1)], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize(("proposer", "kind", "length"), COMPOSITIONS)
@pytest.mark.parametrize("family", TARGETS)
def test_lossless_is_autoregression(
    family: Family, proposer: str, kind: str | None, length: str, window: int, accept: AcceptanceRule
) -> None:
    case = Case(family, proposer, kind, length, window)
    assert accept.lossless(SAMPLING)
    for prompt, generation in zip(PROMPTS, _decode(case, accept), strict=True):
        assert generation.tokens == greedy.autoregressive(model(case.target).plain, prompt, LIMIT)
        assert generation.lossless


@pytest.mark.parametrize(("proposer", "kind", "length"), LEARNED)
@pytest.mark.parametrize("family", TARGETS)
def test_learned_windows_change_nothing(family: Family, proposer: str, kind: str | None, length: Length) -> None:
    """Each under the rule that belongs to it."""
    case = Case(family, proposer, kind, length)
    for prompt, generation in zip(PROMPTS, _decode(case, case.accept()), strict=True):
        assert generation.tokens == greedy.autoregressive(model(case.target).plain, prompt, LIMIT)
        assert generation.lossless


@pytest.mark.parametrize("length", ["jointadaspec", "jointadaspec-lossy"])
@pytest.mark.parametrize("kind", ["far", "near"])
@pytest.mark.parametrize("family", TARGETS)
def test_lenience_by_state_by_brute_force(family: Family, kind: str, length: Length) -> None:
    """x stands iff T p1(x) >= max p1, with the T of (H, K_prev, k): the same tokens, in the same windows."""
    case = Case(family, "draft_model", kind, length)
    target, draft = model(case.target).plain, model(case.draft).plain
    lossy = 0
    for prompt, generation in zip(PROMPTS, _decode(case, case.accept()), strict=True):
        policy = greedy.ByState(KAPPAS[length])
        wanted = greedy.speculative(target, draft, prompt, LIMIT, case.window, policy.passes, policy)
        assert (generation.tokens, generation.windows, generation.rejected) == wanted.whole
        lossy += generation.tokens != greedy.autoregressive(target, prompt, LIMIT)
    assert (lossy > 0) == (length == "jointadaspec-lossy")


@pytest.mark.parametrize("family", TARGETS)
def test_gaps_are_of_the_top_two(family: Family) -> None:
    """One a token, of the target's law that the token was chosen from, however many came in a round."""
    case = Case(family, kind="near")
    plain = model(case.target).plain
    decoder = SpecDecoder(
        model(case.target).runner, case.propose(), case.length_policy(), Rejection(), record_gaps=True
    )
    for prompt, generation in zip(PROMPTS, decoder.generate(_requests(), SAMPLING), strict=True):
        wanted = []
        for i in range(len(generation.tokens)):
            best = np.sort(exact.logits(plain, np.array([[*prompt, *generation.tokens[:i]]]))[0])
            wanted.append(best[-1] - best[-2])
        assert np.allclose(generation.gaps, wanted, atol=1e-4)


def fuzzy(*multipliers: float) -> greedy.Passes:
    """x stands iff T p1(x) >= max p1, or it is the argmax."""

    def passes(logits: np.ndarray, token: int, place: int) -> bool:
        p = np.exp(logits - logits.max())
        return multipliers[min(place, len(multipliers) - 1)] * p[token] >= p.max()

    return passes


def topk(k: int) -> greedy.Passes:
    return lambda logits, token, place: int((logits > logits[token]).sum()) < k


LOSSY = {
    "T=1": (Fuzzy(1.0, []), fuzzy(1.0)),
    "T=1.5": (Fuzzy(1.5, []), fuzzy(1.5)),
    "T=3": (Fuzzy(3.0, []), fuzzy(3.0)),
    "T=1,4,2": (Fuzzy(2.0, [1.0, 4.0]), fuzzy(1.0, 4.0, 2.0)),
    "top-2": (TopK(2), topk(2)),
    "top-4": (TopK(4), topk(4)),
    "top-all": (TopK(None), topk(VOCAB)),
}


@pytest.mark.parametrize("kind", ["far", "near"])
@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("name", LOSSY)
def test_lossy_by_brute_force(name: str, family: Family, kind: str) -> None:
    """The same tokens, in the same windows, and the same candidates rejected."""
    accept, passes = LOSSY[name]
    case = Case(family, "draft_model", kind, "fixed", 4)
    for prompt, generation in zip(PROMPTS, _decode(case, accept), strict=True):
        target, draft = model(case.target).plain, model(case.draft).plain
        wanted = greedy.speculative(target, draft, prompt, LIMIT, 4, passes)
        assert (generation.tokens, generation.windows, generation.rejected) == wanted.whole


@pytest.mark.parametrize("family", TARGETS)
def test_lossy_differs_from_greedy(family: Family) -> None:
    """Else the tests above would pass for a rule that ignores its option."""
    outputs = [
        [g.tokens for g in _decode(Case(family, "draft_model", "far", "fixed", 4), accept)]
        for accept in (Rejection(), Fuzzy(1.5, []), Fuzzy(3.0, []), TopK(2), TopK(None))
    ]
    assert all(a != b for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize("warp", ["t0.7", "top-p0.8"])
@pytest.mark.parametrize("family", TARGETS)
def test_fuzzy_at_1_is_rejection_draw_for_draw(family: Family, warp: str) -> None:
    case = Case(family, kind="far", warp=warp)
    one, other = (
        [(g.tokens, g.windows) for g in case.decoder(accept).generate(_requests(), case.sampling)]
        for accept in (Rejection(), Fuzzy(1.0, [1.0, 1.0]))
    )
    assert one == other
