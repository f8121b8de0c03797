"""Adapters over one resident draft: a row drafts as with its adapter merged, in any company; misfits are refused."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from tests.artifacts import MODULES, TINY, config, lora, manifest
from toolkit import artifact, tiny, trim
from toolkit import config as configs
from toolkit.acceptance.rejection import Rejection
from toolkit.engine import lora as engine
from toolkit.engine import packed
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.hub import DraftFrom, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers import adapted_draft
from toolkit.proposers.draft_model import DraftModel
from toolkit.training.recipe import LoraConfig

LAYERS = [1]
ALL = tuple(LoraConfig().targets)
SEEDS = {"x": (1, ALL), "y": (2, MODULES), "z": (3, ("up_proj", "o_proj"))}  # adapters of different modules
CHOICES = ["x", "y", "base", "x", "z"]


def wide(directory):
    """A model whose layers are large enough to be packed and fused."""
    shape = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "head_dim": 64}
    shape |= {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 259, "eos_token_id": 256}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(
            AutoConfig.for_model("llama", initializer_range=0.05, **shape), dtype=torch.float32
        ).save_pretrained(directory)
    tiny.byte_tokenizer().save_pretrained(directory)
    return str(directory)


class Drafts:
    """A target, adapters over a layer of it, and how a recipe has them."""

    def __init__(self, directory, name):
        self.models = Models(config(name))
        self.base = config("target", draft_from=DraftFrom(LAYERS))
        self.adapters = {}
        for adapter, (seed, modules) in SEEDS.items():
            lora(directory / adapter, config(name, draft_from=DraftFrom(LAYERS)), seed=seed, modules=modules)
            base = {"name": "target", "draft_from": {"layers": LAYERS}}
            bound = {"target": self.models.identity()}
            artifact.write(directory / adapter, manifest(provides=["draft"], base=base, binds=bound))
            self.adapters[adapter] = str(directory / adapter)

    def merged(self, adapter):
        """The draft with an adapter merged into it."""
        return self.models.load(self.base if adapter == "base" else config(self.adapters[adapter]))

    def adapted(self, **changes):
        node = {"model": self.base, "adapters": self.adapters} | changes
        return adapted_draft.build(adapted_draft.Config(**node), self.models)


@pytest.fixture(scope="module", params=["plain", "packed"])
def drafts(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    return Drafts(directory, TINY if request.param == "plain" else wide(directory / "wide"))


def by_request(adapted):
    """Rows draft with what their request's number says."""
    prefill = adapted.prefill
    adapted.prefill = lambda batch, *rest: prefill(
        batch, *rest, [CHOICES[i % len(CHOICES)] for i in batch.requests.tolist()]
    )
    return adapted


@torch.inference_mode()
def said(runner, texts):
    """Logits [B, n, V] of two forwards, of which the second is one token long."""
    cache = runner.cache(len(texts), texts.shape[1])
    start = np.zeros(len(texts), dtype=np.int64)
    first = runner.forward(cache, texts[:, :-1], start).logits
    return torch.cat([first, runner.forward(cache, texts[:, -1:], start + texts.shape[1] - 1).logits], dim=1)


def test_a_row_says_what_the_merged_draft_says(drafts):
    adapted = drafts.adapted()
    module = adapted.runner.model.model.layers[0].self_attn.q_proj
    while isinstance(module, engine.Lora):
        module = module.base
    is_packed = isinstance(module, packed.Leader)
    assert is_packed == (drafts.models.config.name != TINY)
    texts = torch.randint(256, (len(CHOICES), 9), generator=torch.Generator().manual_seed(0))
    for choices in (CHOICES, ["y"] * len(CHOICES)):  # mixed, and all the same
        adapted.choose(choices)
        with adapted.rows:
            found = said(adapted.runner, texts)
        for row, choice in enumerate(choices):
            expected = said(drafts.merged(choice), texts[row : row + 1])
            torch.testing.assert_close(found[row : row + 1], expected, atol=1e-5, rtol=1e-5)
    plain = said(adapted.runner, texts)
    assert (found - plain).abs().max() > 0.01, "the adapters change nothing"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_batch_decodes_as_its_rows_do_alone(drafts, temperature):
    """With texts of different lengths: rows end, and are compacted, in between."""
    sampling = Sampling(temperature, max_new_tokens=24, seed=7)
    rng = np.random.default_rng(0)
    requests = [
        Request(i, tuple(rng.integers(256, size=3 + 2 * i).tolist()), limit=(4, 20, 9, 24, 13, 2, 17)[i])
        for i in range(7)
    ]
    adapted = by_request(drafts.adapted())
    together = SpecDecoder(drafts.models.target, adapted, Fixed(3), Rejection()).generate(requests, sampling)
    for request, found in zip(requests, together, strict=True):
        draft = DraftModel(drafts.merged(CHOICES[request.id % len(CHOICES)]))
        (alone,) = SpecDecoder(drafts.models.target, draft, Fixed(3), Rejection()).generate([request], sampling)
        assert (found.tokens, found.windows) == (alone.tokens, alone.windows)


def test_others_that_draft_with_the_same_base_do_not_notice(drafts):
    texts = torch.arange(12).view(2, 6)
    before = said(drafts.models.load(drafts.base), texts)
    adapted = drafts.adapted(choice="x")
    request = Request(0, (1, 2, 3))
    SpecDecoder(drafts.models.target, adapted, Fixed(3), Rejection()).generate([request], Sampling(max_new_tokens=8))
    assert adapted.runner is drafts.models.load(drafts.base)
    torch.testing.assert_close(said(adapted.runner, texts), before, atol=0, rtol=0)


