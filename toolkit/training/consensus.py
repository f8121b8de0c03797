"""A gate for Consensus AutoJudge from a target's recorded answers: `train/consensus.py`.

Every position of the target's greedy answers is an example, drafted teacher-forced: does D1 name the target's token, or
else D2, or neither? A logistic regression tells these apart by what both drafts' laws look like. Held out are prompts,
not positions; what is reported is of the gate as it is stored.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toolkit import artifact, config, sources
from toolkit.errors import UserError
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.loading import identify
from toolkit.nets import gate as gates
from toolkit.nets.gate import BLOCK, KIND, TOP, GateSettings, LearnedGate
from toolkit.training import consensus_fit, finish, processes, texts
from toolkit.training.consensus_fit import Examples
from toolkit.training.texts import Text, TextsConfig

RESULTS = Path("results/consensus")


@dataclass
class ConsensusRecipe:
    target: ModelConfig
    d1: ModelConfig  # the weak, cheap draft
    d2: ModelConfig  # the stronger one
    data: TextsConfig  # greedy answers of the target
    features: Literal["ensemble", "d1_only"] = "ensemble"
    fallback_threshold: float = 0.5  # the target is asked where the chance that both are wrong is at least this
    thresholds: list[float] = field(default_factory=lambda: [0.2, 0.35, 0.5, 0.65, 0.8])  # reported beside it
    top: int = TOP  # ranks that the features tell apart
    block: int = BLOCK  # tokens that the position is counted in
    C: float = 1.0  # inverse strength of the L2 penalty
    batch: int = 4  # texts in one forward
    method: str = "consensus gate, labelled teacher-forced on the target's answers"  # for the card, in words
    licence: str = ""  # SPDX id of the base model's licence, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


def load(path: Path | str, overrides: list[str]) -> ConsensusRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(ConsensusRecipe, path, overrides)
    limits = [recipe.fallback_threshold, *recipe.thresholds]
    rules = [
        ("data.answers", recipe.data.answers, recipe.data.answers, "one file or more"),
        ("data.valid", recipe.data.valid, 0 < recipe.data.valid < 1, "a share between 0 and 1"),
        ("fallback_threshold", limits[0], 0 <= limits[0] <= 1, "0 (ask always) to 1 (never)"),
        ("thresholds", recipe.thresholds, all(0 <= one <= 1 for one in limits), "numbers from 0 to 1"),
        ("top", recipe.top, recipe.top >= 1, "1 or more"),
        ("block", recipe.block, recipe.block >= 1, "1 or more"),
        ("C", recipe.C, recipe.C > 0, "above 0"),
        ("batch", recipe.batch, recipe.batch >= 1, "1 or more"),
    ]
    config.require(path, rules)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def run(recipe: ConsensusRecipe, command: dict[str, Any]) -> Path:
    """Label, fit, write and try the artifact -> its directory."""
    out, where = Path(recipe.out), command["path"]
    count = processes.joined().num_processes
    if count > 1:
        raise UserError(
            f"{where}: a gate is trained by one process, and {count} were launched: it takes a minute. Launch with "
            "--num_processes 1 (accelerate_configs/cpu.yaml, single_gpu.yaml)."
        )
    if finish.finished(out, recipe):
        sources.say(f"{out} is there already; delete it to train again")
        return out
    target = identify(recipe.target)
    found = texts.load(recipe.data, target, where)
    if not all(text.greedy for text in (*found.train, *found.valid)):
        raise UserError(
            f"{where}: key 'data.answers': some were decoded at a temperature above 0, and the gate is for greedy "
            "decoding. Collect greedy answers (answers.temperature=0)."
        )
    models = Models(recipe.target)
    runners = models.load(recipe.d1), models.load(recipe.d2)
    settings = GateSettings(recipe.features, recipe.fallback_threshold, recipe.top, recipe.block)
    parts = [consensus_fit.examples(*runners, part, settings, recipe.batch) for part in (found.train, found.valid)]
    gate, report = learn(recipe, *parts)
    report["texts"] = {"train": len(found.train), "held_out": len(found.valid)}
    _write(RESULTS / out.name, report)
    drafts = {"draft": recipe.d1, "draft2": recipe.d2}
    bound = {
        role: {
            "name": one.label,
            "fingerprint": models.fingerprint(one),
            "tokenizer": target["tokenizer"],
            "adapters": [],
        }
        for role, one in drafts.items()
    }
    figures = {"data": found.describe(), "training": report}
    described = finish.described(recipe, command, KIND, ["proposer"], {}, {"target": target} | bound, figures)
    manifest = dataclasses.replace(described, composes=_composed(recipe))
    finish.place(manifest, out, lambda directory: gates.save(gate, directory), _prompts(found.valid))
    return out


def learn(recipe: ConsensusRecipe, train: Examples, valid: Examples) -> tuple[LearnedGate, dict[str, Any]]:
    """-> the gate, and what it is worth on held-out positions, beside the rule and the commonest label."""
    settings = GateSettings(recipe.features, recipe.fallback_threshold, recipe.top, recipe.block)
    gate = consensus_fit.fit(train, settings, recipe.C)
    asked = sorted({recipe.fallback_threshold, *recipe.thresholds})
    return gate, {
        "positions": {"train": len(train), "held_out": len(valid)},
        "labels": {"train": train.labels(), "held_out": valid.labels()},
        **consensus_fit.quality(gate, train, valid),
        "thresholds": [{"fallback_threshold": one} | consensus_fit.taken(gate, valid, one) for one in asked],
        "without_escalation": [
            {"fallback_threshold": one} | consensus_fit.taken(gate, valid, one, escalation=False) for one in asked
        ],
        "rule": consensus_fit.taken_by_rule(valid),
    }


def _composed(recipe: ConsensusRecipe) -> dict[str, Any]:
    """The method that the gate is a part of."""
    drafts = {"d1": finish.base(recipe.d1), "d2": finish.base(recipe.d2)}
    return {
        "target": finish.base(recipe.target),
        "proposer": {"type": "consensus", **drafts, "gate": "."},
        "length": {"type": "fixed", "k": BLOCK},
        "accept": {"type": "gated"},
    }


def _prompts(held_out: list[Text]) -> list[tuple[int, ...]]:
    """What the reloaded artifact is tried on."""
    return [text.prompt for text in held_out[: finish.PROMPTS]]


def _write(directory: Path, report: dict[str, Any]) -> None:
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "report.json", report)
    chance = report["chance"]
    sources.say(
        f"held out: accuracy {report['val_accuracy']:.3f} (the commonest label {chance['val_accuracy']:.3f}), macro F1 "
        f"{report['val_macro_f1']:.3f} ({chance['val_macro_f1']:.3f}); see {directory}"
    )
    for row in report["thresholds"]:
        right = "" if row["right"] is None else f"; of the others {row['right']:.1%} are its own"
        asks = f"the target is asked for {row['fallback']:.1%} of its tokens"
        sources.say(f"fallback_threshold {row['fallback_threshold']:g}: {asks}{right}")
