"""A LoRA of a tiny model: trained as a user starts it, saved, reloaded, evaluated."""

import json
import re
import warnings

import pytest
import torch
from peft import PeftModel

from tests.evaluation.conftest import Tiny, texts
from tests.training.runs import ROWS, STEPS, TINY, furthest
from toolkit import hub, methods, tiny
from toolkit.engine.types import Request, Sampling
from toolkit.hub import ModelConfig, Models
from toolkit.training import data, recipe

LEARNED = 3.0  # nats by which the loss on held-out answers must fall at least; it begins near 7
CLOSE = 1e-5  # logits of the unmerged and of the merged adapter


@pytest.fixture(scope="module")
def held_out(whole):
    settings = recipe.load(whole.recipe, [])
    return data.load(settings.data, tiny.byte_tokenizer(), settings.train.seed, whole.recipe).valid


@pytest.fixture(scope="module")
def by_peft(whole):
    """The adapter on its base, by PEFT alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(tiny.build(TINY)[0], whole.out).eval()


@pytest.fixture(scope="module")
def ours(whole):
    return hub.load_hf(ModelConfig(str(whole.out), device="cpu"))[0]


@torch.no_grad()
def loss(model, rows):
    """The mean over rows of the mean over answer tokens, by transformers."""
    losses = [model(torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss for row in rows]
    return float(torch.stack(losses).mean())


def test_the_loss_on_held_out_answers_falls(whole, held_out, ours):
    curve = [loss for _, loss in whole.manifest()["training"]["eval_loss"]]
    assert len(held_out) == ROWS / 5
    assert curve[-1] < 0.7 * curve[0]
    assert loss(tiny.build(TINY)[0], held_out) - loss(ours, held_out) > LEARNED
    assert loss(ours, held_out) == pytest.approx(min(curve), rel=0.05)  # theirs weighs rows by their answers' lengths


def test_the_manifest_is_complete(whole, shared):
    manifest = whole.manifest()
    assert (manifest["kind"], manifest["provides"], manifest["base"]) == ("lora", ["target"], {"name": TINY})
    assert manifest["binds"]["target"] == Models(ModelConfig(TINY)).identity()
    assert manifest["recipe"]["config"]["lora"]["rank"] == 8
    assert re.fullmatch(r"accelerate launch train/lora.py \S+sums.yaml", manifest["recipe"]["command"])
    assert shared.manifest()["recipe"]["command"].endswith("sums.yaml train.batch=2")
    assert manifest["data"]["rows"] == 4 * ROWS / 5 and manifest["data"]["dropped"] == {}
    assert re.fullmatch("[0-9a-f]{64}", manifest["data"]["fingerprint"])
    training = manifest["training"]
    assert (training["steps"], training["epochs"]) == (STEPS, 6)
    assert [training["best_step"], training["best_eval_loss"]] in training["eval_loss"]
    assert training["hardware"]["cpu"] and training["hardware"]["torch"]
    assert manifest["code"]["version"] and manifest["created"]
    assert manifest["smoke"]["prompts"] == 4 and manifest["smoke"]["tokens"] > 0
    assert manifest["files"].keys() == {"adapter_config.json", "adapter_model.safetensors"}


def test_the_adapter_names_its_base_and_no_path_of_this_machine(whole):
    settings = json.loads((whole.out / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == TINY
    assert str(whole.directory) not in json.dumps(settings)
    assert not [value for value in settings.values() if isinstance(value, str) and value.startswith("/")]


def test_plain_peft_loads_it_and_says_the_same(whole, held_out, by_peft, ours):
    base = tiny.build(TINY)[0]
    with torch.no_grad():
        for row in held_out:
            ids = torch.tensor([row.input_ids])
            assert torch.allclose(by_peft(ids).logits, ours(ids).logits, atol=CLOSE)
            assert not torch.allclose(base(ids).logits, ours(ids).logits, atol=1.0)
    models = Models(ModelConfig(str(whole.out), device="cpu"))
    decoder = methods.decoder(methods.resolve("baseline", "test"), models)
    prompts = [row.input_ids[: row.labels.count(data.IGNORED)] for row in held_out]
    done = decoder.generate([Request(i, p) for i, p in enumerate(prompts)], Sampling(max_new_tokens=24))
    for prompt, generation in zip(prompts, done, strict=True):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            theirs = by_peft.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24)
        end = tiny.byte_tokenizer().eos_token_id
        assert [t for t in theirs[0, len(prompt) :].tolist() if t != end] == [t for t in generation.tokens if t != end]


def test_an_evaluation_uses_it(whole, tmp_path):
    for name in ("plain", "used"):
        (tmp_path / name).mkdir()
    plain, used = Tiny(tmp_path / "plain"), Tiny(tmp_path / "used")
    for run, settings in ((plain, []), (used, [f"use=[{whole.out}]"])):
        run.ask([f"What is {i} + {i % 7}?" for i in range(5)])
        assert run.run("methods=[ngram]", *settings) == 0
    assert not any("##" in text for text, _ in texts(plain.rows()).values())
    answers = [text for text, _ in texts(used.rows()).values()]
    assert all(re.match(r"\d.*\+.*=.*##", text) for text in answers), answers  # the form of the answers is learned
    assert used.results()["recipe"]["target"]["adapters"] == [str(whole.out)]
    assert [each["bugs"] for each in used.results()["equality"]] == [0]


def test_two_processes_train_the_same_adapter(whole, shared):
    """Of the same rows an update: gradients are averaged by tokens over all processes."""
    assert (whole.manifest()["training"]["world_size"], shared.manifest()["training"]["world_size"]) == (1, 2)
    assert "; 1 process(es)" in whole.said and "; 2 process(es)" in shared.said
    assert furthest(shared.weights(), whole.weights()) < 1e-3
    ends = [run.manifest()["training"]["eval_loss"][-1][1] for run in (whole, shared)]
    assert ends[0] == pytest.approx(ends[1], rel=0.01)  # each process takes means of its own held-out rows


@pytest.mark.parametrize("run", ["whole", "shared"])
def test_what_it_says_can_be_read(run, request):
    said = request.getfixturevalue(run).said
    lines = [line for line in said.splitlines() if line.startswith("draftsmith: ")]
    assert f"draftsmith: step {STEPS}/{STEPS}: held-out loss" in said
    assert len([line for line in lines if "32 rows" in line]) == 1  # by one process only
    assert not re.search(r"Warning: (?!Port)|\{'|it/s|Traceback", said), said