def test_one_name_serves_all_rows_where_nobody_chooses(drafts):
    request, sampling = Request(0, (5, 6, 7, 8)), Sampling(1.0, max_new_tokens=16, seed=3)
    found = []
    for draft in (drafts.adapted(choice="y"), DraftModel(drafts.merged("y"))):
        found += SpecDecoder(drafts.models.target, draft, Fixed(3), Rejection()).generate([request], sampling)
    assert found[0].windows == found[1].windows
    assert drafts.adapted().names == ("base", "x", "y", "z")


def test_three_domains_take_a_fifth_more_memory_than_one_draft():
    """Of the shapes and the rank of the shipped recipes; without the embeddings, which a draft may share."""
    recipe = yaml.safe_load(configs.find_recipe("recipes/train/smollm2/distill_code_lora.yaml").read_text())["lora"]
    rank = recipe["rank"]
    with torch.device("meta"):
        shape = LlamaConfig(
            vocab_size=49152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=5,
            num_attention_heads=9,
            num_key_value_heads=3,
        )
        model = AutoModelForCausalLM.from_config(shape)
        model.lm_head = nn.Linear(576, 8192, bias=False)
        own = sum(p.nbytes for name, p in model.named_parameters() if "embed_tokens" not in name)
        named = dict(model.named_modules())
        widths = {path: m.weight.shape for path, m in named.items() if path.endswith(tuple(recipe["targets"]))}
        assert len(widths) == len(recipe["targets"])
        factors = {path: (torch.empty(rank, i), torch.empty(o, rank)) for path, (o, i) in widths.items()}
        engine.attach(model, [factors] * 3, torch.device("meta"), torch.float32)
    assert engine.size(model) == 3 * rank * sum(o + i for o, i in widths.values()) * 4
    assert engine.size(model) <= 0.2 * own


def test_adapters_over_a_draft_with_adapters_of_its_own(tmp_path):
    lora(tmp_path / "a", seed=1)
    base = config(adapters=[str(tmp_path / "a")])
    unmerged = lora(tmp_path / "b", base, seed=2)
    models = Models(config())
    node = adapted_draft.Config(base, {"b": str(tmp_path / "b")}, "b")
    adapted = adapted_draft.build(node, models)
    texts = torch.arange(7)[None]
    adapted.choose(["b"])
    with adapted.rows:
        torch.testing.assert_close(said(adapted.runner, texts), unmerged(texts), atol=1e-5, rtol=1e-5)
    assert str(tmp_path / "b") in models.provenance
    other = adapted_draft.build(adapted_draft.Config(base, {"c": str(tmp_path / "b")}), models)
    assert len({adapted.weights, other.weights, models.fingerprint(base)}) == 3


def refused(drafts, tmp_path, change):
    """What is said of a copy of adapter x, changed."""
    directory = tmp_path / "copy"
    lora(directory, config(draft_from=DraftFrom(LAYERS)), seed=1, modules=ALL)
    change(directory)
    with pytest.raises(UserError) as error:
        drafts.adapted(adapters={"x": str(directory)})
    return str(error.value)


def written(**entries):
    return lambda directory: artifact.write(directory, manifest(**{"provides": ["draft"]} | entries))


def configured(**entries):
    def change(directory):
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def without_a_factor(directory):
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({key: tensors[key] for key in sorted(tensors)[1:]}, path)


OTHER = {"name": "owner/model", "fingerprint": "f" * 64, "tokenizer": "t" * 64, "adapters": []}
BAD = [
    (written(provides=["target"]), "key 'provides' is ['target']; expected an adapter of a draft"),
    (written(base={"name": "target", "draft_from": {"layers": [0]}}), "was trained over another draft than 'target'"),
    (written(base={"name": "target"}, binds={"target": OTHER}), "trained for another model"),
    (written(base={"name": "mine"}, binds={"base": OTHER}), "trained for another model"),
    (configured(base_model_name_or_path="some/other"), "was trained on 'some/other'"),
    (configured(use_dora=True), "key 'use_dora' is True; expected False"),
    (configured(lora_alpha=None), "key 'lora_alpha' of adapter_config.json"),
    (without_a_factor, "expected pairs of a linear module's lora_A and lora_B"),
    (lambda directory: trim.save(directory, Vocabulary(torch.arange(5), 259), 259), "brings a head of its own"),
    (lambda directory: lora(directory, config(draft_from=DraftFrom([0, 1]))), "there is no linear module model.layers"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Drafts(tmp_path_factory.mktemp("small"), TINY)


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_what_does_not_belong_to_the_draft_is_refused(small, tmp_path, change, message):
    assert message in refused(small, tmp_path, change)


def test_shapes_and_names_are_checked(small, tmp_path):
    other = Drafts(tmp_path, wide(tmp_path / "wide"))
    (tmp_path / "x" / "manifest.json").unlink()
    message = r"does not fit 'target': model.layers.0.mlp.down_proj is 128 -> 64, and the adapter's 1024 -> 512"
    with pytest.raises(UserError, match=message):
        small.adapted(adapters={"x": other.adapters["x"]})
    for changes, message in [
        ({"adapters": {}}, "key 'adapters' names nothing; expected one adapter or more"),
        ({"adapters": {"base": small.adapters["x"]}}, "none of them 'base', which is the draft without any"),
        ({"choice": "w"}, "key 'choice' is 'w'; expected one of base, x, y, z"),
        ({"adapters": {"x": str(tmp_path / "nowhere")}}, "no adapter_config.json there"),
    ]:
        with pytest.raises(UserError, match=message):
            small.adapted(**changes)
