"""Mining in a batch against mining by hand: the same labels in the same order, whatever is decoded at a time.

Tiny models of five tokens, one of them EOS, whose law depends on the whole text.
"""

import dataclasses

import numpy as np
import pytest
from scipy.special import entr, log_softmax, rel_entr

from tests.decode.caches import fresh, ragged
from tests.decode.models import EOS, VOCAB, build, draft_recipe, model, target_recipe
from tests.training.mined_by_hand import ByHand
from toolkit.engine.runner import Runner
from toolkit.nets.judge import COLUMNS
from toolkit.tasks._types import Problem, Score
from toolkit.training.answers import Asked
from toolkit.training.mining_pieces import aligned
from toolkit.training.mining_search import Miner

LIMIT = 14
PROMPTS = ragged(30, longest=9, vocab=VOCAB)
PAIRS = [("llama", "near"), ("llama", "far"), ("llama", "trimmed"), ("gpt2", "far"), ("qwen3", "near")]
ENDS = {"llama": [EOS], "gpt2": [EOS, 2], "qwen3": [EOS, 0]}  # EOS alone is hardly ever the most likely token


class Letters:
    """A tokenizer of five tokens."""

    def decode(self, ids, *, skip_special_tokens, clean_up_tokenization_spaces):
        return "".join("abcd"[i] for i in ids if i != EOS)


class Sums:
    """The answer of a text is a sum over its letters; a short text has none."""

    name = "sums"

    def score(self, problem, text):
        found = str(sum(text.encode()) % 3) if len(text) > 2 else None
        correct = None if problem.answer is None else found == problem.answer
        return Score(correct, found, "text")


ASKED = [Asked(f"sums/{i}", Sums(), Problem(str(i), "", None), prompt) for i, prompt in enumerate(PROMPTS)]


def runners(family, kind):
    """Of the target, which has letters, and of its draft."""
    target = Runner(build(target_recipe(family)), Letters())
    target.model.generation_config.eos_token_id = ENDS[family]
    return target, model(draft_recipe(family, kind)).runner


def mine(family, kind, asked=ASKED, batch=8, window=4, states=("target", "draft")):
    """-> key -> its search"""
    target, draft = runners(family, kind)
    done = {}

    def take(search):
        assert search.asked.key not in done
        done[search.asked.key] = search

    Miner(target, draft, limit=LIMIT, batch=batch, window=window, states=states, done=take).run(asked)
    return done


def labels(search):
    return [(one.position, one.target_token, one.draft_token, one.important) for one in search.decided]


@pytest.fixture(scope="module")
def by_hand():
    """Pair -> key -> labels and the last answer."""
    known = {}

    def of(family, kind):
        if (family, kind) not in known:
            hand = ByHand(*runners(family, kind), LIMIT)
            known[family, kind] = {one.key: hand.labels(one) for one in ASKED}
        return known[family, kind]

    return of


@pytest.mark.parametrize("window", [0, 1, 4])
@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_labels_are_those_of_mining_by_hand(by_hand, family, kind, batch, window):
    done, expected = mine(family, kind, batch=batch, window=window), by_hand(family, kind)
    assert done.keys() == expected.keys()
    for key, search in done.items():
        assert (labels(search), search.answer) == expected[key]
        assert search.decoded >= len(search.decided) and search.seconds > 0


def test_the_tests_meet_what_can_happen(by_hand):
    """EOS swapped in and out, a swap in the last place, answers that cannot be searched, both labels."""
    every = [(ENDS[pair[0]], label) for pair in PAIRS for found, _ in by_hand(*pair).values() for label in found]
    assert {True, False} == {important for _, (*_, important) in every}
    assert any(drafted in ends for ends, (_, _, drafted, _) in every)
    assert any(token in ends for ends, (_, token, _, _) in every)
    assert any(place == LIMIT - 1 for _, (place, *_) in every)
    assert any(place == 0 for _, (place, *_) in every)
    assert any(not found for pair in PAIRS for found, _ in by_hand(*pair).values())


