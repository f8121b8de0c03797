"""Short stories about a changing amount, each event one operation, told and worked out in several wordings.

The wordings of a worked answer are drawn apart from the problem: a model that learns these has real choices to
make between them, and real numbers to get right, so a mismatch of its draft may or may not matter.
"""

import random
from dataclasses import dataclass

NAMES = (
    "Ana",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jack",
    "Kofi",
    "Lena",
    "Mei",
    "Omar",
)
THINGS = (
    "apples",
    "books",
    "coins",
    "stickers",
    "marbles",
    "cards",
    "shells",
    "pens",
    "cookies",
    "stamps",
    "eggs",
    "toys",
)

GAIN = (
    "{name} buys {n} more.",
    "Then {name} finds {n} more.",
    "A friend gives {name} {n} more.",
    "{name} wins {n} more.",
)
LOSE = (
    "{name} gives away {n} of them.",
    "Then {name} loses {n}.",
    "{name} sells {n} of them.",
    "{n} of them get lost.",
)
TIMES = (
    "Then {name} gets enough to have {n} times as many.",
    "The next day {name} has {n} times as many as before.",
    "{name} collects until there are {n} times as many.",
)
SPLIT = (
    "{name} shares them equally among {n} boxes and keeps one box.",
    "{name} splits them into {n} equal piles and keeps one pile.",
    "Then {name} keeps only one of {n} equal parts.",
)
TELL = {"+": GAIN, "-": LOSE, "*": TIMES, "/": SPLIT}

THOUGHTS = {  # how a chain of thought words each operation
    "+": (
        "{name} gets {b} more, so now there are {a} + {b} = {c} {thing}.",
        "Adding {b} makes {a} + {b} = {c} {thing}.",
        "With {b} more, {name} has {a} + {b} = {c} {thing}.",
    ),
    "-": (
        "{name} has {b} fewer, which leaves {a} - {b} = {c} {thing}.",
        "Taking away {b} leaves {a} - {b} = {c} {thing}.",
        "Without these {b}, {name} has {a} - {b} = {c} {thing}.",
    ),
    "*": (
        "{b} times as many is {a} * {b} = {c} {thing}.",
        "That grows to {a} * {b} = {c} {thing}.",
        "Now {name} has {b} times {a}, so {a} * {b} = {c} {thing}.",
    ),
    "/": (
        "Each of the {b} parts is {a} / {b} = {c} {thing}.",
        "One of {b} equal parts is {a} / {b} = {c} {thing}.",
        "Split {b} ways, {name} keeps {a} / {b} = {c} {thing}.",
    ),
}
OPENINGS = ("{name} starts with {a} {thing}.", "At first {name} has {a} {thing}.", "We begin with {a} {thing}.")
CLOSINGS = ("So {name} ends up with {c} {thing}.", "The answer is {c}.", "In the end there are {c} {thing}.")


@dataclass(frozen=True)
class Story:
    """A question with its operations in order: (left, operator, right, result)."""

    question: str
    name: str
    thing: str
    steps: list[tuple[int, str, int, int]]


def draw(rng: random.Random, events: int, largest: int) -> Story:
    """A story of `events` operations, no amount in it above `largest` or below 1."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    amount = rng.randint(2, max(2, largest // 2))
    told, steps = [f"{name} has {amount} {thing}."], []
    for _ in range(events):
        operator, n = _event(rng, amount, largest)
        result = {"+": amount + n, "-": amount - n, "*": amount * n, "/": amount // n}[operator]
        steps.append((amount, operator, n, result))
        told.append(rng.choice(TELL[operator]).format(name=name, n=n))
        amount = result
    told.append(f"How many {thing} does {name} have now?")
    return Story(" ".join(told), name, thing, steps)


def thought(story: Story, rng: random.Random) -> list[str]:
    """The story worked out in full sentences, in wordings drawn by `rng`."""
    words = {"name": story.name, "thing": story.thing}
    lines = [rng.choice(OPENINGS).format(a=story.steps[0][0], **words)]
    lines += [rng.choice(THOUGHTS[op]).format(a=a, b=b, c=c, **words) for a, op, b, c in story.steps]
    return [*lines, rng.choice(CLOSINGS).format(c=story.steps[-1][3], **words)]


def _event(rng: random.Random, amount: int, largest: int) -> tuple[str, int]:
    """An operation that this amount allows, and its number."""
    factors = [n for n in range(2, 6) if amount * n <= largest]
    divisors = [n for n in range(2, 6) if amount % n == 0]
    allowed = ["+"] * (amount < largest) + ["-"] * (amount > 2) + ["*"] * bool(factors) + ["/"] * bool(divisors)
    operator = rng.choice(allowed)
    if operator == "+":
        return operator, rng.randint(1, largest - amount)
    if operator == "-":
        return operator, rng.randint(1, amount - 1)
    return operator, rng.choice(factors if operator == "*" else divisors)
