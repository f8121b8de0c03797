"""A tiny sentence encoder, and learned routers that nobody trained: for tests of what uses them."""

import dataclasses

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tests.artifacts import manifest
from toolkit import artifact
from toolkit.encoder import Encoder
from toolkit.nets import router
from toolkit.nets.router import NUMBERS, RouterNet, Routing, StoredDraft
from toolkit.proposers import routed

WIDTH = 16
HALF = {"type": "draft_model", "model": {"name": "target", "draft_from": {"layers": [0]}}}
DRAFTS = {"half": {"proposer": HALF, "length": {"type": "fixed", "k": 3}}, "ngram": "ngram", "none": "none"}


def tiny_encoder(directory, seed=0):
    """A random BERT over letters, in the format that sentence-transformers reads -> its path as a recipe has it."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789+-*/=?.,:;(){}"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64).save_pretrained(directory)
    shape = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape))
    model.save_pretrained(directory)
    return str(directory)


def drafts(models, nodes=None):
    """As an artifact stores them: every option filled in, with the weights that they have here."""
    spelled = {name: routed.profile(node, "test") for name, node in (nodes or DRAFTS).items()}
    found = routed.profiles(spelled, models, "test")
    return tuple(StoredDraft(one.name, spelled[one.name], one.proposer.weights) for one in found)


def routing(models, sentences, nodes=None, **changes):
    """A router with random weights."""
    known = drafts(models, nodes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = RouterNet(WIDTH + len(NUMBERS), len(known), hidden=8)
    stored = Encoder(sentences, torch.device("cpu")).stored()
    made = Routing(known, known[0].name, 0.0, 1.0, models.target.vocab, stored, net)
    return dataclasses.replace(made, **changes)


def write(directory, models, made):
    """The artifact -> its path."""
    router.save(made, directory)
    target = models.identity()
    binds = {"target": target}
    for one in made.drafts:
        if one.weights:
            binds[f"draft.{one.name}"] = target | {"name": one.name, "fingerprint": one.weights, "adapters": []}
    pieces = {"proposer": {"type": "routed", "artifact": "."}, "length": {"type": "fixed", "k": 32}}
    composes = {"target": dataclasses.asdict(models.config), **pieces}
    artifact.write(directory, manifest(kind="router", provides=["proposer"], base={}, binds=binds, composes=composes))
    return str(directory)
