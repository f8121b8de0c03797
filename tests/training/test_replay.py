"""Replayed windows against a simulation, and against the same sums done the long way."""

import itertools

import numpy as np
import pytest

from toolkit.training import oracle, replay
from toolkit.training.traces import Costs, Windows

GRID = [1.0, 1.5, 4.0]
# a law of the next token for each last token; a draft that is right about token 0 stays right behind it
TARGET = np.array([[0.9, 0.05, 0.05], [0.6, 0.05, 0.35], [0.6, 0.1, 0.3]])
DRAFT = np.array([[0.85, 0.1, 0.05], [0.35, 0.6, 0.05], [0.2, 0.7, 0.1]])
STARTS = np.array([0.2, 0.5, 0.3])


def toy(paths, temperature=1.0, target=TARGET, draft=DRAFT):
    """paths [n,K+1] of tokens, the first before the window -> what a trace records of them, all places drafted."""
    before, token = paths[:, :-1], paths[:, 1:]
    p, q = target[before], draft[before]  # [n,K,V]
    ratio = np.log(np.take_along_axis(p, token[..., None], 2) / np.take_along_axis(q, token[..., None], 2))[..., 0]
    accept = np.stack([np.minimum(q, T * p).sum(-1) for T in GRID], axis=2)
    return windows(
        log_ratio=ratio, accept_T=accept, tv_T=accept - accept[..., :1], token=token, temperature=temperature
    )


def windows(log_ratio, accept_T, tv_T, token=None, temperature=1.0, **columns):
    """Windows with the columns that a test is about; the others are zero."""
    n, k = log_ratio.shape
    zero, row = np.zeros((n, k), dtype=np.float32), np.zeros(n, dtype=np.int64)
    floats = ["log_p", "log_q", "entropy_q", "entropy_p", "margin_q", "margin_p", "kl", "tv", "log_s"]
    given = {
        "valid": np.ones((n, k), dtype=bool),
        "accepted": np.zeros((n, k), dtype=bool),
        "token": zero.astype(np.int32) if token is None else token,
        "rank_p": zero.astype(np.int32),
        "rank_q": zero.astype(np.int32),
        "request": row,
        "window": row,
        "committed": row,
        "k_prev": row.astype(np.float32),
        "following": row - 1,
        "lenience": np.array(GRID),
    }
    given |= dict.fromkeys(floats, zero) | columns
    return Windows(log_ratio=log_ratio, accept_T=accept_T, tv_T=tv_T, temperature=temperature, **given)


def every_path(k):
    """All paths of k tokens from each start, and the draft's chance of each."""
    paths = np.array(list(itertools.product(range(3), repeat=k + 1)))
    return paths, STARTS[paths[:, 0]] * DRAFT[paths[:, :-1], paths[:, 1:]].prod(1)


def exact_tokens(lenience):
    """E[tokens] of a window of len(lenience): one, and each place's chance of being reached and passed."""
    alive, tokens = STARTS.copy(), [1.0]
    for T in lenience:
        alive = alive @ np.minimum(DRAFT, T * TARGET)  # reached in this state, and the token passes
        tokens.append(tokens[-1] + alive.sum())
    return np.array(tokens)


def simulate(lenience, n, seed=0):
    """Tokens [n] of windows that are really drafted and verified."""
    random = np.random.default_rng(seed)
    last, alive, tokens = random.choice(3, size=n, p=STARTS), np.ones(n, dtype=bool), np.ones(n)
    for T in lenience:
        token = (random.random((n, 1)) > DRAFT[last].cumsum(1)[:, :-1]).sum(1)
        alive &= random.random(n) < T * TARGET[last, token] / DRAFT[last, token]
        tokens += alive
        last = token
    return tokens


def sampled(k, n, seed=1):
    random = np.random.default_rng(seed)
    paths = [random.choice(3, size=n, p=STARTS)]
    for _ in range(k):
        paths.append((random.random((n, 1)) > DRAFT[paths[-1]].cumsum(1)[:, :-1]).sum(1))
    return np.stack(paths, axis=1)


@pytest.mark.parametrize("choice", [[0, 0, 0, 0], [2, 2, 2, 2], [0, 1, 2, 1]])
def test_expected_tokens_are_those_of_the_law(choice):
    """Over all paths with their chances, nothing is left to chance."""
    paths, chance = every_path(4)
    found = replay.expected(toy(paths), np.tile(choice, (len(paths), 1)))
    assert chance @ found == pytest.approx(exact_tokens([GRID[c] for c in choice]), rel=1e-5)


@pytest.mark.parametrize("choice", [0, 2])
def test_expected_tokens_are_those_of_a_simulation(choice):
    """20,000 recorded windows say what 20,000 decoded ones do."""
    found = replay.expected(toy(sampled(4, 20_000)), np.full((20_000, 4), choice))[:, -1]
    decoded = simulate([GRID[choice]] * 4, 20_000)
    error = np.hypot(found.std(), decoded.std()) / np.sqrt(20_000)
    assert abs(found.mean() - decoded.mean()) < 4 * error


