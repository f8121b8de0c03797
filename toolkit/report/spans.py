"""A row's tokens by whose they are: accepted, the target's own, rejected, or said to the model between two turns."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from toolkit.evaluation.records import Record
from toolkit.report.page import Span, SpanKind

_BEFORE = 8  # tokens that a piece of text is decoded behind: the first of a text may lose its space

Piece = tuple[SpanKind, list[int]]


def pieces(row: Record) -> list[Piece]:
    """In order; without the rejected ones they are the row's tokens.

    A round is its accepted tokens, those that were rejected, and the target's own in their place. What no window
    accounts for is the target's: of a row that proposed nothing all is.
    """
    return [piece for piece in _walk(row) if piece[1]]


def _walk(row: Record) -> Iterator[Piece]:
    tokens, at, generated = row.tokens, 0, 0
    turns = [window[1] for window in row.windows if window[0] < 0] + [len(tokens)]
    for first, *rest in row.windows:
        end = turns[0]
        if first < 0:
            yield "target", tokens[at:end]
            generated += end - at
            at = end - first
            yield "prompt", tokens[end:at]
            turns.pop(0)
            continue
        yield "accepted", tokens[at : at + first]
        at, generated = at + first, generated + first
        yield "rejected", rest
        if at < end and (not row.sources or row.sources[generated] == "t"):
            yield "target", tokens[at : at + 1]
            at, generated = at + 1, generated + 1
    yield "target", tokens[at:]


def spans(found: Sequence[Piece], tokenizer: PreTrainedTokenizerBase) -> list[Span]:
    """As text; neighbours of a kind together."""
    joined: list[Piece] = []
    for kind, tokens in found:
        if joined and joined[-1][0] == kind:
            joined[-1][1].extend(tokens)
        else:
            joined.append((kind, list(tokens)))
    said: list[int] = []
    shown = []
    for kind, tokens in joined:
        before = said[-_BEFORE:]
        context = tokenizer.decode(before, clean_up_tokenization_spaces=False)
        whole = tokenizer.decode([*before, *tokens], clean_up_tokenization_spaces=False)
        shown.append(Span(whole[len(context) :], kind))
        if kind != "rejected":
            said += tokens
    return shown
