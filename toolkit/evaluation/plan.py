"""Which rows a recipe asks for, which of them are there, and which have to be decoded again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property

from toolkit import methods
from toolkit.config import parse
from toolkit.engine import fits
from toolkit.errors import UserError
from toolkit.evaluation import seeds, timed
from toolkit.evaluation.grid import Cell
from toolkit.evaluation.measure import Block, Contender, Setting, resume_key
from toolkit.evaluation.outdir import Identity
from toolkit.evaluation.prompts import Prompt
from toolkit.evaluation.recipe import EvalRecipe
from toolkit.evaluation.records import Item, Record, RecordFile
from toolkit.evaluation.score import BASELINE
from toolkit.evaluation.timed import Candidate
from toolkit.hub import ModelConfig, Models
from toolkit.loading import spelled_out
from toolkit.methods import MethodConfig


@dataclass(frozen=True)
class Plan:
    """A recipe with its methods built and its prompts prepared."""

    name: str
    recipe: EvalRecipe
    models: Models
    prompts: Sequence[Prompt]
    contenders: Sequence[Contender]
    setting: Setting
    cells: Mapping[str, Cell]  # by method: its place in the recipe's grids
    untimed: Mapping[str, str] = field(default_factory=dict)  # who is not in the speed set -> why

    def identity(self, task: Identity) -> Identity:
        """What makes an output directory this recipe's. How many prompts, seeds and methods is no part of it."""
        return self.setting.common | {
            "task": task,
            "speed": {"batch": self.recipe.speed.batch},
            "methods": {contender.name: contender.config for contender in self.contenders},
        }

    def narrowed(self, rows: Sequence[Record]) -> "Plan":
        """With the methods that `speed.methods` leaves out; `front` is not known before the quality set is whole."""
        chosen = self.recipe.speed.methods
        if not self.recipe.speed.prompts:
            return self
        if chosen == timed.FRONT and any(one.set == "quality" for one in self.missing(rows)):
            return self
        candidates = [Candidate(c.name, c.config, c.lossless, self.cells[c.name]) for c in self.contenders]
        untimed = timed.untimed(chosen, candidates, self.own(rows))
        return self if untimed == self.untimed else replace(self, untimed=untimed)

    def speed_blocks(self) -> list[Block]:
        size = self.recipe.speed.batch
        chosen = self.prompts[: self.recipe.speed.prompts]
        return [
            Block("speed", i, chosen[start : start + size], seed, repeat)
            for repeat in range(self.recipe.speed.repeats)
            for seed in self.recipe.seeds
            for i, start in enumerate(range(0, len(chosen), size))
        ]

    def quality_blocks(self) -> list[Block]:
        """One a seed; which of its prompts are decoded together is decided by what is missing."""
        if not self.recipe.quality.enabled:
            return []
        chosen = self.prompts[: self.recipe.quality.prompts]
        return [Block("quality", 0, chosen, seed) for seed in self.recipe.seeds]

    def quality_contenders(self) -> list[Contender]:
        """The baseline and whoever may change the accuracy; all, where the recipe wants exact ones measured as well."""
        exact = self.recipe.quality.exact
        return [c for c in self.contenders if c.name == BASELINE or exact or not c.lossless]

    def speed_contenders(self) -> list[Contender]:
        return [c for c in self.contenders if c.name not in self.untimed]

    @cached_property
    def keys(self) -> Mapping[Item, str]:
        """Every row that is to be there in the end, with its resume key. Worked out once: hashes take a while."""
        jobs = [(c, b) for b in self.speed_blocks() for c in self.speed_contenders()]
        jobs += [(c, b) for b in self.quality_blocks() for c in self.quality_contenders()]
        drawn = self.recipe.seeds, self.recipe.sampling.temperature
        jobs = [(c, b) for c, b in jobs if seeds.asked(c, b, self.speed_contenders(), *drawn)]
        return {
            item(contender, prompt, block): resume_key(self.setting, contender.config, prompt, block)
            for contender, block in jobs
            for prompt in block.prompts
        }

    def own(self, rows: Iterable[Record]) -> list[Record]:
        """The rows that this recipe asks for; a directory may hold those of a longer one."""
        return [row for row in rows if row.item in self.keys]

    def missing(self, rows: Iterable[Record]) -> set[Item]:
        return self.keys.keys() - {row.item for row in rows}

    def tidy(self, records: RecordFile) -> None:
        """Drop what is to be decoded again: failed rows, and batches of the speed set that are not whole."""
        for row in records.rows:
            if row.item in self.keys and row.resume_key != self.keys[row.item]:
                raise UserError(
                    f"{records.path}: the row of prompt '{row.prompt_id}' and method '{row.method}' is of other "
                    f"data than {self.name} has now. Choose another out=DIR, or delete {records.path.parent}."
                )
        redo = {row.item for row in records.rows if row.item in self.keys and not row.ok}
        there = {row.item: row for row in records.rows if row.item not in redo}
        for block in self.speed_blocks():
            for contender in self.speed_contenders():
                items = [item(contender, prompt, block) for prompt in block.prompts]
                sizes = {there[i].batch if i in there else 0 for i in items}
                if sizes not in ({len(items)}, {1}):
                    redo |= set(items)
        records.keep(lambda row: row.item not in redo)


def contender(method: MethodConfig, models: Models, recipe: EvalRecipe) -> Contender:
    """The method, built over the recipe's target.

    Its config says which weights its drafts have: a draft trained on is another method, even in the same place. A
    draft that it names and would never ask has none in it, whether or not another method has loaded it.
    """
    models.asked.clear()
    decoder, own = methods.built(method, models)
    sampling = recipe.sampling.seeded(0)
    fits.check_sampling(decoder.proposer, sampling)
    pieces = {key: value for key, value in asdict(method).items() if key != "name"}
    options = [option for piece in pieces.values() for option in _options(piece)]
    drafts = {spelled_out(draft, models.config).label for draft in _drafts(options)}
    pieces["weights"] = {name: models.provenance[name]["fingerprint"] for name in sorted(models.asked)}
    if unused := sorted(drafts - models.asked):
        pieces["not_loaded"] = unused
    return Contender(method.name, pieces, decoder, decoder.accept.lossless(sampling), own)


def setting(recipe: EvalRecipe, models: Models, session: str, task: object) -> Setting:
    """What all rows share; `common` goes into every resume key."""
    target = {**asdict(models.config), "dtype": str(models.target.dtype), "device": models.target.device.type}
    common = {
        "target": target,
        "weights": models.provenance[models.config.label]["fingerprint"],
        "vocab": models.target.vocab,
        "sampling": asdict(recipe.sampling),
        "chat_template": recipe.chat_template,
    }
    return Setting(task, recipe.sampling, common, recipe.speed, session)


def _drafts(options: Sequence[object]) -> list[ModelConfig]:
    """The models in a method's pieces: the options that were a ModelConfig."""
    return [parse(ModelConfig, option, "draft") for option in options if _is_model(option)]


def _options(piece: dict[str, object]) -> Iterator[object]:
    """A piece's options and, where it holds others, theirs; a model is one option."""
    for option in piece.values():
        yield option
        if isinstance(option, dict) and not _is_model(option):
            yield from _options(option)


def _is_model(option: object) -> bool:
    return isinstance(option, dict) and option.keys() == {field.name for field in fields(ModelConfig)}


def item(contender: Contender, prompt: Prompt, block: Block) -> Item:
    return Item(block.set, contender.name, prompt.id, block.seed, block.repeat)
