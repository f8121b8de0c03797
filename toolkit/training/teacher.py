"""`python train/teach.py RECIPE [key=value ...]`: a stronger model answers a task's problems, as data to train on.

What is sent is the task's own chat, so the system prompt is the style's, as in training and in evaluation. An answer
counts as good when it agrees with the gold answer, ends by itself and has the mark that the prompt asks for; the rest
is recorded with its verdict and not exported. A finished request is never sent again, however often the run is killed.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit import config
from toolkit.errors import UserError
from toolkit.tasks._types import Message, Problem, Score, Task
from toolkit.training import _endpoint
from toolkit.training._answers import Answer, AnswerDir, Verdict
from toolkit.training._endpoint import Endpoint, EndpointConfig, Reply
from toolkit.training._session import Session

MODES = ("fill", "extend")
CHARACTERS = 4  # a token of English, for the estimate of a dry run
MARKS = {"####": "hashes", r"\boxed": "boxed"}  # what a prompt may ask for -> the path by which it is then found


@dataclass
class Prices:
    """For a million tokens, in whatever currency."""

    input: float
    output: float


@dataclass
class TeachRecipe:
    task: Any  # a piece: its type and options; a training split and a style
    endpoint: EndpointConfig
    mode: str = "fill"  # fill: problems asked for before that have no good answer; extend: also new ones, up to limit
    dry_run: bool = False  # say what would be sent, and send nothing
    keep_wrong: bool = False  # export wrong answers too
    prices: Prices | None = None
    out: str | None = None  # null: results/<name of the recipe's file>


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipe that the arguments name -> the exit code."""
    does = "Ask a stronger model; a killed run goes on, and what was answered is kept."
    return config.program("train/teach.py", does, argv, _load_and_teach, "dry_run=true task.limit=20")


def _load_and_teach(path: str, overrides: list[str]) -> int:
    recipe = config.load(TeachRecipe, path, overrides)
    _check(recipe, path)
    return teach(recipe, path)


def teach(recipe: TeachRecipe, source: str) -> int:
    """Run a recipe -> 0, or 1 when some problem stays without any answer. `source`: how the user named it."""
    module, options = config.piece("tasks", recipe.task, f"{source}: task")
    chosen = asdict(options)
    if chosen.get("split", "train") != "train":
        raise UserError(
            f"{source}: key 'task': split is {chosen['split']!r}; data to train on comes from split: train."
        )
    task: Task = module.build(options)
    run = _Run(recipe, task, style=chosen.get("style", "response"))
    # How many problems are taken is no part of the identity: a run may be extended
    picked = {f"task.{name}": value for name, value in {**chosen, "limit": None}.items()}
    identity = {
        "task.type": module.__name__.rpartition(".")[2],
        **picked,
        **{f"endpoint.{name}": asdict(recipe.endpoint)[name] for name in ("model", "temperature", "extra")},
        "preamble": run.preamble,
    }
    directory = AnswerDir(Path(recipe.out or f"results/{Path(source).stem}"), source, identity)
    if recipe.dry_run:
        directory.load()
        run.preview(directory)
        return 0
    with directory:
        return run.ask(directory)


