"""JointAdaSpec's estimation and solutions: by hand on a tiny trace, on simulated decoding, at the edges."""

import json
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from toolkit import policy
from toolkit.errors import UserError
from toolkit.policy import Bins
from toolkit.training import joint_solve, jointadaspec, replay
from toolkit.training.joint_estimate import Price, Records, Rule, Smoothing
from toolkit.training.joint_solve import Settings, solve
from toolkit.training.traces import Costs, Windows

GRID = np.array([1.0, 1.22, 1.49, 1.82, 2.22, 2.71, 3.30, 4.00], np.float32)
COUNTED = Smoothing(nu_min=1)


def windows(log_ratio, accept, following, temperature=1.0, grid=GRID, **columns):
    """Windows with the columns that matter; accept [n, K, n_T]. tv is what lenience adds to it."""
    n, k = log_ratio.shape
    zero, whole = np.zeros((n, k), np.float32), np.zeros((n, k), np.int32)
    known = {
        "valid": np.ones((n, k), bool),
        "accepted": np.ones((n, k), bool),
        "tv_T": accept - accept[..., :1],
        "request": np.zeros(n, np.int64),
        "window": np.arange(n, dtype=np.int32),
        "committed": np.zeros(n, np.int32),
        "k_prev": np.zeros(n, np.float32),
        "token": whole,
        "rank_p": whole,
        "rank_q": whole,
    }
    names = ("log_p", "log_q", "entropy_p", "entropy_q", "margin_p", "margin_q", "kl", "tv", "log_s")
    known |= dict.fromkeys(names, zero) | columns
    return Windows(temperature, grid, log_ratio=log_ratio, accept_T=accept, following=following, **known)


def costs(limit, draft=2.0, verify=20.0, wider=0.5):
    k = np.arange(limit + 1)
    return Costs((draft * k).tolist(), (verify + wider * k).tolist(), 1.0, [9] * len(k), 1, 1, {})


def simulated(requests, rounds, limit=6, noise=1.0, seed=0):
    """Really decoded: the next token's law, the target's and the draft's, depends on the last token only."""
    random = np.random.default_rng(seed)
    logp = random.gumbel(size=(12, 12))
    logq = logp + random.uniform(0.1, 1.5, size=(12, 1)) * noise * random.normal(size=(12, 12))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logp, logq))
    accept = np.stack([np.minimum(q, t * p).sum(1) for t in GRID], 1).astype(np.float16).astype(np.float32)
    entropy, kl = -(q * np.log(q)).sum(1), (q * np.log(q / p)).sum(1)

    def pick(law):
        return np.minimum((random.random((len(law), 1)) > law.cumsum(1)).sum(1), 11)

    last, lagged, kept = random.integers(12, size=requests), np.zeros(requests), []
    for _ in range(rounds):
        path = [last]
        for _ in range(limit):
            path.append(pick(q[path[-1]]))
        path = np.stack(path, 1)
        before, token = path[:, :-1], path[:, 1:]
        ratio = np.log(p[before, token] / q[before, token])
        accepted = np.cumprod(random.random(ratio.shape) < np.exp(ratio), 1).astype(bool)
        n = accepted.sum(1)
        kept.append((ratio, before, accepted, lagged))
        seen = np.minimum(n + 1, limit)
        lagged = (kl[before] * (np.arange(limit) < seen[:, None])).sum(1) / seen
        at = path[np.arange(requests), n]
        rest = np.where((n < limit)[:, None], np.maximum(p[at] - q[at], 0), p[at])
        last = pick(rest / rest.sum(1, keepdims=True))
    ratio, before, accepted, lagged = (
        np.stack(x, 1).reshape(requests * rounds, *x[0].shape[1:]) for x in zip(*kept, strict=True)
    )
    row = np.arange(requests * rounds)
    following = np.where(row % rounds == rounds - 1, -1, row + 1)
    return windows(
        ratio.astype(np.float32), accept[before], following, accepted=accepted, k_prev=lagged.astype(np.float32),
        entropy_q=entropy[before].astype(np.float32), kl=kl[before].astype(np.float32), request=row // rounds,
        window=(row % rounds).astype(np.int32),
    )  # fmt: skip


BINS = Bins(policy.edges(8, 0.3, 2.5, "log"), policy.edges(3, 0.05, 2.0, "log"), k_max=4)


@pytest.fixture(scope="module")
def decoded():
    return simulated(60, 25)


def records(recorded, bins=BINS, priced=None, smoothing=Smoothing()):  # noqa: B008
    return Records(recorded, bins, priced or costs(recorded.valid.shape[1]), smoothing)


