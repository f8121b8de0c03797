"""Equality and extraction, by tables: what is right must be found, and what is wrong must never become right."""

import threading
import time

import pytest

from toolkit.tasks import _answers, _judge, _numbers
from toolkit.tasks._equality import equal

EQUAL = [
    # numbers
    ("18", "18.0"),
    ("18", "$18"),
    ("18", r"\$18.00"),
    ("18", "18."),
    ("18", "**18**"),
    ("18", "18 dollars"),
    ("18", "$18 per day"),
    ("18", "18 dollars a day"),
    ("18", "Total cost = $18"),
    ("20", "5*4=20"),
    ("-7", "\u22127"),
    ("1000", "1,000"),
    (r"3,\!110,\!400", "3110400"),
    (r"10{,}000", "10000"),
    ("3000000", "3 million"),
    ("24", "2 dozen"),
    ("0.5", "1/2"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", ".5"),
    (r"\dfrac{3}{4}", "3/4"),
    ("3/2", "1 1/2"),
    (r"\frac{7}{2}", r"3\frac{1}{2}"),
    ("1/3", "0.333333"),
    ("50%", r"50\%"),
    (r"50\%", "50"),
    (r"50\%", "0.5"),
    ("25", "25%"),
    (r"12.5\%", "12.5"),
    # units and wrappers
    (r"90^\circ", "90 degrees"),
    (r"440\text{ cm}^2", "440"),
    ("1.5", r"1.5 \text{ cm}"),
    (r"\frac{9}{4}\text{ hours}", "2.25"),
    ("(2,3)", r"$\left( 2, 3 \right)$."),
    ("7", "{7}"),
    # words and choices
    (r"\text{Evelyn}", "evelyn"),
    (r"\text{(A)}", "A"),
    (r"\text{1:03 PM}", "1:03 pm"),
    # expressions
    ("y=-3x+30", "y = 30 - 3x"),
    ("y=-3x+30", "-3x+30"),
    ("4x-5y=-50", "8x-10y=-100"),
    (r"\frac{x^2}{16}-\frac{y^2}{9}=1", "9x^2-16y^2=144"),
    ("x=5", "5"),
    ("5", "x=5"),
    ("(2x+3)(x-3)", "(x-3)(2x+3)"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("6+2i", "2i+6"),
    (r"2^{10}", "1024"),
    (r"\binom{5}{2}", "10"),
    (r"\log_2 8", "3"),
    (r"\sqrt{2}", "1.414214"),
    # lists, sets, intervals, matrices, bases
    ("1,2", "2,1"),
    (r"-\sqrt{3},-1,1", r"1, -1, -\sqrt{3}"),
    (r"\pm 2", "-2, 2"),
    (r"1\pm\sqrt2", r"1+\sqrt2, 1-\sqrt2"),
    (r"19 \text{ and }43", "43, 19"),
    (r"x \in [1,2]", "[1,2]"),
    (r"x\le 2", r"(-\infty,2]"),
    (r"(-\infty,-8)\cup (8,\infty)", r"(8,\infty)\cup(-\infty,-8)"),
    ("(1,4.5)", r"\left(1,\frac{9}{2}\right)"),
    (r"\begin{pmatrix} 7/17 & -3 \\ 1 & 2 \end{pmatrix}", r"\begin{pmatrix} \frac{7}{17} & -3 \\ 1 & 2 \end{pmatrix}"),
    ("2516_8", "2516_{8}"),
    ("2516_8", "2516"),
]

UNEQUAL = [
    # numbers
    ("18", "19"),
    ("18", "-18"),
    ("18", "18.01"),
    ("1000000", "1000001"),
    ("0", "0.0000001"),
    ("1/3", "0.33"),
    ("11/2", "1 1/2"),
    ("12", "1 2"),
    ("1200", "1, 200"),
    ("3", "3 million"),
    ("2", "2 dozen"),
    ("0.5", "0.5%"),
    ("25", "0.25"),
    # the first number, or any one of several, is not the answer
    ("18", "18 or 20"),
    ("20", "18 or 20"),
    ("18", r"\text{18 or 20}"),
    ("18", "18 dollars and 5 cents"),
    ("5", "5 feet 3 inches"),
    ("3", "3 because 18"),
    ("3", "3, 18"),
    ("18", "18 - 20"),
    ("12", "12x"),
    ("12abc", "12"),
    ("12", "12^2"),
    ("2", r"2\pi"),
    (r"2\pi", "2"),
    (r"19 \text{ and }43", "19"),
    ("1,2,3", "1,2"),
    ("1,2", "2"),
    ("(3,4)", "3"),
    (r"\pm 2", "2"),
    ("-2", r"\pm 2"),
    ("3", "x = 1, y = 3"),
    ("6", "2x=6"),
    ("21", "5*4=21"),
    ("2", "3=2"),
    # expressions
    ("y=-3x+30", "y=-3x+15"),
    ("y=-3x+30", "y=3x+30"),
    ("x^2+2x+1", "x^2+2x+2"),
    ("2x+3", "2y+3"),
    ("x=5", "y=5"),
    ("x^2+1=0", "x^2+2=0"),
    ("x^2+y^2=4", "x^2+y^2=5"),
    ("6+2i", "6-2i"),
    (r"\sqrt{2}", "1.414"),
    (r"\sqrt{12}", "12"),
    # order, brackets, signs, rows, bases
    ("(1,2)", "(2,1)"),
    ("(2,1)", r"\{1,2\}"),
    ("[1,2)", "[1,2]"),
    ("(1,2]", "(1,2)"),
    (r"\infty", r"-\infty"),
    ("x<1", r"x\le 1"),
    (r"\begin{pmatrix} 1\\2 \end{pmatrix}", r"\begin{pmatrix} 2\\1 \end{pmatrix}"),
    (r"\begin{pmatrix} 2/5 \\ -1/5 \\ 0 \end{pmatrix}", r"\begin{pmatrix} 2/5 \\ -1/6 \\ 0 \end{pmatrix}"),
    ("2516_8", "2516_9"),
    ("42", "42_8"),
    # words
    (r"\text{even}", r"\text{odd}"),
    (r"\text{(A)}", "B"),
    ("evil", "live"),
    (r"\text{no solution}", "0"),
    ("10:15", "10:45"),
    ("5", ""),
    ("5", "5" * 600),
]


@pytest.mark.parametrize(("gold", "given"), EQUAL)
def test_equal(gold, given):
    assert equal(gold, given)


@pytest.mark.parametrize(("gold", "given"), UNEQUAL)
def test_unequal(gold, given):
    assert not equal(gold, given)


NUMBER_TEXTS = [
    ("She has 5 + 13 = 18.\n#### 18", "18", "hashes"),
    ("16 - 3 = 13 #### 13 dollars", "13 dollars", "hashes"),
    ("#### 18\n\nQ: another one\nA: 4 + 5\n#### 9", "18", "hashes"),  # a base model runs on
    ("#### Step 1\nAdd 5 and 13.\n#### 1. Check\nThe answer is 18.", "18", "final_answer"),
    ("#### 18 or 20\nThe answer is 18.", "18 or 20", "hashes"),  # hedging is not saved by a later path
    ("The final answer is: **18**. I hope it is correct.", "18", "final_answer"),
    ("The final answer is $18.50 a day. Not $20.", "$18.50 a day", "final_answer"),
    (r"The final answer is: $\boxed{18}$", "18", "final_answer"),
    ("The answer is 5. No: the answer is 6.", "6", "final_answer"),
    ("The answer follows from the table: 3 + 4.\n\\boxed{7}", "7", "boxed"),
    ("Adding up, 3 + 4 = 7 apples, of which 1,250 are red", "1,250", "last_number"),
    ("It falls to -3", "-3", "last_number"),
    ("So 8-3", "3", "last_number"),
    ("which is 3/4", "3/4", "last_number"),
    ("She sold 45%", "45%", "last_number"),
    ("I do not know", None, "none"),
    ("", None, "none"),
]
EXPRESSION_TEXTS = [
    (r"Thus $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}", "boxed"),
    (r"First \boxed{1}, then \boxed{\frac{\sqrt{3}}{2}}", r"\frac{\sqrt{3}}{2}", "boxed"),
    (r"\boxed{4} and the cut off \boxed{\frac{1}{", "4", "boxed"),
    (r"\boxed 5", "5", "boxed"),
    (r"\boxed{} #### 7", "7", "hashes"),
    (r"slope, then line #### y = -3x + 30", "y = -3x + 30", "hashes"),
    ("#### Final answer\nThe final answer is $(2, 3)$.", "(2, 3)", "final_answer"),
    ("so x is 12", "12", "last_number"),
]


@pytest.mark.parametrize(("text", "found", "path"), NUMBER_TEXTS)
def test_extraction_of_numbers(text, found, path):
    assert _answers.extract(text, _answers.GSM8K_PATHS) == (found, path)


@pytest.mark.parametrize(("text", "found", "path"), EXPRESSION_TEXTS)
def test_extraction_of_expressions(text, found, path):
    assert _answers.extract(text, _answers.MATH_PATHS) == (found, path)


def test_no_gold_answer_gives_no_verdict():
    score = _answers.grade_number("#### 18", None)
    assert (score.correct, score.extracted, score.path) == (None, "18", "hashes")


def test_nothing_found_is_wrong():
    assert _answers.grade_number("no idea", "18").correct is False


@pytest.mark.parametrize("text", ["12^2", "18-", "2 pi", "12 x", "1/0", "3 4", "a dozen", "12abc", "18 a", "7 or", ""])
def test_not_a_plain_number(text):
    assert _numbers.read(text) is None


def test_works_in_threads():
    """math-verify's own time limit raises outside the main thread."""
    verdicts = []
    threads = [
        threading.Thread(target=lambda n=n: verdicts.append(_judge.equal(f"(x+{n})^2", f"x^2+{2 * n}x+{n * n}")))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 4


def test_a_hanging_comparison_is_killed_and_the_next_one_works(monkeypatch):
    assert _judge.equal("x", "x")
    monkeypatch.setattr(_judge, "SECONDS", 0.5)
    start = time.monotonic()
    assert not _judge.equal("1", "9^{9^{9^{9}}}")
    assert time.monotonic() - start < 5
    monkeypatch.undo()
    assert _judge.equal("x+1", "1+x")


def test_a_dead_worker_is_replaced():
    assert _judge.equal("x", "x")
    _judge._worker.kill()
    _judge._worker.wait()
    assert _judge.equal("x+2", "2+x")


def test_speed():
    """1000 texts in seconds, an eighth of which need computer algebra."""
    start = time.monotonic()
    for n in range(1000):
        gold, text = (f"x+{n}", rf"\boxed{{{n}+x}}") if n % 8 == 0 else (str(n), rf"so \boxed{{{n}}}.")
        assert _answers.grade_expression(text, gold).correct
    assert time.monotonic() - start < 20
