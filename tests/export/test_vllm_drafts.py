"""Exported drafts in vLLM: it loads them, drafts with them, writes the target's text and accepts as often as our loop.

Rounds are made to coincide: vLLM writes the first token without a draft, so our loop has it at the end of the prompt;
vLLM counts windows whole also where the text ends in them, so ours goes on behind that, and prompts whose text ends by
itself are left out. What then remains are near-ties, of the draft too.
"""

import dataclasses
from pathlib import Path

import pytest

from tests.export.engines import BASE, CHECKPOINTS, acceptance_length, check, check_counters, decode, missing
from toolkit import artifact, methods, trim
from toolkit.backends import vllm
from toolkit.engine.types import Request, Sampling
from toolkit.export import standalone
from toolkit.export.merge import merged_directory
from toolkit.hub import Models
from toolkit.tasks import steps

K = 4
SAMPLING = Sampling(max_new_tokens=40)
PROBLEMS = steps.build(steps.Config(split="test", style="cot", limit=16))
FEWEST = 6  # prompts whose text is longer
DRAFTS = [
    directory.name
    for directory in sorted(CHECKPOINTS.glob("smollm2-*"))
    if (directory / artifact.MANIFEST).is_file()
    and (artifact.read(directory).kind in ("eagle3", "delta") or (directory / trim.FILE).is_file())
]

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(3600),  # on a busy machine each start of vLLM takes minutes
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.mark.parametrize("name", DRAFTS)
def test_a_trained_draft(name, tmp_path, record_property):
    directory = CHECKPOINTS / name
    manifest = artifact.read(directory)
    adapters = adapters_of(manifest)
    models = Models(dataclasses.replace(BASE, adapters=adapters))
    prompts, generations = decode(models, PROBLEMS, SAMPLING)
    long = [i for i, one in enumerate(generations) if one.finish == "length"]
    assert len(long) >= FEWEST, "too few prompts whose text does not end"
    prompts, generations = [prompts[i] for i in long], [generations[i] for i in long]

    with merged_directory(models.config, tmp_path) as target:
        if manifest.kind == "eagle3":
            standalone.export(directory, tmp_path / "out", verifier=str(target.resolve()))
            served = vllm.generate(tmp_path / "out", prompts, SAMPLING, speculative={"num_speculative_tokens": K})
        else:
            standalone.export(directory, tmp_path / "out", target=BASE.name, target_adapters=adapters)
            told = {"method": "draft_model", "model": str(tmp_path / "out"), "num_speculative_tokens": K}
            served = vllm.generate(target, prompts, SAMPLING, speculative=told)
    check(served, generations, record_property)
    check_counters(served.counters, K)

    theirs = acceptance_length(served.counters)
    ours = our_length(models, tmp_path / "out", manifest.kind, prompts, served.tokens)
    record_property("acceptance_length", {"vllm": theirs, "ours": ours})
    print(f"{name}: acceptance length {theirs:.3f} in vLLM, {ours:.3f} here")
    assert theirs == pytest.approx(ours, rel=0.03)
    assert theirs > 1.3, "a trained draft has tokens accepted"


def adapters_of(manifest):
    """The checkpoints that the artifact's target has merged into it."""
    digests = manifest.binds["target"]["adapters"]
    known = {artifact.digest(path): str(path) for path in CHECKPOINTS.glob("smollm2-*") if path.is_dir()}
    return [known[digest] for digest in digests]


def our_length(models, exported: Path, kind, prompts, texts):
    """1 + accepted / drafts of our loop over the same rounds."""
    piece = {"type": "eagle3", "head": str(exported)}
    if kind != "eagle3":
        piece = {"type": "draft_model", "model": {"name": str(exported), "dtype": "float32"}}
    baseline = methods.resolve("baseline", "test")
    method = dataclasses.replace(baseline, proposer=piece, length={"type": "fixed", "k": K})
    requests = [Request(i, (*prompt, text[0])) for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True))]
    longer = Sampling(max_new_tokens=SAMPLING.max_new_tokens + K + 1)
    drafts = accepted = 0
    for done, text in zip(methods.decoder(method, models).generate(requests, longer), texts, strict=True):
        written = 1
        for _, stood in done.windows:
            if written >= len(text):
                break
            written += stood + 1
            drafts, accepted = drafts + 1, accepted + stood
    return 1 + accepted / drafts