def test_a_product_of_means_would_be_wrong():
    """A window that is still alive is one whose tokens were good; the product of a_j knows nothing of that."""
    recorded = toy(sampled(4, 20_000))
    decoded = simulate([1.0] * 4, 20_000)
    a = replay.chosen(recorded.accept_T, 0)
    naive = 1 + np.cumprod(a, axis=1).sum(1)
    error = decoded.std() / np.sqrt(20_000)
    assert abs(naive.mean() - decoded.mean()) > 10 * error
    assert abs(replay.expected(recorded, 0)[:, -1].mean() - decoded.mean()) < 4 * error


def test_divergence_is_that_of_the_law_which_is_emitted():
    """The long way: the law at each place from min(1, T p/q) and the residual, and its distance from p."""
    paths, chance = every_path(3)
    found = replay.divergence(toy(paths), np.full((len(paths), 3), 1))
    T, alive, wanted = GRID[1], STARTS.copy(), [0.0]
    for _ in range(3):
        wanted.append(wanted[-1] + alive @ distance(TARGET, DRAFT, T))
        alive = alive @ np.minimum(DRAFT, T * TARGET)
    assert chance @ found == pytest.approx(wanted, abs=1e-6)
    assert not replay.divergence(toy(paths), 0).any()


def distance(p, q, T):
    """Total variation between what is emitted at a place and p: rows of laws -> [rows]."""
    kept = np.minimum(q, T * p)
    missing = np.maximum(p - kept, 0)
    total = missing.sum(-1, keepdims=True)
    residual = np.where(total > 0, missing / np.where(total > 0, total, 1), p)
    return np.abs(kept + (1 - kept.sum(-1, keepdims=True)) * residual - p).sum(-1) / 2


@pytest.mark.parametrize("seed", range(3))
def test_distance_is_what_more_is_accepted(seed):
    """TV(out_T, p) = accept_T - accept_1, for laws sharp and flat."""
    random = np.random.default_rng(seed)
    for sharpness in (0.1, 1.0, 10.0):
        p, q = random.dirichlet([sharpness] * 7, size=200), random.dirichlet([sharpness] * 7, size=200)
        for T in (1.0, 1.22, 2.71, 4.0, 100.0):
            more = np.minimum(q, T * p).sum(1) - np.minimum(q, p).sum(1)
            assert distance(p, q, T) == pytest.approx(more, abs=1e-9)


def test_at_temperature_zero_a_token_passes_or_it_does_not():
    ratio = np.log(np.array([[1.0, 0.6, 0.2]]))  # p1(x) over the best p1
    accept = (np.exp(ratio)[..., None] * GRID >= 1).astype(np.float32)
    recorded = windows(ratio, accept, accept * 0, temperature=0.0)
    assert replay.passes(recorded, 0).tolist() == [[1, 0, 0]]
    assert replay.expected(recorded, 0).tolist() == [[1, 2, 2, 2]]
    assert replay.expected(recorded, np.array([[0, 2, 2]])).tolist() == [[1, 2, 3, 3]]


def test_nothing_is_gained_beyond_what_was_drafted():
    ratio = np.zeros((2, 3), dtype=np.float32)
    valid = np.array([[True, True, True], [True, False, False]])
    recorded = windows(ratio, np.ones((2, 3, 3)), np.zeros((2, 3, 3)), valid=valid)
    assert replay.survival(replay.passes(recorded, 0), valid).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert replay.expected(recorded, 0).tolist() == [[1, 2, 3, 4], [1, 2, 2, 2]]


def test_a_look_is_paid_for_only_where_the_policy_ended_the_window():
    ratio = np.zeros((4, 3), dtype=np.float32)
    valid = np.array([[True] * 3, [True] * 3, [True, False, False], [True] * 3])
    recorded = windows(ratio, np.ones((4, 3, 1)), np.zeros((4, 3, 1)), valid=valid)
    costs = Costs([0.0, 1, 2, 3], [10.0, 11, 12, 13], 0.5, [1] * 4, 1, 1, {})
    stops = np.array([1, 3, 2, 0])
    tokens = replay.expected(recorded, 0)
    _, looked = replay.outcomes(recorded, tokens, stops, costs, looked=True, limit=3)
    assert looked.tolist() == [2 + 11.5, 3 + 13.5, 1 + 11.5, 1 + 10.5]  # 1 + a look; the limit; EOS; only a look
    gain, blind = replay.outcomes(recorded, tokens, stops, costs, looked=False, limit=3)
    assert blind.tolist() == [1 + 11.5, 3 + 13.5, 1 + 11.5, 0 + 10.5] and gain.tolist() == [2, 4, 2, 1]
    rate = replay.played(recorded, tokens, stops, costs, looked=False, limit=3)
    assert (rate.windows, rate.tokens, rate.ms, rate.tau) == (4, 9, sum(blind), 2.25)
    assert rate.per_second == pytest.approx(9000 / sum(blind))


