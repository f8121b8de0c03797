"""Mining for AutoJudge: which mismatches of a draft would change a target's answer, found by trying each of them.

`train/autojudge.py` with a `mine` section. Prompts are training tasks under the template of evaluation; each process
takes its share, `batch` prompts at a time (mining_search). What is done is written every half minute, prompt by prompt,
so the same command goes on where it was stopped, with any number of processes, and with more prompts it adds to it.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit import artifact, config, sources, version
from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.nets.judge import COLUMNS
from toolkit.proposers.draft_model import DraftModel
from toolkit.training import answers, mined, processes, tracing
from toolkit.training.answers import Asked
from toolkit.training.mined import HEADER, MISMATCHES, PARTS, PROMPTS, SCHEMA_VERSION, Header, Mined
from toolkit.training.mining_search import Miner, Search, decoded
from toolkit.training.recipe import DataConfig

STATES = ("target", "draft")
_EVERY = 30.0  # seconds between two writes


@dataclass
class MineConfig:
    """How mismatches are mined, and what is kept of them."""

    proposer: Any = None  # {type: draft_model, model: ...}: whose mismatches
    path: str = ""  # "": results/mined/<name of the recipe's file>
    max_new_tokens: int = 256  # of an answer, swapped tokens included
    batch: int = 32  # prompts at a time; like `window`, it changes the time only
    window: int = 4  # tokens of the former answer that a continuation is tried with each round; 0: none
    hidden: list[str] = field(default_factory=lambda: ["target"])  # keep states of these: target, draft
    budget_gb: float = 2.0  # refuse to keep more states than this


def check(settings: MineConfig, where: Path | str) -> None:
    """Refuse values that cannot be meant. UserError names the key."""
    hidden, whole = settings.hidden, settings.proposer is not None
    rules = [
        ("mine.proposer", settings.proposer, whole, "a draft model, as in {type: draft_model, model: DIR}"),
        ("mine.max_new_tokens", settings.max_new_tokens, settings.max_new_tokens >= 2, "2 or more"),
        ("mine.batch", settings.batch, settings.batch >= 1, "1 or more"),
        ("mine.window", settings.window, 0 <= settings.window <= 64, "0 (none) to 64"),
        (
            "mine.hidden",
            hidden,
            set(hidden) <= set(STATES) and len(set(hidden)) == len(hidden),
            f"some of {', '.join(STATES)}, each once",
        ),
    ]
    config.require(where, rules)


def place(settings: MineConfig, where: Path | str) -> Path:
    """Where the mined rows of a recipe are."""
    return Path(settings.path or f"results/mined/{Path(where).stem}")


def run(target: ModelConfig, prompts: DataConfig, settings: MineConfig, where: Path | str) -> Path:
    """Mine what is not there yet -> the directory."""
    check(settings, where)
    state = processes.joined()
    directory = place(settings, where)
    models = Models(target)
    module, options = config.piece("proposers", settings.proposer, f"{where}: mine.proposer")
    proposer = module.build(options, models)
    if not isinstance(proposer, DraftModel):
        raise UserError(
            f"{where}: key 'mine.proposer': mismatches are those of a draft model, whose choices at all places of an "
            "answer are known from one forward. Expected type draft_model."
        )
    node = {"type": module.__name__.rpartition(".")[2], **dataclasses.asdict(options)}
    asked = answers.asked(prompts, models.target.tokenizer, where)
    header = _header(models, proposer, node, prompts, settings)
    _check_size(header, settings, len(asked), where)
    with tracing.alone(directory, "mine.path", first=state.is_main_process):
        if state.is_main_process:
            _open(directory, header, asked, where)
        state.wait_for_everyone()
        done = _done(directory)
        missing = [one for one in asked if one.key not in done]
        state.wait_for_everyone()  # nobody writes before all have read what is there
        missing.sort(key=lambda one: len(one.tokens))
        own = missing[state.process_index :: state.num_processes]
        began = time.perf_counter()
        _mine(directory, models, proposer, settings, header.hidden, own)
        state.wait_for_everyone()
        if state.is_main_process:
            _say(directory, len(missing), time.perf_counter() - began)
    return directory


def _mine(
    directory: Path,
    models: Models,
    proposer: DraftModel,
    settings: MineConfig,
    hidden: dict[str, int],
    asked: Sequence[Asked],
) -> None:
    if not asked:
        return
    with Bar("mine", len(asked)) as bar:
        writer = _Writer(directory / PARTS, hidden, models, settings.batch, bar)
        miner = Miner(
            models.target,
            proposer.runner,
            limit=settings.max_new_tokens,
            batch=settings.batch,
            window=settings.window,
            states=settings.hidden,
            done=writer.take,
        )
        miner.run(asked)
        writer.write()


class _Writer:
    """Keeps searches until there are enough of them to write."""

    def __init__(self, parts: Path, hidden: dict[str, int], models: Models, batch: int, bar: Bar) -> None:
        self._parts, self._hidden, self._batch, self._bar = parts, hidden, batch, bar
        self._tokenizer = models.target.tokenizer
        self._ended: list[Search] = []
        self._last = time.monotonic()

    def take(self, search: Search) -> None:
        self._ended.append(search)
        self._bar.advance(1, f"{len(search.decided)} mismatches")
        if len(self._ended) >= self._batch or time.monotonic() - self._last > _EVERY:
            self.write()

    def write(self) -> None:
        """Both files or, for a reader, none: the prompts come last, and mismatches without them do not count."""
        ended, self._ended, self._last = self._ended, [], time.monotonic()
        if not ended:
            return
        name = hashlib.sha256(json.dumps([one.asked.key for one in ended]).encode()).hexdigest()[:16]
        rows = pa.Table.from_pylist([self._prompt(one) for one in ended], mined.prompts_schema())
        with artifact.writing(self._parts):
            for kind, table in ((MISMATCHES, _mismatches(ended, self._hidden)), (PROMPTS, rows)):
                beside = self._parts / f".{kind}-{name}.partial"
                pq.write_table(table, beside, compression="zstd")
                beside.replace(self._parts / f"{kind}-{name}.parquet")

    def _prompt(self, search: Search) -> dict[str, Any]:
        first, last = (decoded(self._tokenizer, tokens) for tokens in (search.first, search.answer))
        asked = search.asked
        return {
            "prompt": asked.key,
            "digest": asked.prompt,
            "request": asked.number,
            "prompt_tokens": asked.tokens,
            "target_tokens": search.first,
            "target_answer": first,
            "alpha": search.alpha,
            "correct": asked.task.score(asked.problem, first).correct,
            "tokens": search.answer,
            "answer": last,
            "mismatches": len(search.decided),
            "important": sum(one.important for one in search.decided),
            "decoded": search.decoded,
            "seconds": search.seconds,
        }


def _mismatches(ended: Sequence[Search], hidden: dict[str, int]) -> pa.Table:
    found = [(search, turn, one) for search in ended for turn, one in enumerate(search.decided)]
    columns: dict[str, Any] = {
        "prompt": [search.asked.key for search, _, _ in found],
        "request": [search.asked.number for search, _, _ in found],
        "position": [one.position for *_, one in found],
        "target_token": [one.target_token for *_, one in found],
        "draft_token": [one.draft_token for *_, one in found],
        "important": [one.important for *_, one in found],
        "decided": [turn for _, turn, _ in found],
    }
    columns |= {name: [one.laws[name] for *_, one in found] for name in COLUMNS}
    schema = mined.mismatches_schema(hidden)
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    kept = {"target": [one.target_hidden for *_, one in found], "draft": [one.draft_hidden for *_, one in found]}
    for name in hidden:
        flat = np.concatenate(kept[name]) if found else np.zeros(0, np.float16)
        arrays[f"{name}_hidden"] = pa.FixedSizeListArray.from_arrays(
            pa.array(flat), type=schema.field(f"{name}_hidden").type
        )
    return pa.table([arrays[name] for name in schema.names], schema)


def _done(directory: Path) -> dict[str, str]:
    """Prompts that were searched to their ends -> the digests of their tokens."""
    found: dict[str, str] = {}
    for part in mined.parts(directory, PROMPTS):
        table = mined.read(part, ["prompt", "digest"])
        found.update(zip(table["prompt"].to_pylist(), table["digest"].to_pylist(), strict=True))
    return found


def _header(
    models: Models, proposer: DraftModel, node: dict[str, Any], prompts: DataConfig, settings: MineConfig
) -> Header:
    runners = {"target": models.target, "draft": proposer.runner}
    sizes = {name: runners[name].model.config.get_text_config().hidden_size for name in settings.hidden}
    return Header(
        schema_version=SCHEMA_VERSION,
        target=dataclasses.asdict(models.config),
        binds=tracing.binds(models, proposer.weights, node),
        proposer=node,
        max_new_tokens=settings.max_new_tokens,
        temperature=0.0,
        thinking=prompts.thinking,
        hidden=dict(sorted(sizes.items())),
        data=prompts.tasks,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=version.code(),
    )


def _open(directory: Path, header: Header, asked: Sequence[Asked], where: Path | str) -> None:
    """A new directory's header, or that of one which is added to. UserError where something else is there."""
    if (directory / HEADER).is_file():
        there = mined.read_header(directory)
        if other := mined.differing(there, header):
            key, found, value = other
            raise UserError(
                f"{where}: {directory / HEADER} holds what was mined with {key} {found}, and this recipe has "
                f"{value}. Set mine.path to another directory, or delete this one."
            )
        done = _done(directory)
        for one in asked:
            if done.get(one.key, one.prompt) != one.prompt:
                raise UserError(
                    f"{where}: key 'data.tasks': '{one.key}' was mined under another style, template or wording in "
                    f"{directory}. Set mine.path to another directory, or delete this one."
                )
        header = dataclasses.replace(there, data=[*there.data, *(t for t in header.data if t not in there.data)])
    with artifact.writing(directory):
        (directory / PARTS).mkdir(parents=True, exist_ok=True)
        for partial in (directory / PARTS).glob(".*.partial"):  # what a killed run was writing
            partial.unlink()
        write_json(directory / HEADER, dataclasses.asdict(header))


def _check_size(header: Header, settings: MineConfig, prompts: int, where: Path | str) -> None:
    most = 2 * sum(header.hidden.values()) * prompts * settings.max_new_tokens / 1e9  # a mismatch a token at worst
    if most > settings.budget_gb:
        raise UserError(
            f"{where}: key 'mine.budget_gb' is {settings.budget_gb:g}, and hidden states may take {most:.2f} GB. Raise "
            "it, ask fewer prompts or tokens, or keep fewer states (mine.hidden)."
        )


def _say(directory: Path, new: int, seconds: float) -> None:
    rows = Mined.open([directory]).prompts()
    if not rows.num_rows:
        return
    tried, important = (sum(rows[name].to_pylist()) for name in ("mismatches", "important"))
    speed = f", {60 * new / seconds:.1f} prompts a minute" if new else ""
    sources.say(
        f"{directory}: {rows.num_rows} prompts ({new} of them new{speed}), {important} of {tried} mismatches are "
        f"important; the task finds nothing in the answers of {rows['alpha'].null_count} prompts: not searched"
    )
