"""What an artifact was trained for, against what it is about to be used with.

An identity is a mapping: a model's `name`, the `fingerprint` of its weights as they were loaded, a hash of its
`tokenizer`, and the digests of the `adapters` that were merged into it, in order. Another model, tokenizer or adapter
is refused; weights of one name that differ (the hub's, and those a package ships quantised) are a warning.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from toolkit import sources
from toolkit.artifact import MANIFEST
from toolkit.errors import UserError

Identity = dict[str, Any]


def repository(name: str) -> str | None:
    """The hub repository (or the tiny model) that a name stands for; None for a path, which names none."""
    name = sources.SHORT_NAMES.get(name, name)
    if not name or name.startswith((".", "/", "~")) or Path(name).exists():
        return None
    return name


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of which id stands for which token."""
    ids = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def check(directory: Path, bound: Identity, found: Identity) -> None:
    """UserError where the artifact in the directory was trained for another model than the one that is there."""
    same_weights = bound["fingerprint"] == found["fingerprint"]
    if not same_model(bound, found):
        raise _other(directory, "the model", bound["name"], found["name"])
    if bound["tokenizer"] != found["tokenizer"]:
        raise _other(directory, "the tokenizer", shortened(bound["tokenizer"]), shortened(found["tokenizer"]))
    if bound["adapters"] != found["adapters"]:
        raise _other(
            directory,
            f"{bound['name']} with adapters (SHA-256)",
            shortened(bound["adapters"]),
            shortened(found["adapters"]),
        )
    if not same_weights:
        sources.say(
            f"warning: {directory} was trained with other weights of {bound['name']} than these (fingerprint "
            f"{bound['fingerprint'][:12]}..., here {found['fingerprint'][:12]}...); results may differ"
        )


def same_name(one: str, other: str) -> bool:
    """Whether both name one model: a repository goes by several names, a path by itself only."""
    known = repository(one), repository(other)
    return one == other if None in known else known[0].lower() == known[1].lower()


def same_model(one: Identity, other: Identity) -> bool:
    """By their weights, or by their names: adapters are not looked at."""
    return one["fingerprint"] == other["fingerprint"] or same_name(one["name"], other["name"])


def shortened(digests: str | Sequence[str]) -> str:
    """A digest or several as a message shows them."""
    digests = [digests] if isinstance(digests, str) else digests
    return ", ".join(f"{digest[:12]}..." for digest in digests) or "none"


def _other(directory: Path, what: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{directory / MANIFEST}: key 'binds': trained for another model. {what}: '{expected}' there, '{found}' here. "
        "Use it with the model and the adapters that it was trained with, or train it again for these."
    )
