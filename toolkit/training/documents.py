"""Plain text to fine-tune on: documents of a JSON-lines file or of a dataset on the hub, packed into rows.

Documents follow each other without padding; a document that does not fit goes on in the next row, which begins with the
last token of the row before, so that every token is predicted once. The first token of a document is never predicted
from another document, and attention does not reach across (see `Packed.starts`). Held out is by document.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import load_dataset
from transformers import PreTrainedTokenizerBase

from toolkit import config
from toolkit.errors import UserError
from toolkit.tasks._data import read_jsonl
from toolkit.training.texts import Text, Texts, held_out


@dataclass
class DocumentsConfig:
    """Where the documents are: `path` or `hub`."""

    path: str | None = None  # a JSON-lines file
    hub: str | None = None  # a dataset on the hub, or a directory that `datasets` reads; it is streamed
    subset: str | None = None  # of the hub's dataset
    split: str = "train"  # of the hub's dataset
    field: str = "text"  # what holds the text in each row
    limit: int = 10_000  # documents read
    max_length: int = 512  # tokens of a row
    valid: float = 0.02  # share of the documents that is held out
    valid_limit: int = 64  # documents measured at most


def check(settings: DocumentsConfig, where: Path | str) -> None:
    """Refuse values that cannot be meant. UserError names the key."""
    rules = [
        ("documents.limit", settings.limit, settings.limit >= 2, "2 or more"),
        ("documents.max_length", settings.max_length, settings.max_length >= 8, "8 or more"),
        ("documents.valid", settings.valid, 0 < settings.valid < 1, "a share between 0 and 1"),
        ("documents.valid_limit", settings.valid_limit, settings.valid_limit >= 1, "1 or more"),
    ]
    config.require(where, rules)


@dataclass(frozen=True)
class Packed(Text):
    """A row of several documents."""

    starts: tuple[int, ...] = ()  # where in `tokens` a document begins, 0 apart


def load(settings: DocumentsConfig, tokenizer: PreTrainedTokenizerBase, where: Path | str) -> Texts:
    """Rows to train on, and held-out documents, each cut to the length of a row."""
    train: list[tuple[int, ...]] = []
    valid: list[Text] = []
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    count = 0
    for document in itertools.islice(_documents(settings, where), settings.limit):
        count += 1
        ids = (start, *tokenizer(document, add_special_tokens=False).input_ids, tokenizer.eos_token_id)
        key = hashlib.sha256(document.encode()).hexdigest()[:16]
        if held_out(key, settings.valid):
            whole = len(ids) <= settings.max_length
            valid.append(Text(key, ids[:1], ids[1 : settings.max_length], ended=whole))
        else:
            train.append(ids)
    if not train or not valid:
        raise UserError(
            f"{where}: key 'documents': {len(train)} documents to train on and {len(valid)} held out; expected some of "
            "both. Raise documents.limit, or change documents.valid."
        )
    source = {"documents": settings.path or settings.hub, "count": count}
    measured = sorted(valid, key=lambda text: text.name)[: settings.valid_limit]
    return Texts(pack(train, settings.max_length), measured, {}, [source])


def pack(documents: Sequence[tuple[int, ...]], length: int) -> list[Packed]:
    """Documents' tokens -> rows of `length` tokens (the last one may be shorter)."""
    stream = [token for document in documents for token in document]
    begins = {at - len(one) for one, at in zip(documents, itertools.accumulate(map(len, documents)), strict=True)}
    rows = []
    for at in range(0, len(stream) - 1, length - 1):
        row = tuple(stream[at : at + length])
        starts = tuple(place for place in range(1, len(row)) if at + place in begins)
        rows.append(Packed(f"row {len(rows)}", row[:1], row[1:], ended=False, starts=starts))
    return rows


def _documents(settings: DocumentsConfig, where: Path | str) -> Iterator[str]:
    if (settings.path is None) == (settings.hub is None):
        raise UserError(
            f"{where}: key 'documents': expected 'path' (a JSON-lines file) or 'hub' (a dataset), one of them."
        )
    if settings.path is not None:
        if not Path(settings.path).is_file():
            raise UserError(f"{where}: key 'documents.path': {settings.path} is not there.")
        yield from (row.text(settings.field) for row in read_jsonl(Path(settings.path)))
        return
    try:
        stream = load_dataset(settings.hub, settings.subset, split=settings.split, streaming=True)
        for row in stream:
            if not isinstance(row.get(settings.field), str):
                raise UserError(
                    f"{where}: key 'documents.field': a row of {settings.hub} has no text '{settings.field}'. It has: "
                    f"{', '.join(sorted(row))}."
                )
            yield row[settings.field]
    except (OSError, ValueError) as error:  # no such dataset, subset or split; no connection
        raise UserError(f"{where}: key 'documents.hub': {settings.hub} cannot be read: {error}") from error
