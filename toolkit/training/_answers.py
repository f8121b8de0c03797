"""What a teacher has answered: an output directory that a kill at any moment leaves usable.

`answers.jsonl` has a row for each finished request and is only ever appended to; a last line that a kill tore is
dropped when it is opened again. `state.json` says for which recipe and problems the answers are. `train.jsonl` is what
a task of type jsonl reads.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from toolkit.errors import UserError
from toolkit.files import OutputDirectory, write_atomic, write_json

Verdict = Literal["good", "wrong", "no_mark", "cut", "empty"]


@dataclass(frozen=True)
class Answer:
    """A finished request."""

    id: str
    style: str
    prompt: str  # the question; what is said around it stands in state.json
    response: str
    answer: str | None  # the gold answer
    correct: bool | None  # None: there is no gold answer
    path: str  # how the answer was found in the response
    verdict: Verdict
    finish_reason: str | None
    usage: dict[str, Any]  # tokens as the server counts them
    model: str  # as the server names it
    max_tokens: int  # under which limit
    created: str

    def tokens(self, which: Literal["prompt_tokens", "completion_tokens"]) -> int:
        return int(self.usage.get(which) or 0)


class AnswerDir(OutputDirectory):
    """`with AnswerDir(path, source, identity) as directory:` holds the lock; `load` alone looks and changes nothing."""

    def __init__(self, path: Path, source: str, identity: dict[str, Any]) -> None:
        super().__init__(path)
        self.source = source
        self.answers, self.train, self._state = path / "answers.jsonl", path / "train.jsonl", path / "state.json"
        self._identity = json.loads(json.dumps(identity))  # as it reads when it comes back from the file
        self.rows: dict[str, list[Answer]] = {}  # by problem, in the order of time
        self.problems: list[str] = []  # the ids of those that were to be asked, answered or not
        self.failures: dict[str, str] = {}  # id -> why it has no answer
        self._size = 0  # bytes of answers.jsonl that are whole lines

    def _open(self) -> None:
        self.load()

    def load(self) -> None:
        """What earlier runs have left; UserError when it belongs to another recipe."""
        self.rows, self._size = _read(self.answers)
        if not self.rows:  # nothing was answered, as after a mistyped model: nothing that could be mixed
            return
        if not self._state.exists():
            raise UserError(
                f"out={self.path}: holds an answers.jsonl, but no state.json that says whose. {self._fix()}"
            )
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            source, identity = state["recipe"], state["identity"]
            self.problems, self.failures = state["problems"], state["failures"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._state}: not readable ({error!r}). {self._fix()}") from error
        for name in {**self._identity, **identity}:
            there, here = identity.get(name), self._identity.get(name)
            if there != here:
                raise UserError(
                    f"out={self.path}: holds the answers to another recipe, {source}: {name} is {there!r} there, "
                    f"{here!r} in {self.source}. {self._fix()}"
                )

    def add(self, row: Answer) -> None:
        """Append a row, on the disk before this returns."""
        line = (json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            with self.answers.open("ab") as file:
                file.truncate(self._size)  # a torn line, of an earlier run or of a disk that was full, goes now
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.answers}: cannot be written to ({error}). What was answered before is kept; the same command "
                "goes on from there."
            ) from error
        self._size += len(line)
        self.rows.setdefault(row.id, []).append(row)
        self.failures.pop(row.id, None)

    def best(self, identity: str) -> Answer | None:
        """A problem's good answer, else its last."""
        rows = self.rows.get(identity, [])
        return next((row for row in rows if row.verdict == "good"), rows[-1] if rows else None)

    def counts(self) -> dict[str, int]:
        """Verdict -> how many problems."""
        best = [self.best(identity) for identity in self.problems]
        counts = Counter("unanswered" if row is None else row.verdict for row in best)
        return dict(sorted(counts.items()))

    def totals(self) -> dict[str, int]:
        """Requests answered, and their tokens as the server counts them."""
        rows = [row for rows in self.rows.values() for row in rows]
        return {
            "requests": len(rows),
            "prompt_tokens": sum(row.tokens("prompt_tokens") for row in rows),
            "completion_tokens": sum(row.tokens("completion_tokens") for row in rows),
        }

    def save(self, cost: float | None) -> None:
        """state.json as things stand. `cost`: of all requests so far, None where no prices are given."""
        fingerprint = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()
        state = {
            "recipe": self.source,
            "fingerprint": fingerprint,
            "identity": self._identity,
            "counts": self.counts(),
            "totals": {**self.totals(), "cost": cost},
            "failures": self.failures,
            "problems": self.problems,
        }
        try:
            write_json(self._state, state)
        except OSError as error:
            raise UserError(f"{self._state}: cannot be written to ({error}); the answers are kept.") from error

    def export(self, rows: Iterable[Answer]) -> None:
        """Write train.jsonl."""
        kept = [{"id": row.id, "prompt": row.prompt, "response": row.response, "answer": row.answer} for row in rows]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in kept]
        try:
            write_atomic(self.train, "".join(lines).encode())
        except OSError as error:
            raise UserError(f"{self.train}: cannot be written to ({error}); the answers are kept.") from error

    def _fix(self) -> str:
        return f"Choose another out=DIR, or delete {self.path}."


def _read(path: Path) -> tuple[dict[str, list[Answer]], int]:
    """Rows by problem, and the size of the file up to its last whole line."""
    data = path.read_bytes() if path.exists() else b""
    size = data.rfind(b"\n") + 1
    rows: dict[str, list[Answer]] = {}
    names = {field.name for field in fields(Answer)}
    for number, line in enumerate(data[:size].splitlines(), start=1):
        try:
            values = json.loads(line.decode())
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: not valid JSON ({error}); delete the line to ask again."
            ) from error
        if not isinstance(values, dict) or values.keys() != names:
            raise UserError(f"{path}, line {number}: not an answer of this program; delete the line to ask again.")
        rows.setdefault(values["id"], []).append(Answer(**values))
    return rows, size
