"""Structural checks on invented worked answers."""

import pytest

from toolkit.tasks._answers import grade_expression, grade_number
from toolkit.training import checks


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("2 + 2 = 4 #### 4", "4"),
        ("Two and two.\n#### 1,000 apples", "1,000 apples"),
        (r"So $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        ("Neither holds. #### neither", "neither"),
        ("#### Step 1\nWe add 2 and 2.\nIt is 4.", None),
        ("#### Step 1\nWe add.\n#### 4", "4"),
        ("The answer is 4.", None),
        (r"\boxed{}", None),
        ("", None),
    ],
)
def test_mark(text, marked):
    assert checks.mark(text) == marked


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("12 * 7 = 84; 84 + 5 = 89. #### 89", ["12 * 7 = 84", "84 + 5 = 89."]),
        ("a is 1 -> b is 2\n\n#### 2", ["a is 1", "b is 2"]),
        ("We add 2.5 and 2. That is 4.5.\n\\boxed{4.5}", ["We add 2.5 and 2.", "That is 4.5."]),
        ("Half of 1:\n\\[\n1/2\n\\]\n", ["Half of 1:", "1/2"]),
        ("#### 4", []),
    ],
)
def test_steps(text, steps):
    assert checks.steps(text) == steps


@pytest.mark.parametrize(
    ("step", "words"), [("12 * 7 = 84", 3), ("she has 2.5 apples", 4), ("1,000 - x_1 = 0", 4), ("= \\frac{1}{2}", 3)]
)
def test_signs_are_no_words(step, words):
    assert checks.words(step) == words


def look(text, gold, grade=grade_number):
    return checks.structure(text, grade(text, gold))


def test_structure_of_a_good_answer():
    found = look("2 + 2 = 4; 4 * 3 = 12 #### 12", "12")
    assert found == checks.Structure(empty=False, marked="12", last_number=True, correct=True, words=(3, 3))


@pytest.mark.parametrize(
    ("text", "gold", "last_number", "correct"),
    [
        ("#### 12\nIt took 3 days.", "12", False, True),
        (r"\boxed{7}, where x = 2.", "7", False, True),
        (r"It is $\boxed{x + 1}$.", "x+1", None, True),  # no number, so the last number says nothing
        ("It is 12.", "12", None, True),  # no mark
        ("#### 13", "12", True, False),
        ("#### 13", None, True, None),
    ],
)
def test_what_disagrees(text, gold, last_number, correct):
    found = look(text, gold, grade_expression)
    assert (found.last_number, found.correct) == (last_number, correct)


def test_summary_counts():
    texts = [
        ("2 + 2 = 4 #### 4", "4"),
        ("one two three four five six; 5 #### 5", "6"),
        ("It may be 7.", None),
        ("  ", "8"),
    ]
    found = checks.summary([look(text, gold) for text, gold in texts])
    assert (found.rows, found.empty, found.graded) == (4, 1, 3)
    assert found.marked == 2 / 4
    assert found.correct == 1 / 3
    assert found.last_number == 1.0
    assert found.words == {1: 1, 3: 1, 4: 1, 6: 1}
    assert found.steps == 4 / 4
    assert (found.long_steps, found.long_rows) == (1 / 4, 1 / 4)
    strict = checks.summary([look(text, gold) for text, gold in texts], most_words=3)
    assert (strict.long_steps, strict.long_rows) == (2 / 4, 2 / 4)  # a step of just three words is no long one


def test_summary_of_nothing():
    found = checks.summary([])
    assert (found.rows, found.marked, found.steps, found.long_steps, found.words) == (0, None, None, None, {})