def by_hand():
    """Two windows of one request, three places: H below 1 is bin 0; K_prev below 0.5 is bin 0; k_max is 2."""
    accept = np.array([[[0.8, 0.9], [0.5, 0.7], [0.4, 0.4]], [[0.6, 0.8], [0.3, 0.5], [0.2, 0.2]]], np.float32)
    recorded = windows(
        np.log(np.array([[1.0, 0.4, 2.0], [0.25, 1.0, 1.0]], np.float32)),
        accept,
        np.array([1, -1]),
        grid=np.array([1.0, 2.0], np.float32),
        accepted=np.array([[True, False, False], [False, False, False]]),
        entropy_q=np.array([[0.5, 2.0, 0.5], [2.0, 0.5, 2.0]], np.float32),
        kl=np.array([[0.2, 1.0, 3.0], [0.4, 0.4, 0.4]], np.float32),
        k_prev=np.array([0.0, 0.6], np.float32),
    )
    return recorded, Bins((1.0,), (0.5,), 2)


def test_states_and_transitions_by_hand():
    recorded, bins = by_hand()
    found = Records(recorded, bins, costs(3), COUNTED)
    assert found.states.tolist() == [[0, 7, 2], [9, 4, 11]]  # (H * 2 + K) * 3 + k
    stop, onwards = (matrix.toarray() for matrix in found.transitions)
    assert onwards[0, 7] == onwards[7, 2] == onwards[9, 4] == onwards[4, 11] == 1
    # The second window has no successor. The first was accepted at place 0 and rejected at 1:
    assert stop[0, 6] == 1  # stopped at 0, its own place 1 would have come next (H 2.0), K_prev still 0
    assert stop[7, 6] == 1  # at 1: the window that followed (H 2.0), K_prev 0.2
    assert stop[2, 9] == 1  # at 2: the same, K_prev (0.2 + 1.0) / 2
    assert found.visits[[0, 7, 2]].tolist() == [[1, 1], [1, 1], [1, 0]] and found.visits[9].tolist() == [0, 1]
    assert np.allclose([stop.sum(1), onwards.sum(1)], 1)


def test_gains_by_hand():
    """Under T = 1 and no stop: S_k (a_k - kappa D_k) and, for T = 2, what its higher survival saves of later gains."""
    recorded, bins = by_hand()
    found = Records(recorded, bins, costs(3), COUNTED)
    rule = Rule(np.zeros(bins.states, bool), np.zeros(bins.states, int))
    gains = found.gains(rule, Price(0.5))
    w = [[1.0, 0.4], [0.25, 1.0]]
    assert gains[0] == pytest.approx([0.8, 0.9 - 0.5 * 0.1 + (1 - w[0][0]) * 0.5])
    assert gains[7] == pytest.approx([0.5, 0.7 - 0.5 * 0.2])  # alive for sure; nothing follows place 1
    assert gains[9] == pytest.approx([0.6, 0.8 - 0.5 * 0.2 + (0.5 - w[1][0]) * 0.3])
    assert gains[4] == pytest.approx([0.25 * 0.3, 0.25 * (0.5 - 0.5 * 0.2)])
    stopped = Rule(np.arange(bins.states) % 3 == 1, np.zeros(bins.states, int))
    assert found.gains(stopped, Price(0.5))[0] == pytest.approx([0.8, 0.85])  # no later token to save


def test_a_state_that_was_not_recorded_has_the_gain_of_the_nearest():
    recorded, bins = by_hand()
    found = Records(recorded, bins, costs(3), COUNTED)
    gains = found.gains(Rule(np.zeros(bins.states, bool), np.zeros(bins.states, int)), Price(0.0))
    assert found.count[3] == found.count[6] == 0  # next to both states that were recorded at place 0
    assert gains[3].tolist() in (gains[0].tolist(), gains[9].tolist())


def test_few_visits_are_drawn_to_the_neighbours():
    recorded, bins = by_hand()
    stop, _ = Records(recorded, bins, costs(3), Smoothing(nu_min=2, alpha=1.0)).transitions
    around = np.zeros(bins.states)
    around[[0, 3, 6, 9]] = 1 / 4  # the 2 x 2 bins at place 0
    counted = np.zeros(bins.states)
    counted[6] = 1
    assert stop.toarray()[0] == pytest.approx((counted + around) / 2)
    assert stop.toarray()[5] == pytest.approx(around)  # never visited


def test_milliseconds_add_up_to_those_of_a_round():
    recorded, bins = by_hand()
    priced = Costs([0.5, 3.0, 4.0, 9.0], [20.0, 22.0, 21.0, 30.0], 2.0, [1] * 4, 1, 1, {})
    took = Records(recorded, bins, priced, COUNTED).milliseconds(2).reshape(2, 2, 3, 2)[0, 0]
    for k, steps in ((0, 1), (1, 2), (2, 2)):  # a step that was looked at, but at the limit
        assert took[k, 0] + took[:k, 1].sum() == pytest.approx(priced.round_ms(k, steps))


