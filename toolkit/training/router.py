"""`train/router.py`: try every draft on every prompt, then learn which prompt is whose.

The first stage decodes and is shared among all processes; the second is a matter of a minute for the first one. With
`collected`, what was tried before is learned from; with `train: null`, drafts are only tried. Prompts to learn from, to
choose by and to report on are three sets; the same text under two names is in one of them.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from toolkit import artifact, config, encoder, sources
from toolkit.errors import NotThere, UserError
from toolkit.evaluation import routing
from toolkit.evaluation.routing import Outcomes
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.loading import read_tokenizer
from toolkit.nets import router as routers
from toolkit.nets.router import Routing, StoredDraft
from toolkit.proposers import routed
from toolkit.training import finish, processes, router_collect, router_fit, router_report
from toolkit.training.recipe import DataConfig
from toolkit.training.router_collect import CollectConfig, Tried
from toolkit.training.router_fit import Part, TrainConfig

RESULTS = Path("results/router")


@dataclass
class RouterRecipe:
    target: ModelConfig | None = None
    data: DataConfig = field(default_factory=lambda: DataConfig(tasks=[]))  # training tasks, of every domain
    collect: CollectConfig | None = None
    collected: list[str] = field(default_factory=list)  # directories of earlier trials, of the same drafts
    train: TrainConfig | None = field(default_factory=TrainConfig)
    method: str = "router: sentence embedding and MLP, soft labels by measured time per token"
    licence: str = ""  # SPDX id, for the card
    out: str | None = None  # null: checkpoints/<name of the recipe's file>


def load(path: Path | str, overrides: list[str]) -> RouterRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(RouterRecipe, path, overrides)
    tries = recipe.collect is not None
    config.require(
        path,
        [
            ("collect", None, tries or recipe.collected, "drafts to try, or directories in `collected`"),
            ("target", recipe.target, recipe.target or not tries, "the model that the drafts are of"),
            ("data.tasks", recipe.data.tasks, recipe.data.tasks or not tries, "one training task or more"),
            *(router_collect.rules(recipe.collect) if tries else []),
            *([] if recipe.train is None else _rules(recipe.train)),
        ],
    )
    collect = recipe.collect
    if tries:
        name = collect.path or f"results/routing/{Path(path).stem}"
        collect = dataclasses.replace(collect, path=name, drafts=router_collect.nodes(collect, path))
    return dataclasses.replace(recipe, collect=collect, out=recipe.out or f"checkpoints/{Path(path).stem}")


def run(recipe: RouterRecipe, command: dict[str, Any]) -> Path | None:
    """Try what has not been tried, learn, write and try the artifact -> its directory, if there is to be one."""
    state, out = processes.joined(), Path(recipe.out)
    learns = recipe.train is not None
    if learns and finish.finished(out, recipe):
        sources.say(f"{out} is there already; delete it to train again")
        return out
    directories = [*recipe.collected]
    if recipe.collect is not None:
        if learns and len(recipe.collect.drafts) > 1:
            encoder.find(recipe.train.encoder)  # before hours of trials: NotThere where it is not at hand
        directories.append(str(router_collect.run(recipe.target, recipe.data, recipe.collect, command["path"])))
    if learns and state.is_main_process:
        _learn(recipe, command, router_collect.read(directories))
    state.wait_for_everyone()
    return out if learns else None


def split(prompts: list[str], settings: TrainConfig, where: str) -> np.ndarray:
    """[n]: 0 to train on, 1 to choose by, 2 to report on. prompts: what names a text; equal ones stay together."""
    known = np.unique(np.array(prompts))
    valid, test = (max(1, round(share * len(known))) for share in (settings.valid, settings.test))
    if len(known) < valid + test + 2:
        raise UserError(
            f"{where}: {len(known)} different prompts were tried; expected {valid + test + 2} or more: two to learn "
            f"from, {valid} to choose by and {test} to report on."
        )
    order = np.random.default_rng(settings.seed).permutation(known)
    parts = np.zeros(len(prompts), dtype=int)
    parts[np.isin(prompts, order[:valid])] = 1
    parts[np.isin(prompts, order[valid : valid + test])] = 2
    return parts


def _learn(recipe: RouterRecipe, command: dict[str, Any], tried: Tried) -> None:
    header, out = tried.header, Path(recipe.out)
    where = f"{tried.directories[0] / router_collect.HEADER}"
    target = config.parse(ModelConfig, header.target, f"{where}: target")
    drafts = tuple(
        StoredDraft(one["name"], {"proposer": one["proposer"], "length": one["length"]}, one["weights"])
        for one in header.drafts
    )
    if len(drafts) == 1:
        sources.say(f"one draft only, '{drafts[0].name}': there is nothing to choose, and nothing is trained")
        made = Routing(drafts, drafts[0].name, 0.0, vocab=header.vocab)
        report = {"matrix": router_report.matrix(tried)}
    else:
        made, report = _fitted(recipe.train, tried, drafts, read_tokenizer(target), where)
    with artifact.writing(RESULTS / out.name):
        (RESULTS / out.name).mkdir(parents=True, exist_ok=True)
        write_json(RESULTS / out.name / "report.json", report)
    router_report.show(report)
    asked = [node if isinstance(node, dict) else {"type": node} for node in header.data]
    data = {"fingerprint": tried.fingerprint(), "rows": len(tried.rows), "sources": asked}
    figures = {"data": data | {"collected": [str(one) for one in tried.directories]}, "training": report}
    manifest = finish.described(recipe, command, routers.KIND, ["proposer"], {}, header.binds, figures)
    pieces = {
        "proposer": {"type": "routed", "artifact": "."},
        "length": {"type": "fixed", "k": router_collect.LIMIT},
    }
    manifest = dataclasses.replace(manifest, composes={"target": header.target, **pieces})
    found = _models(target, header.drafts, where)
    absent, models = (found, None) if isinstance(found, str) else (None, found)
    finish.place(manifest, out, lambda directory: routers.save(made, directory), absent=absent, models=models)


def _fitted(
    settings: TrainConfig,
    tried: Tried,
    drafts: tuple[StoredDraft, ...],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
) -> tuple[Routing, dict[str, Any]]:
    parts = torch.from_numpy(split([row["prompt"] for row in tried.rows], settings, where))
    ms = torch.from_numpy(tried.ms().mean(1)).float()  # [n, D]
    single = int(ms[parts == 0].mean(0).argmin())
    sentences = encoder.Encoder(settings.encoder, torch.device("cpu"), settings.characters)
    tokens = [row["input_ids"] for row in tried.rows]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    rows = routers.features(sentences.encode(texts), texts, tokens, tried.header.vocab)
    train, valid, test = (Part(rows[parts == i], ms[parts == i]) for i in range(3))
    fitted = router_fit.fit(train, valid, single, settings)
    made = Routing(
        drafts,
        drafts[single].name,
        fitted.threshold,
        fitted.temperature,
        tried.header.vocab,
        sentences.stored(),
        fitted.net,
    )
    held_out = (parts == 2).numpy()
    domains = np.array(tried.domains)[held_out].tolist()
    probabilities = made.probabilities(test.features)
    chosen = router_fit.choices(probabilities, fitted.threshold, single).numpy()
    found = Outcomes(tried.names, domains, test.ms.numpy(), chosen, test.ms.numpy()[np.arange(len(test)), chosen])
    report = {
        "prompts": {name: len(part) for name, part in (("train", train), ("valid", valid), ("test", test))},
        "single": drafts[single].name,
        "loss": settings.loss,
        "best_epoch": fitted.best_epoch,
        "losses": fitted.curve,
        "temperature": fitted.temperature,
        "threshold": fitted.threshold,
        "nll": fitted.nll,
        "calibration": router_fit.calibration(probabilities, test.ms),
        "fallback_share": float((probabilities.max(-1).values < fitted.threshold).float().mean()),
        "test": routing.report(found, single),
        "matrix": router_report.matrix(tried),
        "taken_alone": router_collect.tried_alone(tried),
    }
    if cross := router_report.crossed_oracle(tried.ms()[held_out], single):
        report["crossed_oracle"] = cross
    return made, report


def _models(target: ModelConfig, drafts: list[dict[str, Any]], where: str) -> Models | str:
    """The target with its drafts, or why they cannot be tried here."""
    try:
        models = Models(target)
        routed.profiles(
            {one["name"]: {slot: one[slot] for slot in ("proposer", "length")} for one in drafts}, models, where
        )
    except NotThere as error:
        sources.say(f"not tried, as the target or a draft is not at hand: {error}")
        return f"target or draft not at hand when it was trained: {error}"
    return models


def _rules(settings: TrainConfig) -> list[config.Rule]:
    shares = settings.valid, settings.test
    return [
        ("train.epochs", settings.epochs, settings.epochs >= 1, "1 or more"),
        ("train.lr", settings.lr, settings.lr > 0, "above 0"),
        ("train.batch", settings.batch, settings.batch >= 1, "1 or more"),
        ("train.hidden", settings.hidden, settings.hidden >= 1, "1 or more"),
        ("train.dropout", settings.dropout, 0 <= settings.dropout < 1, "0 or more, below 1"),
        ("train.characters", settings.characters, settings.characters >= 1, "1 or more"),
        (
            "train.label_ms",
            settings.label_ms,
            settings.label_ms is None or settings.label_ms > 0,
            "null, or milliseconds above 0",
        ),
        (
            "train.threshold",
            settings.threshold,
            settings.threshold is None or 0 <= settings.threshold <= 1,
            "null, or a confidence from 0 to 1",
        ),
        ("train.valid", settings.valid, all(0 < one < 1 for one in shares) and sum(shares) < 1, "shares above 0"),
    ]
