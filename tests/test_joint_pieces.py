"""JointAdaSpec while it decodes: its states, stops and T against the same done by hand, and what it is refused with."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import log_softmax

from tests.decode.models import draft_recipe, model, target_recipe
from toolkit.acceptance import jointadaspec as acceptance
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.trace import Recorder
from toolkit.engine.types import Request, Sampling, Wants
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.lengths import jointadaspec as length
from toolkit.lengths.fixed import Fixed
from toolkit.policy import Bins, Policy, Solution
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.ngram import NGram
from toolkit.training.traces import HEADER, Header, Trace

BINS = Bins(entropy=(0.9, 1.2, 1.35), divergence=(0.01, 0.1, 0.4, 1.0), k_max=4)
GRID = (1.0, 1.5, 4.0)
REQUESTS = [Request(i, (i % 4, 1 + i % 3)) for i in range(6)]
SAMPLED = Sampling(1.0, max_new_tokens=24, seed=5)
GREEDY = Sampling(0.0, max_new_tokens=24)


def table(stops=0.3, lenient=None, seed=0):
    """A random policy, the first window's first state always drafting. lenient: the same T everywhere."""
    random = np.random.default_rng(seed)
    choice = random.integers(3, size=BINS.shape) if lenient is None else np.full(BINS.shape, lenient)
    action = np.where(random.random(BINS.shape) < stops, 0, 1 + choice)
    action[..., -1] = 0
    one = Solution("joint", 1.0, 0.1, action.reshape(-1).astype(np.int8), choice.reshape(-1).astype(np.int8))
    return Policy(BINS, GRID, (one,), np.zeros((BINS.states, 2), np.int32), 1.0, digest="0123")