def accepted(prefixes, k=3, temperature=0.0, requests=None):
    """Windows of k of which so many tokens stand, at temperature 0."""
    stood = np.arange(k) < np.array(prefixes)[:, None]
    ratio = np.where(stood, 0.0, -2.0)
    one = np.repeat(stood[..., None], 3, axis=2).astype(np.float32)
    request = np.arange(len(prefixes)) if requests is None else np.array(requests)
    return windows(ratio, one, one * 0, temperature=temperature, accepted=stood, request=request)


def price(draft, verify, k=3):
    return Costs([draft * i for i in range(k + 1)], [verify] * (k + 1), 0.0, [1] * (k + 1), 1, 1, {})


def test_hindsight_drafts_what_stands_where_a_step_is_cheap():
    found = oracle.hindsight(accepted([0, 1, 3, 2]), price(0.01, 10.0))
    assert found.stops.tolist() == [0, 1, 3, 2]
    assert (found.rate.tokens, found.rate.ms) == (10, pytest.approx(40.06))


def test_at_temperature_zero_both_oracles_are_one():
    recorded, costs = accepted([0, 1, 3, 2, 2]), price(2.0, 3.0)
    one, other = oracle.hindsight(recorded, costs), oracle.informed(recorded, costs)
    assert one.stops.tolist() == other.stops.tolist() and one.rate == other.rate


@pytest.mark.parametrize("draft", [0.5, 2.0, 6.0, 20.0])
def test_an_oracle_is_the_best_of_all_choices(draft):
    """Four windows, every combination of lengths."""
    prefixes, costs = [0, 1, 3, 2], price(draft, 5.0)
    rates = []
    for stops in itertools.product(range(4), repeat=4):
        tokens = 4 + np.minimum(stops, prefixes).sum()
        rates.append(1000 * tokens / (20 + draft * sum(stops)))
    assert oracle.hindsight(accepted(prefixes), costs).rate.per_second == pytest.approx(max(rates))


def test_an_oracle_drafts_no_more_than_there_was():
    valid = np.array([[True, True, True], [True, False, False]])
    recorded = windows(np.zeros((2, 3)), np.ones((2, 3, 3)), np.zeros((2, 3, 3)), valid=valid, accepted=valid)
    assert oracle.hindsight(recorded, price(0.01, 10.0)).stops.tolist() == [3, 1]
    assert oracle.informed(recorded, price(0.01, 10.0)).stops.tolist() == [3, 1]


def test_who_knows_the_law_is_between_the_best_fixed_length_and_who_knows_the_coins():
    n = 20_000
    paths = sampled(4, n)
    recorded = toy(paths)
    coins = np.random.default_rng(5).random((n, 4)) < replay.passes(recorded, 0)
    recorded = windows(
        recorded.log_ratio, recorded.accept_T, recorded.tv_T, accepted=np.cumprod(coins, axis=1).astype(bool)
    )
    costs = price(1.0, 4.0, k=4)
    k, best = oracle.best_fixed(recorded, costs)
    rates = [oracle.fixed(recorded, costs, one).per_second for one in range(1, 5)]
    assert best.per_second == max(rates) == rates[k - 1]
    informed, hindsight = oracle.informed(recorded, costs), oracle.hindsight(recorded, costs)
    assert best.per_second < informed.rate.per_second < hindsight.rate.per_second


def test_the_share_of_the_gap_is_0_for_the_best_fixed_length_and_1_for_the_oracle():
    requests = np.arange(40) // 4
    recorded, costs = accepted([0, 1, 3, 2] * 10, requests=requests), price(1.0, 4.0)
    k, _ = oracle.best_fixed(recorded, costs)
    best, most = oracle.fixed_outcome(recorded, costs, k), oracle.hindsight(recorded, costs).outcome
    half = tuple((a + b) / 2 for a, b in zip(best, most, strict=True))
    none, all_of_it = (oracle.gap_share(requests, one, best, most) for one in (best, most))
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert (all_of_it.value, all_of_it.low, all_of_it.high) == (1, 1, 1)
    assert 0 < oracle.gap_share(requests, half, best, most).value < 1
    assert np.isnan(oracle.gap_share(requests, best, best, best).value)


def test_intervals_resample_requests_not_windows():
    """Ten requests, each of one kind: far wider than if their windows were drawn one by one."""
    tokens = np.repeat([1.0, 4.0], 500)
    apart = oracle.per_second(np.repeat(np.arange(10), 100), (tokens, np.ones(1000)))
    mixed = oracle.per_second(np.arange(1000), (tokens, np.ones(1000)))
    assert apart.value == mixed.value == 2500
    assert apart.high - apart.low > 5 * (mixed.high - mixed.low) > 0
    again = oracle.per_second(np.repeat(np.arange(10), 100), (tokens, np.ones(1000)))
    assert again == apart
    assert np.isnan(oracle.per_second(np.zeros(1000), (tokens, np.ones(1000))).low)
