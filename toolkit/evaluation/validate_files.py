"""What must hold between the rows of a records.jsonl, and between them and the run.json beside it.

Every item once, one recipe's worth of keys and settings a method, batches whole, a baseline beside whatever was timed
or judged, every session listed, and no fewer prompts than results.json sums up. Rows are looked at one by one, and
little of each is kept.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from toolkit.evaluation.records import Item, Record
from toolkit.evaluation.schema import Identity, ResultsFile, RunFile
from toolkit.evaluation.score import BASELINE

Found = tuple[int, str, str]  # line, key, what was expected


@dataclass
class _Batch:
    """Rows that were decoded together, of which so many are in the file."""

    line: int
    shared: tuple[str, str, str, int]  # set, method, session, batch
    rows: int = 1


@dataclass
class Rows:
    """All rows of a file so far. run and results: the files beside it, where they are there."""

    run: RunFile | None = None
    results: ResultsFile | None = None  # of a run that has ended
    items: dict[Item, int] = field(default_factory=dict)  # -> line
    _answered: set[tuple[str, str, str]] = field(default_factory=set)  # set, method, prompt: at least one row is ok
    _keys: dict[tuple[str, str], tuple[Item, int]] = field(default_factory=dict)
    _settings: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)  # by method, as first seen
    _lengths: dict[str, tuple[int, int]] = field(default_factory=dict)  # by prompt: line, tokens
    _turns: dict[str, tuple[int, bool]] = field(default_factory=dict)  # by prompt: line, more than one
    _batches: dict[str, _Batch] = field(default_factory=dict)

    def add(self, line: int, row: Record) -> Iterator[Found]:
        """What is wrong with this row beside those before it."""
        first = self.items.setdefault(row.item, line)
        if first != line:
            yield line, "prompt_id", f"expected every item once; {_named(row.item)} is in line {first} already"
            return
        other, at = self._keys.setdefault((row.method, row.resume_key), (row.item, line))
        if other != row.item:
            yield line, "resume_key", f"expected one of its own, got that of {_named(other)} in line {at}"
        yield from self._same_settings(line, row)
        yield from self._same_batch(line, row)
        if self.run:
            yield from _beside_run(line, row, self.run)
        if row.ok:
            self._answered.add((row.set, row.method, row.prompt_id))
            yield from self._same_prompt(line, row)

    def end(self, whole: bool) -> Iterator[Found]:
        """What is wrong with all rows together. whole: all that there will be, so that none may be missing."""
        base = {self._place(item) for item in self.items if item.method == BASELINE}
        for item, line in self.items.items() if whole else ():
            if self._place(item) not in base:
                yield line, "method", f"expected a row of the baseline beside {_named(item)}: nothing compares with it"
        for batch in self._batches.values():
            set_name, _, _, size = batch.shared
            if batch.rows > size or (whole and set_name == "speed" and batch.rows < size):
                yield batch.line, "batch", f"expected {size} rows of this batch_key, got {batch.rows}"
        yield from self._summed_up()

    def _summed_up(self) -> Iterator[Found]:
        """Rows that the summary is of and that are gone. More may be there: those of a longer recipe."""
        if self.results is None:
            return
        there = Counter((of_set, method) for of_set, method, _ in self._answered)
        summed = [("speed", one.method, one.n) for one in self.results.speed]
        summed += [("quality", one.method, one.n) for one in self.results.quality if not one.inherited]
        for of_set, method, n in summed:
            if there[of_set, method] < n:
                got = f"got {there[of_set, method]}: rows were lost; the run's command decodes them again"
                yield 0, "", f"expected {n} prompts of {method} in the {of_set} set, as in results.json; {got}"

    def _place(self, item: Item) -> tuple[str, str, int | None, int]:
        """Where a baseline is looked for: at temperature 0 its answer with one seed stands for all (see seeds)."""
        greedy = item.set == "quality" and self._settings[item.method][1]["temperature"] == 0
        return item.set, item.prompt_id, None if greedy else item.seed, item.repeat

    def _same_settings(self, line: int, row: Record) -> Iterator[Found]:
        mine = {"method_config": _pieces(row), "temperature": row.temperature, "lossless": row.lossless}
        at, first = self._settings.setdefault(row.method, (line, mine))
        for key in mine:
            if mine[key] != first[key]:
                yield line, key, f"expected what {row.method} has in line {at}"

    def _same_batch(self, line: int, row: Record) -> Iterator[Found]:
        shared = (row.set, row.method, row.session, row.batch)
        batch = self._batches.get(row.batch_key)
        if batch is None:
            self._batches[row.batch_key] = _Batch(line, shared)
        elif batch.shared != shared:
            yield line, "batch_key", f"expected set, method, session and batch of line {batch.line}: {batch.shared}"
        else:
            batch.rows += 1

    def _same_prompt(self, line: int, row: Record) -> Iterator[Found]:
        at, length = self._lengths.setdefault(row.prompt_id, (line, row.prompt_tokens))
        if length != row.prompt_tokens:
            yield line, "prompt_tokens", f"expected {length}, as in line {at}; got {row.prompt_tokens}"
        several = len(row.tokens) > row.n_tokens
        at, turns = self._turns.setdefault(row.prompt_id, (line, several))
        if turns != several:
            yield line, "n_tokens", f"expected a conversation here and in line {at}, or in neither (tokens, n_tokens)"


def _beside_run(line: int, row: Record, run: RunFile) -> Iterator[Found]:
    if row.session not in {session.id for session in run.sessions}:
        yield line, "session", f"expected one that run.json lists, got '{row.session}'"
    identity: Identity = run.identity
    if row.temperature != identity.sampling.temperature:
        yield line, "temperature", f"expected {identity.sampling.temperature} as in run.json, got {row.temperature}"
    if identity.methods.get(row.method) != _pieces(row):
        yield line, "method_config", f"expected what run.json has under identity.methods.{row.method}"


def _pieces(row: Record) -> dict[str, Any]:
    """Without what they took from their files, which older rows do not say."""
    return {key: value for key, value in row.method_config.items() if key != "own"}


def _named(item: Item) -> str:
    return f"{item.method} on '{item.prompt_id}' ({item.set} set, seed {item.seed}, repeat {item.repeat})"