def test_a_text_that_now_runs_into_the_limit_is_no_answer(by_hand):
    """Without this some labels would be others, so the comparisons above would notice."""

    class Lax(ByHand):
        def ended(self, answer):
            return True

    lax = {pair: Lax(*runners(*pair), LIMIT) for pair in PAIRS}
    assert any(hand.labels(one) != by_hand(*pair)[one.key] for pair, hand in lax.items() for one in ASKED)


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_what_is_kept_of_a_token_is_of_its_own_text(family, kind):
    """States of the swapped token behind the answer so far, laws of the row before it: of a forward over that text."""
    plain, small = model(target_recipe(family)).plain, model(draft_recipe(family, kind)).plain
    vocabulary = model(draft_recipe(family, kind)).runner.vocabulary
    compared = 0
    for search in mine(family, kind).values():
        for one in search.decided:
            text = [*search.asked.tokens, *search.answer[: one.position], one.draft_token]
            (p, states), (q, drafted) = fresh(plain, text), fresh(small, text)
            assert np.allclose(one.target_hidden, states[-1][-1], rtol=2e-3, atol=2e-3)
            assert np.allclose(one.draft_hidden, drafted[-1][-1], rtol=2e-3, atol=2e-3)
            assert one.target_hidden.dtype == one.draft_hidden.dtype == np.float16
            q = q[-2].numpy() if vocabulary is None else q[-2].numpy()[vocabulary.ids]
            logp, logq = log_softmax(p[-2].numpy()), log_softmax(q)
            own = one.draft_token if vocabulary is None else vocabulary.ids.tolist().index(one.draft_token)
            shared = logp if vocabulary is None else logp[vocabulary.ids]
            kl = rel_entr(np.exp(logq), np.exp(shared)).sum()
            entropies = [entr(np.exp(law)).sum() for law in (logp, logq)]
            wanted = dict(zip(COLUMNS, [logp[one.draft_token], logq[own], *entropies, kl], strict=True))
            assert one.laws == pytest.approx(wanted, rel=1e-3, abs=1e-4)
            compared += 1
    assert compared > 10


def test_states_nobody_asked_for_are_not_kept():
    done = mine("llama", "near", states=())
    assert all(one.target_hidden is None and one.draft_hidden is None for s in done.values() for one in s.decided)
    assert all(one.laws for s in done.values() for one in s.decided)


def test_no_law_waits():
    """Of a prompt's mismatches only the one that is tried has its draft's law: a vocabulary is large."""
    miner = Miner(*runners("llama", "near"), limit=LIMIT, batch=8, window=4, states=(), done=lambda _: None)
    laws = []

    def observe(*_):
        laws.extend(one.law for search in miner._live.values() for one in list(search.left)[1:])

    miner._decoder.length.observe = observe
    miner.run(ASKED)
    assert len(laws) > 100 and all(law is None for law in laws)


class Counting(Runner):
    """Counts what it is given to read."""

    forwards = tokens = 0

    def forward(self, cache, tokens, *args, **options):
        self.forwards += 1
        self.tokens += tokens.numel()
        return super().forward(cache, tokens, *args, **options)


def test_what_was_read_is_not_read_again():
    """A row that goes on with its own text costs its continuation, and rounds are shared."""
    draft = model(draft_recipe("llama", "near")).runner
    counted = {}
    for name, work in {"hand": _by_hand, "rows": _in_rows}.items():
        target = Counting(build(target_recipe("llama")), Letters())
        work(target, draft)
        counted[name] = (target.forwards, target.tokens)
    assert counted["rows"][0] * 5 < counted["hand"][0]
    assert counted["rows"][1] < counted["hand"][1]


def _by_hand(target, draft):
    hand = ByHand(target, draft, LIMIT)
    for one in ASKED:
        hand.labels(one)


def _in_rows(target, draft):
    Miner(target, draft, limit=LIMIT, batch=30, window=0, states=("target",), done=lambda _: None).run(ASKED)


def test_the_former_answer_is_worth_trying():
    """Some of what is proposed stands, so there are fewer rounds."""
    target, draft = runners("llama", "near")
    miner = Miner(target, draft, limit=LIMIT, batch=8, window=4, states=(), done=lambda _: None)
    rounds = []
    observe = miner._decoder.length.observe
    miner._decoder.length.observe = lambda batch, *rest: (rounds.append(len(batch)), observe(batch, *rest))
    miner.run(ASKED)
    slow = Miner(target, draft, limit=LIMIT, batch=8, window=0, states=(), done=lambda _: None)
    plain = []
    slow._decoder.length.observe = lambda batch, *rest: plain.append(len(batch))
    slow.run(ASKED)
    assert sum(rounds) < sum(plain)


def test_where_two_texts_agree():
    former = np.array([7, 1, 2, 3, 4, 5, 6, 1, 2, 9])
    assert aligned(former, np.array([7, 1, 2, 8]), 0) == 0, "one token in the place of another"
    assert aligned(former, np.array([7, 1, 2, 8, 8, 3, 4]), 0) == -2, "two tokens in the place of none"
    assert aligned(former, np.array([7, 1, 2, 8, 8, 3, 4, 8]), -2) == -2, "as before"
    assert aligned(former, np.array([7, 1, 2]), 0) == 0 and aligned(former, np.array([0, 0, 0, 0, 0, 0, 1, 2]), 0) == 1
    assert aligned(former, np.array([6, 1, 2]), 0) == 6, "the longest"
    assert aligned(np.zeros(0, dtype=np.int64), np.array([1, 2]), 0) == 0


def test_prompts_are_searched_once_and_dropped_when_they_have_no_answer():
    class Silent(Sums):
        def score(self, problem, text):
            return Score(None, None, "none")

    asked = [dataclasses.replace(one, task=Silent()) for one in ASKED[:5]]
    done = mine("llama", "near", asked=asked)
    assert len(done) == 5 and not any(search.decided for search in done.values())
    assert mine("llama", "near", asked=[]) == {}
