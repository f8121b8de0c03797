"""Mining where answers are programs: the sandbox's verdict is the answer, and a token matters when it changes that."""

from tests.decode.caches import ragged
from tests.decode.models import VOCAB
from tests.training.mined_by_hand import ByHand
from tests.training.test_mining_search import LIMIT, labels, mine, runners
from toolkit.tasks._code import CodeTask, Found
from toolkit.tasks._sandbox import Asserts, Job
from toolkit.tasks._types import Problem
from toolkit.training.answers import Asked

PROMPTS = ragged(4, longest=6, vocab=VOCAB)
TESTS = "assert f('a') % 2 == 0 or f('b') % 3 == 0\n"


def find(problem: Problem, text: str) -> Found | None:
    """The tiny model's letters, as a program that counts them."""
    return Found(f"def f(letter): return {text!r}.count(letter)", "whole_text", True) if text else None


def job(problem: Problem, found: Found) -> Job:
    return Job(found.code, Asserts(("f",), problem.tests))


TASK = CodeTask(name="letters", selected=[], preamble=[], find=find, job=job)
ASKED = [
    Asked(f"letters/{i}", TASK, Problem(str(i), "", "pass", tests=TESTS), prompt) for i, prompt in enumerate(PROMPTS)
]


def test_a_token_is_important_where_the_verdict_changes():
    done = mine("llama", "far", asked=ASKED, states=())
    hand = ByHand(*runners("llama", "far"), LIMIT)
    verdicts, important = set(), set()
    for one in ASKED:
        search = done[one.key]
        assert (labels(search), search.answer) == hand.labels(one)
        verdicts.add(search.alpha)
        important |= {label[-1] for label in labels(search)}
    assert verdicts == {"pass", "wrong"} and important == {True, False}
