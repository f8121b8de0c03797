"""SpecDecoder: the one loop that decodes. Plain autoregression is this loop with a proposer that proposes nothing.

A round: the proposer drafts a window, one target forward reads [pending token, window], the acceptance rule keeps
a prefix and names the token after it. The pending token is the last committed one, which no cache holds yet; so
prefill computes no logits and every method pays one target forward a round, under one clock. Rejected tokens
need no undoing (see SlotCache). The host waits for the device once a round, when it reads the verdict.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from toolkit.engine.cache import SlotCache
from toolkit.engine.rng import Rng, request_keys
from toolkit.engine.runner import Runner
from toolkit.engine.text import Detokenizer
from toolkit.engine.trace import TraceSink
from toolkit.engine.types import (
    AcceptanceRule,
    Batch,
    Draft,
    FinishReason,
    Generation,
    LengthPolicy,
    OnToken,
    Proposer,
    Request,
    Sampling,
    TargetView,
    Times,
    Verdict,
)
from toolkit.errors import UserError


@dataclass
class Row:
    """What the host knows of one live request."""

    generation: Generation
    text: Detokenizer | None


class Clock:
    """Seconds by phase since it was made. The device is waited for at the start, and by each round's verdict."""

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._seconds = {"prefill": 0.0, "draft": 0.0, "verify": 0.0, "host": 0.0}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> float:
        """-> seconds since the last lap, which go to this phase."""
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._seconds[phase] += seconds
        return seconds

    @property
    def times(self) -> Times:
        return Times(**self._seconds)


