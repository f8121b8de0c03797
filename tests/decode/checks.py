"""What the suite checks, as functions that return p-values: the tests judge them, and planted bugs must sink them."""

import functools
from collections.abc import Callable

import numpy as np

from tests.decode import chances, exact, lagged, rounds
from tests.decode.compose import KAPPAS, Case
from tests.decode.draws import Draws, draw
from tests.decode.models import ALIVE, EOS
from tests.decode.stats import DRAWS, chi_square, z_test

Check = Callable[[Case, list[Draws]], dict[str, float]]  # -> p by what was looked at


@functools.cache
def clean(case: Case) -> list[Draws]:
    """Of the composition as it ships: tested for itself, and beside planted bugs."""
    return draw(case.decoder(), case.sampling, DRAWS)


def law(case: Case, draws: list[Draws]) -> dict[str, float]:
    """Joint of tokens 1-3, and of tokens k+1 to k+3, against the target's own law."""
    laws = [exact.law(case.target, d.prompt, case.sampling, case.window + 2) for d in draws]
    return joints(draws, [exact.autoregressive(p) for p in laws], case.window)


def joints(draws: list[Draws], steps: list[exact.Law], window: int) -> dict[str, float]:
    """p-values of both joints; steps: by prompt."""
    return {f"tokens {first + 1}-{first + 3}": triples(draws, steps, first) for first in (0, window)}


def triples(draws: list[Draws], steps: list[exact.Law], first: int) -> float:
    """p of the joint of tokens first+1 to first+3."""
    observed = [d.triples(first) for d in draws]
    return chi_square(observed, [exact.joint(s, first) * len(d) for d, s in zip(draws, steps, strict=True)])


def lossy_law(case: Case, draws: list[Draws], rule: rounds.Rule) -> dict[str, float]:
    """The same joints, and the outcome of the first round, against the closed form of a lossy rule."""
    steps = []
    for d in draws:
        p = exact.law(case.target, d.prompt, case.sampling, case.window + 2)
        q = exact.law(case.draft, d.prompt, case.sampling, case.window + 2)
        steps.append(rounds.emitted(p, q, case.window, rule))
    return joints(draws, steps, case.window) | {"first round": _first_round(case, draws, rule)}


def lagged_law(case: Case, draws: list[Draws]) -> dict[str, float]:
    """As `lossy_law`, where both T and the window's end depend on the state, and the state on the rounds before."""
    first = _first_round(case, draws, lagged.rule(KAPPAS[case.length], 0.0))
    return joints(draws, [lagged.emitted(case, d.prompt) for d in draws], case.window) | {"first round": first}


def _first_round(case: Case, draws: list[Draws], rule: rounds.Rule) -> float:
    observed, expected = [], []
    for d in draws:
        p = exact.law(case.target, d.prompt, case.sampling, case.window)
        q = exact.law(case.draft, d.prompt, case.sampling, case.window)
        outcomes = rounds.first_round(p, q, case.window, rule)
        counts = dict.fromkeys(outcomes, 0)
        for tokens, (_, accepted) in zip(d.tokens.tolist(), d.windows[:, 0].tolist(), strict=True):
            ended = EOS in tokens[:accepted]
            counts[(accepted, *tokens[: accepted + (not ended)])] += 1  # no such outcome: a KeyError is a failure too
        observed.append(np.array(list(counts.values())))
        expected.append(np.array(list(outcomes.values())) * len(d))
    return chi_square(observed, expected)


def independence(case: Case, draws: list[Draws]) -> dict[str, float]:
    """Rows with one prompt in one batch are independent: the joint of two neighbours' first tokens is a product."""
    observed, expected = [], []
    for d in draws:
        (first,) = exact.law(case.target, d.prompt, case.sampling, 0)[0]
        pairs = d.tokens[: len(d) // 2 * 2, 0].reshape(-1, 2)
        counts = np.zeros((len(first), len(first)))
        np.add.at(counts, tuple(pairs.T), 1)
        observed.append(counts)
        expected.append(np.outer(first, first) * len(pairs))
    return {"neighbours": chi_square(observed, expected)}


def counts(case: Case, draws: list[Draws]) -> dict[str, float]:
    """How often each place of the window was drafted, and how often it was accepted.

    Given the text when a round began, both probabilities are known exactly; so their sums over all rounds that
    begin early enough to be enumerated are martingales. A draft that misreads the text emits the right law all the
    same, but it is not accepted as often as it should be. Rounds after a fully accepted window, which the draft's
    cache lags behind, are counted apart.
    """
    shape = 2, 2, case.window  # drafted or accepted; after a full window or not; place
    excess, variance = np.zeros(shape), np.zeros(shape)
    for d in draws:
        began, windows = _rounds(case, d)
        known = chances.of(case, d.prompt)
        for what, after_full, place in np.ndindex(shape):
            for start, chance in enumerate(known[what, place]):
                here = (began[:, 0] == start) & (began[:, 2] == after_full)
                wanted = chance[began[here, 3], began[here, 1]]
                excess[what, after_full, place] += ((windows[here, what] > place) - wanted).sum()
                variance[what, after_full, place] += (wanted * (1 - wanted)).sum()
    return {
        ("drafted", "accepted")[what] + f" {place + 1}" + after_full * " after a full window": z_test(
            excess[what, after_full, place], variance[what, after_full, place]
        )
        for what, after_full, place in np.ndindex(shape)
    }


def _rounds(case: Case, d: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Every round -> [n, 4] (tokens emitted when it began, context, after a full window?, state of the policy), and
    its window [n, 2]."""
    emitted = context = after_full = np.zeros(len(d), dtype=np.int64)
    lag = lagged.Lag(case, d.prompt, len(d))
    tokens = d.tokens.astype(np.int64)
    began, windows = [], []
    for window in d.windows.astype(np.int64).transpose(1, 0, 2):  # [n, 2] a round
        live = window[:, 0] >= 0
        began.append(np.stack([emitted, context, after_full, lag.bins()], axis=1)[live])
        windows.append(window[live])
        proposed, accepted = window.T
        behind = []
        for step in range(accepted.max(initial=0) + 1):  # from an EOS on it is meaningless; no round begins there
            behind.append(context)
            at = np.minimum(emitted + step, tokens.shape[1] - 1)[:, None]
            longer = context * ALIVE + np.take_along_axis(tokens, at, axis=1)[:, 0]
            context = np.where(step <= accepted, longer, context)
        lag.observe(emitted, behind, proposed, np.minimum(accepted + 1, proposed))
        emitted = emitted + accepted + 1
        after_full = ((proposed == accepted) & (accepted > 0)).astype(np.int64)
    return np.concatenate(began), np.concatenate(windows)
