"""Routers: whom they choose, and what they are refused with."""

import numpy as np
import pytest

from tests.artifacts import config as model_config
from tests.routers import DRAFTS, routing, tiny_encoder, write
from toolkit import config, methods
from toolkit.engine.routing import Asked
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.routers.bandit import Bandit

NAMES = ["a", "b", "c"]
SAMPLING = Sampling(temperature=1.0, max_new_tokens=12, seed=3)
PROMPTS = [
    tuple(f"user: {text}\nassistant: ".encode()) for text in ("def f(x): return x", "2 + 2 = ?", "tell me a story")
]
REQUESTS = [Request(i, prompt) for i, prompt in enumerate(PROMPTS)]


def build(node, names=NAMES):
    module, options = config.piece("routers", node, "test")
    return module.build(options, None, names)


def asked(count, drafts=3):
    return [Asked(i, np.arange(4), tuple(range(drafts))) for i in range(count)]


def test_fixed_is_always_the_same():
    assert {one.draft for one in build({"type": "fixed", "draft": "b"}).choose(asked(5))} == {1}
    with pytest.raises(
        UserError, match="router fixed: no draft is called 'bb'. Did you mean 'b'. The drafts are: a, b, c"
    ):
        build({"type": "fixed", "draft": "bb"})


def test_random_is_of_the_request_alone():
    router = build("random")
    lots = [one.draft for one in router.choose(asked(300))]
    assert [one.draft for one in router.choose(asked(300)[::-1])] == lots[::-1]
    assert min(np.bincount(lots, minlength=3)) > 70
    assert [one.draft for one in build({"type": "random", "seed": 1}).choose(asked(300))] != lots


# The bandit


def serve(router, rates, prompts, noise=0.1, seed=0, count=1):
    """Prompts in batches of `count`, a draft at its rate, more or less -> how often each served."""
    random = np.random.default_rng(seed)
    served = np.zeros(len(rates), dtype=int)
    for _ in range(prompts // count):
        for choice in router.choose(asked(count, len(rates))):
            served[choice.draft] += 1
            rate = rates[choice.draft] * (1 + noise * random.standard_normal())
            router.observe(choice.draft, 50, 50 / max(rate, 1e-3))
    return served


@pytest.mark.parametrize("rule", ["ucb1", "thompson"])
def test_a_bandit_finds_the_fastest_draft(rule):
    for best in range(3):
        rates = np.roll([60.0, 45.0, 30.0], best)
        router = build({"type": "bandit", "rule": rule})
        served = serve(router, rates, 200)
        assert served.argmax() == best and served[best] > 120 and served.min() >= 1
        assert router.rates == pytest.approx(rates, rel=0.2)


@pytest.mark.parametrize("rule", ["ucb1", "thompson"])
def test_it_serves_better_than_a_lot_and_worse_than_the_best(rule):
    rates = np.array([60.0, 45.0, 30.0])
    served = serve(build({"type": "bandit", "rule": rule}), rates, 400)
    assert rates.mean() < (served * rates).sum() / served.sum() < rates.max()


@pytest.mark.parametrize("rule", ["ucb1", "thompson"])
def test_the_same_seed_and_rewards_the_same_choices(rule):
    node = {"type": "bandit", "rule": rule, "seed": 7}
    runs = []
    for _ in range(2):
        router = build(node)
        runs.append([serve(router, [50.0, 40.0, 45.0], 10, seed=i).tolist() for i in range(8)])
    assert runs[0] == runs[1]
    if rule == "thompson":
        other = build(node | {"seed": 8})
        assert [serve(other, [50.0, 40.0, 45.0], 10, seed=i).tolist() for i in range(8)] != runs[0]


def test_rows_that_are_asked_about_together_spread():
    """Before any reward is there, every draft is tried."""
    assert sorted(one.draft for one in build("bandit").choose(asked(3))) == [0, 1, 2]


def test_it_changes_its_mind():
    router = build({"type": "bandit", "rule": "ucb1"})
    serve(router, [60.0, 40.0, 20.0], 30)
    served = serve(router, [10.0, 40.0, 20.0], 300, seed=1)
    assert served.argmax() == 1


def test_it_heeds_what_is_open():
    router = build("bandit")
    closed = [Asked(i, np.arange(3), (0, 2)) for i in range(9)]
    assert 1 not in {one.draft for one in router.choose(closed)}


def test_ucb1_is_its_formula():
    router = Bandit(2, "ucb1", 1.0, 0, 0)
    for draft, tokens, seconds in ((0, 40, 1.0), (1, 30, 1.0), (0, 44, 1.0)):
        router.tried[draft] += 1
        router.observe(draft, tokens, seconds)
    best = 42.0
    expected = [1 + np.sqrt(2 * np.log(3) / 2), 30 / best + np.sqrt(2 * np.log(3))]
    assert router._scores() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "key"), [({"rule": "greedy"}, "rule"), ({"exploration": -1}, "exploration"), ({"every": -1}, "every")]
)
def test_bandits_that_cannot_be_meant(options, key):
    with pytest.raises(UserError, match=f"router bandit: {key} is "):
        build({"type": "bandit"} | options)


# As methods


@pytest.fixture(scope="module")
def models():
    return Models(model_config())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def method(**proposer):
    return methods.resolve({"name": "test", "proposer": {"type": "routed"} | proposer}, "r.yaml")


def decode(node, models):
    decoder = methods.decoder(node, models)
    return decoder.generate(REQUESTS, SAMPLING), decoder.proposer


