"""Is what a program has written what was expected? As LiveCodeBench compares it: line by line, numbers by value."""

from decimal import Decimal, InvalidOperation


def same(given: str, expected: str) -> bool:
    """Outer white space of the whole and of each line is nothing; lines that differ are equal as lists of numbers."""
    ours, theirs = (text.strip().split("\n") for text in (given, expected))
    return len(ours) == len(theirs) and all(
        _same_line(one.strip(), other.strip()) for one, other in zip(ours, theirs, strict=True)
    )


def _same_line(given: str, expected: str) -> bool:
    if given == expected:
        return True
    try:
        return [Decimal(word) for word in given.split()] == [Decimal(word) for word in expected.split()]
    except InvalidOperation:
        return False
