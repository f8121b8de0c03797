"""From rows to numbers, one summary a method and set, never over both sets.

rounds = target forwards after prefill; drafts = rounds that proposed at least one token; acceptance rate = accepted /
proposed; tau = emitted tokens / rounds; acceptance length = 1 + accepted / drafts (vLLM's); per-position acceptance:
unconditional = accepted at i / drafts, conditional = accepted at i / rounds that reached and proposed i. counters: what
a lossy rule counted, summed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from toolkit.evaluation.paired import Paired, by_question, paired
from toolkit.evaluation.records import Record
from toolkit.evaluation.stats import Interval, Pair, speedup, wilson

ACCURACY = "accuracy"  # the share of right answers, where a task has no other name for it
BASELINE = "baseline"
PHASES = ("prefill", "draft", "verify", "host")


@dataclass
class Speed:
    """A method on the speed set."""

    method: str
    """Its name in the recipe."""
    lossless: bool
    """Whether its law is exactly the target's."""
    n: int
    """Prompts."""
    rows: int
    """Prompts x seeds x repeats that ran."""
    errors: int
    """Rows that failed, which are in no figure."""
    batch: int
    tokens: int
    seconds: float
    tokens_per_second: float | None
    """Generated tokens over seconds of wall clock, prefill included."""
    speedup: Interval | None
    """Tokens a second over the baseline's on the same blocks; null: it is the baseline, or there is no such block."""
    rounds: int
    drafts: int
    proposed: int
    accepted: int
    acceptance_rate: float | None
    """Share of the proposed tokens that stood; null: none was proposed."""
    tau: float | None
    """Emitted tokens a forward of the target after prefill."""
    acceptance_length: float | None
    unconditional: list[float] = field(default_factory=list)
    """At place i: share of all drafts whose token i + 1 was accepted."""
    conditional: list[float | None] = field(default_factory=list)
    """At place i: share accepted of drafts that reached token i + 1 with all before it accepted; null: none did."""
    shares: dict[str, float] = field(default_factory=dict)  # of `seconds`, by phase
    first_token_seconds: float | None = None  # median
    round_seconds: float | None = None
    peak_memory: int | None = None
    seconds_per_correct: float | None = None
    """Seconds of an answer over the quality set's accuracy: its prefill, and that set's tokens at the pace here."""
    apart: int = 0  # blocks that the baseline decoded in another session, so not side by side
    blocks: int = 0  # behind the speedup; seeds and repeats of a block count once
    unpaired: int = 0  # rows that ran and are not in the speedup: the baseline has no such batch
    counters: dict[str, int] = field(default_factory=dict)  # what its acceptance rule counted; of most rules nothing


@dataclass
class Quality:
    """A method on the quality set. `inherited`: lossless, so its accuracy is the baseline's and was not run."""

    method: str
    """Its name in the recipe."""
    lossless: bool
    """Whether its law is exactly the target's."""
    inherited: bool
    """Whether its figures are the baseline's, as an exact method is not run."""
    n: int
    """Prompts with a verdict."""
    errors: int
    """Rows that failed, which are in no figure."""
    accuracy: Interval | None
    """Share of right answers (`metric` is its name), with Wilson's bounds over prompts; null: nothing was judged."""
    paired: Paired | None = None  # beside the baseline's answers; None: it is the baseline, or has its accuracy
    mean_tokens: float | None = None
    """Generated tokens an answer."""
    cut: float | None = None
    """Share of answers that ran into the limit of new tokens."""
    extraction: dict[str, int] = field(default_factory=dict)
    """Judged answers by the path that found them (`extraction` of a row)."""
    divergence: float | None = None  # D a token, summed over verified places; None of lossless methods
    counters: dict[str, int] = field(default_factory=dict)  # as of Speed
    calls_per_token: float | None = None  # rounds over emitted tokens; None of what was not run
    answers: int = 0  # prompts x seeds with a verdict


def speed_summary(rows: Sequence[Record], baseline: Sequence[Record]) -> Speed:
    """`rows`: one method's on the speed set; `baseline`: the baseline's there."""
    ok = [row for row in rows if row.ok]
    batches = _batches(ok)
    seconds = sum(batch.times["total"] for batch in batches)
    total = {name: sum(getattr(row, name) for row in ok) for name in ("rounds", "drafts", "proposed", "accepted")}
    tokens = sum(row.n_tokens for row in ok)
    accepted_at, reached_at = _add(r.accepted_at for r in ok), _add(r.reached_at for r in ok)
    is_baseline = rows[0].method == BASELINE
    compared = [] if is_baseline else pairs(rows, baseline)
    return Speed(
        method=rows[0].method,
        lossless=all(row.lossless for row in rows),
        n=len({row.prompt_id for row in ok}),
        rows=len(ok),
        errors=len(rows) - len(ok),
        batch=max(row.batch for row in rows),
        tokens=tokens,
        seconds=seconds,
        tokens_per_second=_over(tokens, seconds),
        speedup=speedup(compared),
        rounds=total["rounds"],
        drafts=total["drafts"],
        proposed=total["proposed"],
        accepted=total["accepted"],
        acceptance_rate=_over(total["accepted"], total["proposed"]),
        tau=_over(tokens, total["rounds"]),
        acceptance_length=1 + total["accepted"] / total["drafts"] if total["drafts"] else None,
        unconditional=[count / total["drafts"] for count in accepted_at],
        conditional=[_over(n, reached) for n, reached in zip(accepted_at, reached_at, strict=True)],
        shares={phase: sum(b.times[phase] for b in batches) / seconds for phase in PHASES} if seconds else {},
        first_token_seconds=median(row.first_token_seconds for row in ok) if ok else None,
        round_seconds=_over(seconds - sum(b.times["prefill"] for b in batches), sum(b.rounds for b in batches)),
        peak_memory=max((row.peak_memory for row in ok if row.peak_memory), default=None),
        apart=_apart(rows, baseline),
        blocks=len(compared),
        unpaired=0 if is_baseline else _unpaired(rows, baseline),
        counters=_counted(ok),
    )


