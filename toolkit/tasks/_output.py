"""Is what a program has written what was expected? As LiveCodeBench compares it: line by line, numbers by value."""

from decimal import Decimal, InvalidOperation


def same(given: str, expected: str) -> bool:
    """Outer white space of the whole and of each line is nothing; lines that differ are equal as lists of numbers.

    What a program writes is never cut into many more parts than are expected, however much it writes.
    """
    theirs = expected.strip().split("\n")
    ours = given.strip().split("\n", len(theirs))
    return len(ours) == len(theirs) and all(
        _same_line(one.strip(), other.strip()) for one, other in zip(ours, theirs, strict=True)
    )


def _same_line(given: str, expected: str) -> bool:
    if given == expected:
        return True
    theirs = expected.split()
    ours = given.split(maxsplit=len(theirs))
    try:
        return len(ours) == len(theirs) and [*map(Decimal, ours)] == [*map(Decimal, theirs)]
    except InvalidOperation:
        return False
