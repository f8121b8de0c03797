"""What a recorded window would have given under another policy: another lenience, or an earlier end.

Token j of a window was sampled from q_j and passes with probability w_j = min(1, T_j p_j(x_j) / q_j(x_j)); at
temperature 0 it passes or it does not. The policy's rounds run along the same sampled paths as the recorded ones, and
get as far as place j with S_j = w_0 ... w_(j-1). So a path's chance under the policy is its chance in the trace times
S_j, and the mean over windows of S_j f(path up to j) is unbiased, for any f. At place j itself nothing that was sampled
matters any more: f is the analytic a_j(T) = sum min(q_j, T p_j), or the divergence of what is emitted there from p_j.

The product a_0 ... a_(j-1) must not stand for S_j. Each a_i is a mean over the tokens that could have been sampled at
place i, but the laws of the later places follow from the one that was. Tokens that pass tend to lead to places where
the next passes too; a product of means forgets that a window still alive is one whose tokens were good (E[w0 a1(x0)]
is not a0 E[a1(x0)]), and errs more with depth. The price is variance: w of one token instead of its mean.

Where windows begin is taken from the trace: a policy that accepts differently begins some of them elsewhere.
A window that ended with a drafted EOS is given the target's token like any other, one too many in the last round.
"""

from dataclasses import dataclass

import numpy as np

from toolkit.training.traces import Costs, Windows

Choice = np.ndarray | int  # index into the trace's lenience grid: one a place [n,K], or 0 = exact everywhere


@dataclass(frozen=True)
class Rate:
    """Windows played one after another, as at batch 1."""

    windows: int
    tokens: float  # expected
    ms: float
    per_second: float
    tau: float  # tokens a window


def passes(windows: Windows, choice: Choice) -> np.ndarray:
    """w [n,K]: the probability that the sampled token passes at the chosen lenience; 0 where nothing was drafted."""
    if windows.temperature == 0:  # the very comparison that decoding makes, ties included
        return np.where(windows.valid, chosen(windows.accept_T, choice), 0)
    ratio = windows.lenience.astype(np.float32)[choice] * np.exp(windows.log_ratio)
    return np.where(windows.valid, np.minimum(ratio, 1), 0)


def survival(w: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """S [n,K+1]: the weight of getting as far as place j; S_0 = 1, and 0 behind the last drafted token's place."""
    n, k = w.shape
    weight = np.ones((n, k + 1), dtype=np.float64)
    np.cumprod(np.where(valid, w, 0), axis=1, out=weight[:, 1:])
    return weight


def expected(windows: Windows, choice: Choice) -> np.ndarray:
    """Tokens [n,K+1]: emitted in expectation if the window is stopped at k, or where its draft ended before that."""
    weight = survival(passes(windows, choice), windows.valid)
    return 1 + _running(weight, chosen(windows.accept_T, choice), windows.valid)


def divergence(windows: Windows, choice: Choice) -> np.ndarray:
    """D [n,K+1]: expected sum, over the verified places, of the distance between the emitted law and the target's."""
    weight = survival(passes(windows, choice), windows.valid)
    return _running(weight, chosen(windows.tv_T, choice), windows.valid)


def chosen(table: np.ndarray, choice: Choice) -> np.ndarray:
    """table [n,K,n_T] at the chosen lenience -> [n,K] float32."""
    if isinstance(choice, np.ndarray):
        return np.take_along_axis(table, choice[..., None], axis=2)[..., 0].astype(np.float32)
    return table[..., choice].astype(np.float32)


def drafted(windows: Windows) -> np.ndarray:
    """[n]: tokens in each window, fewer than the longest where it ended with EOS or for want of room."""
    return windows.valid.sum(1)


def outcomes(
    windows: Windows, tokens: np.ndarray, stops: np.ndarray, costs: Costs, looked: bool, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each window stopped at stops [n], or where its draft ended -> tokens [n], milliseconds [n].

    `looked`: a policy that stops a window after seeing the draft's next law has paid for that draft step too; it sees
    none at its `limit`, nor where drafting ended by itself.
    """
    end = drafted(windows)
    kept = np.minimum(stops, end)
    steps = np.where(kept < np.minimum(end, limit), kept + looked, kept)
    return tokens[np.arange(len(kept)), kept], costs.round_ms(kept, steps)


def played(windows: Windows, tokens: np.ndarray, stops: np.ndarray, costs: Costs, looked: bool, limit: int) -> Rate:
    """All windows, each stopped at stops [n]; tokens [n,K+1] from `expected`."""
    return rate(*outcomes(windows, tokens, stops, costs, looked, limit))


def rate(tokens: np.ndarray, ms: np.ndarray) -> Rate:
    """Of windows' tokens [n] and milliseconds [n]: a ratio of sums, as tokens per second is."""
    total, took = float(tokens.sum()), float(ms.sum())
    return Rate(len(tokens), total, took, 1000 * total / took, total / len(tokens))


def _running(weight: np.ndarray, value: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[n,K+1]: sums of weight times value over the places before k."""
    total = np.zeros(weight.shape, dtype=np.float64)
    np.cumsum(np.where(valid, weight[:, :-1] * value, 0), axis=1, out=total[:, 1:])
    return total
