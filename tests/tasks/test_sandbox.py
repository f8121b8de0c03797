"""What the sandbox says of ordinary programs, and what crosses between a program and its tests."""

import os
import tracemalloc

import pytest

from toolkit.tasks import _output, _sandbox
from toolkit.tasks._sandbox import Asserts, Cases, Job, Limits

SQUARES = Asserts(("f",), "assert f(2) == 4\nassert f(3) == 9\n")
ECHO = Asserts(
    ("f",),
    """
import math
values = [None, True, False, 0, -1, 2**53, -2**70, 10**5000, 0.1, -0.0, math.inf, "", "\\ud800\\0", "ü",
          b"", b"\\xff", 1j, (), [], {}, set(), frozenset({1}), (1,), [[(2, {3: {4, 5}})]], range(2, 9, 3)]
for value in values:
    given = f(value)
    assert type(given) is type(value) and given == value, value
    assert not isinstance(value, float) or math.copysign(1, given) == math.copysign(1, value)
assert math.isnan(f(math.nan))
assert f([1, True, 1.0])[1] is True
assert list(f(iter([1, 2]))) == [1, 2]
assert f(f=3) == 3
""",
)
OBJECTS = Asserts(
    ("Node", "depth", "LIMIT"),
    """
root = Node(1)
root.left = Node(2)
root.left.left = Node(3)
assert depth(root) == 3 and depth(root.left) == 2 and depth(None) == 0
assert root.left.value == 2 and root.right is None
assert root != Node(1) and Node(1) != 1 and root == root
assert LIMIT == 7
""",
)
TREE = """
LIMIT = 7
class Node:
    def __init__(self, value): self.value, self.left, self.right = value, None, None
def depth(node): return 0 if node is None else 1 + max(depth(node.left), depth(node.right))
"""
VERDICTS = {
    "def f(x): return x * x": "pass",
    "f = lambda x: x ** 2": "pass",
    "def f(x): return x * 2": "wrong",
    "def f(x): return str(x * x)": "wrong",
    "def f(x): return x * x if x < 3 else 1 / 0": "crash",
    "def f(x) return x": "crash",
    "f(2) = 4": "crash",
    "import no_such_module\ndef f(x): return x * x": "crash",
    "print('f')\ninput()\ndef f(x): return x * x": "crash",
    "print('some words')\ndef f(x):\n    print(x)\n    return x * x": "pass",
    "import collections, decimal, heapq, json, re, random, statistics, typing\ndef f(x): return x * x": "pass",
    "if __name__ == '__main__': 1 / 0\ndef f(x): return x * x": "pass",
    "def f(x): raise ValueError('a' * 10**6)": "crash",
    "": "refused",
    "def f(x): return x * x\0": "refused",
    f"#{'x' * _sandbox.LONGEST}\ndef f(x): return x * x": "refused",
}


def names(verdicts):
    return [verdict.name for verdict in verdicts]


def test_verdicts_in_the_order_of_the_programs():
    assert names(_sandbox.judge([Job(code, SQUARES) for code in VERDICTS])) == list(VERDICTS.values())
    assert _sandbox.judge([]) == []


def test_verdicts_do_not_depend_on_how_many_run_at_a_time(monkeypatch):
    limits = Limits(cpu_seconds=1, wall_seconds=10)
    programs = ["while True: pass", "import os\nos._exit(0)", *list(VERDICTS)[:6]]
    jobs = [Job(code, SQUARES, limits=limits) for code in programs]
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    together = _sandbox.judge(jobs)
    monkeypatch.setattr(_sandbox, "WORKERS", 1)
    assert together == _sandbox.judge(jobs)
    assert names(together)[:2] == ["timeout", "crash"]


def test_plain_values_cross_unchanged():
    [verdict] = _sandbox.judge([Job("def f(f): return f", ECHO)])
    assert verdict == _sandbox.Verdict("pass")


def test_values_of_subclasses_are_what_they_were_made_of():
    code = """
from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import IntEnum
Point = namedtuple("Point", "x y")
Colour = IntEnum("Colour", "RED")
def f(x):
    return [Counter("aab"), OrderedDict(a=1), defaultdict(list, a=[1]), Point(1, 2), Colour.RED, (c for c in "ab")]
"""
    tests = """
*values, letters = f(0)
assert values == [{"a": 2, "b": 1}, {"a": 1}, {"a": [1]}, (1, 2), 1]
assert [type(value) for value in values] == [dict, dict, dict, tuple, int] and list(letters) == ["a", "b"]
"""
    assert names(_sandbox.judge([Job(code, Asserts(("f",), tests))])) == ["pass"]


def test_what_is_not_plain_stays_with_the_program():
    assert _sandbox.judge([Job(TREE, OBJECTS)]) == [_sandbox.Verdict("pass")]
    same = Asserts(("Node",), "node = Node(1)\nassert node.itself() == node")
    code = (
        "class Node:\n def __init__(self, x): pass\n def itself(self): return self\n def __eq__(self, _): return True"
    )
    assert names(_sandbox.judge([Job(code, same)])) == ["wrong"], "no equality of the program's own"


