"""What other programs may rely on in records.jsonl, run.json and results.json: pydantic models, and their JSON Schemas.

The model of a row is made of the dataclass `Record`, whole: a key that it does not have is refused. Of the two JSON
files only those keys are named that some program reads, with the types that the dataclasses behind them have; they may
hold others.
"""

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from toolkit.evaluation.records import SCHEMA_VERSION, Record, required
from toolkit.evaluation.score import ACCURACY, Quality, Speed
from toolkit.evaluation.stats import Interval
from toolkit.files import write_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHOWN = 60  # characters of a value in a message
_EXACT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_VERSION = Literal[SCHEMA_VERSION]


class _Open(BaseModel):
    """Keys beyond those that are named do not matter."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Bounds(_Open):
    """An `Interval`; bounds that are not known are null."""

    value: float
    low: float | None
    high: float | None


def _definition(one: Field, hint: Any) -> tuple[Any, Any]:
    if one.name in required():
        return hint, ...
    if one.default is MISSING:
        return hint, pydantic.Field(default_factory=one.default_factory)
    return hint, one.default


def _record() -> type[BaseModel]:
    hints = get_type_hints(Record) | {"schema_version": _VERSION}
    definitions = {one.name: _definition(one, hints[one.name]) for one in fields(Record)}
    return create_model("Record", __config__=_EXACT, __doc__=Record.__doc__, **definitions)


def _part(of: type, names: Iterable[str]) -> type[BaseModel]:
    """Some fields of a dataclass, as results.json has them."""
    hints = get_type_hints(of)
    in_file = {Interval | None: Bounds | None}
    chosen = {name: (in_file.get(hints[name], hints[name]), ...) for name in names}
    return create_model(of.__name__, __base__=_Open, __doc__=of.__doc__, **chosen)


RecordRow = _record()
SpeedRow = _part(
    Speed,
    ["method", "lossless", "n", "rows", "errors", "tokens_per_second", "speedup", "acceptance_rate", "tau"]
    + ["unconditional", "conditional", "seconds_per_correct"],
)
QualityRow = _part(
    Quality, ["method", "lossless", "inherited", "n", "errors", "accuracy", "mean_tokens", "cut", "extraction"]
)


class System(_Open):
    """What times can be compared by."""

    cpu: str
    gpu: str
    threads: int
    torch: str
    transformers: str
    git_sha: str | None


class Session(_Open):
    """A process that wrote rows."""

    id: str
    system: System


class Sampling(_Open):
    temperature: float
    max_new_tokens: int


class Identity(_Open):
    """What makes an output directory a recipe's."""

    target: dict[str, Any]
    task: dict[str, Any]
    sampling: Sampling
    chat_template: bool
    speed: dict[str, Any]
    methods: dict[str, dict[str, Any]]


class RunFile(_Open):
    """run.json: whose rows these are, and which processes wrote them."""

    recipe: str
    identity: Identity
    sessions: list[Session]


class Piece(_Open):
    type: str


class Grid(_Open):
    """Which cell of which grid a method is."""

    name: str
    values: dict[str, Any]
    place: list[int | None]


class Method(_Open):
    proposer: Piece
    length: Piece
    accept: Piece
    lossless: bool
    grid: Grid | None


class SpeedOptions(_Open):
    max_new_tokens: int | None


class Recipe(_Open):
    sampling: Sampling
    speed: SpeedOptions


class ResultsFile(_Open):
    """results.json: the summary of a run that has ended."""

    schema_version: _VERSION
    name: str
    recipe: Recipe
    models: dict[str, dict[str, Any]]
    methods: dict[str, Method]
    metric: str | None = ACCURACY  # what accuracy is of; null: answers have no verdict
    sessions: list[Session]
    speed: list[SpeedRow]
    quality: list[QualityRow]
    equality: list[dict[str, Any]]
    notes: list[str]


MODELS = {"record": RecordRow, "run": RunFile, "results": ResultsFile}


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema."""
    return {f"{name}.schema.json": {"$schema": DIALECT, **model.model_json_schema()} for name, model in MODELS.items()}


def export(directory: Path) -> list[Path]:
    """Write the schemas -> their files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        write_json(directory / name, schema)
    return [directory / name for name in schemas()]


def explained(error: ValidationError) -> list[tuple[str, str]]:
    """Key and what was expected there, once for each key of the outermost mapping; of another version only that."""
    found: dict[str, tuple[str, str]] = {}
    for one in error.errors(include_url=False, include_context=False):
        found.setdefault(str(one["loc"][0]) if one["loc"] else "", _explained(one))
    return [found["schema_version"]] if "schema_version" in found else list(found.values())


def _explained(one: ErrorDetails) -> tuple[str, str]:
    key, got = ".".join(map(str, one["loc"])), repr(one["input"])
    if one["type"] == "missing":
        return key, "expected, and not there: an older version of draftsmith wrote it"
    if key == "schema_version":
        return key, f"expected {SCHEMA_VERSION}, got {got}: use the version of draftsmith that wrote it"
    if one["type"] == "extra_forbidden":
        return key, f"is no key of schema version {SCHEMA_VERSION}: another version of draftsmith wrote it"
    wanted = one["msg"].replace("Input should be", "expected")
    if one["type"] == "json_invalid":
        return key, wanted
    return key, f"{wanted}, got {got if len(got) <= SHOWN else got[: SHOWN - 3] + '...'}"