class SpecDecoder:
    """Decodes batches of requests by one composition of proposer, length policy and acceptance rule.

    record_gaps: note the target's top-2 logit gap of each token (to tell near-ties from bugs; costs a little time).
    record_divergence: sum up how far a lossy rule's output is from the target's law (costs time; may be set later).
    Raises UserError for pieces that do not fit: a policy that reads draft logits beside a proposer that has none, one
    that was trained with another draft, a rule that needs notes which the policy does not write.
    """

    def __init__(
        self,
        target: Runner,
        proposer: Proposer,
        length: LengthPolicy,
        accept: AcceptanceRule,
        *,
        trace: TraceSink | None = None,
        record_gaps: bool = False,
        record_divergence: bool = False,
    ) -> None:
        if length.reads_logits and not proposer.has_logits:
            raise UserError(
                f"length policy '{_type(length)}' reads draft logits, and proposer '{_type(proposer)}' has none: "
                "use length 'fixed' with it, or a proposer that runs a draft model"
            )
        if length.made_for not in (None, proposer.weights):
            raise UserError(
                f"length policy '{_type(length)}' was trained with another draft than the one of proposer "
                f"'{_type(proposer)}' (weights {length.made_for[:12]}... there, {proposer.weights[:12] or 'none'}... "
                "here): use it with its own draft, or train it again on traces of this one"
            )
        if missing := accept.reads - length.writes:
            raise UserError(
                f"acceptance rule '{_type(accept)}' reads {sorted(missing)[0]!r} of each token, which length policy "
                f"'{_type(length)}' does not write: give both the same policy, kappa and order"
            )
        self.target, self.proposer, self.length, self.accept = target, proposer, length, accept
        self.trace, self.record_gaps, self.record_divergence = trace, record_gaps, record_divergence
        self._eos = frozenset(target.eos_ids)
        shown = [proposer.wants, accept.wants, *([] if trace is None else [trace.wants])]
        self._hidden = frozenset().union(*(wants.target_layers for wants in shown))

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, on_token: OnToken | None = None
    ) -> list[Generation]:
        """Continue all requests as one batch -> their generations, in the same order.

        Raises UserError where a prompt is empty or does not fit the target's context with max_new_tokens.
        """
        if not requests:
            return []
        self._check(requests, sampling)
        clock = Clock(self.target.device)
        lossless = self.accept.lossless(sampling)
        rows = [self._row(request, sampling, lossless) for request in requests]
        done = [row.generation for row in rows]
        samples = torch.tensor([request.sample for request in requests], device=self.target.device)
        batch, capacity = self._batch(requests, sampling)
        keys = request_keys(sampling.seed, batch.requests, samples)  # [B]
        cache = self.target.cache(len(batch), capacity)
        self._prefill(batch, cache, capacity)
        self.length.prefill(batch)
        clock.lap("prefill")
        while rows:
            batch.rng = Rng(keys, torch.from_numpy(batch.lengths).to(batch.device))
            draft = self.proposer.propose(batch, self.length)
            drafting = clock.lap("draft")
            target = self._read(batch, cache, draft)
            verdict = self.accept.verify(batch, draft, target)
            emitted = _emitted(draft, verdict)  # waits for the device
            verifying = clock.lap("verify")
            if self.trace is not None:
                self.trace.round(batch, draft, verdict, target, drafting, verifying)
            gaps = _gaps(target) if self.record_gaps else None
            if self.record_divergence:
                _add_divergence(rows, draft, verdict, self.accept.divergence(batch, draft, target))
            ended = [
                self._advance(row, emitted[b], batch, b, None if gaps is None else gaps[b], on_token)
                for b, row in enumerate(rows)
            ]
            self._commit(batch, emitted)
            self.proposer.commit(batch, draft, verdict, target)
            self.length.observe(batch, draft, verdict, target)
            clock.lap("host")
            for row, end in zip(rows, ended, strict=True):
                if len(row.generation.windows) == 1:
                    row.generation.first_token_seconds = clock.times.total
                if end:
                    row.generation.times = clock.times
            if any(ended):
                kept = _compaction(ended)
                rows = [rows[b] for b in kept]
                keys = keys[kept.to(keys.device)]
                _keep(batch, kept)
                for holder in (cache, self.proposer, self.length):
                    holder.keep(kept)
        return done

    def _check(self, requests: Sequence[Request], sampling: Sampling) -> None:
        sampling.check()
        for request in requests:
            if not request.prompt:
                raise UserError(f"request {request.id}: the prompt is empty; at least one token is needed")
            needed = len(request.prompt) + sampling.max_new_tokens
            if needed > self.target.max_length:
                raise UserError(
                    f"request {request.id}: {len(request.prompt)} prompt tokens + max_new_tokens "
                    f"{sampling.max_new_tokens} exceed the {self.target.max_length} positions of {self.target.name}; "
                    "lower max_new_tokens or shorten the prompt"
                )
        if sampling.stop and self.target.tokenizer is None:
            raise UserError("stop strings need a tokenizer, and the target was loaded without one")

    def _row(self, request: Request, sampling: Sampling, lossless: bool) -> Row:
        tokenizer = self.target.tokenizer
        generation = Generation(request.id, request.sample, len(request.prompt), lossless=lossless)
        return Row(generation, None if tokenizer is None else Detokenizer(tokenizer, sampling.stop))

    def _batch(self, requests: Sequence[Request], sampling: Sampling) -> tuple[Batch, int]:
        """-> (the batch, the most slots a row can come to use: a full window past its last token)."""
        device = self.target.device
        lengths = np.array([len(request.prompt) for request in requests], dtype=np.int64)
        capacity = int(lengths.max()) + sampling.max_new_tokens + self.length.limit + 1
        text = np.zeros((len(requests), capacity), dtype=np.int64)
        for b, request in enumerate(requests):
            text[b, : lengths[b]] = request.prompt
        batch = Batch(
            requests=torch.tensor([request.id for request in requests], device=device),
            text=text,
            tokens=torch.from_numpy(text.copy()).to(device),
            lengths=lengths,
            room=np.full(len(requests), sampling.max_new_tokens, dtype=np.int64),
            eos=torch.tensor(sorted(self._eos), dtype=torch.int64, device=device),
            sampling=sampling,
            rng=None,  # set as each round begins
        )
        return batch, capacity

    def _prefill(self, batch: Batch, cache: SlotCache, capacity: int) -> None:
        """Everything but each row's last prompt token goes into the caches; right-padding is invisible there."""
        width = int(batch.lengths.max()) - 1
        hidden = {}
        if width > 0:
            start = np.zeros_like(batch.lengths)
            output = self.target.forward(cache, batch.tokens[:, :width], start, logits="none", hidden=self._hidden)
            hidden = output.hidden
        self.proposer.prefill(batch, capacity, TargetView(None, hidden))

    def _read(self, batch: Batch, cache: SlotCache, draft: Draft) -> TargetView:
        """The round's target forward, over [pending, window] of every row."""
        pending = torch.from_numpy(batch.lengths - 1).to(batch.device)[:, None]
        tokens = torch.cat([batch.tokens.gather(1, pending), draft.tokens], dim=1)  # [B, 1+N]
        output = self.target.forward(cache, tokens, batch.lengths - 1, hidden=self._hidden)
        return TargetView(output.logits, output.hidden)

    def _advance(
        self, row: Row, emitted: "Emitted", batch: Batch, b: int, gaps: list[float] | None, on_token: OnToken | None
    ) -> bool:
        """Commit one row's new tokens on the host, in order -> whether the request ended."""
        generation, finish = row.generation, None
        kept = 0
        for token in emitted.tokens:
            kept += 1
            generation.tokens.append(token)
            shown = "" if row.text is None else row.text.push(token)
            finish = self._finish(row, token, batch.room[b] - kept)
            if finish and row.text is not None:
                shown += row.text.finish()
            if on_token is not None:
                on_token(generation.id, token, shown)
            if finish:
                break
        if gaps is not None:
            generation.gaps += gaps[:kept]
        # Candidates behind the end of the text count neither as proposed nor as accepted.
        proposed = emitted.proposed if kept == len(emitted.tokens) else min(emitted.proposed, kept)
        generation.windows.append((proposed, min(emitted.accepted, kept)))
        if finish:
            generation.finish = finish
            generation.text = "" if row.text is None else row.text.text
        return finish is not None

    def _finish(self, row: Row, token: int, room: int) -> FinishReason | None:
        if token in self._eos:
            return "eos"
        if row.text is not None and row.text.stopped:
            return "stop"
        return "length" if room == 0 else None

    def _commit(self, batch: Batch, emitted: list["Emitted"]) -> None:
        """Write the new tokens behind each row's text, on the host and on the device, and advance."""
        width = max(len(row.tokens) for row in emitted)
        block = np.zeros((len(batch), width), dtype=np.int64)
        for b, row in enumerate(emitted):
            block[b, : len(row.tokens)] = row.tokens
        slots = batch.lengths[:, None] + np.arange(width)  # what lies beyond a row's own tokens is garbage there
        np.put_along_axis(batch.text, slots, block, axis=1)
        batch.tokens.scatter_(1, torch.from_numpy(slots).to(batch.device), torch.from_numpy(block).to(batch.device))
        counts = np.array([len(row.tokens) for row in emitted])
        batch.lengths = batch.lengths + counts
        batch.room = batch.room - counts


