"""Reads text that is one number and nothing else: `1,000`, `$18.50`, `3/4`, `2\\frac{1}{2}`, `50%`, `18 dollars`.

Two numbers, an operator or a variable make it no number (None): taking the first number of such text would
turn wrong answers into right ones. Values are exact fractions.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

TOLERANCE = Fraction(1, 10**6)

_DECIMAL = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_FRACTION = r"\\frac\s*(?:\{(?P<top>\d+)\}|(?P<top1>\d))\s*(?:\{(?P<bottom>\d+)\}|(?P<bottom1>\d))"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:"
    rf"(?P<mixed>\d+\s*)?{_FRACTION}"  # \frac{1}{2}, \frac12, 3\frac{1}{2}
    rf"|(?:(?P<whole>\d+)\s+)?(?P<over>\d+(?:,\d{{3}})*)\s*/\s*(?P<under>\d+)"  # 1/2, 3 1/2
    rf"|(?P<decimal>{_DECIMAL})"
    rf")(?:\s*(?P<percent>%))?(?P<unit>.*)",
    re.DOTALL,
)
_SHORT_UNITS = {"am", "cc", "cm", "ft", "gm", "hr", "in", "kg", "km", "lb", "mg", "ml", "mm", "ms", "oz"}
_GLUE = {"a", "an", "at", "in", "of", "on"}  # in "dollars a day"; first, they would be variables
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Words after a number that are mathematics or a second answer, not a unit.
_NO_UNIT = {"and", "but", "not", "over", "plus", "minus", "times", "divided", "squared", "cubed"}
_NO_UNIT |= {"half", "third", "thirds", "quarter", "quarters", "score", "gross", "infinity"}
_NO_UNIT |= {"alpha", "beta", "gamma", "delta", "theta", "lambda", "sigma", "omega", "epsilon"}


@dataclass(frozen=True)
class Number:
    """An exact value as written; `percent`: it stood before a percent sign and is not yet divided by 100."""

    value: Fraction
    percent: bool
    decimal: bool  # written with a decimal point, so perhaps rounded


def read(text: str) -> Number | None:
    """The number that the text is, None when the text is anything else."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    scale = _unit_scale(match["unit"])
    if scale is None:
        return None
    if match["decimal"] is not None:
        value = Fraction(match["decimal"].replace(",", "").rstrip("."))
    else:
        top = match["top"] or match["top1"] or match["over"].replace(",", "")
        bottom = int(match["bottom"] or match["bottom1"] or match["under"])
        if bottom == 0:
            return None
        value = Fraction(int(top), bottom) + int(match["mixed"] or match["whole"] or 0)
    value *= -scale if match["sign"] == "-" else scale
    return Number(value, bool(match["percent"]), "." in (match["decimal"] or ""))


def _unit_scale(unit: str) -> int | None:
    """What the words after the number multiply it by (1 for a unit); None when they are not just a unit."""
    if not unit.strip():
        return 1
    words = re.sub(r"(?<=[A-Za-z])\s*\^\s*\{?[23]\}?", "", unit).replace("/", " per ").replace(".", " ").lower().split()
    if not words or words[0] in _GLUE or not all(_is_word(word) for word in words):
        return None
    if unit[0] not in " /" and words[0] not in _SHORT_UNITS:
        return None  # 12abc is a product
    return _SCALES.get(words[0], 1)


def _is_word(word: str) -> bool:
    if word in _SHORT_UNITS or word in _GLUE:
        return True
    return (
        re.fullmatch(r"[a-z'-]{3,}", word) is not None
        and re.search(r"[aeiouy]", word) is not None
        and word not in _NO_UNIT
    )


def equal(gold: Number, given: Number) -> bool:
    """Equal up to rounding, percent signs understood.

    A percent sign on both sides, or on the gold answer alone, is a unit ("12.5%" is asked, "12.5" is right).
    On the given answer alone it is a unit only where gold is too large to be a share: "0.5%" is not 0.5.
    """
    if gold.percent == given.percent:
        return _close(gold, gold.value, given, given.value)
    gold_share = gold.value / 100 if gold.percent else gold.value
    given_share = given.value / 100 if given.percent else given.value
    as_unit = gold.percent or abs(gold.value) > 1
    return _close(gold, gold_share, given, given_share) or (as_unit and _close(gold, gold.value, given, given.value))


def _close(gold: Number, gold_value: Fraction, given: Number, given_value: Fraction) -> bool:
    """Exact, unless one was written with a decimal point; then within 1e-6, and within 0.1% where gold is tiny."""
    if not (gold.decimal or given.decimal):
        return gold_value == given_value
    return abs(gold_value - given_value) <= min(TOLERANCE, abs(gold_value) / 1000)
