"""One resident draft model and several LoRA adapters over it: every row drafts with its own (see toolkit.engine.lora).

The base's weights are in memory once, and so are the adapters, whatever number of proposers drafts with them (under
different length policies, say); each has a cache of its own for all its rows. Rows may be given another adapter later:
what their cache holds stays then as the earlier one wrote it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from toolkit import adapters, artifact, binding, trim
from toolkit.artifact import Manifest
from toolkit.binding import Identity
from toolkit.config import parse
from toolkit.engine import lora
from toolkit.engine.runner import Runner
from toolkit.engine.types import Batch, Step, TargetView
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.loading import identify, spelled_out
from toolkit.proposers.draft_model import DraftModel

BASE = "base"  # the name of the draft without an adapter


@dataclass
class Config:
    model: ModelConfig  # the draft that all adapters were trained over
    adapters: dict[str, str]  # name -> directory of a LoRA
    choice: str = BASE  # what rows draft with that nobody chooses for


class Resident:
    """A draft, and adapters beside its modules."""

    def __init__(self, runner: Runner, factors: dict[str, lora.Factors]) -> None:
        self.runner, self.names = runner, (BASE, *factors)
        self.rows = lora.attach(runner.model, list(factors.values()), runner.device, runner.dtype)
        self.user: AdaptedDraft | None = None  # whose rows `rows` stands for


class AdaptedDraft(DraftModel):
    def __init__(self, resident: Resident, choice: str = BASE, weights: str = "") -> None:
        super().__init__(resident.runner, weights)
        self.names, self.choice = resident.names, choice
        self._resident = resident
        self._index: list[int] = []  # of each row's adapter

    @property
    def rows(self) -> lora.Rows:
        """The adapters as these rows have them: others may have drafted with them in between."""
        if self._resident.user is not self:
            self._resident.rows.choose(self._index)
            self._resident.user = self
        return self._resident.rows

    def prefill(self, batch: Batch, capacity: int, target: TargetView, choices: Sequence[str] | None = None) -> None:
        self.choose([self.choice] * len(batch) if choices is None else choices)
        with self.rows:
            super().prefill(batch, capacity, target)

    def choose(self, choices: Sequence[str]) -> None:
        self._index = [self.names.index(name) - 1 for name in choices]  # BASE: lora.NONE
        self._resident.user = None

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._index = [self._index[row] for row in rows.tolist()]
        self._resident.user = None

    def _feed(self, tokens: Tensor, start: np.ndarray) -> Step:
        with self.rows:
            return super()._feed(tokens, start)


def build(config: Config, models: Models) -> AdaptedDraft:
    _check(config)
    runner = models.load(config.model)
    base = identify(spelled_out(config.model, models.config), models.config)
    directories, digests = {}, [models.fingerprint(config.model)]
    for name, given in config.adapters.items():
        directory, manifest = adapters.read(given)
        _check_binding(directory, manifest, config.model, base, models)
        directories[name] = directory
        digest = artifact.digest(directory)
        models.asked.add(given)
        models.provenance[given] = {"source": f"adapter {digest[:12]} over {config.model.label}", "fingerprint": digest}
        digests += [name, digest]
    weights = hashlib.sha256(" ".join(digests).encode()).hexdigest()
    key = f"adapters over {spelled_out(config.model, models.config)!r}: {weights}"
    if key not in models.pieces:
        models.pieces[key] = Resident(runner, _factors(directories, runner, config.model))
    return AdaptedDraft(models.pieces[key], config.choice, weights)


def _factors(directories: dict[str, Path], runner: Runner, model: ModelConfig) -> dict[str, lora.Factors]:
    """By name; UserError where one has no place in the draft."""
    found = {}
    for name, directory in directories.items():
        found[name] = adapters.factors(directory)
        if problem := lora.misfit(runner.model, found[name]):
            raise UserError(
                f"adapter '{directory}' does not fit '{model.label}': {problem}. Use it with the draft that it was "
                "trained over."
            )
    return found


def _check(config: Config) -> None:
    names = [BASE, *config.adapters]
    if not config.adapters or BASE in config.adapters:
        raise UserError(
            f"proposer adapted_draft: key 'adapters' names {', '.join(config.adapters) or 'nothing'}; expected one "
            f"adapter or more, as {{code: DIRECTORY}}, none of them '{BASE}', which is the draft without any."
        )
    if config.choice not in names:
        raise UserError(
            f"proposer adapted_draft: key 'choice' is '{config.choice}'; expected one of {', '.join(names)}."
        )


def _check_binding(
    directory: Path, manifest: Manifest | None, model: ModelConfig, base: Identity, models: Models
) -> None:
    """An adapter of another target, another draft or another head is refused; one without a manifest by its shapes."""
    if (directory / trim.FILE).is_file():
        raise UserError(
            f"{directory / trim.FILE}: the adapter brings a head of its own, and adapters over one draft share that "
            "draft's. Train it over the draft: student: DRAFT and lora: {...}, without vocabulary."
        )
    if manifest is None:
        adapters.check_base(directory, None, base)
        return
    where = directory / artifact.MANIFEST
    if "draft" not in manifest.provides:
        raise UserError(f"{where}: key 'provides' is {manifest.provides}; expected an adapter of a draft.")
    if "target" in manifest.binds:
        binding.check(directory, manifest.binds["target"], models.identity())
    if "base" in manifest.binds:
        binding.check(directory, manifest.binds["base"], base)
        return
    trained_over = spelled_out(parse(ModelConfig, manifest.base, f"{where}: key 'base'"), models.config)
    here = spelled_out(model, models.config)
    if (trained_over.label, trained_over.draft_from) != (here.label, here.draft_from):
        raise UserError(
            f"{where}: key 'base' is {manifest.base}; the adapter was trained over another draft than '{model.label}'"
            f"{f', {model.draft_from}' if model.draft_from else ''}. Use it with its own."
        )