def test_the_truth_of_what_is_not_plain_is_asked_for():
    """A match of a regular expression is true; whoever lies there could have returned True."""
    tests = Asserts(("f",), "assert f('a') and not f('b') and f('a') != True")
    assert names(_sandbox.judge([Job("import re\ndef f(x): return re.search('a', x)", tests)])) == ["pass"]
    odd = "class Odd:\n def __bool__(self): {}\ndef f(x): return Odd()"
    bad = [Job(odd.format(body), tests) for body in ("return 1", "1 / 0", "import os; os._exit(0)")]
    assert names(_sandbox.judge(bad)) == ["crash"] * 3


def test_a_type_may_be_handed_over():
    tests = Asserts(("f",), "assert f([1, 'a', 2.0], str) == ['a'] and f([1, True], int) == [1, True]")
    assert names(
        _sandbox.judge([Job("def f(x, kind): return [one for one in x if isinstance(one, kind)]", tests)])
    ) == ["pass"]
    assert names(_sandbox.judge([Job("f = str", Asserts(("f",), "assert f(1) == '1'"))])) == ["pass"]


@pytest.mark.parametrize("tests", ["pass", "def check(f): assert f(2) == 5", "g = f"])
def test_tests_that_ask_nothing_are_refused(tests):
    assert names(_sandbox.judge([Job("def f(x): return x", Asserts(("f",), tests))])) == ["refused"]
    assert names(_sandbox.judge([Job("def f(x): return x", Cases(()))])) == ["refused"]


def test_tests_that_look_away_do_not_hide_a_broken_answer():
    tests = Asserts(("f",), "try:\n    f(1)\nexcept BaseException:\n    pass")
    assert names(_sandbox.judge([Job("import os\ndef f(x): os._exit(0)", tests)])) == ["crash"]


def test_context_and_prelude():
    tests = Asserts(("f",), "assert f(2) == half(8)", context="def half(x): return x // 2\ndef f(x): return None")
    assert names(_sandbox.judge([Job("def f(x): return double(x)", tests, prelude="def double(x): return 2 * x")])) == [
        "pass"
    ]


def test_a_program_says_the_same_every_time():
    code = "def f(x): return str({'a', 'b', 'c', 'd', 'e'}) + str(hash('a'))"
    given = [_sandbox.judge([Job(code, Asserts(("f",), "raise ValueError(f(1))"))])[0].detail for _ in range(2)]
    assert given[0] == given[1] and "ValueError: {" in given[0]


def test_standard_input_and_output():
    cases = Cases((("3\n", "9\n"), ("4", "16")))
    programs = {
        "print(int(input()) ** 2)": "pass",
        "import sys\nprint(float(sys.stdin.read()) ** 2)\nsys.exit(3)": "pass",
        "if __name__ == '__main__': print(int(open(0).readline()) ** 2)": "pass",
        "print(9)": "wrong",
        "print(int(input()) ** 2, end='\\n\\n\\n')": "pass",
        "print(int(input()) ** 2)\nprint()\nprint(1)": "wrong",
        "print(int(input()) ** 2)\nraise ValueError": "crash",
        "input()\nprint(int(input()))": "crash",
    }
    assert names(_sandbox.judge([Job(code, cases) for code in programs])) == list(programs.values())


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("  1 2 \n3  \n\n", "1 2\n3", True),
        ("1  2", "1 2", True),
        ("1.0 2.00", "1 2", True),
        ("0.1", "0.10000000000000000001", False),
        ("1 2 3", "1 2", False),
        ("1\n2", "1 2", False),
        ("yes", "YES", False),
        ("nan", "nan", True),
        ("nan 1", "nan  1", False),
        ("sNaN", "1", False),
        ("", "", True),
        ("", "0", False),
    ],
)
def test_outputs_are_compared_as_the_benchmark_does(given, expected, same):
    assert _output.same(given, expected) is same


@pytest.mark.parametrize("given", ["1 " * (1 << 20), "1\n" * (1 << 20), "9" * (1 << 20)])
def test_much_output_takes_little_memory(given):
    """Else what a program writes, in limits of its own, would become a hundred times as much here."""
    tracemalloc.start()
    try:
        assert not _output.same(given, "1 2\n3")
        assert not _output.same(given, "1 2")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_overtime_is_of_the_processor_and_of_the_clock():
    busy, idle = "while True: pass", "import time\ntime.sleep(1000)"
    limits = Limits(cpu_seconds=1, wall_seconds=4)
    assert names(_sandbox.judge([Job(code, SQUARES, limits=limits) for code in (busy, idle)])) == ["timeout"] * 2
    assert (
        names(_sandbox.judge([Job(code, Cases((("", ""),)), limits=limits) for code in (busy, idle)]))
        == ["timeout"] * 2
    )
