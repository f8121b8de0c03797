"""Which tokens a draft's own vocabulary has: the most frequent ones of what its target says."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from toolkit import sources
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.training.texts import Text


def chosen(size: int, texts: Sequence[Text], special: Iterable[int], width: int) -> Vocabulary:
    """The `size` most frequent tokens of the answers, then of the prompts; `special` (the ends of a text) always.

    width: the target's vocabulary. UserError where it has fewer tokens than were asked for.
    """
    if not 1 <= size <= width:
        raise UserError(f"vocabulary.size is {size}; expected 1 to {width}, the target's own number of tokens.")
    answers = Counter(token for text in texts for token in text.answer)
    prompts = Counter(token for text in texts for token in text.prompt)
    order = [*special, *_ranked(answers), *_ranked(prompts), *range(width)]
    ids = list(dict.fromkeys(token for token in order if token < width))[:size]
    return Vocabulary(torch.tensor(sorted(ids)), width)


def coverage(vocabulary: Vocabulary, texts: Sequence[Text]) -> float:
    """The share of answer tokens that the vocabulary has: no draft with it can accept more."""
    known = set(vocabulary.ids.tolist())
    answers = [token for text in texts for token in text.answer]
    return sum(token in known for token in answers) / max(1, len(answers))


def say(vocabulary: Vocabulary, texts: Sequence[Text]) -> None:
    """Before training: too small a vocabulary shows here."""
    share = coverage(vocabulary, texts)
    sources.say(
        f"draft vocabulary: {len(vocabulary)} of {vocabulary.size} tokens, {share:.2%} of held-out answer tokens"
    )


def _ranked(counts: Counter[int]) -> list[int]:
    return sorted(counts, key=lambda token: (-counts[token], token))
