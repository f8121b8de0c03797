"""Multi-step arithmetic, generated: stories about a changing amount, and expressions (reasoning-gym's).

The built-in family for training: endless, seeded, no download, with answers worked out as chain of thought and as
chain of draft, and as hard as `steps` and `largest` make it. A small adapted model solves a good part of it, so that
accuracy lost to a lossy rule can be seen. The splits are disjoint, by the hash of the question.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from toolkit.errors import UserError
from toolkit.tasks import _answers, _arithmetic, _data, _exemplars, _prompts, _split, _stories
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem, Task

KINDS = ("story", "expression")
_ATTEMPTS = 20_000  # draws in a row without a new problem, after which there are no more


@dataclass
class Config:
    split: str = "test"  # train | valid | test
    kinds: list[str] = field(default_factory=lambda: list(KINDS))  # drawn in turn
    steps: list[int] = field(default_factory=lambda: [2, 5])  # operations a problem: fewest, most
    largest: int = 100  # no number in a problem or its working is larger
    seed: int = 0  # which sequence of problems
    style: str = "cot"  # direct | cot | cod
    shots: int = 0  # worked examples of our own before the question, at most 8
    system: str | None = None  # instead of the style's system prompt; "" for none
    limit: int = 256  # how many problems
    offset: int = 0  # how many to skip first


def build(config: Config) -> Task:
    """`limit` generated problems; a larger limit gives the same ones first."""
    _data.choice("split", config.split, _split.NAMES)
    _data.check_range(config.limit, config.offset)
    for kind in config.kinds:
        _data.choice("kinds", kind, KINDS)
    if not config.kinds or len(config.steps) != 2 or not 1 <= config.steps[0] <= config.steps[1] or config.largest < 10:
        raise UserError(
            f"task steps: kinds={config.kinds}, steps={config.steps}, largest={config.largest}; expected one kind or "
            "more, steps: [fewest, most] with 1 <= fewest <= most, and largest >= 10"
        )
    problems = list(islice(_stream(config), config.offset + config.limit))
    return ChatTask(
        name="steps",
        selected=_data.select(problems, config.limit, config.offset, shuffle_seed=None),
        preamble=_prompts.preamble(config.style, "hashes", config.shots, config.system, _exemplars.GRADE_SCHOOL),
        grade=_answers.grade_number,
        style=config.style,
    )


def _stream(config: Config) -> Iterator[Problem]:
    """The split's problems, each question once, the kinds in turn."""
    sources = [_KINDS[kind](config) for kind in config.kinds]
    sieve = _split.Sieve(config.split)
    turn = idle = 0
    while idle < _ATTEMPTS:
        drawn = next(sources[turn % len(sources)])
        if drawn is None:
            idle += 1
            continue
        question, cot, cod, answer = drawn
        digest = sieve.take(question)
        if digest is None:
            idle += 1
            continue
        worked = {"cot": f"{cot}\n#### {answer}", "cod": f"{cod} #### {answer}"}
        yield Problem(
            f"steps-{digest[:12]}", question, str(answer), {"kind": config.kinds[turn % len(sources)]}, worked
        )
        turn, idle = turn + 1, 0
    raise UserError(
        f"task steps: only {len(sieve.seen)} different problems with steps={config.steps}, largest={config.largest} in "
        f"split {config.split}; ask for fewer, or for harder ones"
    )


_Drawn = tuple[str, str, str, int]  # question, chain of thought, chain of draft, answer


def _story(config: Config) -> Iterator[_Drawn | None]:
    rng = random.Random(f"story {config.seed}")  # a text seeds by its SHA-512, the same in every process
    while True:
        story = _stories.draw(rng, rng.randint(*config.steps), config.largest)
        thought = _stories.thought(story, random.Random(story.question))
        yield story.question, "\n".join(thought), _draft(story.steps), story.steps[-1][3]


def _expression(config: Config) -> Iterator[_Drawn | None]:
    """None for an expression that is not asked: too large a number, or one that is not whole, in its working."""
    terms = (config.steps[0] + 1, config.steps[1] + 1)
    for expression in _arithmetic.draw(config.seed, terms, len(str(config.largest - 1))):
        steps = _arithmetic.steps(expression) if expression else None
        if not steps or not all(0 <= number <= config.largest for a, _, b, c in steps for number in (a, b, c)):
            yield None
            continue
        rng = random.Random(expression)
        thought = [_opening(rng), *(_thought(rng, i == 0, step) for i, step in enumerate(steps))]
        yield _asked(expression, rng), "\n".join(thought), _draft(steps), steps[-1][3]


_KINDS = {"story": _story, "expression": _expression}


def _draft(steps: list[tuple[int, str, int, int]]) -> str:
    return "; ".join(f"{a} {operator} {b} = {c}" for a, operator, b, c in steps)


def _asked(expression: str, rng: random.Random) -> str:
    return rng.choice(("What is {}?", "Work out {}.", "Calculate {}.")).format(
        expression.replace("( ", "(").replace(" )", ")")
    )


def _opening(rng: random.Random) -> str:
    return rng.choice(("We work it out step by step.", "Brackets come first, then products, then sums."))


def _thought(rng: random.Random, first: bool, step: tuple[int, str, int, int]) -> str:
    a, operator, b, c = step
    opening = rng.choice(("First, ", "We start with ")) if first else rng.choice(("Then ", "Next, ", "After that, "))
    return f"{opening}{a} {operator} {b} = {c}."
