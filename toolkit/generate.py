"""`draftsmith generate`: one prompt through one method, streamed, and a line of what the method did.

For a first look at a target and a draft. A measurement needs a baseline beside it under the same clock: that is
`draftsmith eval`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit import artifact, chat, config, methods
from toolkit.engine.routing import Account
from toolkit.engine.types import Generation, Request, Sampling
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, Models
from toolkit.nets.router import KIND


@dataclass
class GenerateConfig:
    target: ModelConfig
    method: Any = "ngram"
    sampling: Sampling = field(default_factory=Sampling)
    chat: bool = True  # through the tokenizer's chat template, where it has one
    system: str | None = None


def main(prompt: str, overrides: list[str]) -> int:
    """Stream the continuation to stdout and the statistics to stderr."""
    settings = config.load(GenerateConfig, None, overrides)
    method = methods.resolve(settings.method, "method")
    models = Models(settings.target)
    decoder = methods.decoder(method, models)
    tokens = _tokens(prompt, settings, models)
    [generation] = decoder.generate([Request(0, tokens)], settings.sampling, on_token=_stream)
    print()
    print(summary(method.name, generation), file=sys.stderr)
    if generation.routing is not None:
        print(routed(generation.routing), file=sys.stderr)
    return 0


def by_router(directory: str, target: str | None) -> list[str]:
    """The overrides that put a router to use: its pieces and, unless another is named, its target."""
    manifest = artifact.read(Path(directory).expanduser())
    if manifest.kind != KIND:
        raise UserError(
            f"--router {directory}: an artifact of kind '{manifest.kind}'; expected a router, which train/router.py "
            "writes."
        )
    method = {"name": "routed", **manifest.pieces(directory)}
    return [f"target={target or json.dumps(manifest.composes['target'])}", f"method={json.dumps(method)}"]


def routed(account: Account) -> str:
    """Which drafts served a request."""
    served = ", ".join(f"{name} ({rounds} rounds)" for name, rounds in account.rounds.items())
    return f"[routed] {served}" + ("" if account.confidence is None else f", confidence {account.confidence:.2f}")


def summary(name: str, generation: Generation) -> str:
    """One line: how much, how fast, how well drafted, and whether the output law is the target's."""
    tokens, rounds = len(generation.tokens), generation.rounds
    proposed = sum(window[0] for window in generation.windows)
    accepted = sum(window[1] for window in generation.windows)
    rate = f"{accepted / proposed:.0%} of {proposed}" if proposed else "none proposed"
    pace = f"{tokens / rounds:.2f} a round" if rounds else "no round of the target"
    return (
        f"[{name}] {tokens} tokens in {generation.times.total:.2f} s ({tokens / generation.times.total:.1f} tokens/s, "
        f"prefill included), {pace}, accepted {rate}, "
        f"{'lossless' if generation.lossless else 'lossy'}, ended by {generation.finish}"
    )


def _tokens(prompt: str, settings: GenerateConfig, models: Models) -> tuple[int, ...]:
    tokenizer = models.target.tokenizer
    if not settings.chat or tokenizer.chat_template is None:
        return tuple(tokenizer(prompt)["input_ids"])
    messages = [{"role": "system", "content": settings.system}] if settings.system else []
    messages.append({"role": "user", "content": prompt})
    return chat.encode(messages, tokenizer)


def _stream(request: int, token: int, text: str) -> None:
    print(text, end="", flush=True)
