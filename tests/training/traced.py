"""A tiny target, a draft made of it, and a trace of the two: a collection of seconds, here or as a user starts it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.training.runs import TINY, finish, start
from toolkit.training import main

PROPOSER = {"type": "draft_model", "model": {"name": "target", "draft_from": {"layers": [0]}}}
PROMPTS, WINDOW, TOKENS = 12, 4, 16
PLACE = ("temperature", "request", "window", "depth")  # names a row of the positions
_EXACT = (*PLACE, "committed", "token", "accepted")


class Tracing:
    """A recipe in a directory, and its trace."""

    def __init__(self, directory, **changes):
        self.recipe, self.path = directory / "trace.yaml", directory / "trace"
        recipe = {
            "target": {"name": TINY, "device": "cpu"},
            "data": {"tasks": [{"type": "steps", "split": "train", "style": "direct", "limit": PROMPTS}]},
            "trace": {
                "proposer": PROPOSER,
                "path": str(self.path),
                "window": WINDOW,
                "max_new_tokens": TOKENS,
                "batch": PROMPTS // 2,
                "hidden": ["draft"],
                "costs": {"prompts": 2, "max_new_tokens": 8},
            },
        }
        self.recipe.write_text(json.dumps(recipe | changes))  # YAML is a superset of JSON

    def run(self, *overrides):
        """In this process -> exit code."""
        return main.collect([str(self.recipe), *overrides])

    def start(self, *overrides, processes=1):
        return start("train/collect.py", self.recipe, *overrides, processes=processes)

    def launch(self, *overrides, processes=1):
        """As a user starts it, to its end -> what it said."""
        return finish(self.start(*overrides, processes=processes))

    def parts(self, kind="positions"):
        return sorted((self.path / "parts").glob(f"{kind}-*.parquet"))

    def rows(self, kind="positions"):
        """All of them, in the order of their names."""
        tables = pa.concat_tables([pq.ParquetFile(part).read() for part in self.parts(kind)])
        return tables.sort_by([(name, "ascending") for name in PLACE if name in tables.schema.names])

    def files(self):
        """Path -> when it was written."""
        return {path: path.stat().st_mtime_ns for path in self.path.rglob("*") if path.name != ".lock"}

    def header(self):
        return json.loads((self.path / "trace.json").read_text())


def edit(path, **changes):
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewritten(part, change):
    """Change the table of a Parquet file."""
    table = pq.ParquetFile(part).read()
    pq.write_table(change(table), part)


def assert_same_rows(one, other):
    """The same positions; a batch of another size may change the last bits of a law, and so the place of a tie."""
    assert one.schema.equals(other.schema) and one.num_rows == other.num_rows
    for name in one.schema.names:
        if name in _EXACT:
            assert one[name].equals(other[name]), name
            continue
        columns = [table[name].combine_chunks() for table in (one, other)]
        if pa.types.is_fixed_size_list(columns[0].type):
            columns = [column.flatten() for column in columns]
        values = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in columns]
        np.testing.assert_allclose(*values, atol=1.0 if name.startswith("rank") else 4e-3, rtol=2e-3, err_msg=name)
