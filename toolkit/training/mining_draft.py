"""A draft model's choice at every place of a text, from one parallel pass; what it has read it does not read again."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.cache import block
from toolkit.engine.runner import Runner


class TeacherForced:
    """A draft over `rows` texts that change from time to time, each in a row of its cache."""

    def __init__(self, runner: Runner, rows: int, capacity: int) -> None:
        self.runner = runner
        self._cache = runner.cache(rows, capacity)
        self._read = [np.zeros(0, dtype=np.int64)] * rows  # the text whose KV a row holds

    def laws(self, rows: Sequence[int], texts: Sequence[np.ndarray], first: Sequence[int]) -> list[Tensor]:
        """Raw logits [n_b, D] behind each token of text b from place first[b] on."""
        missing = [b for b, start in enumerate(self._known(rows, texts)) if start < first[b]]
        if missing:  # of what comes before, nobody asks for logits
            self._forward([rows[b] for b in missing], [texts[b][: first[b]] for b in missing], logits=False)
        logits, start = self._forward(rows, texts, first, logits=True)
        return [
            one[begin - at : len(text) - at]
            for one, begin, at, text in zip(logits, first, start.tolist(), texts, strict=True)
        ]

    def states(self, rows: Sequence[int], texts: Sequence[np.ndarray]) -> Tensor:
        """The state of each text's last token after the final norm, [B, H]."""
        last = [len(text) - 1 for text in texts]
        states, start = self._forward(rows, texts, last, logits=False)
        places = torch.tensor(last) - torch.from_numpy(start)
        return states[torch.arange(len(texts), device=states.device), places.to(states.device)]

    def choices(self, logits: Tensor) -> np.ndarray:
        """The most likely tokens, in target ids."""
        tokens = logits.argmax(-1)
        vocabulary = self.runner.vocabulary
        return (tokens if vocabulary is None else vocabulary.tokens(tokens)).cpu().numpy()

    def _known(self, rows: Sequence[int], texts: Sequence[np.ndarray]) -> np.ndarray:
        """[B] how many tokens of each text its row holds."""
        return np.array([_same(self._read[row], text) for row, text in zip(rows, texts, strict=True)])

    def _forward(
        self,
        rows: Sequence[int],
        texts: Sequence[np.ndarray],
        latest: Sequence[int] | None = None,
        *,
        logits: bool,
    ) -> tuple[Tensor, np.ndarray]:
        """Read what is not known, from latest[b] at the latest -> logits or states [B, n, .], their first places."""
        known = self._known(rows, texts)
        if latest is not None:
            known = np.minimum(known, latest)
        sizes = np.array([len(text) for text in texts])
        start, width = block(known, sizes)
        tokens = np.zeros((len(texts), width), dtype=np.int64)
        for b, (text, begin) in enumerate(zip(texts, start.tolist(), strict=True)):
            part = text[begin : begin + width]
            tokens[b, : len(part)] = part
        for row, text in zip(rows, texts, strict=True):
            self._read[row] = text
        final = self.runner.n_layers
        output = self.runner.forward(
            self._cache.of(torch.tensor(rows)),
            torch.from_numpy(tokens).to(self.runner.device),
            start,
            logits="all" if logits else "none",
            hidden=frozenset() if logits else frozenset({final}),
        )
        return (output.logits if logits else output.hidden[final]), start


def _same(one: np.ndarray, other: np.ndarray) -> int:
    """Length of the common beginning."""
    size = min(len(one), len(other))
    same = one[:size] == other[:size]
    return size if same.all() else int(same.argmin())