@pytest.mark.parametrize("seed", range(3))
def test_divergence_is_what_lenience_adds_to_acceptance(seed):
    """Why T would be all or nothing without the survival of later tokens: the gain is a_1 + (1 - kappa)(a_T - a_1)."""
    random = np.random.default_rng(seed)
    for sharpness in (0.1, 1.0, 5.0):
        p, q = random.dirichlet(np.full(9, sharpness), 300), random.dirichlet(np.full(9, sharpness), 300)
        for T in GRID:
            kept, rest = np.minimum(q, T * p), np.maximum(p - q, 0)
            out = kept + (1 - kept.sum(1, keepdims=True)) * rest / rest.sum(1, keepdims=True)
            more = kept.sum(1) - np.minimum(q, p).sum(1)
            assert np.abs(out - p).sum(1) / 2 == pytest.approx(more, abs=1e-9)


def test_drafting_that_costs_too_much_is_not_done(decoded):
    found = solve(records(decoded, priced=costs(6, draft=1000.0)), Price(1.0), Settings())
    assert found.rule.stop[records(decoded).states[:, 0]].all()


def test_free_drafting_of_sure_tokens_never_stops():
    sure = simulated(20, 10, noise=0.0)
    held = records(sure, Bins(policy.edges(8, 0.3, 2.5, "log"), (), 4), costs(6, draft=0.0, wider=0.0))
    found = solve(held, Price(1.0), Settings())
    assert (joint_solve.ends(held.states, found.rule, 4) == 4).all()
    assert found.played.tokens == pytest.approx(5.0)


@pytest.mark.parametrize("run", [solve, joint_solve.verif_then_length])
def test_divergence_that_costs_everything_is_avoided(decoded, run):
    found = run(records(decoded), Price(1e6), Settings())
    assert not found.rule.lenient.any() and found.solution("joint", 1e6).exact


def test_divergence_that_costs_nothing_is_taken(decoded):
    """The lowest T that lets everything through; the highest in most states."""
    held = records(decoded)
    found = solve(held, Price(0.0), Settings())
    drafting = ~found.rule.stop & (held.visits[:, 1] > 0)
    lenient = found.rule.lenient[drafting]
    assert len(lenient) > 20 and (lenient > 0).all() and (lenient == len(GRID) - 1).mean() > 0.7


def test_divergence_is_worth_less_and_less(decoded):
    held = records(decoded)
    played = [solve(held, Price(kappa), Settings()).played for kappa in (0.0, 1.0, 2.0, 5.0)]
    per_token = [one.divergence / one.tokens for one in played]
    assert all(less <= more + 1e-3 for more, less in zip(per_token, per_token[1:], strict=False))
    assert per_token[0] > 0.01 > per_token[-1]


def test_it_beats_every_fixed_window(decoded):
    held = records(decoded)
    found = solve(held, Price(1e6), Settings())
    depth = np.arange(BINS.states) % 5
    fixed = [
        joint_solve.play(decoded, held.states, Rule(depth >= k, np.zeros_like(depth)), 4, held.costs) for k in range(5)
    ]
    assert found.played.pace >= max(one.pace for one in fixed) * 0.999


def test_time_is_worth_what_is_decoded_in_it(decoded):
    found = solve(records(decoded), Price(1e6), Settings())
    assert found.c_time == pytest.approx(found.played.pace, rel=0.02)
    assert solve(records(decoded), Price(1.0), Settings(c_time=0.01)).c_time == 0.01


def test_cascades_keep_what_they_froze(decoded):
    held, priced = records(decoded), Price(0.5)
    lengths = solve(held, priced, Settings(), joint_solve.exact)
    assert not lengths.rule.lenient.any()
    found = joint_solve.length_then_verif(held, priced, Settings(), lengths)
    assert (found.rule.stop == lengths.rule.stop).all() and found.rule.lenient.any()
    verified = joint_solve.solve_within(held, priced, Settings(), joint_solve.onwards, 4)
    assert (joint_solve.ends(held.states, verified.rule, 4) == 4).all()
    found = joint_solve.verif_then_length(held, priced, Settings())
    assert (found.rule.lenient == verified.rule.lenient).all() and found.rule.stop[held.states[:, 0]].mean() < 1


def test_policies_play_as_they_are_replayed(decoded):
    held = records(decoded)
    found = solve(held, Price(1.0), Settings())
    stops = joint_solve.ends(held.states, found.rule, 4)
    choice = np.zeros(decoded.valid.shape, int)
    choice[:, :4] = found.rule.lenient[held.states[:, :4]]
    rate = replay.played(
        decoded, replay.expected(decoded, choice), stops, held.costs, True, joint_solve.longest(found.rule, 4)
    )
    assert (found.played.tokens, found.played.pace) == pytest.approx((rate.tau, rate.per_second / 1000))


