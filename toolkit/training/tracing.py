"""`train/collect.py` with a `trace` section: the loop over training prompts, every drafted position written down.

Windows are longer than a learned policy will use, so what the next token would have come to is known at every depth.
Texts are whole, under the template of evaluation. A batch is written when it is done; a killed run goes on, with any
number of processes, and a longer list of prompts extends the trace. What a round costs is measured apart: trace_costs.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from toolkit import artifact, config, sources, version
from toolkit.acceptance.rejection import Rejection
from toolkit.binding import Identity
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.statistics import LENIENCE
from toolkit.engine.trace import SCHEMA_VERSION, Recorder
from toolkit.engine.types import Proposer, Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.files import lock, write_json
from toolkit.hub import ModelConfig, Models
from toolkit.lengths.fixed import Fixed
from toolkit.training import answers, processes, trace_costs
from toolkit.training.answers import Asked
from toolkit.training.recipe import DataConfig
from toolkit.training.trace_costs import CostsConfig
from toolkit.training.traces import COSTS, COSTS_FORMAT, HEADER, PARTS, PLACES, ROUNDS, Header, read_costs, read_header

STATES = ("draft", "target")


@dataclass
class TraceConfig:
    """How the loop is run for a trace, and what is kept of it."""

    proposer: Any = None  # a piece that has draft logits: {type: eagle3, head: DIR}
    path: str = ""  # "": results/traces/<name of the recipe's file>
    window: int = 10  # tokens drafted a round, always; longer than what is learned from it may use
    temperatures: list[float] = field(default_factory=lambda: [1.0, 0.0])
    max_new_tokens: int = 128
    seed: int = 0
    batch: int = 32
    lenience: list[float] = field(default_factory=lambda: list(LENIENCE))  # T of accept_T and tv_T; the first is 1
    hidden: list[str] = field(default_factory=list)  # keep states of these: draft (for SpecDec++), target
    budget_gb: float = 2.0  # refuse to keep more states than this
    costs: CostsConfig = field(default_factory=CostsConfig)


def check(settings: TraceConfig, where: Path | str) -> None:
    """Refuse values that cannot be meant. UserError names the key."""
    grid = settings.lenience
    temperatures = settings.temperatures
    rules = [
        (
            "trace.proposer",
            settings.proposer,
            settings.proposer is not None,
            "a piece, as in {type: eagle3, head: DIR}",
        ),
        ("trace.window", settings.window, 2 <= settings.window <= 64, "2 to 64"),
        (
            "trace.temperatures",
            temperatures,
            temperatures and all(t >= 0 for t in temperatures) and len({*temperatures}) == len(temperatures),
            "one temperature or more, each once, and 0 (greedy) or above",
        ),
        (
            "trace.lenience",
            grid,
            grid and grid[0] == 1.0 and all(a < b for a, b in zip(grid, grid[1:], strict=False)),
            "ascending multipliers, the first of them 1",
        ),
        ("trace.hidden", settings.hidden, set(settings.hidden) <= set(STATES), f"some of {', '.join(STATES)}"),
        ("trace.batch", settings.batch, settings.batch >= 1, "1 or more"),
        ("trace.max_new_tokens", settings.max_new_tokens, settings.max_new_tokens >= 2, "2 or more"),
    ]
    config.require(where, [*rules, *trace_costs.rules(settings.costs, settings.window)])


def run(target: ModelConfig, prompts: DataConfig, settings: TraceConfig, where: Path | str) -> Path:
    """Decode what is not there yet, then measure costs where they are missing -> the trace's directory."""
    check(settings, where)
    state = processes.joined()
    directory = Path(settings.path)
    models = Models(target)
    module, options = config.piece("proposers", settings.proposer, f"{where}: trace.proposer")
    proposer = module.build(options, models)
    if not proposer.has_logits:
        raise UserError(f"{where}: key 'trace.proposer': this one has no draft logits, of which a trace is made.")
    node = {"type": module.__name__.rpartition(".")[2], **dataclasses.asdict(options)}
    asked = answers.asked(prompts, models.target.tokenizer, where)
    header = _header(models, proposer, node, prompts, settings)
    _check_size(settings, models, len(asked), where)
    with alone(directory, "trace.path", first=state.is_main_process):
        if state.is_main_process:
            _open(directory, header, asked, where)
        state.wait_for_everyone()
        done = _done(directory)
        state.wait_for_everyone()  # nobody writes before all have read what is there
        chunks = _chunks(asked, settings, done)[state.process_index :: state.num_processes]
        _collect(directory, models, proposer, settings, chunks)
        state.wait_for_everyone()
        if state.is_main_process:
            sources.say(
                f"{directory}: traces of {len(asked)} prompts; `draftsmith describe {directory}` says what is in it"
            )
            _measure(directory, models, proposer, settings, asked, state.num_processes)
    return directory


