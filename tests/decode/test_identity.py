"""The same request gives the same tokens and the same accepted counts alone, among 4, among 512, in another order."""

import pytest

from tests.decode import bugs
from tests.decode.compose import Case
from tests.decode.draws import PROMPTS, ROWS, request
from toolkit.acceptance.fuzzy import Fuzzy
from toolkit.acceptance.rejection import Rejection
from toolkit.acceptance.topk import TopK
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import AcceptanceRule, Generation, Request, Sampling

PROBES = (0, 5, 130, 131, 257, 300, 444, 511)  # indices of the requests that are decoded in every way

JOINT = Case("qwen3", "eagle3", length="jointadaspec")
JOINT_LOSSY = Case("llama", kind="far", length="jointadaspec-lossy")
CASES = [
    (Case("llama", "none"), Rejection()),
    (Case("qwen3", "ngram"), Rejection()),
    (Case("llama", kind="far"), Rejection()),
    (Case("qwen3", kind="near", warp="top-p0.8"), Rejection()),
    (Case("gpt2", kind="near", length="entropy"), Rejection()),
    (Case("gpt2", kind="far", window=1), Rejection()),
    (Case("llama", "eagle3"), Rejection()),
    (Case("qwen3", "eagle3", length="entropy", warp="top-p0.8"), Rejection()),
    (Case("gpt2", kind="trimmed"), Rejection()),
    (Case("llama", kind="far", length="entropy"), Fuzzy(2.0, [1.0])),
    (Case("qwen3", kind="far"), TopK(2)),
    (Case("llama", kind="far", length="specdecpp"), Rejection()),
    (Case("gpt2", "eagle3", length="specdecpp", warp="top-p0.8"), Rejection()),
    (JOINT, JOINT.accept()),
    (JOINT_LOSSY, JOINT_LOSSY.accept()),
]


def _essence(generation: Generation) -> tuple[object, ...]:
    said = (generation.tokens, generation.windows, generation.rejected)
    return generation.id, generation.sample, *said, generation.finish


def strangers(decoder: SpecDecoder, sampling: Sampling) -> int:
    """How many of all comparisons with the batch of 512 differ in anything."""
    requests = [request(i) for i in range(ROWS)]

    def decode(batch: list[Request]) -> dict[tuple[int, int], tuple[object, ...]]:
        return {(g.id, g.sample): _essence(g) for g in decoder.generate(batch, sampling)}

    everyone = decode(requests)
    assert len(everyone) == ROWS
    batches = [requests[::-1], [requests[i] for i in PROBES[:4]], [requests[i] for i in PROBES[4:]]]
    batches += [[requests[i]] for i in PROBES]
    return sum(found != everyone[key] for batch in batches for key, found in decode(batch).items())


@pytest.mark.parametrize(("case", "accept"), CASES, ids=lambda value: getattr(value, "name", None))
def test_batch_mates_do_not_matter(case: Case, accept: AcceptanceRule) -> None:
    assert strangers(case.decoder(accept), case.sampling) == 0


@pytest.mark.parametrize("case", [JOINT, JOINT_LOSSY], ids=lambda case: case.name)
def test_a_state_that_is_not_compacted_is_caught(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that moved go on with another request's K_prev. No law shows it where T = 1: it is only slower."""
    assert strangers(bugs.state_not_compacted(monkeypatch, case), case.sampling) > 0


def test_request_sample_and_seed_all_matter() -> None:
    """Each of them alone changes what is drawn."""
    decoder = Case("llama", kind="near").decoder()
    prompt = PROMPTS[2]

    def tokens(seed: int, *keys: tuple[int, int]) -> list[tuple[int, ...]]:
        requests = [Request(id, prompt, sample) for id, sample in keys]
        sampling = Sampling(temperature=1.0, max_new_tokens=12, seed=seed)
        return [tuple(g.tokens) for g in decoder.generate(requests, sampling)]

    ids = [(i, 0) for i in range(40)]
    samples = [(0, i) for i in range(40)]
    assert len(set(tokens(0, *ids))) > 20
    assert len(set(tokens(0, *samples))) > 20
    assert tokens(0, *ids) != tokens(1, *ids)
    assert tokens(0, *ids) == tokens(0, *ids)