@pytest.mark.parametrize("router", ["random", {"type": "fixed", "draft": "half"}, {"type": "bandit", "every": 2}])
def test_it_decodes_as_a_method(models, router):
    node = method(drafts=DRAFTS, router=router)
    assert node.proposer["drafts"]["ngram"] == {
        "proposer": {"type": "ngram", "min": 2, "max": 4},
        "length": {"type": "fixed", "k": 4},
    }
    done, _ = decode(node, models)
    assert all(one.lossless for one in done)
    for one in done:
        assert sum(one.routing.rounds.values()) == len(one.windows)
    greedy = methods.decoder(node, models).generate(REQUESTS, Sampling(max_new_tokens=12))
    plain = methods.decoder(methods.resolve("baseline", "r.yaml"), models).generate(
        REQUESTS, Sampling(max_new_tokens=12)
    )
    assert [one.tokens for one in greedy] == [one.tokens for one in plain]


def test_a_learned_router_sends_every_prompt_where_its_network_says(models, encoder, tmp_path):
    made = routing(models, encoder)
    made.net.out.weight.data *= 20  # sure of itself
    path = write(tmp_path / "router", models, made)
    done, proposer = decode(method(artifact=path), models)
    router = proposer.router
    texts = [bytes(prompt).decode() for prompt in PROMPTS]
    embedded = router.encoder.encode(texts)
    assert embedded.shape == (3, 16) and embedded.norm(dim=-1).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    names = [one.name for one in made.drafts]
    chosen = [
        names[one.draft] for one in router.choose([Asked(i, np.array(p), (0, 1, 2)) for i, p in enumerate(PROMPTS)])
    ]
    assert [max(one.routing.rounds, key=one.routing.rounds.get) for one in done] == chosen
    assert all(0 < one.routing.confidence <= 1 for one in done)
    # Each as alone with its draft, same seed
    for one, name in zip(done, chosen, strict=True):
        [single] = methods.decoder(method(artifact=path, router={"type": "fixed", "draft": name}), models).generate(
            [REQUESTS[one.id]], SAMPLING
        )
        assert (single.tokens, single.windows) == (one.tokens, one.windows)


def test_below_the_confidence_the_fallback_serves(models, encoder, tmp_path):
    path = write(tmp_path / "router", models, routing(models, encoder, threshold=1.0, fallback="none"))
    done, _ = decode(method(artifact=path), models)
    assert all(one.routing.rounds.keys() == {"none"} for one in done)
    done, _ = decode(method(artifact=path, router={"type": "mlp", "fallback": "ngram"}), models)
    assert all(one.routing.rounds.keys() == {"ngram"} for one in done)
    assert decode(method(artifact=path, router={"type": "mlp", "threshold": 0.0}), models)[1].router.threshold == 0
    with pytest.raises(UserError, match="router mlp: .*no draft is called 'code'"):
        decode(method(artifact=path, router={"type": "mlp", "fallback": "code"}), models)
    with pytest.raises(UserError, match="threshold is 2; expected 0"):
        decode(method(artifact=path, router={"type": "mlp", "threshold": 2.0}), models)


def test_one_draft_needs_no_encoder(models, encoder, tmp_path, monkeypatch):
    only = {"half": DRAFTS["half"]}
    made = routing(models, encoder, only, net=None, encoder=None)
    path = write(tmp_path / "router", models, made)
    assert not list((tmp_path / "router").glob("*.safetensors"))
    monkeypatch.setattr("toolkit.encoder.load", None)  # would fail if it were called
    done, _ = decode(method(artifact=path), models)
    assert all(one.routing.rounds.keys() == {"half"} for one in done)


def test_a_draft_that_never_wins_is_kept_and_never_serves(models, encoder, tmp_path):
    made = routing(models, encoder)
    made.net.out.bias.data[1] = -1e4
    path = write(tmp_path / "router", models, made)
    done, proposer = decode(method(artifact=path), models)
    assert not any("ngram" in one.routing.rounds for one in done)
    assert [one.name for one in proposer.profiles] == ["half", "ngram", "none"]
    done, _ = decode(method(artifact=path, router={"type": "fixed", "draft": "ngram"}), models)
    assert all(one.routing.rounds.keys() == {"ngram"} for one in done)


@pytest.mark.parametrize(
    ("proposer", "message"),
    [
        ({}, "expected `drafts` and a `router`, or the `artifact`"),
        ({"drafts": DRAFTS}, "key 'router' is missing"),
        ({"drafts": DRAFTS, "artifact": "x", "router": "random"}, "expected `drafts` and a `router`, or the"),
        ({"drafts": DRAFTS, "router": "mlp"}, "router mlp is learned together with its drafts"),
        ({"drafts": DRAFTS, "router": "bandi"}, "unknown type 'bandi' in routers. Did you mean 'bandit'"),
        (
            {"drafts": {"a": {"proposer": "routed"}}, "router": "random"},
            "unknown type|no single draft|expected `drafts`",
        ),
        ({"drafts": {"a": {"draft": "none"}}, "router": "random"}, "drafts.a: expected a proposer, or a mapping"),
        ({"drafts": {"a": {"proposer": "none", "k": 3}}, "router": "random"}, "drafts.a: expected a proposer"),
        ({"drafts": {"a": "nothing"}, "router": "random"}, "drafts.a.proposer: unknown type 'nothing'"),
        (
            {"drafts": {"a": {"proposer": "none", "length": {"type": "fixed", "max": 3}}}, "router": "random"},
            "key 'max'",
        ),
    ],
)
def test_mistakes_show_before_a_model_is_loaded(proposer, message):
    with pytest.raises(UserError, match=message):
        method(**proposer)


def test_a_policy_that_reads_what_its_draft_has_not(models):
    drafts = {"a": {"proposer": "ngram", "length": "entropy"}}
    with pytest.raises(UserError, match="draft 'a': length policy 'entropy' reads draft logits"):
        decode(method(drafts=drafts, router="random"), models)
