"""Expressions over whole numbers, worked out one operation at a time.

reasoning-gym draws the expressions (its `basic_arithmetic`); the order of the steps is the one taught at school:
brackets first, then products and quotients, then sums and differences, each from the left.
"""

import re
from collections.abc import Iterator

_OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b and a % b == 0 else None,  # None: not a whole number
}

_SIGNED = re.compile(r"(^|[-+*/(])\s*-")  # a negative number: the library draws some whatever it is asked


def draw(seed: int, terms: tuple[int, int], digits: int) -> Iterator[str | None]:
    """Endless expressions of `terms` (from, to) numbers of up to `digits` digits; None for one that is of no use."""
    from reasoning_gym.arithmetic.basic_arithmetic import BasicArithmeticDataset, BasicArithmeticDatasetConfig

    config = BasicArithmeticDatasetConfig(
        min_terms=terms[0], max_terms=terms[1], max_digits=digits, allow_negation=False, seed=seed, size=10**9
    )
    dataset = BasicArithmeticDataset(config)
    for index in range(config.size):
        try:
            expression = dataset[index]["metadata"]["expression"]
        except ZeroDivisionError:  # the library's own check of what it drew
            yield None
            continue
        yield None if _SIGNED.search(expression) else expression


def steps(expression: str) -> list[tuple[int, str, int, int]] | None:
    """(left, operator, right, result) of each operation, in order; None where one has no whole result."""
    tokens = _unwrapped([int(t) if t.isdigit() else t for t in re.findall(r"\d+|[-+*/()]", expression)])
    done = []
    while len(tokens) > 1:
        place = _next(tokens)
        left, operator, right = tokens[place - 1 : place + 2]
        result = _OPERATIONS[operator](left, right)
        if result is None:
            return None
        done.append((left, operator, right, result))
        tokens[place - 1 : place + 2] = [result]
        tokens = _unwrapped(tokens)
    return done


def _next(tokens: list[int | str]) -> int:
    """Where the operation that is due stands: in the innermost bracket, products before sums, from the left."""
    start, end = 0, len(tokens)
    if ")" in tokens:
        end = tokens.index(")")
        start = max(i for i in range(end) if tokens[i] == "(") + 1
    for operators in ("*/", "+-"):
        for place in range(start, end):
            if isinstance(tokens[place], str) and tokens[place] in operators:
                return place
    raise ValueError(f"no operation in {tokens}")


def _unwrapped(tokens: list[int | str]) -> list[int | str]:
    """Without brackets around a single number."""
    for place in range(len(tokens) - 2):
        if tokens[place] == "(" and tokens[place + 2] == ")":
            return _unwrapped(tokens[:place] + [tokens[place + 1]] + tokens[place + 3 :])
    return tokens