@contextmanager
def alone(directory: Path, key: str, *, first: bool) -> Iterator[None]:
    """Held by the first process. A launcher that is killed may leave processes behind, which go on writing."""
    if not first:
        yield
        return
    with artifact.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = lock(
            directory / ".lock",
            f"{directory}: another process collects there; wait for it, end it, or set another {key}.",
        )
    with file:
        yield


def _collect(
    directory: Path, models: Models, proposer: Proposer, settings: TraceConfig, chunks: Sequence["Chunk"]
) -> None:
    if not chunks:
        return
    recorder = Recorder(
        settings.lenience,
        keep_draft="draft" in settings.hidden,
        target_layer=models.target.n_layers if "target" in settings.hidden else None,
    )
    decoder = SpecDecoder(models.target, proposer, Fixed(settings.window), Rejection(), trace=recorder)
    with Bar("trace", sum(len(chunk.prompts) for chunk in chunks)) as bar:
        for chunk in chunks:
            sampling = Sampling(chunk.temperature, max_new_tokens=settings.max_new_tokens, seed=settings.seed)
            decoder.generate([Request(one.number, one.tokens) for one in chunk.prompts], sampling)
            _write(directory / PARTS, chunk.name, *recorder.tables())
            bar.advance(len(chunk.prompts), f"temperature {chunk.temperature:g}")


@dataclass(frozen=True)
class Chunk:
    """Prompts that are decoded together, at one temperature."""

    temperature: float
    prompts: Sequence[Asked]

    @property
    def name(self) -> str:
        """Of its file: the same prompts at the same temperature have the same."""
        named = json.dumps([self.temperature, [one.number for one in self.prompts]])
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def _chunks(asked: Sequence[Asked], settings: TraceConfig, done: dict[tuple[float, int], int]) -> list[Chunk]:
    """What is missing, the longest prompts last: temperatures in turn, so that a stopped run has some of each."""
    chunks = []
    for temperature in settings.temperatures:
        missing = [one for one in asked if (_float32(temperature), one.number) not in done]
        missing.sort(key=lambda one: len(one.tokens))
        for start in range(0, len(missing), settings.batch):
            chunks.append((start, Chunk(temperature, missing[start : start + settings.batch])))
    return [chunk for _, chunk in sorted(chunks, key=lambda item: item[0])]


def _write(parts: Path, name: str, rounds: pa.Table, places: pa.Table) -> None:
    """Both files or, for a reader, none: the positions come last, and rounds without them are as good as not there."""
    with artifact.writing(parts):
        for kind, table in ((ROUNDS, rounds), (PLACES, places)):
            beside = parts / f".{kind}-{name}.partial"
            pq.write_table(table, beside, compression="zstd")
            beside.replace(parts / f"{kind}-{name}.parquet")


def _done(directory: Path) -> dict[tuple[float, int], int]:
    """(temperature, request) pairs that are there -> how many tokens the prompt had."""
    found: dict[tuple[float, int], int] = {}
    for places in (directory / PARTS).glob(f"{PLACES}-*.parquet"):
        rounds = places.with_name(places.name.replace(PLACES, ROUNDS, 1))
        try:
            table = pq.read_table(rounds, columns=["temperature", "request", "committed"], filters=[("window", "=", 0)])
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{rounds}: not readable as Parquet ({error}). Delete it and {places}, and run the same command again."
            ) from None
        keys = zip(table["temperature"].to_pylist(), table["request"].to_pylist(), strict=True)
        found.update(zip(keys, table["committed"].to_pylist(), strict=True))
    return found


