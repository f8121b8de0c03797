"""`train/router.py`, first stage: every draft on every prompt, timed, for the router that is to choose between them.

Each prompt is decoded alone by each draft in turn, with the same seed, through the loop that everybody decodes with;
who goes first rotates. A line is written when a prompt is done, so a killed run goes on with the next one, with any
number of processes; but processes that share a machine slow each other down, so times are best taken by one.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit import artifact, config, sources, version
from toolkit.acceptance.rejection import Rejection
from toolkit.binding import Identity
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Generation, Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation import system
from toolkit.evaluation.progress import Bar
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.proposers import routed
from toolkit.proposers.routed import Profile, Routed
from toolkit.routers.fixed import Always
from toolkit.training import answers, processes
from toolkit.training.answers import Asked
from toolkit.training.recipe import DataConfig
from toolkit.training.tracing import alone, binds

HEADER, PARTS = "routing.json", "parts"
LIMIT = 32  # tokens a window: each draft has its own length policy, and the method's is only a bound on them
_SCHEMA, _WARM_UP = 1, 8


@dataclass
class CollectConfig:
    """How each draft is tried."""

    drafts: dict[str, Any] = field(default_factory=dict)  # name -> {proposer, length}, or a proposer alone
    path: str = ""  # "": results/routing/<name of the recipe's file>
    max_new_tokens: int = 64
    temperature: float = 1.0
    seed: int = 0
    repeats: int = 1  # texts a draft and prompt, each with draws of its own


@dataclass(frozen=True)
class Header:
    """Whose times they are."""

    schema_version: int
    target: dict[str, Any]  # a ModelConfig
    vocab: int  # its tokens
    drafts: list[dict[str, Any]]  # name, proposer, length, weights: in the order of the recipe
    binds: dict[str, Identity]  # target, and draft.NAME of each that has weights
    sampling: dict[str, Any]
    repeats: int
    thinking: bool
    data: list[Any]  # the tasks, of all sittings
    hardware: dict[str, Any]
    code: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """What must be equal for times to stand side by side."""
        keys = ("schema_version", "target", "drafts", "binds", "sampling", "repeats", "thinking")
        return {key: getattr(self, key) for key in keys} | {
            "hardware": [self.hardware[key] for key in ("cpu", "gpu", "threads")]
        }


def rules(settings: CollectConfig) -> list[config.Rule]:
    """For `config.require`."""
    return [
        ("collect.drafts", settings.drafts, settings.drafts, "one draft or more, by name"),
        ("collect.max_new_tokens", settings.max_new_tokens, settings.max_new_tokens >= 8, "8 or more"),
        ("collect.temperature", settings.temperature, settings.temperature >= 0, "0 (greedy) or more"),
        ("collect.repeats", settings.repeats, settings.repeats >= 1, "1 or more"),
    ]


def nodes(settings: CollectConfig, where: Path | str) -> dict[str, dict[str, Any]]:
    """The drafts by name, every piece checked and every default filled in."""
    return {name: routed.profile(node, f"{where}: collect.drafts.{name}") for name, node in settings.drafts.items()}


def run(target: ModelConfig, prompts: DataConfig, settings: CollectConfig, where: Path | str) -> Path:
    """Try what has not been tried yet -> the directory."""
    state, directory = processes.joined(), Path(settings.path)
    models = Models(target)
    asked = answers.asked(prompts, models.target.tokenizer, where)
    spelled = nodes(settings, where)
    profiles = routed.profiles(spelled, models, f"{where}: collect.drafts")
    decoders = {one.name: _decoder(models, profiles, i) for i, one in enumerate(profiles)}
    header = _header(models, profiles, spelled, prompts, settings)
    with alone(directory, "collect.path", first=state.is_main_process):
        if state.is_main_process:
            _open(directory, header, where)
        state.wait_for_everyone()
        done = answers.read_parts(directory / PARTS)
        state.wait_for_everyone()  # nobody writes before all have read what is there
        _check_worded_once({*done, *(one.name for one in asked)}, f"{where}: key 'collect.path': {directory}")
        missing = [one for one in asked if one.name not in done]
        own = missing[state.process_index :: state.num_processes]
        if own:
            if state.num_processes > 1 and state.is_main_process:
                sources.say("several processes take times beside each other: they are longer than one's alone")
            _try(directory / PARTS / f"{state.process_index}.jsonl", decoders, own, settings, state.num_processes)
        state.wait_for_everyone()
    return directory


def _decoder(models: Models, profiles: Sequence[Profile], draft: int) -> SpecDecoder:
    """Always this draft, through the proposer that will route."""
    return SpecDecoder(models.target, Routed(profiles, Always(draft)), Fixed(LIMIT), Rejection())


def _try(
    part: Path, decoders: dict[str, SpecDecoder], own: Sequence[Asked], settings: CollectConfig, beside: int
) -> None:
    sampling = Sampling(settings.temperature, max_new_tokens=settings.max_new_tokens, seed=settings.seed)
    for decoder in decoders.values():
        warm_up = dataclasses.replace(sampling, max_new_tokens=_WARM_UP)
        decoder.generate([Request(own[0].number, own[0].tokens)], warm_up)
    names = list(decoders)
    with Bar("drafts", len(own) * len(names)) as bar:
        for i, one in enumerate(own):
            tried: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for repeat in range(settings.repeats):
                turn = (i + repeat) % len(names)
                for name in (*names[turn:], *names[:turn]):
                    request = Request(one.number, one.tokens, sample=repeat)
                    [generation] = decoders[name].generate([request], sampling)
                    tried[name].append(_measured(generation))
            row = {
                "key": one.key,
                "prompt": one.prompt,
                "domain": str(one.problem.meta.get("domain", one.task.name)),
                "input_ids": list(one.tokens),
                "drafts": tried,
                "processes": beside,
            }
            answers.append(part, json.dumps(row) + "\n")
            bar.advance(len(names), one.task.name)


def _measured(generation: Generation) -> dict[str, Any]:
    """Of one text: what it took, prefill included, and how well it was drafted."""
    proposed, accepted = (sum(window[i] for window in generation.windows) for i in (0, 1))
    tokens, rounds = len(generation.tokens), len(generation.windows)
    return {
        "ms": round(1e3 * generation.times.total / tokens, 4),  # a token
        "tokens": tokens,
        "rounds": rounds,
        "tau": round(tokens / rounds, 4),
        "proposed": proposed,
        "accepted": accepted,
        "acceptance": round(accepted / proposed, 4) if proposed else None,
    }


@dataclass(frozen=True)
class Tried:
    """What was collected, of one or more directories of the same drafts."""

    header: Header
    directories: list[Path]
    rows: list[dict[str, Any]]  # in the order of their keys

    @property
    def names(self) -> list[str]:
        return [one["name"] for one in self.header.drafts]

    @property
    def domains(self) -> list[str]:
        return [row["domain"] for row in self.rows]

    def ms(self) -> np.ndarray:
        """[n, R, D] milliseconds a token, by prompt, repeat, draft."""
        return np.array(
            [[[one["ms"] for one in row["drafts"][name]] for name in self.names] for row in self.rows]
        ).swapaxes(1, 2)

    def mean(self, key: str) -> np.ndarray:
        """[n, D] of `tau` or `acceptance`, over repeats; NaN where nothing was proposed."""
        cells = [[[one[key] for one in row["drafts"][name]] for name in self.names] for row in self.rows]
        return np.array(cells, dtype=float).mean(-1)

    def fingerprint(self) -> str:
        """SHA-256 of all that was measured."""
        return hashlib.sha256(json.dumps(self.rows, sort_keys=True).encode()).hexdigest()


def read(directories: Sequence[Path | str]) -> Tried:
    """UserError where there is nothing, or where the directories are of other drafts."""
    headers = [_read_header(Path(one)) for one in directories]
    for directory, header in zip(directories, headers, strict=True):
        _check_same(headers[0], header, f"{directories[0]} and {directory}: what was tried")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for directory in directories:
        rows |= answers.read_parts(Path(directory) / PARTS)
    _check_worded_once(rows, ", ".join(map(str, directories)))
    header = dataclasses.replace(headers[0], data=_joined(one.data for one in headers))
    if not rows:
        raise UserError(f"{', '.join(map(str, directories))}: no prompt has been tried yet.")
    return Tried(header, [Path(one) for one in directories], [rows[key] for key in sorted(rows)])


def _header(
    models: Models,
    profiles: Sequence[Profile],
    spelled: dict[str, dict[str, Any]],
    prompts: DataConfig,
    settings: CollectConfig,
) -> Header:
    drafts = [{"name": one.name, **spelled[one.name], "weights": one.proposer.weights} for one in profiles]
    bound = {"target": models.identity()}
    for one in profiles:
        if one.proposer.weights:
            found = binds(models, one.proposer.weights, spelled[one.name]["proposer"])
            bound[f"draft.{one.name}"] = found["draft"]
    hardware = system.metadata()
    keys = ("cpu", "gpu", "threads", "torch", "transformers")
    header = Header(
        schema_version=_SCHEMA,
        target=dataclasses.asdict(models.config),
        vocab=models.target.vocab,
        drafts=drafts,
        binds=bound,
        sampling={key: getattr(settings, key) for key in ("temperature", "max_new_tokens", "seed")},
        repeats=settings.repeats,
        thinking=prompts.thinking,
        data=prompts.tasks,
        hardware={key: hardware[key] for key in keys},
        code=version.code(),
    )
    return Header(**json.loads(json.dumps(dataclasses.asdict(header))))  # as it reads when it comes back


def _open(directory: Path, header: Header, where: Path | str) -> None:
    if (directory / HEADER).is_file():
        there = _read_header(directory)
        _check_same(there, header, f"{where}: key 'collect.path': {directory}")
        header = dataclasses.replace(header, data=_joined([there.data, header.data]))
    with artifact.writing(directory):
        (directory / PARTS).mkdir(parents=True, exist_ok=True)
        write_json(directory / HEADER, dataclasses.asdict(header))


def _joined(tasks: Iterable[list[Any]]) -> list[Any]:
    """Each once."""
    found: list[Any] = []
    for some in tasks:
        found += [one for one in some if one not in found]
    return found


def _check_same(there: Header, here: Header, what: str) -> None:
    found, wanted = there.identity(), here.identity()
    for key in wanted:
        if found[key] != wanted[key]:
            raise UserError(
                f"{what} differs in '{key}': {str(found[key])[:200]} there, {str(wanted[key])[:200]} here. Times of "
                "different drafts, targets or machines do not go together: take another directory, or delete this one."
            )


def _check_worded_once(names: Iterable[tuple[str, str]], what: str) -> None:
    """names: (key, prompt). Two wordings of one question would stand on both sides of what is learned and reported."""
    prompts: dict[str, str] = {}
    for key, prompt in names:
        if prompts.setdefault(key, prompt) != prompt:
            raise UserError(
                f"{what}: '{key}' is there in two wordings: the data, the style or the template changed in between. "
                "Take another directory for the new wording, or delete the one with the old."
            )


def _read_header(directory: Path) -> Header:
    path = directory / HEADER
    try:
        return Header(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not readable ({error}). Expected a directory that the first stage of train/router.py wrote."
        ) from None


def tried_alone(tried: Tried) -> bool:
    """Were all times taken by one process?"""
    return all(row["processes"] == 1 for row in tried.rows)
