"""GSM8K: grade-school word problems (Cobbe et al. 2021, arXiv 2110.14168), answer after `####`."""

import hashlib
import re
from dataclasses import dataclass

from toolkit.tasks import _answers, _data, _exemplars, _prompts
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task

HUB_ID = "openai/gsm8k"
SPLITS = ("test", "train")


@dataclass
class Config:
    split: str = "test"  # test | train
    style: str = "cot"  # direct | cot | cod
    shots: int = 0  # worked examples of our own before the question, at most 8
    system: str | None = None  # instead of the style's system prompt; "" for none
    limit: int | None = None  # how many problems; null = all
    offset: int = 0  # how many to skip first
    shuffle_seed: int | None = None  # null = the file's order


def build(config: Config) -> Task:
    """The selected problems under the style's prompt."""
    return ChatTask(
        name="gsm8k",
        selected=_data.select(load(config.split), config.limit, config.offset, config.shuffle_seed),
        preamble=_prompts.preamble(config.style, "hashes", config.shots, config.system, _exemplars.GRADE_SCHOOL),
        grade=_answers.grade_number,
        style=config.style,
    )


def load(split: str) -> list[Problem]:
    """All problems of a split, in the file's order."""
    name = f"gsm8k_{_data.choice('split', split, SPLITS)}"
    return [_problem(row) for row in _data.load(name, HUB_ID, lambda: _data.hub_rows(HUB_ID, "main", split))]


def _problem(row: _data.Row) -> Problem:
    """Upstream rows have neither id nor final answer; both follow from what they do have."""
    question, solution = row.text("question"), row.text("answer")
    identity = row.optional("id") or f"gsm8k-{hashlib.sha1(question.encode()).hexdigest()[:12]}"
    answer = row.optional("final_answer") or _answers.number_after_hashes(solution)
    return Problem(identity, question, answer, {"solution": solution}, _worked(solution, answer))


def _worked(solution: str, answer: str | None) -> dict[str, str]:
    """Chain of thought = the solution as written; chain of draft = its calculator marks `<<48/2=24>>`, and no words."""
    worked = {"cot": re.sub(r"<<.*?>>", "", solution)}
    steps = [re.sub(r"\s*([-+*/=])\s*", r" \1 ", mark).strip() for mark in re.findall(r"<<(.+?)>>", solution)]
    if steps and answer is not None:
        worked["cod"] = f"{'; '.join(steps)} #### {answer}"
    return worked