def _check_prompts(directory: Path, asked: Sequence[Asked], where: Path | str) -> None:
    """Refuse what goes by the same name as a prompt that is there, and is another one."""
    lengths = {request: length for (_, request), length in _done(directory).items()}
    for one in asked:
        there = lengths.get(one.number, len(one.tokens))
        if there != len(one.tokens):
            raise UserError(
                f"{where}: key 'data.tasks': the prompt of '{one.key}' has {len(one.tokens)} tokens, and in "
                f"{directory} it has {there}: another style, template or wording. Set trace.path to another "
                "directory, or delete this one."
            )


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def _header(
    models: Models, proposer: Proposer, node: dict[str, Any], prompts: DataConfig, settings: TraceConfig
) -> Header:
    return Header(
        schema_version=SCHEMA_VERSION,
        target=dataclasses.asdict(models.config),
        binds=binds(models, proposer.weights, node),
        proposer=node,
        limit=settings.window,
        lenience=settings.lenience,
        temperatures=sorted(settings.temperatures),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        hidden=sorted(settings.hidden),
        data=prompts.tasks,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        code=version.code(),
    )


def binds(models: Models, weights: str, node: dict[str, Any]) -> dict[str, Identity]:
    """Whose rows they are: the target, and the draft with these weights in a proposer's node."""
    target = models.identity()
    options = (value["name"] if isinstance(value, dict) else value for key, value in node.items() if key != "type")
    name = next((option for option in options if isinstance(option, str)), "draft")
    draft = {"name": name, "fingerprint": weights, "tokenizer": target["tokenizer"], "adapters": []}
    return {"target": target, "draft": draft}


def _open(directory: Path, header: Header, asked: Sequence[Asked], where: Path | str) -> None:
    """A new trace's header, or that of one which is extended. UserError where something else is there."""
    if (directory / HEADER).is_file():
        there = read_header(directory)
        same = there.identity() | {"seed": there.seed, "hidden": there.hidden}
        for key, value in (header.identity() | {"seed": header.seed, "hidden": header.hidden}).items():
            if same[key] != value:
                raise UserError(
                    f"{where}: {directory / HEADER} holds a trace with {key} {same[key]}, and this recipe has {value}. "
                    "Set trace.path to another directory, or delete this one."
                )
        _check_prompts(directory, asked, where)
        temperatures = sorted({*there.temperatures, *header.temperatures})
        data = [*there.data, *(task for task in header.data if task not in there.data)]
        header = dataclasses.replace(there, temperatures=temperatures, data=data)
    with artifact.writing(directory):
        (directory / PARTS).mkdir(parents=True, exist_ok=True)
        for partial in (directory / PARTS).glob(".*.partial"):  # what a killed run was writing
            partial.unlink()
        write_json(directory / HEADER, dataclasses.asdict(header))


def _check_size(settings: TraceConfig, models: Models, prompts: int, where: Path | str) -> None:
    """Hidden states are most of a trace: say how large they may become, and refuse more than the budget."""
    if not settings.hidden:
        return
    width = models.target.model.config.get_text_config().hidden_size  # a draft's is the same, or smaller
    places = (
        prompts * settings.max_new_tokens * settings.window * len(settings.temperatures)
    )  # a token a round at worst
    most = 2 * width * places * len(settings.hidden) / 1e9
    if processes.joined().is_main_process:
        sources.say(
            f"hidden states ({', '.join(settings.hidden)}): about {most / 2:.2f} GB at two tokens a round, at most "
            f"{most:.2f} GB (trace.budget_gb {settings.budget_gb:g})"
        )
    if most > settings.budget_gb:
        raise UserError(
            f"{where}: key 'trace.budget_gb' is {settings.budget_gb:g}, and hidden states may take {most:.2f} GB. "
            "Raise it, ask fewer prompts or tokens, or leave trace.hidden empty."
        )


def _measure(
    directory: Path,
    models: Models,
    proposer: Proposer,
    settings: TraceConfig,
    asked: Sequence[Asked],
    running: int,
) -> None:
    """Of every temperature of the trace, what is not there yet."""
    known = read_costs(directory, settings.window)
    missing = [value for value in read_header(directory).temperatures if f"{value:g}" not in known]
    if not settings.costs.prompts or not missing:
        return
    if running > 1:
        listed = ", ".join(f"{value:g}" for value in missing)
        sources.say(
            f"{directory / COSTS} is missing for temperature {listed}: run the same command with one process, and "
            "nothing beside it"
        )
        return
    for value in missing:
        known[f"{value:g}"] = trace_costs.measure(models, proposer, settings.window, asked, value, settings.costs)
    with artifact.writing(directory):
        measured = {name: dataclasses.asdict(costs) for name, costs in known.items()}
        write_json(directory / COSTS, {"format": COSTS_FORMAT, "costs": measured})
