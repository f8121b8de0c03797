"""What the domain corpora share: prompts of one domain with people's or other models' answers, for training drafts.

The splits are disjoint by the text of the prompt: its hash says which one it is in, whatever file or order it came in,
and a prompt that occurs twice counts once. Nothing is scored: such prompts have no one right answer.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from toolkit.errors import UserError
from toolkit.tasks import _answers, _data
from toolkit.tasks._chat import ChatTask, Options
from toolkit.tasks._types import Problem, Task

SPLITS = ("test", "train")
_TEST = 8  # one prompt in so many is held out


@dataclass
class Config(Options):
    split: str = "test"  # test | train
    sources: list[str] = field(default_factory=list)  # only rows of these; [] = all


def build(name: str, rows: Iterable[_data.Row], config: Config) -> Task:
    """The selected prompts of one split, each a chat of one user message. Rows have prompt, response and source."""
    _data.choice("split", config.split, SPLITS)
    found = [(row, row.text("source")) for row in rows]
    known = sorted({source for _, source in found})
    for source in config.sources:
        if source not in known:
            raise UserError(f"task {name}: sources has {source!r}; expected some of {', '.join(known) or 'none'}")
    seen: set[str] = set()
    problems = []
    for row, source in found:
        prompt = row.text("prompt")
        if not prompt.strip():
            raise UserError(f"{row.where}: field 'prompt' is empty; mend or delete the line")
        digest = _digest(prompt)
        if digest in seen or split_of(digest) != config.split or source not in (config.sources or known):
            continue
        seen.add(digest)
        problems.append(_problem(name, row, digest, source))
    return ChatTask(
        name=name,
        selected=config.selected(problems),
        preamble=config.preamble(),
        grade=_answers.grade_nothing,
        metric=None,
    )


def split_of(digest: str) -> str:
    """Of a prompt, by the hash of its text."""
    return "test" if int(digest, 16) % _TEST == 0 else "train"


def _digest(prompt: str) -> str:
    """Of the words alone: white space and capitals make no other prompt."""
    return hashlib.sha256(" ".join(prompt.lower().split()).encode()).hexdigest()


def _problem(name: str, row: _data.Row, digest: str, source: str) -> Problem:
    response = row.optional("response")
    worked = {"response": response} if response and response.strip() else {}
    return Problem(f"{name}-{digest[:12]}", row.text("prompt"), None, {"where": row.where, "source": source}, worked)
