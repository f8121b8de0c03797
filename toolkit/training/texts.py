"""What drafts are trained on: prompts with the target's own answers, as the token ids that the target decoded.

The files are those of train/collect.py. They say which target answered and how (`identity.json` in the `.parts` beside
them), and a draft for another target is refused. Held out is by prompt, whatever file an answer is in.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.binding import Identity
from toolkit.errors import UserError
from toolkit.tasks._data import read_jsonl


@dataclass
class TextsConfig:
    """Answers to train on, and how many of their prompts are held out."""

    answers: list[str]  # files that train/collect.py wrote
    max_length: int = 512  # tokens of prompt and answer; longer ones lose their end
    valid: float = 0.04  # share of the prompts that is held out
    valid_limit: int = 64  # at most so many texts are measured at each evaluation
    limit: int | None = None  # how many texts of each file; null = all


@dataclass(frozen=True)
class Text:
    """A prompt and what the target said."""

    key: str
    prompt: tuple[int, ...]  # at least one token
    answer: tuple[int, ...]  # at least one token; the EOS is its last one where it ended by itself
    ended: bool  # False: cut by a limit of tokens
    greedy: bool = True  # decoded at temperature 0

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.prompt + self.answer

    @property
    def name(self) -> str:
        """Of these very tokens."""
        return hashlib.sha256(json.dumps([self.prompt, self.answer]).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Texts:
    """Texts to train on and texts held out, and what the manifest says of them."""

    train: Sequence[Text]
    valid: Sequence[Text]
    dropped: dict[str, int] = field(default_factory=dict)  # by reason
    sources: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """For a manifest."""
        names = [text.name for text in (*self.train, *self.valid)]
        return {
            "fingerprint": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
            "rows": len(self.train),
            "valid_rows": len(self.valid),
            "tokens": sum(len(text.tokens) for text in self.train),
            "answer_tokens": sum(len(text.answer) for text in self.train),
            "sources": self.sources,
            "dropped": self.dropped,
        }


def load(settings: TextsConfig, target: Identity, where: Path | str) -> Texts:
    """All files' texts. UserError for a file that is missing, of another target, or without tokens."""
    train: list[Text] = []
    valid: list[Text] = []
    dropped: Counter[str] = Counter()
    sources = []
    for name in settings.answers:
        path = Path(name)
        decoded = _identity(path, target, where)
        texts, lost = _read(path, settings, greedy=decoded["temperature"] == 0)
        dropped.update(lost)
        asked = sorted({text.key.partition("/")[0] for text in texts})
        sources.append({"answers": name, "texts": len(texts), "tasks": asked} | decoded)
        for text in texts:
            (valid if held_out(text.key, settings.valid) else train).append(text)
    if not train or not valid:
        raise UserError(
            f"{where}: key 'data': {len(train)} texts to train on and {len(valid)} held out; expected some of both. "
            "Collect more answers, or change data.valid."
        )
    # Real decoding can be foretold from greedy answers only (see walk.py): they are measured first
    measured = sorted(valid, key=lambda text: (not text.greedy, text.name))[: settings.valid_limit]
    return Texts(train, measured, dict(dropped), sources)


def held_out(key: str, share: float) -> bool:
    """Of the prompt's key alone: the same prompts in every run, for every draft of a target."""
    return int.from_bytes(hashlib.sha256(f"held out {key}".encode()).digest()[:4]) < share * 2**32


def _identity(path: Path, target: Identity, where: Path | str) -> dict[str, Any]:
    """How the answers were decoded; UserError where another model decoded them."""
    marker = path.with_suffix(".parts") / "identity.json"
    if not path.is_file() or not marker.is_file():
        missing = marker if path.is_file() else path
        raise UserError(
            f"{where}: key 'data.answers': {missing} is not there. train/collect.py makes both: the target's own "
            "answers to training prompts, and whose they are."
        )
    found = json.loads(marker.read_text(encoding="utf-8"))
    if found["target"] != target:
        differing = sorted(key for key in target if found["target"].get(key) != target[key])
        raise UserError(
            f"{where}: key 'data.answers': {path} holds the answers of another target: {', '.join(differing)} differ "
            f"('{found['target']['name']}' there, '{target['name']}' here). Collect this target's answers."
        )
    return found["settings"]


def _read(path: Path, settings: TextsConfig, *, greedy: bool) -> tuple[list[Text], Counter[str]]:
    texts: list[Text] = []
    dropped: Counter[str] = Counter()
    for row in read_jsonl(path):
        if settings.limit is not None and len(texts) == settings.limit:
            break
        prompt, answer = (_ids(row.values.get(key), key, row.where) for key in ("input_ids", "output_ids"))
        kept = answer[: settings.max_length - len(prompt)] if len(prompt) < settings.max_length else ()
        if not kept:
            dropped["overlong prompt" if answer else "empty"] += 1
            continue
        ended = row.text("finish") != "length" and len(kept) == len(answer)
        texts.append(Text(row.text("key"), prompt, kept, ended, greedy))
    return texts, dropped


def _ids(value: object, key: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise UserError(f"{where}: '{key}' should be a list of token ids. Collect the answers again.")
    return tuple(value)