class _Run:
    """A recipe and its problems."""

    def __init__(self, recipe: TeachRecipe, task: Task, style: str) -> None:
        self.recipe, self.task, self.style = recipe, task, style
        by_question: dict[str, Problem] = {}  # one that comes under two ids is asked once
        for problem in task.problems():
            by_question.setdefault(problem.question, problem)
        self.problems = list(by_question.values())
        self.preamble: list[Message] = task.messages(self.problems[0])[:-1]
        system = " ".join(message["content"] for message in self.preamble if message["role"] == "system")
        self.asked_for = {path for mark, path in MARKS.items() if mark in system}

    def selected(self, directory: AnswerDir) -> list[Problem]:
        """The problems that this run is about."""
        known = set(directory.problems)
        for problem in self.problems:
            if any(row.prompt != problem.question for row in directory.rows.get(problem.id, [])):
                raise UserError(
                    f"out={directory.path}: problem {problem.id!r} had another text when it was answered; "
                    "choose another out=DIR."
                )
        if self.recipe.mode == "extend" or not known:
            return self.problems
        return [problem for problem in self.problems if problem.id in known]

    def missing(self, problem: Problem, directory: AnswerDir) -> bool:
        """Whether to ask: there is no answer to export, and asking can make a difference."""
        rows = directory.rows.get(problem.id, [])
        if self.kept(rows) is not None:
            return False
        endpoint = self.recipe.endpoint
        longer = all(row.verdict == "cut" and row.max_tokens < endpoint.max_tokens for row in rows)  # also: no rows
        return longer or endpoint.temperature > 0  # at temperature 0 it would be the same request and the same answer

    def kept(self, rows: Sequence[Answer]) -> Answer | None:
        """The one of a problem's answers that is exported."""
        verdicts = ("good", "wrong", "no_mark") if self.recipe.keep_wrong else ("good",)
        ranked = sorted((row for row in rows if row.verdict in verdicts), key=lambda row: verdicts.index(row.verdict))
        return ranked[0] if ranked else None

    def record(self, problem: Problem, reply: Reply) -> Answer:
        """The row of a reply."""
        score = self.task.score(problem, reply.text)
        return Answer(
            id=problem.id,
            style=self.style,
            prompt=problem.question,
            response=reply.text,
            answer=problem.answer,
            correct=score.correct,
            path=score.path,
            verdict=self.verdict(reply, score),
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=reply.model,
            max_tokens=self.recipe.endpoint.max_tokens,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )

    def verdict(self, reply: Reply, score: Score) -> Verdict:
        if not reply.text.strip():
            return "empty"
        if reply.finish_reason in ("length", "content_filter"):
            return "cut"
        if score.correct is False:
            return "wrong"
        return "no_mark" if self.asked_for and score.path not in self.asked_for else "good"

    def cost(self, tokens_in: float, tokens_out: float) -> float | None:
        prices = self.recipe.prices
        return (tokens_in * prices.input + tokens_out * prices.output) / 1e6 if prices else None

    def preview(self, directory: AnswerDir) -> None:
        """What a run would send."""
        selected = self.selected(directory)
        todo = [problem for problem in selected if self.missing(problem, directory)]
        print(f"{len(todo)} requests to {self.recipe.endpoint.url}; {len(selected) - len(todo)} problems need none")
        if not todo:
            return
        example = _endpoint.body(self.recipe.endpoint, self.task.messages(todo[0]))
        print(f"the first one:\n{json.dumps(example, indent=2, ensure_ascii=False)}")
        texts = [message["content"] for problem in todo for message in self.task.messages(problem)]
        tokens_in = math.ceil(sum(map(len, texts)) / CHARACTERS)
        seen = directory.totals()
        if seen["completion_tokens"]:
            mean = seen["completion_tokens"] / seen["requests"]
            tokens_out, how = math.ceil(len(todo) * mean), f"{mean:.0f} an answer so far"
        else:
            tokens_out, how = len(todo) * self.recipe.endpoint.max_tokens, "at most: endpoint.max_tokens each"
        print(f"tokens, estimated: {tokens_in} in ({CHARACTERS} characters a token), {tokens_out} out ({how})")
        cost = self.cost(tokens_in, tokens_out)
        print("cost: give prices={input: ..., output: ...}" if cost is None else f"cost, estimated: {cost:.4f}")
        print("dry run: nothing was sent")

    def ask(self, directory: AnswerDir) -> int:
        """Ask what is missing, export, say what came of it."""
        selected = self.selected(directory)
        known = set(directory.problems)
        directory.problems += [problem.id for problem in selected if problem.id not in known]
        todo = [problem for problem in selected if self.missing(problem, directory)]
        session = Session(directory, self.record, self.cost)
        try:
            if todo:
                endpoint = Endpoint(self.recipe.endpoint)  # here: where nothing is to be sent, no key is needed
                session.save()  # before the first row: it says whose rows they are
                session.run(endpoint, [(problem, self.task.messages(problem)) for problem in todo])
        finally:
            session.save()
            kept = [self.kept(directory.rows.get(identity, [])) for identity in directory.problems]
            directory.export(row for row in kept if row is not None)
        return self._report(directory, left_out=len(self.problems) - len(selected))

    def _report(self, directory: AnswerDir, left_out: int) -> int:
        counts, totals = directory.counts(), directory.totals()
        print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
        cost = self.cost(totals["prompt_tokens"], totals["completion_tokens"])
        spent = "" if cost is None else f", cost {cost:.4f}"
        print(
            f"{totals['requests']} requests answered so far: {totals['prompt_tokens']} tokens in, "
            f"{totals['completion_tokens']} out{spent}"
        )
        for identity, reason in list(directory.failures.items())[:3]:
            print(f"failed: {identity}: {reason}")
        if left_out:
            print(f"{left_out} more problems are selected; mode=extend asks them too")
        print(f"to train on: {directory.train}")
        return 1 if counts.get("unanswered") else 0


def _check(recipe: TeachRecipe, where: str) -> None:
    prices = recipe.prices
    rules = [  # key, value, whether it will do, what was expected
        *_endpoint.check(recipe.endpoint),
        ("mode", recipe.mode, recipe.mode in MODES, f"one of {', '.join(MODES)}"),
        ("prices", prices, prices is None or min(prices.input, prices.output) >= 0, "0 or more"),
    ]
    for name, value, right, expected in rules:
        if not right:
            raise UserError(f"{where}: key '{name}' is {value!r}; expected {expected}.")