class Watched(length.JointAdaSpec):
    """Notes what it was asked and what it said."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked = []

    def stop(self, view):
        stops, notes = super().stop(view)
        self.asked.append((view.requests.tolist(), view.depth, view.logits.numpy().copy(), stops.tolist(), notes))
        return stops, notes


class Rounds:
    """A trace sink that keeps what a round was made of."""

    wants = Wants()

    def __init__(self):
        self.kept = []

    def round(self, batch, draft, verdict, target, drafting, verifying):
        self.kept.append((batch.requests.tolist(), draft, verdict.accepted.tolist(), target.logits.numpy().copy()))


def policy_of(made, limit=4):
    return Watched(made, made.solutions[0], limit, None, torch.device("cpu"))


def rule_of(made):
    return acceptance.JointAdaSpec(made.note(made.solutions[0]), made.solutions[0].exact)


def decoder(made, kind, *, sink=None, accept=None, limit=4):
    draft = DraftModel(model(draft_recipe("llama", kind)).runner)
    return SpecDecoder(
        model(target_recipe("llama")).runner, draft, policy_of(made, limit), accept or rule_of(made), trace=sink
    )


def lagged_by_hand(draft, accepted, target, row):
    """K_prev that a round leaves for the next one; None where nothing was drafted."""
    drafted = int(draft.valid[row].sum())
    ids = slice(None) if draft.vocabulary is None else draft.vocabulary.ids.numpy()
    divergences = []
    for place in range(min(accepted + 1, drafted)):
        logq = log_softmax(draft.steps[place].logits[row].double().numpy())
        logp = log_softmax(target[row, place].astype(np.float64))[ids]
        divergences.append((np.exp(logq) * (logq - logp)).sum())
    return np.mean(divergences) if divergences else None


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
@pytest.mark.parametrize("kind", ["far", "trimmed"])
def test_states_stops_and_lenience_by_hand(kind, sampling):
    """Six requests that end at different times, the draft with and without a vocabulary of its own."""
    made, sink = table(), Rounds()
    decoding = decoder(made, kind, sink=sink)
    decoding.generate(REQUESTS, sampling)
    solution, asked, ended = made.solutions[0], iter(decoding.length.asked), set()
    lagged = {request.id: 0.0 for request in REQUESTS}
    question = next(asked)
    lengths, sizes = set(), set()
    for requests, draft, accepted, target in sink.kept:
        sizes.add(len(requests))
        depth, live = 0, set(requests)
        while question is not None and question[1] == depth and question[0] == requests:
            entropies = [-(np.exp(q) * q).sum() for q in log_softmax(question[2].astype(np.float64), axis=-1)]
            for row, request in enumerate(requests):
                h = sum(entropies[row] >= edge for edge in BINS.entropy)
                k = sum(lagged[request] >= edge for edge in BINS.divergence)
                state = (h * 5 + k) * 5 + depth
                assert question[3][row] == (solution.action[state] == 0)
                T = GRID[solution.lenient[state]]
                assert question[4][made.note(solution)][row] == T
                if depth < draft.tokens.shape[1]:
                    assert draft.notes[made.note(solution)][row, depth] == T
                    if draft.valid[row, depth]:
                        assert not question[3][row] and request in live
                if question[3][row]:
                    live.discard(request)
            question, depth = next(asked, None), depth + 1
        for row, request in enumerate(requests):
            lengths.add(int(draft.valid[row].sum()))
            now = lagged_by_hand(draft, accepted[row], target, row)
            lagged[request] = lagged[request] if now is None else now
        ended |= set(requests)
    assert question is None and ended == set(lagged)
    assert len(lengths) >= 3 and len(sizes) > 1  # windows of many lengths, and rows that were compacted


def test_k_prev_is_that_of_a_trace(tmp_path):
    """Of the same run, recorded: what training calls K_prev is what decoding has."""
    recorder, made = Recorder(GRID), table(stops=0.0, lenient=0)
    decoder(made, "trimmed", sink=recorder).generate(REQUESTS, SAMPLED)
    (tmp_path / "parts").mkdir()
    for name, part in zip(("rounds", "positions"), recorder.tables(), strict=True):
        pq.write_table(part, tmp_path / "parts" / f"{name}-0.parquet")
    known = {
        "schema_version": 2,
        "limit": 4,
        "lenience": list(GRID),
        "temperatures": [1.0],
        "max_new_tokens": 24,
        "seed": 5,
    }
    empty = {"target": {}, "binds": {}, "proposer": {}, "hidden": [], "data": [], "created": "", "code": {}}
    write_json(tmp_path / HEADER, dataclasses.asdict(Header(**known, **empty)))
    windows = Trace.open([tmp_path]).windows(1.0)

    sink = Rounds()
    decoder(made, "trimmed", sink=sink).generate(REQUESTS, SAMPLED)
    lagged = {request.id: [0.0] for request in REQUESTS}
    for requests, draft, accepted, target in sink.kept:
        for row, request in enumerate(requests):
            now = lagged_by_hand(draft, accepted[row], target, row)
            lagged[request].append(lagged[request][-1] if now is None else now)
    for request, number, value in zip(windows.request, windows.window, windows.k_prev, strict=True):
        assert value == pytest.approx(lagged[request][number], abs=2e-5)
    assert len(set(windows.k_prev.tolist())) > 10


@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY], ids=["sampled", "greedy"])
def test_one_lenience_everywhere_is_fuzzy(sampling):
    made = table(stops=0.0, lenient=1)
    found = decoder(made, "far").generate(REQUESTS, sampling)
    target, draft = model(target_recipe("llama")).runner, DraftModel(model(draft_recipe("llama", "far")).runner)
    expected = SpecDecoder(target, draft, Fixed(4), Fuzzy(1.5, [])).generate(REQUESTS, sampling)
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.windows for one in found] == [one.windows for one in expected]


def test_a_policy_that_never_drafts_is_autoregression():
    target = model(target_recipe("llama")).runner
    found = decoder(table(stops=1.1), "far").generate(REQUESTS, SAMPLED)
    assert all(window == (0, 0) for one in found for window in one.windows)
    assert [len(one.tokens) for one in found] == [len(one.windows) for one in found]
    greedy = decoder(table(stops=1.1), "far").generate(REQUESTS, GREEDY)
    plain = SpecDecoder(target, NGram(1, 3), Fixed(2), Rejection()).generate(REQUESTS, GREEDY)
    assert [one.tokens for one in greedy] == [one.tokens for one in plain]


def test_lossless_is_what_the_solution_is():
    assert rule_of(table(lenient=0)).lossless(SAMPLED) and not rule_of(table(lenient=1)).lossless(SAMPLED)
    assert rule_of(table(stops=1.1, lenient=1)).lossless(SAMPLED)  # it drafts nothing


def test_pieces_that_do_not_fit_are_refused():
    target, made = model(target_recipe("llama")).runner, table()
    draft = DraftModel(model(draft_recipe("llama", "far")).runner)
    with pytest.raises(UserError, match="give both the same policy"):
        SpecDecoder(target, draft, Fixed(4), rule_of(made))
    with pytest.raises(UserError, match="give both the same policy"):
        SpecDecoder(target, NGram(1, 3), Fixed(4), rule_of(made))
    with pytest.raises(UserError, match="give both the same policy"):
        other = dataclasses.replace(made, digest="4567")
        SpecDecoder(target, draft, policy_of(made), rule_of(other))
    with pytest.raises(UserError, match="reads draft logits"):
        SpecDecoder(target, NGram(1, 3), policy_of(made), rule_of(made))
    bound = length.JointAdaSpec(made, made.solutions[0], 4, "f" * 64, torch.device("cpu"))
    with pytest.raises(UserError, match="trained with another draft"):
        SpecDecoder(target, draft, bound, rule_of(made))


def test_built_from_options():
    made = table()
    models = SimpleNamespace(policy=lambda name: (made, "abc"), target=SimpleNamespace(device=torch.device("cpu")))
    built = length.build(length.Config("dir"), models)
    assert (built.limit, built.made_for) == (4, "abc")
    assert acceptance.build(acceptance.Config("dir"), models).reads == built.writes
    assert length.build(length.Config("dir", max=2), models).limit == 2
    for limit in (0, 5):
        with pytest.raises(UserError, match="expected 1 to 4"):
            length.build(length.Config("dir", max=limit), models)
    with pytest.raises(UserError, match="no solution with order 'joint' and kappa 2"):
        length.build(length.Config("dir", kappa=2.0), models)
    with pytest.raises(UserError, match="acceptance jointadaspec: dir"):
        acceptance.build(acceptance.Config("dir", order="verif_then_length"), models)