@dataclass
class Emitted:
    """A row's verdict, read back to the host."""

    tokens: list[int]  # the accepted prefix, and the next token if there is one
    proposed: int
    accepted: int


def _emitted(draft: Draft, verdict: Verdict) -> list[Emitted]:
    counts = torch.stack([draft.valid.sum(1), verdict.accepted, verdict.next], dim=1)  # [B, 3]
    table = torch.cat([counts, draft.tokens], dim=1).tolist()
    rows = []
    for proposed, accepted, following, *window in table:
        tail = [] if following < 0 else [following]
        rows.append(Emitted(window[:accepted] + tail, proposed, accepted))
    return rows


def _gaps(target: TargetView) -> list[list[float]]:
    best = target.logits.float().topk(2, dim=-1).values  # [B, 1+N, 2]
    return (best[..., 0] - best[..., 1]).tolist()


def _add_divergence(rows: Sequence[Row], draft: Draft, verdict: Verdict, divergence: torch.Tensor) -> None:
    """Of the places up to and including the first rejection: behind it nothing is emitted."""
    places = torch.arange(draft.tokens.shape[1], device=divergence.device)
    seen = draft.valid & (places <= verdict.accepted[:, None])
    for row, added in zip(rows, (divergence * seen).sum(1).tolist(), strict=True):
        row.generation.divergence = (row.generation.divergence or 0.0) + added


def _compaction(ended: list[bool]) -> torch.Tensor:
    """Which old row each new row is: the last live rows move into the holes, all others stay where they are."""
    alive = [b for b, end in enumerate(ended) if not end]
    movers = [b for b in alive if b >= len(alive)]
    return torch.tensor([b if not ended[b] else movers.pop() for b in range(len(alive))], dtype=torch.int64)


def _keep(batch: Batch, rows: torch.Tensor) -> None:
    on_device, on_host = rows.to(batch.device), rows.numpy()
    batch.requests, batch.tokens = batch.requests[on_device], batch.tokens[on_device]
    batch.text, batch.lengths, batch.room = batch.text[on_host], batch.lengths[on_host], batch.room[on_host]


def _type(piece: object) -> str:
    return type(piece).__module__.rsplit(".", 1)[-1]
