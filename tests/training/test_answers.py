"""Answers of several sittings: which of them are those of the prompts as they are asked now."""

import json

import pytest

from tests.artifacts import config
from tests.training.runs import write_rows
from toolkit.training import answers
from toolkit.training.answers import AnswersConfig
from toolkit.training.gates import Gates
from toolkit.training.recipe import DataConfig


def prompts(words):
    return [{"id": str(i), "prompt": f"{words} {i} + {i}?", "answer": str(2 * i)} for i in range(3)]


class Sitting:
    def __init__(self, directory):
        self.data, self.path, self.parts = (directory / name for name in ("sums.jsonl", "said.jsonl", "said.parts"))

    def run(self, words):
        """-> the rows that came of it."""
        write_rows(self.data, prompts(words))
        data = DataConfig(tasks=[{"type": "jsonl", "path": str(self.data)}])
        settings = AnswersConfig(str(self.path), max_new_tokens=4, gates=Gates(marked=0.0))
        answers.run(config(), data, settings, "test")
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.mark.parametrize("part", ["0.jsonl", "1.jsonl"])
def test_an_answer_to_earlier_words_is_no_answer(tmp_path, part):
    """Whichever process wrote it: the parts are read in the order of their names, which is not that of time."""
    sitting = Sitting(tmp_path)
    earlier = sitting.run("What is")
    (sitting.parts / "0.jsonl").rename(sitting.parts / part)
    now = sitting.run("How much is")
    assert [row["key"] for row in now] == [row["key"] for row in earlier]
    assert all(mine["input_ids"] != old["input_ids"] for mine, old in zip(now, earlier, strict=True))
    before = {path.name: path.read_bytes() for path in sitting.parts.iterdir()}
    assert sitting.run("How much is") == now and sitting.run("What is") == earlier, "both are known"
    assert {path.name: path.read_bytes() for path in sitting.parts.iterdir()} == before, "and nothing is answered twice"
