"""What must hold within a row of records.jsonl, beyond the types of its keys.

The counts of a row say the same thing several times (its tokens, its windows, its rounds), so a row that was cut,
edited or counted wrongly contradicts itself.
"""

from collections.abc import Iterator

from toolkit.evaluation.records import Record
from toolkit.evaluation.score import PHASES

Wrong = tuple[str, str]  # a key, and what was expected there
_Check = tuple[bool, str, str]  # does it hold, whose key is it, what was expected
_CLOCK = (*PHASES, "total")
_ROUNDING = 1e-6  # seconds
_COUNTS = ("n_tokens", "prompt_tokens", "rounds", "drafts", "proposed", "accepted")


def wrong(row: Record) -> list[Wrong]:
    """Where the row contradicts itself."""
    checks = _ended(row) if row.ok else _failed(row)
    return [(key, expected) for holds, key, expected in checks if not holds]


def _failed(row: Record) -> Iterator[_Check]:
    yield row.error_type is not None, "error_type", "expected the exception's name, as status is error"
    yield row.message is not None, "message", "expected what the exception said, as status is error"
    yield row.correct is None, "correct", "expected null, as status is error"


def _ended(row: Record) -> Iterator[_Check]:
    for key in ("error_type", "message", "traceback"):
        yield vars(row)[key] is None, key, "expected null, as status is ok"
    for key in _COUNTS:
        yield vars(row)[key] >= 0, key, f"expected 0 or more, got {vars(row)[key]}"
    yield row.batch >= 1, "batch", f"expected 1 or more, got {row.batch}"
    yield row.finish is not None, "finish", "expected how the text ended, as status is ok"
    yield from _tokens(row)
    yield from _windows(row)
    yield from _times(row)
    exact = row.divergence is None or not (row.lossless or row.set == "speed")
    yield exact, "divergence", "expected null: it is of lossy methods, in the quality set"


def _tokens(row: Record) -> Iterator[_Check]:
    """A round emits what it accepts and a token of the target's; an EOS or stop string in a draft leaves that out."""
    n, emitted = row.n_tokens, row.rounds + row.accepted
    told = len(row.tokens) - n  # of a conversation: tokens that a user said between two answers
    yield told >= 0, "n_tokens", f"expected at most {len(row.tokens)}, as many as there are tokens; got {n}"
    left_out = row.finish != "length"
    if told:
        left_out = n  # at most one a turn; how many turns there were is not in the row
    fits = emitted - left_out <= n <= emitted
    yield fits, "n_tokens", f"expected rounds + accepted ({emitted}), or one less where it ended in a draft; got {n}"
    marked = len(row.sources) in (0, n)
    yield marked, "sources", f"expected none or {n} letters, one a token; got {len(row.sources)}"
    routed = sum(row.routed.values())
    yield not routed or routed <= row.rounds, "routed", f"expected at most {row.rounds} rounds in all; got {routed}"


def _windows(row: Record) -> Iterator[_Check]:
    proposed, reached, accepted = row.proposed_at, row.reached_at, row.accepted_at
    yield row.accepted <= row.proposed, "accepted", f"expected at most proposed ({row.proposed}), got {row.accepted}"
    for key, counts, total in (("proposed_at", proposed, row.proposed), ("accepted_at", accepted, row.accepted)):
        yield sum(counts) == total, key, f"expected a sum of {total}, got {sum(counts)}"
    sizes = [len(proposed), len(reached), len(accepted)]
    yield len(set(sizes)) == 1, "reached_at", f"expected as long as proposed_at and accepted_at, got lengths {sizes}"
    nested = all(a <= r <= p for a, r, p in zip(accepted, reached, proposed, strict=False))
    yield nested, "reached_at", "expected accepted_at <= reached_at <= proposed_at at every position"
    falling = all(sorted(counts, reverse=True) == counts for counts in (proposed, reached, accepted))
    yield falling, "proposed_at", "expected counts that never rise from one position to the next, in all three"
    drafts = proposed[0] if proposed else 0
    if row.windows:
        told = [len(window) - 1 + window[0] for window in row.windows if window[0] >= 0]
        stood = sum(window[0] for window in row.windows if window[0] >= 0)
        fits = (stood, sum(told)) == (row.accepted, row.proposed)
        yield fits, "windows", f"expected {row.accepted} of {row.proposed} tokens accepted; got {stood} of {sum(told)}"
    yield row.drafts == drafts, "drafts", f"expected {drafts}, as many as proposed a first token; got {row.drafts}"


def _times(row: Record) -> Iterator[_Check]:
    times = row.times
    whole = set(_CLOCK) == times.keys()
    yield whole, "times", f"expected {', '.join(_CLOCK)}; got {', '.join(times) or 'nothing'}"
    if not whole:
        return
    yield min(times.values()) >= 0, "times", "expected 0 or more in every phase"
    spent = sum(times[phase] for phase in PHASES)
    fits = spent <= times["total"] + _ROUNDING
    yield fits, "times.total", f"expected at least the sum of its phases ({spent:.6f}), got {times['total']:.6f}"
    for key in ("first_token_seconds", "routing_seconds"):
        within = 0 <= vars(row)[key] <= times["total"] + _ROUNDING
        yield within, key, f"expected 0 to {times['total']:.6f} (times.total), got {vars(row)[key]:.6f}"