def test_half_a_million_records_take_seconds():
    """50,000 windows of 10, 3,600 states, 9 actions."""
    few = simulated(40, 25, limit=10)
    many = few.of(np.ones(len(few), bool))
    columns = {
        name: value for name, value in vars(many).items() if isinstance(value, np.ndarray) and name != "lenience"
    }
    many = replace(many, **{name: np.concatenate([value] * 50) for name, value in columns.items()})
    block = np.repeat(np.arange(50) * len(few), len(few))
    many = replace(many, following=np.where(many.following < 0, -1, many.following + block))
    bins = Bins(policy.edges(20, 0.1, 3.0, "log"), policy.edges(20, 0.01, 3.0, "log"), 8)
    tracemalloc.start()
    before = time.process_time()
    found = solve(records(many, bins), Price(1.0), Settings())
    took, (_, peak) = time.process_time() - before, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert bins.states == 3600 and found.q.shape == (3600, 9)
    assert took < 10 and peak < 2**30


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        (Bins(policy.edges(8, 5.0, 9.0, "linear"), (), 4), "'bins.H': all of its 8 bins but one are empty"),
        (Bins((), policy.edges(3, 50.0, 90.0, "log"), 4), "'bins.K'"),
    ],
)
def test_bins_that_are_empty(decoded, bins, said):
    with pytest.raises(UserError, match=said):
        records(decoded, bins)


def test_windows_that_are_too_short(decoded):
    short = replace(decoded, valid=decoded.valid & (np.arange(6) < 3))
    with pytest.raises(UserError, match="'k_max' is 4; no recorded window goes beyond 3"):
        records(short)


RECIPES = [
    ("traces=[]", "traces"),
    ("bins.H.count=0", "bins.H.count"),
    ("bins.H.high=0.01", "bins.H.high"),
    ("bins.K.low=0", "bins.K.low"),
    ("bins.K.scale=cubic", "bins.K.scale"),
    ("kappas=[-1.0]", "kappas"),
    ("kappas=[1.0, 1.0]", "kappas"),
    ("orders=[first]", "orders"),
    ("c_time=fast", "c_time"),
    ("alpha=0", "alpha"),
    ("discount=1.0", "discount"),
    ("k_max=0", "k_max"),
]


@pytest.mark.parametrize(("override", "key"), RECIPES)
def test_recipes_that_cannot_be_meant(tmp_path, override, key):
    path = tmp_path / "joint.yaml"
    path.write_text(json.dumps({"traces": ["t"]}))
    assert jointadaspec.load(path, ["c_time=0.01"]).c_time == 0.01
    with pytest.raises(UserError, match=f"'{key}'"):
        jointadaspec.load(path, [override])


def recipe(**changes):
    bins = jointadaspec.BinsConfig(jointadaspec.AxisConfig(6, 0.3, 2.5), jointadaspec.AxisConfig(3, 0.05, 2.0))
    plain = jointadaspec.JointAdaSpecRecipe(traces=["t"], bins=bins, k_max=4, kappas=[0.0, 5.0], sweep=[2, 5])
    return replace(plain, **changes)


def test_what_is_learned_and_reported(decoded, tmp_path, capsys):
    learned, solved, report = jointadaspec.learn(recipe(), decoded, costs(6))
    assert [one.label for one in learned.solutions] == list(solved)
    assert len(solved) == 6 and report["requests"] == {"train": 48, "held_out": 12}
    policy.save(learned, tmp_path)
    assert policy.read(tmp_path).bins == learned.bins
    for one, figures in zip(learned.solutions, report["solutions"], strict=True):
        assert figures["lossless"] == one.exact
        assert 0 <= figures["held_out"]["well_known"] <= 1 and figures["held_out"]["tau"] >= 1
    assert [(one["bins"], one["kappa"]) for one in report["sweep"]] == [(2, 0.0), (2, 5.0), (5, 0.0), (5, 5.0)]
    assert report["sweep"][0]["states"] == 2 * 2 * 5
    assert len(report["beside"]["fixed"]) == 4 and len(report["beside"]["oracles"]) == 2
    jointadaspec.joint_report.write(tmp_path / "results", report, solved)
    assert json.loads((tmp_path / "results/report.json").read_text())["lenience"] == report["lenience"]
    values = load_file(tmp_path / "results/values.safetensors")
    assert values["Q/joint kappa=5"].shape == (learned.bins.states, 9)
    jointadaspec.joint_report.show(report)
    assert "verif_then_length kappa 5" in capsys.readouterr().out
