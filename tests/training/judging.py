"""Mined rows that nobody mined: labels by chance, and features that tell them more or less."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toolkit import config
from toolkit.files import write_json
from toolkit.hub import ModelConfig, Models
from toolkit.nets.judge import COLUMNS
from toolkit.proposers import draft_model
from toolkit.training import mined
from toolkit.training.mined import Header

TINY = "tiny-random:llama"
DRAFT = {"type": "draft_model", "model": {"name": "target", "draft_from": {"layers": [0]}}}
WIDTH = 64  # of the states of both
SHARE = 0.3  # of important ones


def rows(count=800, prompts=40, signal=2.0, laws=0.5, seed=0, width=WIDTH):
    """Columns by name. signal, laws: by how many deviations the target's states, and the laws, tell labels apart.

    Each prompt has something of its own in all its states, which says nothing of other prompts.
    """
    random = np.random.default_rng(seed)
    important = random.random(count) < SHARE
    prompt = np.sort(random.integers(prompts, size=count))
    own = 3 * random.normal(size=(prompts, width))
    states = {name: random.normal(size=(count, width)) + own[prompt] for name in ("target", "draft")}
    states["target"][:, 7] = (random.normal(size=count) + signal * important) * 20 - 5
    table = {"prompt": [f"steps/{one}" for one in prompt], "important": important, "request": prompt}
    table |= dict.fromkeys(("position", "target_token", "draft_token", "decided"), np.arange(count))
    table |= {name: random.normal(size=count) + laws * important for name in COLUMNS}
    return table | {f"{name}_states": one.astype(np.float16) for name, one in states.items()}


def table(hidden=("target", "draft"), **options):
    found = rows(**options)
    width = found["target_states"].shape[1]
    schema = mined.mismatches_schema(dict.fromkeys(hidden, width))
    columns = {name: pa.array(found[name], schema.field(name).type) for name in schema.names if name in found}
    for name in hidden:
        flat = pa.array(found[f"{name}_states"].ravel())
        key = f"{name}_hidden"
        columns[key] = pa.FixedSizeListArray.from_arrays(flat, type=schema.field(key).type)
    return pa.table(columns, schema=schema)


def directory(path, **options):
    """A mined directory of the tiny pair -> its path."""
    made = table(**options)
    models = Models(ModelConfig(TINY, device="cpu"))
    draft = draft_model.build(config.piece("proposers", DRAFT, "test")[1], models)
    target = models.identity()
    header = Header(
        schema_version=mined.SCHEMA_VERSION,
        target=dataclasses.asdict(ModelConfig(TINY, device="cpu")),
        binds={"target": target, "draft": target | {"name": "target", "fingerprint": draft.weights}},
        proposer=DRAFT,
        max_new_tokens=24,
        temperature=0.0,
        thinking=False,
        hidden={name.removesuffix("_hidden"): WIDTH for name in made.schema.names if name.endswith("_hidden")},
        data=["steps"],
        created="2026-01-01T00:00:00Z",
        code={},
    )
    (path / mined.PARTS).mkdir(parents=True)
    write_json(path / mined.HEADER, dataclasses.asdict(header))
    names = sorted({*made["prompt"].to_pylist()})
    schema = mined.prompts_schema()
    prompts = pa.table({name: pa.array([None] * len(names), schema.field(name).type) for name in schema.names})
    prompts = prompts.set_column(0, "prompt", pa.array(names)).cast(schema)
    pq.write_table(prompts, path / mined.PARTS / f"{mined.PROMPTS}-0.parquet")
    pq.write_table(made, path / mined.PARTS / f"{mined.MISMATCHES}-0.parquet")
    return path
