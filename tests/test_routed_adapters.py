"""Adapters over one draft as drafts of a router: one model, one group, and every row as alone with its adapter."""

import pytest

from tests.artifacts import config, lora, manifest
from tests.decode.routing import Told, Watch
from toolkit import artifact, methods
from toolkit.engine import lora as engine
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, Models

BASE = {"name": "target", "draft_from": {"layers": [1]}}
NAMES = ["x", "y", "plain", "none"]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=14, seed=2)
REQUESTS = [Request(i, tuple(range(40 + 3 * i, 52 + 4 * i)), limit=6 + i % 9) for i in range(16)]


@pytest.fixture(scope="module")
def models():
    return Models(config())


@pytest.fixture(scope="module")
def drafts(models, tmp_path_factory):
    """Two adapters over one draft, the draft without any, and none at all."""
    directory = tmp_path_factory.mktemp("adapters")
    adapters = {}
    for seed, name in enumerate(("x", "y"), start=1):
        lora(directory / name, config(draft_from=DraftFrom([1])), seed=seed)
        bound = {"target": models.identity()}
        artifact.write(directory / name, manifest(provides=["draft"], base=BASE, binds=bound))
        adapters[name] = str(directory / name)
    shared = {"type": "adapted_draft", "model": BASE, "adapters": adapters}
    nodes = {
        name: {"proposer": shared | {"choice": choice}} for name, choice in (("x", "x"), ("y", "y"), ("plain", "base"))
    }
    return nodes | {"none": "none"}


def decoder(models, drafts, router, trace=None):
    node = {"name": "test", "proposer": {"type": "routed", "drafts": drafts, "router": "random"}}
    made = methods.decoder(methods.resolve(node, "test"), models, trace=trace)
    made.proposer.router = router
    return made


def attached(models):
    """Bytes of all adapters in the draft."""
    return engine.size(models.load(config("target", draft_from=DraftFrom([1]))).model)


def test_every_row_is_decoded_as_alone_with_its_adapter(models, drafts):
    together, apart = Watch(), Watch()
    alone = {}
    for name, node in drafts.items():
        pieces = node if isinstance(node, dict) else {"proposer": node}
        alone[name] = methods.decoder(methods.resolve({"name": name, **pieces}, "test"), models, trace=apart)
    mixed = decoder(models, drafts, Told(lambda asked: asked.request % 4), together).generate(REQUESTS, SAMPLING)
    for one, generation in zip(REQUESTS, mixed, strict=True):
        name = NAMES[one.id % 4]
        [expected] = alone[name].generate([one], SAMPLING)
        assert (generation.tokens, generation.windows) == (expected.tokens, expected.windows)
        assert together.rounds[one.id] == apart.rounds[one.id]
    windows = {name: [w for i, r in together.rounds.items() if NAMES[i % 4] == name for w, _ in r] for name in NAMES}
    assert not any(windows["none"]) and windows["x"] != windows["y"] != windows["plain"]


def test_they_are_one_group_and_one_model(models, drafts):
    made = decoder(models, drafts, Told(lambda asked: asked.request % 3))
    before = attached(models)
    made.generate(REQUESTS[:6], Sampling(max_new_tokens=4))
    assert [one.proposer for one in made.proposer.profiles[:3]] == [made.proposer.profiles[0].proposer] * 3
    counts = []
    right = made.proposer.commit

    def counted(*parts):
        counts.append(len(made.proposer.groups))
        right(*parts)

    made.proposer.commit = counted
    made.generate(REQUESTS[:6], Sampling(max_new_tokens=4))
    assert set(counts) == {1}
    decoder(models, drafts, Told(lambda asked: 0))  # of another method: nothing is put into the model twice
    assert attached(models) == before


def windows(drafts):
    """The same drafts, each with windows of its own."""
    return {
        name: {**node, "length": {"type": "fixed", "k": k}}
        for (name, node), k in zip(drafts.items(), (3, 1, 2), strict=False)
    }


def test_adapters_with_windows_of_their_own_share_the_draft(drafts):
    """Memory is that of one attachment, however many methods and length policies there are."""
    models = Models(config())
    decoder(models, drafts, Told(lambda asked: 0))
    once = attached(models)
    made = decoder(models, windows(drafts), Told(lambda asked: 0))
    for name in ("x", "y"):
        methods.decoder(methods.resolve({"name": name, **drafts[name]}, "test"), models)
    assert attached(models) == once > 0
    assert len({one.proposer.runner for one in made.proposer.profiles}) == 1
    assert len({one.proposer for one in made.proposer.profiles}) == 3


def test_every_row_has_its_adapter_and_its_window(models, drafts):
    """Groups that take turns with the same adapters in one round; rows move between them within a text."""
    own = windows(drafts)
    together, apart = Watch(), Watch()
    names = list(own)
    mixed = decoder(models, own, Told(lambda asked: asked.request % 3), together).generate(REQUESTS, SAMPLING)
    for one, generation in zip(REQUESTS, mixed, strict=True):
        name = names[one.id % 3]
        alone = methods.decoder(methods.resolve({"name": name, **own[name]}, "test"), models, trace=apart)
        [expected] = alone.generate([one], SAMPLING)
        assert (generation.tokens, generation.windows) == (expected.tokens, expected.windows)
        assert together.rounds[one.id] == apart.rounds[one.id]
    turns = dict.fromkeys(range(len(REQUESTS)), 0)

    def turning(asked):
        turns[asked.request] += 1
        return (asked.request + turns[asked.request]) % 3

    greedy = Sampling(max_new_tokens=12)
    changing = decoder(models, own, Told(turning, every=1)).generate(REQUESTS, greedy)
    plain = methods.decoder(methods.resolve("baseline", "test"), models).generate(REQUESTS, greedy)
    assert [one.tokens for one in changing] == [one.tokens for one in plain]
    assert min(turns.values()) > 1


def test_their_weights_are_of_every_method_that_has_them(models, drafts):
    adapters = set(drafts["x"]["proposer"]["adapters"].values())
    for _ in range(2):
        models.asked.clear()
        decoder(models, drafts, Told(lambda asked: 0))
        assert adapters < models.asked <= models.provenance.keys()


def test_another_adapter_is_put_on_within_a_text(models, drafts):
    """Greedily, the text stays the target's; rows that change keep what their cache holds."""
    turns = {}

    def turning(asked):
        turns[asked.request] = turns.get(asked.request, asked.request) + 1
        return turns[asked.request] % 4

    changing = decoder(models, drafts, Told(turning, every=1)).generate(REQUESTS, Sampling(max_new_tokens=12))
    plain = methods.decoder(methods.resolve("baseline", "test"), models).generate(REQUESTS, Sampling(max_new_tokens=12))
    assert [one.tokens for one in changing] == [one.tokens for one in plain]
    assert max(turns.values()) > len(REQUESTS) + 1


def test_an_adapter_that_is_not_there(models, drafts):
    node = {"a": {"proposer": drafts["x"]["proposer"] | {"choice": "z"}}}
    with pytest.raises(UserError, match="key 'choice' is 'z'; expected one of base, x, y"):
        decoder(models, node, Told(lambda asked: 0))
