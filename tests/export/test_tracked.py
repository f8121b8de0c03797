"""The tracked adapters in plain PEFT and, merged, in plain transformers: the greedy tokens of our loop."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit import artifact, chat, heads, methods, sources
from toolkit.engine.types import Request, Sampling
from toolkit.evaluation.equality import first_difference, near_tie
from toolkit.export.merge import export_merged
from toolkit.hub import ModelConfig, Models
from toolkit.tasks import steps

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SAMPLING = Sampling(max_new_tokens=48)
STYLES = ("cot", "cod")
LORAS = ("smollm2-cot", "smollm2-cod", "smollm2-cot-distilled", "smollm2-cot-distilled-small")
HEADS = ("smollm2-eagle3", "smollm2-cot-eagle3")
LEARNED = (  # from what was recorded of others
    *("smollm2-jointadaspec", "smollm2-jointadaspec-t0", "smollm2-cot-jointadaspec", "smollm2-cot-jointadaspec-t0"),
    *("smollm2-specdecpp", "smollm2-cot-specdecpp"),
    *("smollm2-cot-autojudge", "smollm2-cot-consensus", "smollm2-cot-consensus-d1"),
)
TRACKED = (*LORAS, *HEADS, *LEARNED)
TOGETHER = 60e6  # bytes


def tracked(name):
    """The artifact's directory; what else someone trained into checkpoints/ is not looked at."""
    if not (CHECKPOINTS / name).is_dir():
        pytest.skip(f"checkpoints/{name} is not there: it is not trained yet")
    return CHECKPOINTS / name


@pytest.mark.parametrize("name", TRACKED)
def test_a_tracked_artifact_is_whole_and_small(name):
    directory = tracked(name)
    manifest = artifact.verify(directory)
    assert "skipped" not in manifest.smoke
    assert manifest.recipe["path"].startswith("recipes/")
    assert all((directory / name).stat().st_size <= 16 * 2**20 for name in manifest.files)
    assert "/" not in str(manifest.training["hardware"]["cpu"])


def test_what_is_tracked_is_small_together():
    there = [CHECKPOINTS / name for name in TRACKED if (CHECKPOINTS / name).is_dir()]
    assert (
        sum(path.stat().st_size for directory in there for path in directory.rglob("*") if path.is_file()) <= TOGETHER
    )


@pytest.mark.parametrize("name", HEADS)
def test_a_tracked_head_is_read_and_names_a_target_that_others_find(name):
    head, vocabulary = heads.read(tracked(name))
    assert len(vocabulary) == head.config.draft_vocab_size <= 5000
    assert artifact.read(CHECKPOINTS / name).binds["target"]["name"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.real
@pytest.mark.parametrize("style", STYLES)
def test_plain_libraries_write_what_our_loop_writes(style, tmp_path):
    directory = tracked(f"smollm2-{style}")
    task = steps.build(steps.Config(split="test", style=style, limit=4))
    base = sources.resolve("smollm2-135m").path
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompts = [chat.encode(task.messages(one), tokenizer) for one in task.problems()]
    models = Models(ModelConfig("smollm2-135m", dtype="float32", device="cpu", adapters=[str(directory)]))
    decoder = methods.decoder(methods.resolve("baseline", "test"), models, record_gaps=True)
    ours = decoder.generate([Request(i, tokens) for i, tokens in enumerate(prompts)], SAMPLING)

    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), directory)
    check(adapted, prompts, ours)
    export_merged([directory], tmp_path / "merged")
    check(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32), prompts, ours)
    again = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert [chat.encode(task.messages(one), again) for one in task.problems()] == prompts


def check(model, prompts, ours):
    """The same tokens to the end, but for a near-tie."""
    for tokens, generation in zip(prompts, ours, strict=True):
        ids = torch.tensor([tokens])
        with torch.no_grad():
            whole = model.eval().generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=SAMPLING.max_new_tokens,
            )
        at = first_difference(whole[0, len(tokens) :].tolist(), generation.tokens)
        assert at is None or generation.gaps[at] < near_tie(torch.float32), (generation.id, at)
