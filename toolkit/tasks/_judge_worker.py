"""The worker of `_judge`: reads `[gold, given]` lines, writes `true` or `false` lines, with `math-verify`.

Two rules of math-verify are too kind and are replaced: equations without a real solution all count as equal
(x^2+1=0 and x^2+2=0), and of "2x = 6" the right side is taken for the answer, though x is 3.
"""

import json
import logging
import resource
import sys

from latex2sympy2_extended.sets import FiniteSet
from math_verify import LatexExtractionConfig, parse, verify
from math_verify.grader import is_assignment_relation
from sympy import Basic, Eq, simplify
from sympy.core.function import AppliedUndef

CPU_SECONDS = 10  # for one comparison, in case the parent was killed and nobody is left to stop it
MEMORY_BYTES = 4 << 30
# What sympy raises on malformed input, beyond what math-verify catches: no verdict, so not equal. Anything else
# ends the worker with a traceback; `_judge` counts that as not equal too, and starts another.
SYMPY_ERRORS = (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError)


def read(answer: str) -> list[Basic | str]:
    """The answer as a whole, as math-verify reads LaTeX: [expression, text], or [text] where it cannot."""
    return parse(rf"\boxed{{{answer}}}", [LatexExtractionConfig()], parsing_timeout=None)


def equal(gold: str, given: str) -> bool:
    """math-verify's verdict, with the two rules above replaced."""
    left, right = read(gold), read(given)
    if not left or not right:
        return False
    if isinstance(left[0], Eq) and isinstance(right[0], Eq):
        return same_equation(left[0], right[0])
    if isinstance(right[0], Eq) and not isinstance(left[0], (Eq, FiniteSet)) and not gives_value(right[0]):
        return False
    return verify(left, right, timeout_seconds=None)


def same_equation(gold: Eq, given: Eq) -> bool:
    """One is a non-zero multiple of the other."""
    ratio = simplify((gold.lhs - gold.rhs).doit() / (given.lhs - given.rhs).doit())
    return ratio.is_number and ratio.is_finite is True and ratio.is_zero is False


def gives_value(equation: Eq) -> bool:
    """Is the right side an answer: y = ..., f(x) = ..., or a calculation that holds, 5 * 4 = 20?"""
    if is_assignment_relation(equation) or isinstance(equation.lhs, AppliedUndef):
        return True
    return simplify((equation.lhs - equation.rhs).doit()).is_zero is True


def lower(limit: int, value: int) -> None:
    """Set a soft limit of this process, within the hard one."""
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main() -> None:
    """Serve until the parent closes the pipe."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limit is off; `_judge` has one
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # elsewhere the system does not keep to it
        lower(resource.RLIMIT_AS, MEMORY_BYTES)
    print("ready", flush=True)
    for line in sys.stdin:
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        lower(resource.RLIMIT_CPU, used + CPU_SECONDS)
        gold, given = json.loads(line)
        try:
            verdict = equal(gold, given)
        except SYMPY_ERRORS:
            verdict = False
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
