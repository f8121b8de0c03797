"""Is a given answer equal to the gold one? Cheap certainties first, then `math-verify`.

Order: same text after tidying; both are plain numbers (then that comparison is final); both are words (final);
different number bases; else the computer algebra of `math-verify`, in a process that can be killed (`_judge`).
Nothing here ever compares a part of an answer: what cannot be read as a whole is not equal.
"""

import re
from functools import lru_cache

from toolkit.tasks import _judge, _numbers

LONGEST = 500  # characters; a longer "answer" is a runaway text, and parsing it takes seconds

_MATH_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_TIDY = [
    (re.compile(r"\\(?:left|right|displaystyle|bigl|bigr|Bigl|Bigr|big|Big)(?![a-zA-Z])"), ""),
    (re.compile(r",\s*\\!\s*"), ","),  # 3,\!110,\!400
    (re.compile(r"(?<!\\)\\!"), ""),
    (re.compile(r"(?<=\d)\\,(?=\d{3})"), ","),  # a thin space between thousands
    (re.compile(r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])|~"), " "),  # but "\\ " ends a matrix row
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\?[$€£]"), ""),
    (re.compile(r"\\%|(?<=\d)\s*percent\b"), "%"),
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|°"), ""),
    (re.compile(r"\\(le|ge|ne)q(?![a-zA-Z])"), r"\\\1"),
    (re.compile("[\u2212\u2013]"), "-"),
    (re.compile(r"(?<![\w^.)}\]/])(\d+)/(\d+)(?![\w(\[{./^!])"), r"\\frac{\1}{\2}"),  # else misread in a matrix
    (re.compile(r"^[A-Za-z]\s*\\in(?![a-zA-Z])\s*"), ""),  # x \in [1,2]
]
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|operatorname)\s*\{([^{}]*)\}")
_NAMED = re.compile(r"[A-Za-z][A-Za-z ]*=([^=]*)")  # "x = 5", "Total cost = 5"
_BASE = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
_INNER_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")  # all but the one in "1 1/2", which is not 11/2


def tidy(answer: str) -> str:
    """The answer without wrappers, spacing commands, currency and degree signs, and the final period."""
    answer = answer.strip()
    for opening, closing in _MATH_WRAPPERS:
        inside = answer[len(opening) : -len(closing)]
        if answer.startswith(opening) and answer.endswith(closing) and inside and opening not in inside:
            answer = inside.strip()
    while answer.startswith("{") and _closing_brace(answer) == len(answer) - 1:
        answer = answer[1:-1].strip()
    for pattern, replacement in _TIDY:
        answer = pattern.sub(replacement, answer)
    return answer.strip().rstrip(".;:,").strip()


def _closing_brace(text: str) -> int:
    """Where the brace that opens the text closes; -1 when it does not."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return place
    return -1


def plain(tidied: str) -> str:
    """\\text{...} opened up, so that units and words read as such."""
    return re.sub(r"\s+", " ", _TEXT.sub(r" \1 ", tidied)).strip().rstrip(".").strip()


@lru_cache(maxsize=65536)
def equal(gold: str, given: str) -> bool:
    """True when the whole of `given` means the same as the whole of `gold`."""
    gold_tidy, given_tidy = tidy(gold), tidy(given)
    named = _NAMED.fullmatch(plain(given_tidy))
    if named is not None and "=" not in gold_tidy:
        given_tidy = named[1].strip()
    gold_plain, given_plain = plain(gold_tidy), plain(given_tidy)
    if not gold_plain or not given_plain or len(given_plain) > LONGEST:
        return False
    same_case = str.casefold if _TEXT.search(gold_tidy) else str  # 1:03 PM
    if same_case(_INNER_SPACE.sub("", gold_plain)) == same_case(_INNER_SPACE.sub("", given_plain)):
        return True
    gold_number, given_number = _numbers.read(gold_plain), _numbers.read(given_plain)
    if gold_number is not None and given_number is not None:
        return _numbers.equal(gold_number, given_number)
    gold_word, given_word = _word(gold_plain), _word(given_plain)  # as a product of letters, live = evil
    if gold_word is not None and (_TEXT.search(gold_tidy) or re.search(r"[a-z]{4}", gold_word)):
        return gold_word == given_word
    gold_base, given_base = _BASE.fullmatch(gold_plain), _BASE.fullmatch(given_plain)
    if gold_base is not None or given_base is not None:
        return _same_in_base(gold_base, given_base, given_plain)
    return _judge.equal(gold_tidy, given_tidy)


def _word(answer: str) -> str | None:
    """Words without case, a choice without its parentheses; None when there is more to it than letters."""
    bare = answer.removeprefix("(").removesuffix(")") if re.fullmatch(r"\([A-Z]\)", answer) else answer
    return bare.casefold() if re.fullmatch(r"[A-Za-z][A-Za-z ,'-]*", bare) else None


def _same_in_base(gold: re.Match[str] | None, given: re.Match[str] | None, given_plain: str) -> bool:
    """2516_8: the base may be left out, as the question asked for it, but not be another one, nor be added."""
    if gold is None:
        return False
    return given.groups() == gold.groups() if given is not None else given_plain == gold[1]
