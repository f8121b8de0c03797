"""A learned router: what the text of a prompt says of which draft is fastest on it (train/router.py).

A sentence embedding and a few numbers of the prompt go through a small network. Where it is not sure enough, the
fallback draft serves. With one draft there is nothing to ask, and no encoder is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from toolkit import encoder
from toolkit.encoder import Encoder
from toolkit.engine.routing import Asked, Choice
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.nets.router import Routing, features
from toolkit.routers import _names


@dataclass
class Config:
    artifact: str = ""  # a directory that train/router.py wrote
    threshold: float | None = None  # confidence below which the fallback serves; null: the artifact's
    fallback: str | None = None  # a draft; null: the artifact's


class Learned:
    every = 0
    learns = False

    def __init__(
        self,
        routing: Routing,
        encoder: Encoder | None,
        tokenizer: PreTrainedTokenizerBase,
        threshold: float,
        fallback: int,
    ) -> None:
        self.routing, self.encoder, self.tokenizer = routing, encoder, tokenizer
        self.threshold, self.fallback = threshold, fallback

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        if self.encoder is None:
            return [Choice(0, 1.0)] * len(asked)
        texts = [self.tokenizer.decode(one.tokens.tolist(), skip_special_tokens=True) for one in asked]
        rows = features(self.encoder.encode(texts), texts, [one.tokens for one in asked], self.routing.vocab)
        best = self.routing.probabilities(rows).max(-1)
        return [
            Choice(draft if sure >= self.threshold else self.fallback, sure)
            for draft, sure in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        pass


def build(config: Config, models: Models, drafts: Sequence[str]) -> Learned:
    routing = models.router(config.artifact)
    where = f"router mlp: {config.artifact}"
    threshold = routing.threshold if config.threshold is None else config.threshold
    if not 0 <= threshold <= 1:
        raise UserError(f"{where}: threshold is {threshold:g}; expected 0 (never the fallback) to 1.")
    fallback = _names.place(routing.fallback if config.fallback is None else config.fallback, drafts, where)
    reader = None
    if routing.net is not None:
        reader = encoder.load(routing.encoder, where, models.target.device)
    return Learned(routing, reader, models.target.tokenizer, threshold, fallback)
