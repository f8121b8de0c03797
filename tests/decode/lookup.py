"""Prompt lookup by its definition (methods: A10), one text at a time, without arrays."""

from tests.decode.exact import Prompt


def window(text: Prompt, limit: int, shortest: int, longest: int) -> list[int]:
    """What follows the latest earlier occurrence of the longest suffix that has one; past the end it copies itself."""
    for size in range(longest, shortest - 1, -1):
        for start in reversed(range(len(text) - size)):
            if text[start : start + size] == text[len(text) - size :]:
                copied = list(text)
                for at in range(start + size, start + size + limit):
                    copied.append(copied[at])
                return copied[len(text) :]
    return []
