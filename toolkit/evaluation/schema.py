"""What other programs may rely on in records.jsonl, run.json and results.json: pydantic models, and their JSON Schemas.

The model of a row is made of the dataclass `Record`, whole: a key that it does not have is refused. Of the two JSON
files only those keys are named that some program reads, with the types that the dataclasses behind them have; they may
hold others. What a key means stands below its field, there and here, and is its description in the schemas and on the
page beside them (schema_page).
"""

import ast
import inspect
import itertools
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from toolkit.evaluation import schema_page
from toolkit.evaluation.records import SCHEMA_VERSION, Record, required
from toolkit.evaluation.score import ACCURACY, Quality, Speed
from toolkit.evaluation.stats import Interval
from toolkit.files import write_atomic, write_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PAGE = "README.md"
SHOWN = 60  # characters of a value in a message
_EXACT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_VERSION = Literal[SCHEMA_VERSION]


class _Open(BaseModel):
    """Keys beyond those that are named do not matter."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)


class Bounds(_Open):
    """An estimate with its 95% bounds."""

    value: float
    """The estimate."""
    low: float | None
    """The lower bound; null: not known."""
    high: float | None
    """The upper bound; null: not known. 1e12 stands for a ratio without end."""


def meanings(of: type) -> dict[str, str]:
    """What stands below each field of a dataclass, by name; pydantic reads its own models' itself."""
    body = ast.parse(inspect.getsource(of)).body[0].body
    return {
        one.target.id: inspect.cleandoc(below.value.value)
        for one, below in itertools.pairwise(body)
        if isinstance(one, ast.AnnAssign) and isinstance(below, ast.Expr)
    }


def _definition(one: Field, hint: Any, meaning: str) -> tuple[Any, Any]:
    if one.name in required():
        return hint, pydantic.Field(description=meaning)
    if one.default is MISSING:
        return hint, pydantic.Field(default_factory=one.default_factory, description=meaning)
    return hint, pydantic.Field(default=one.default, description=meaning)


def _record() -> type[BaseModel]:
    hints, meant = get_type_hints(Record) | {"schema_version": _VERSION}, meanings(Record)
    definitions = {one.name: _definition(one, hints[one.name], meant[one.name]) for one in fields(Record)}
    return create_model("Record", __config__=_EXACT, __doc__=Record.__doc__, **definitions)


def _part(of: type, names: Iterable[str]) -> type[BaseModel]:
    """Some fields of a dataclass, as results.json has them."""
    hints, meant = get_type_hints(of), meanings(of)
    in_file = {Interval | None: Bounds | None}
    chosen = {name: (in_file.get(hints[name], hints[name]), pydantic.Field(description=meant[name])) for name in names}
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
    """The processor's name."""
    gpu: str
    """The names of the GPUs; empty: there is none."""
    threads: int
    """CPU threads of the process that timed."""
    torch: str
    """Its version."""
    transformers: str
    """Its version."""
    git_sha: str | None
    """The commit of draftsmith that ran; null: not from a repository."""


class Session(_Open):
    """A start of the program, which wrote rows."""

    id: str
    """What its rows have as `session`."""
    system: System
    """What it ran on."""
    rows: int | None = None
    """Rows that records.jsonl was to have in its end; null: an older version started it."""


class Sampling(_Open):
    """How tokens were drawn, the same for all methods."""

    temperature: float
    """0 is greedy."""
    max_new_tokens: int
    """The limit of a text, in tokens."""


class Identity(_Open):
    """What makes an output directory a recipe's: rows of anything else may not stand in it."""

    target: dict[str, Any]
    """The model: its name, data type, device and adapters."""
    task: dict[str, Any]
    """The task's type and its options, but for how many problems."""
    sampling: Sampling
    """How tokens are drawn."""
    chat_template: bool
    """Whether prompts are chats in the model's template; else plain text."""
    speed: dict[str, Any]
    """What times depend on: the batch."""
    methods: dict[str, dict[str, Any]]
    """By name: the pieces, with every option and the digests of their drafts' weights."""


class RunFile(_Open):
    """run.json: whose rows these are, and which processes wrote them."""

    recipe: str
    """How the user named it when the directory was written last."""
    identity: Identity
    """What the rows depend on."""
    sessions: list[Session]
    """The starts of the program that wrote rows, in their order."""


class Piece(_Open):
    """A part of a method, with its options beside its type."""

    type: str
    """Its key in the registry (`draftsmith list`)."""


class Grid(_Open):
    """Which cell of which grid a method is."""

    name: str
    """The grid's."""
    values: dict[str, Any]
    """By dotted key: the value that this cell has."""
    place: list[int | None]
    """Of each value in its list, from 0."""


class Method(_Open):
    """A composition."""

    proposer: Piece
    """What drafts."""
    length: Piece
    """When a window ends."""
    accept: Piece
    """Which drafted tokens stand."""
    lossless: bool
    """Whether its law is exactly the target's, under the recipe's sampling."""
    grid: Grid | None
    """Null: a method on its own."""


class SpeedOptions(_Open):
    """Of the speed set."""

    max_new_tokens: int | None
    """The limit of timed texts, in tokens; null: that of the sampling."""


class Recipe(_Open):
    """The whole recipe, as it was run."""

    sampling: Sampling
    """How tokens were drawn."""
    speed: SpeedOptions
    """How the speed set was decoded."""


class ResultsFile(_Open):
    """results.json: the summary of a run that has ended."""

    schema_version: _VERSION
    """Of the records."""
    name: str
    """The recipe's."""
    recipe: Recipe
    """As it was run."""
    models: dict[str, dict[str, Any]]
    """By name: where each model's weights came from, and their fingerprint."""
    methods: dict[str, Method]
    """By name: the pieces."""
    metric: str | None = ACCURACY
    """What accuracy is of; null: answers have no verdict."""
    sessions: list[Session]
    """Those of run.json when this was written: with others there, the run went on and has not ended."""
    speed: list[SpeedRow]
    """Of each method that was timed."""
    quality: list[QualityRow]
    """Of each method; empty where nothing was judged."""
    equality: list[dict[str, Any]]
    """At temperature 0, of each method: how many of its texts are the baseline's, and where others part."""
    notes: list[str]
    """What a reader of the figures has to know."""


MODELS = {"record": RecordRow, "run": RunFile, "results": ResultsFile}


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema."""
    return {f"{name}.schema.json": {"$schema": DIALECT, **model.model_json_schema()} for name, model in MODELS.items()}


def export(directory: Path) -> list[Path]:
    """Write the schemas, and the page of what they say -> the files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        write_json(directory / name, schema)
    write_atomic(directory / PAGE, schema_page.page(schemas()).encode())
    return [directory / name for name in (*schemas(), PAGE)]


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
