"""A recipe over sums for a stub server to answer, and what a run of it leaves."""

import json
from pathlib import Path

from tests.training.stub_endpoint import KEY
from toolkit.training import _endpoint
from toolkit.training.teacher import main

SYSTEM = "Think step by step. Finish with the final answer after ####."


def surround(directory: Path, monkeypatch) -> None:
    """A key, a current directory of our own, no proxy, and no second lost in waiting."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(directory)
    monkeypatch.setattr(_endpoint, "FIRST_WAIT", 0.01)


class Teaching:
    """A recipe over `count` sums, and its output directory."""

    def __init__(self, directory: Path, url: str, count: int = 6) -> None:
        self.out = directory / "out"
        self.questions = [f"What is {i} + 2?" for i in range(count)]
        rows = [{"id": f"sum-{i}", "prompt": q, "answer": str(i + 2)} for i, q in enumerate(self.questions)]
        (directory / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.recipe = directory / "teach.yaml"
        self.recipe.write_text(
            json.dumps(  # YAML is a superset of JSON
                {
                    "task": {"type": "jsonl", "path": str(directory / "sums.jsonl"), "system": SYSTEM},
                    "endpoint": {"url": url, "model": "stub", "key_env": "TEACHER_KEY", "timeout_s": 10.0},
                    "out": str(self.out),
                }
            )
        )

    def run(self, *overrides: str) -> int:
        return main([str(self.recipe), *overrides])

    def rows(self, name: str = "answers") -> list[dict]:
        return [json.loads(line) for line in (self.out / f"{name}.jsonl").read_text().splitlines()]

    def state(self) -> dict:
        return json.loads((self.out / "state.json").read_text())


def assert_no_secret(out: Path, capsys) -> None:
    """The key is in no file, and was not printed."""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {"answers.jsonl", "state.json", "train.jsonl"} <= {path.name for path in files}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
