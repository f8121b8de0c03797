"""Several tasks as one: their problems in turn, each posed and judged by its own task. A task's name is its domain.

For whoever wants a mix of domains in one run, as a router does. A problem's id gets its task's name in front; which one
it is of stands in `meta` as `domain`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from toolkit import config as recipes
from toolkit.errors import UserError
from toolkit.tasks import _data
from toolkit.tasks._types import Message, Problem, Score, Task


@dataclass
class Config:
    tasks: list[Any] = field(default_factory=list)  # task pieces; each may have a `domain`, else its name is one
    split: str = "test"  # of all tasks that have splits
    limit: int | None = None  # how many problems of the mix; null = all


@dataclass(frozen=True)
class Mixed:
    """Implements `Task`."""

    name: str
    by_domain: Mapping[str, Task]
    selected: Sequence[tuple[str, Problem]]  # domain, problem as its own task has it

    @property
    def metric(self) -> str | None:
        """The tasks', in their order, each once."""
        named = dict.fromkeys(task.metric for task in self.by_domain.values() if task.metric)
        return ", ".join(named) or None

    def problems(self) -> list[Problem]:
        return [
            replace(problem, id=f"{domain}/{problem.id}", meta={**problem.meta, "domain": domain})
            for domain, problem in self.selected
        ]

    def messages(self, problem: Problem) -> list[Message]:
        return self._of(problem).messages(problem)

    def response(self, problem: Problem) -> str | None:
        return self._of(problem).response(problem)

    def score(self, problem: Problem, text: str) -> Score:
        return self._of(problem).score(problem, text)

    def scores(self, answers: Sequence[tuple[Problem, str]]) -> list[Score]:
        verdicts = {}
        for domain, task in self.by_domain.items():
            its = [i for i, (problem, _) in enumerate(answers) if problem.meta["domain"] == domain]
            verdicts |= zip(its, task.scores([answers[i] for i in its]), strict=True)
        return [verdicts[i] for i in range(len(answers))]

    def fingerprint(self) -> str:
        content = {domain: task.fingerprint() for domain, task in self.by_domain.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _of(self, problem: Problem) -> Task:
        return self.by_domain[str(problem.meta["domain"])]


def build(config: Config) -> Task:
    """Problems of all tasks, one of each in turn for as long as it has some."""
    if not config.tasks:
        raise UserError("task mixed: tasks is empty; expected one task or more.")
    by_domain: dict[str, Task] = {}
    for number, node in enumerate(config.tasks):
        where = f"task mixed: tasks.{number}"
        domain, task = _built(node, config.split, where)
        if domain in by_domain:
            raise UserError(f"{where}: two tasks are of domain '{domain}'; give one a `domain` of its own.")
        by_domain[domain] = task
    _data.check_range(config.limit, 0)
    turns = zip_longest(*([(domain, one) for one in task.problems()] for domain, task in by_domain.items()))
    return Mixed("mixed", by_domain, [one for turn in turns for one in turn if one][: config.limit])


def _built(node: Any, split: str, where: str) -> tuple[str, Task]:
    """-> its domain, the task. What is trained on must not be tested on, so all are of one split."""
    node = {"type": node} if isinstance(node, str) else node
    domain = None
    if isinstance(node, dict) and "domain" in node:
        domain, node = str(node["domain"]), {key: value for key, value in node.items() if key != "domain"}
    module, options = recipes.piece("tasks", node, where)
    if "split" in vars(options):
        if node.get("split", split) != split:
            raise UserError(f"{where}: split is '{node['split']}'; expected '{split}', which the mix says of all.")
        options = replace(options, split=split)
    task = module.build(options)
    return domain or task.name, task
