"""A task of a few lines on a tiny random model: a whole run in a second."""

import json
from collections import Counter

import pytest

from toolkit.evaluation.run import main

RECIPE = """# python -m eval tiny.yaml
target: tiny-random:llama
task: {{type: jsonl, path: {data}}}
sampling: {{max_new_tokens: 16}}
methods: [ngram, topk]
quality: {{batch: 3}}
speed: {{prompts: 3}}
out: {out}
"""


class Tiny:
    """A recipe, its data and its output directory."""

    def __init__(self, directory):
        self.data, self.out, self.recipe = directory / "data.jsonl", directory / "out", directory / "tiny.yaml"
        self.records = self.out / "records.jsonl"
        self.recipe.write_text(RECIPE.format(data=self.data, out=self.out))
        self.ask([f"{i} + {i} = {2 * i}. So {i} + {i} is" for i in range(5)])

    def ask(self, questions):
        rows = [{"id": f"p{i}", "prompt": q, "answer": str(2 * i)} for i, q in enumerate(questions)]
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *overrides):
        return main([str(self.recipe), *overrides])

    def rows(self):
        return [json.loads(line) for line in self.records.read_text().splitlines()]

    def results(self):
        return json.loads((self.out / "results.json").read_text())


def items(rows):
    """How often each set x method x prompt x seed x repeat is there."""
    return Counter((r["set"], r["method"], r["prompt_id"], r["seed"], r["repeat"]) for r in rows)


def texts(rows):
    return {(r["set"], r["method"], r["prompt_id"], r["seed"], r["repeat"]): (r["text"], r["tokens"]) for r in rows}


@pytest.fixture
def tiny(tmp_path):
    return Tiny(tmp_path)
