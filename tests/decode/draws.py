"""Many generations of a few prompts in wide ragged batches, as arrays.

Every batch holds the prompts in turn, so its rows differ in length, end at different times and are compacted.
(request id, sample) is different for every draw, and both of them vary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.decode.exact import Prompt
from tests.decode.models import EOS, VOCAB
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Generation, Request, Sampling

ROWS = 512  # of each prompt in a batch
SAMPLES = 4  # of one request id

# Of different lengths, the first with nothing to prefill; the others repeat themselves, for prompt lookup to find.
PROMPTS: tuple[Prompt, ...] = ((1,), (2, 0, 2), (0, 1, 2, 3, 1, 2))


@dataclass
class Draws:
    """The generations of one prompt, in the order of their rows."""

    prompt: Prompt
    tokens: np.ndarray  # [n, max_new_tokens] int8; EOS stands behind the end, but hides nothing that follows an EOS
    windows: np.ndarray  # [n, max_new_tokens, 2] int8: (proposed, accepted) a round; -1 behind the last

    def __len__(self) -> int:
        return len(self.tokens)

    def triples(self, first: int) -> np.ndarray:
        """[V, V, V] counts of tokens first+1 to first+3."""
        a, b, c = self.tokens[:, first : first + 3].astype(np.int64).T
        return np.bincount((a * VOCAB + b) * VOCAB + c, minlength=VOCAB**3).reshape(VOCAB, VOCAB, VOCAB)


def request(index: int, prompts: Sequence[Prompt] = PROMPTS) -> Request:
    """Draw `index`: the prompts take turns, SAMPLES draws share a request id."""
    return Request(index // SAMPLES, prompts[index % len(prompts)], sample=index % SAMPLES)


def draw(decoder: SpecDecoder, sampling: Sampling, count: int, prompts: Sequence[Prompt] = PROMPTS) -> list[Draws]:
    """`count` generations, in batches of ROWS rows a prompt."""
    shape = count, sampling.max_new_tokens
    tokens, windows = np.full(shape, EOS, dtype=np.int8), np.full((*shape, 2), -1, dtype=np.int8)
    width = ROWS * len(prompts)
    for start in range(0, count, width):
        indices = range(start, min(start + width, count))
        generations = decoder.generate([request(i, prompts) for i in indices], sampling)
        for i, generation in zip(indices, generations, strict=True):
            _store(generation, tokens[i], windows[i])
    every = len(prompts)
    return [Draws(prompt, tokens[i::every], windows[i::every]) for i, prompt in enumerate(prompts)]


def _store(generation: Generation, tokens: np.ndarray, windows: np.ndarray) -> None:
    tokens[: len(generation.tokens)] = generation.tokens
    windows[: len(generation.windows)] = generation.windows
