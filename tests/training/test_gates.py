"""Gates on invented generated answers: what passes, what stops, and that the error has every figure."""

import pytest

from toolkit import config
from toolkit.errors import UserError
from toolkit.tasks._answers import grade_number
from toolkit.tasks._chat import ChatTask
from toolkit.tasks._types import Problem
from toolkit.training import gates
from toolkit.training.gates import Gates, Generated


def task(*problems):
    return ChatTask(name="invented", selected=problems, preamble=[], grade=grade_number)


def generated(texts, tier="easy", gold="4"):
    return [
        Generated(Problem(f"p{n}", "2+2?", gold), text, grade_number(text, gold), tier) for n, text in enumerate(texts)
    ]


GOOD, WRONG, UNMARKED = "2+2=4 #### 4", "2+2=5 #### 5", "it makes 4"


def test_figures():
    answers = generated([GOOD, GOOD, WRONG, UNMARKED]) + generated([WRONG], "hard") + generated([GOOD], "open", None)
    found = gates.check(answers, Gates(marked=0.5, accuracy={"easy": 0.75}, fallback_warning=1.0), "r.yaml")
    assert (found.rows, found.marked, found.fallback) == (6, 5 / 6, 1 / 6)
    assert found.accuracy == {"easy": 3 / 4, "hard": 0.0}
    assert found.graded == {"easy": 4, "hard": 1}


def test_no_row_is_filtered():
    answers = generated([WRONG] * 9 + [GOOD])
    before = list(answers)
    assert gates.check(answers, Gates(), "r.yaml").rows == 10
    assert answers == before


@pytest.mark.parametrize(
    ("texts", "chosen", "failed"),
    [
        ([GOOD] * 9 + [UNMARKED], Gates(), "answer mark"),
        ([GOOD] * 8 + [WRONG] * 2, Gates(accuracy={"easy": 0.85}), "right, easy"),
    ],
)
def test_a_failed_gate_shows_all_figures(texts, chosen, failed):
    answers = generated(texts) + generated([GOOD] * 2, "hard")
    with pytest.raises(UserError, match="r.yaml: the generated answers do not pass 'stage2.gates'") as error:
        gates.check(answers, chosen, "r.yaml", "stage2.gates")
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert [line for line in lines if "FAILED" in line] == [line for line in lines if line.startswith(failed)]
    assert (
        sum(line.startswith(("answer mark", "right, easy", "right, hard", "last number only")) for line in lines) == 4
    )


def test_a_share_at_the_gate_passes():
    gates.check(generated([GOOD] * 17 + [WRONG] * 3), Gates(accuracy={"easy": 0.85}), "r.yaml")
    gates.check(generated([GOOD] * 19 + [UNMARKED]), Gates(), "r.yaml")


def test_many_last_numbers_are_a_warning():
    found = gates.figures(generated([GOOD] * 8 + [UNMARKED] * 2))
    assert "20.0%  n=10     WARNING: above 10.0%" in gates.table(found, Gates())
    assert "20.0%  n=10     not above 20.0%" in gates.table(found, Gates(fallback_warning=0.2))


@pytest.mark.parametrize(
    ("answers", "chosen", "message"),
    [
        ([], Gates(), "r.yaml: there is no generated answer to check"),
        (generated([GOOD]), Gates(accuracy={"esay": 0.5}), "key 'gates.accuracy.esay': no such tier.* Tiers: easy"),
        (generated([GOOD], gold=None), Gates(accuracy={"easy": 0.5}), "no such tier.*no problem has a gold answer"),
        (generated([GOOD]), Gates(marked=95), "key 'gates.marked' is 95; expected a share from 0 to 1"),
        (generated([GOOD]), Gates(accuracy={"easy": -1}), "key 'gates.accuracy.easy' is -1; expected a share"),
    ],
)
def test_bad_input(answers, chosen, message):
    with pytest.raises(UserError, match=message):
        gates.check(answers, chosen, "r.yaml")


def test_tier_is_the_problems_own_or_the_tasks_name():
    tiered, plain = Problem("a", "?", "4", {"tier": "hard"}), Problem("b", "?", "4")
    assert gates.tier_of(task(tiered), tiered) == "hard"
    assert gates.tier_of(task(plain), plain) == "invented"


def test_gates_in_a_recipe():
    assert config.parse(Gates, {"accuracy": {"easy": 0.85, "hard": 0.6}}, "r.yaml").accuracy == {
        "easy": 0.85,
        "hard": 0.6,
    }
    with pytest.raises(UserError, match="accuracy"):
        config.parse(Gates, {"accuracy": {"easy": "most"}}, "r.yaml")