def pairs(rows: Iterable[Record], baseline: Iterable[Record]) -> list[Pair]:
    """Blocks that both decoded alike, summed over seeds and repeats (which are no independent prompts)."""
    mine, theirs = _by_block(rows), _by_block(baseline)
    sums: dict[int, list[Pair]] = defaultdict(list)
    for key in sorted(mine.keys() & theirs.keys()):
        if _alike(mine[key], theirs[key]):
            sums[key[0]].append(Pair(*_tokens_and_seconds(mine[key]), *_tokens_and_seconds(theirs[key])))
    return [
        Pair(
            sum(p.tokens for p in block),
            sum(p.seconds for p in block),
            sum(p.base_tokens for p in block),
            sum(p.base_seconds for p in block),
        )
        for block in sums.values()
    ]


def quality_summary(rows: Sequence[Record], baseline: Sequence[Record]) -> Quality:
    ok = [row for row in rows if row.ok]
    judged = [row for row in ok if row.correct is not None]
    prompts = len({row.prompt_id for row in judged})
    return Quality(
        method=rows[0].method,
        lossless=all(row.lossless for row in rows),
        inherited=False,
        n=prompts,
        errors=len(rows) - len(ok),
        # seeds of one prompt are not independent: the interval counts prompts
        accuracy=wilson(sum(bool(row.correct) for row in judged) / len(judged), prompts) if judged else None,
        paired=None if rows[0].method == BASELINE else paired(by_question(rows), by_question(baseline)),
        mean_tokens=_over(sum(row.n_tokens for row in ok), len(ok)),
        cut=_over(sum(row.finish == "length" for row in ok), len(ok)),
        extraction=dict(Counter(row.extraction or "none" for row in judged)),
        divergence=_divergence(ok),
        counters=_counted(ok),
        calls_per_token=_over(sum(row.rounds for row in ok), sum(row.n_tokens for row in ok)),
        answers=len(judged),
    )


def inherit(method: str, baseline: Quality) -> Quality:
    """A lossless method's accuracy, and how much it says: the baseline's, by the exactness suite."""
    return Quality(
        method,
        lossless=True,
        inherited=True,
        n=baseline.n,
        errors=0,
        accuracy=baseline.accuracy,
        mean_tokens=baseline.mean_tokens,
        cut=baseline.cut,
    )


def per_correct(speed: Speed, quality: Quality | None) -> float | None:
    """Seconds per correct answer: an answer's seconds over the quality set's accuracy.

    Its prefill as the speed set had it, and then each of the quality set's tokens at the speed set's pace: timed texts
    may end earlier than judged ones.
    """
    if quality is None or not quality.accuracy or not quality.accuracy.value or not speed.tokens:
        return None
    prefill = speed.seconds * speed.shares["prefill"]
    answer = prefill / speed.rows + (speed.seconds - prefill) / speed.tokens * quality.mean_tokens
    return answer / quality.accuracy.value


def _batches(rows: Iterable[Record]) -> list[Record]:
    """The row of each batch that ended last: its clock is the batch's."""
    last: dict[str, Record] = {}
    for row in rows:
        if row.batch_key not in last or row.times["total"] > last[row.batch_key].times["total"]:
            last[row.batch_key] = row
    return list(last.values())


def _by_block(rows: Iterable[Record]) -> dict[tuple[int, int, int], list[Record]]:
    blocks: dict[tuple[int, int, int], list[Record]] = defaultdict(list)
    for row in rows:
        blocks[row.block, row.seed, row.repeat].append(row)
    return blocks


def _alike(ours: Sequence[Record], base: Sequence[Record]) -> bool:
    """No error, the same prompts, as many of them at once: a batch retried one by one compares with none."""
    batches = [{(row.prompt_id, row.batch) for row in side} for side in (ours, base)]
    return batches[0] == batches[1] and all(row.ok for row in (*ours, *base))


def _unpaired(rows: Iterable[Record], baseline: Iterable[Record]) -> int:
    theirs = _by_block(baseline)
    left_out = (block for key, block in _by_block(rows).items() if not _alike(block, theirs.get(key, [])))
    return sum(row.ok for block in left_out for row in block)


def _apart(rows: Iterable[Record], baseline: Iterable[Record]) -> int:
    mine, theirs = _by_block(rows), _by_block(baseline)
    return sum(
        {row.session for row in mine[key]} != {row.session for row in theirs[key]}
        for key in mine.keys() & theirs.keys()
    )


def _tokens_and_seconds(rows: Sequence[Record]) -> tuple[int, float]:
    return sum(row.n_tokens for row in rows), sum(row.times["total"] for row in _batches(rows))


def _divergence(rows: Sequence[Record]) -> float | None:
    """D a token, of the rows that have it."""
    lossy = [row for row in rows if row.divergence is not None]
    return _over(sum(row.divergence for row in lossy), sum(row.n_tokens for row in lossy))


def _counted(rows: Iterable[Record]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.counters)
    return dict(total)


def _add(lists: Iterable[list[int]]) -> list[int]:
    total: list[int] = []
    for counts in lists:
        total += [0] * (len(counts) - len(total))
        for position, count in enumerate(counts):
            total[position] += count
    return total


def _over(above: float, below: float) -> float | None:
    return above / below if below else None
