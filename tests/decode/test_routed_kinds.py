"""Routed batches over drafts that share the target's states, or one proposer: each row as alone with its draft."""

import pytest
import torch

from tests.artifacts import config, eagle_head
from tests.decode.draws import PROMPTS
from tests.decode.heads import random_head
from tests.decode.models import TARGETS, TOKENS, VOCAB, model
from tests.decode.routing import Told, Watch
from toolkit import methods
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.engine.vocabulary import Vocabulary
from toolkit.hub import Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers._groups import Profile
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.eagle3 import Eagle3Head
from toolkit.proposers.routed import Routed

TARGET = TARGETS["llama"]
SAMPLINGS = {"greedy": Sampling(max_new_tokens=20), "t1": Sampling(1.0, max_new_tokens=20, seed=9)}
REQUESTS = [Request(i, PROMPTS[i % 3], limit=5 + 4 * (i % 4)) for i in range(24)]


def heads():
    """Two heads of one target, which read other layers of it and have other vocabularies."""
    target = model(TARGET)
    few, all_of_them = Vocabulary(torch.tensor(TOKENS), VOCAB), Vocabulary(torch.arange(VOCAB), VOCAB)
    return [
        Eagle3Head(target.runner, random_head(target.plain, aux, len(words), seed, sharp=0.8), words)
        for aux, words, seed in (((0, 1, 1), few, 1), ((1, 1, 1), all_of_them, 4))
    ]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_two_heads_in_a_batch_are_its_rows_one_by_one(name):
    """Tokens, and of every round the window and how much of it was accepted."""
    target, together, apart = model(TARGET).runner, Watch(), Watch()
    profiles = [Profile(str(i), head, Fixed(4 - i)) for i, head in enumerate(heads())]
    routed = Routed(profiles, Told(lambda asked: asked.request % 2))
    assert routed.wants.target_layers == {0, 1}
    mixed = SpecDecoder(target, routed, Fixed(4), Rejection(), trace=together).generate(REQUESTS, SAMPLINGS[name])
    for request, found in zip(REQUESTS, mixed, strict=True):
        draft = request.id % 2
        alone = SpecDecoder(target, heads()[draft], Fixed(4 - draft), Rejection(), trace=apart)
        [expected] = alone.generate([request], SAMPLINGS[name])
        assert (found.tokens, found.windows) == (expected.tokens, expected.windows)
        assert together.rounds[request.id] == apart.rounds[request.id]
    counts = {(len(window), accepted) for rounds in together.rounds.values() for window, accepted in rounds}
    assert any(0 < accepted < size for size, accepted in counts)


def test_heads_in_directories_are_drafts_of_a_recipe(tmp_path):
    models = Models(config())
    paths = {name: eagle_head(tmp_path / name, aux=aux)[0] for name, aux in (("a", (0, 1, 1)), ("b", (1, 1, 1)))}
    drafts = {name: {"proposer": {"type": "eagle3", "head": path}} for name, path in paths.items()}
    node = {"name": "test", "proposer": {"type": "routed", "drafts": drafts, "router": "random"}}
    routed = methods.decoder(methods.resolve(node, "test"), models)
    requests = [Request(i, tuple(range(50, 60 + i))) for i in range(6)]
    done = routed.generate(requests, SAMPLINGS["t1"])
    served = []
    for request, found in zip(requests, done, strict=True):
        [name] = found.routing.rounds
        alone = methods.decoder(methods.resolve({"name": name, **drafts[name]}, "test"), models)
        [expected] = alone.generate([request], SAMPLINGS["t1"])
        assert (found.tokens, found.windows) == (expected.tokens, expected.windows)
        served.append(name)
    assert {*served} == {*paths}


class Two(DraftModel):
    """A draft under two names, of no kind that the router could know."""

    names = ("left", "right")

    def prefill(self, batch, capacity, target, choices=None):
        self.told = [choices]
        super().prefill(batch, capacity, target)

    def choose(self, choices):
        self.told.append(choices)


def test_whoever_chooses_is_told_what_for_each_row():
    two = Two(model(TARGET).runner)
    profiles = [Profile(name, two, Fixed(1), two, name) for name in two.names]
    prompt = PROMPTS[2]
    router = Told(lambda asked: int(asked.request == 1 or len(asked.tokens) > len(prompt)), every=1)
    decoder = SpecDecoder(model(TARGET).runner, Routed(profiles, router), Fixed(1), Rejection())
    decoder.generate([Request(i, prompt) for i in range(2)], Sampling(max_new_tokens=8))
    assert two.told == [["left", "right"], ["right", "right"]], "the first row changed its mind"
