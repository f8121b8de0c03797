"""SpecDecoder: the one loop that decodes. Plain autoregression is this loop with a proposer that proposes nothing.

A round: the proposer drafts a window, one target forward reads [pending token, window], the acceptance rule keeps
a prefix and names the token after it. The pending token is the last committed one, which no cache holds yet; so
prefill computes no logits and every method pays one target forward a round, under one clock. Rejected tokens
need no undoing (see SlotCache). The host waits for the device once a round, when it reads the verdict. A rule that does
not look at the target costs no target forward (see Look).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from toolkit.engine import clock as clocks
from toolkit.engine import emitted, fits, refill
from toolkit.engine.cache import SlotCache
from toolkit.engine.emitted import Emitted
from toolkit.engine.look import Look
from toolkit.engine.rng import Rng, request_keys
from toolkit.engine.runner import Runner
from toolkit.engine.text import Detokenizer
from toolkit.engine.trace import TraceSink
from toolkit.engine.types import (
    AcceptanceRule,
    Batch,
    Feed,
    FinishReason,
    Generation,
    LengthPolicy,
    OnToken,
    Proposer,
    Request,
    Sampling,
    TargetView,
    Times,
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
        self._seconds = {"prefill": 0.0, "draft": 0.0, "verify": 0.0, "host": 0.0}
        self._last = clocks.seconds(device)

    def lap(self, phase: str) -> float:
        """-> seconds since the last lap, which go to this phase."""
        now = clocks.seconds()
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
    Raises UserError for pieces that do not fit (see toolkit.engine.fits).
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
        fits.check(proposer, length, accept)
        self.target, self.proposer, self.length, self.accept = target, proposer, length, accept
        self.trace, self.record_gaps, self.record_divergence = trace, record_gaps, record_divergence
        self._eos = frozenset(target.eos_ids)
        shown = [proposer.wants, accept.wants, *([] if trace is None else [trace.wants])]
        self._hidden = frozenset().union(*(wants.target_layers for wants in shown))

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_token: OnToken | None = None,
        feed: Feed | None = None,
    ) -> list[Generation]:
        """Continue all requests as one batch -> their generations, in the same order; those of a feed behind them.

        feed: what rows go on with, for proposers that keep nothing of a row. What the target has read of a row's next
        text already it does not read again.
        Raises UserError where a prompt is empty or does not fit the target's context with max_new_tokens.
        """
        if not requests:
            return []
        if feed is not None and self.proposer.stateful:
            raise ValueError(f"proposer '{fits.kind(self.proposer)}' cannot go on with another request in a row")
        self._check(requests, sampling)
        clock = Clock(self.target.device)
        lossless = self.accept.lossless(sampling)
        rows = [self._row(request, sampling, lossless) for request in requests]
        done = [row.generation for row in rows]
        samples = torch.tensor([request.sample for request in requests], device=self.target.device)
        batch, capacity = self._batch(requests, sampling, 0 if feed is None else feed.longest)
        keys = request_keys(sampling.seed, batch.requests, samples)  # [B]
        cache = self.target.cache(len(batch), capacity)
        self._prefill(batch, cache, capacity)
        read = batch.lengths - 1  # [B] tokens that the target's cache holds
        self.length.prefill(batch)
        clock.lap("prefill")
        while rows:
            batch.rng = Rng(keys, torch.from_numpy(batch.lengths).to(batch.device))
            draft = self.proposer.propose(batch, self.length)
            drafting = clock.lap("draft")
            target = Look(self.target, cache, batch, draft, read, self._hidden)
            verdict = self.accept.verify(batch, draft, target)
            given = emitted.read(draft, verdict)  # waits for the device
            verifying = clock.lap("verify")
            if self.trace is not None:
                self.trace.round(batch, draft, verdict, target, drafting, verifying)
            generations = [row.generation for row in rows]
            emitted.count(generations, given)
            emitted.route(generations, draft)
            gaps = emitted.gaps(target) if self.record_gaps else None
            if self.record_divergence:
                emitted.add_divergence(generations, draft, verdict, self.accept.divergence(batch, draft, target))
            ended = [
                self._advance(row, given[b], batch, b, None if gaps is None else gaps[b], on_token)
                for b, row in enumerate(rows)
            ]
            target = target.over()
            self._commit(batch, given)
            if target.logits is not None:
                read = batch.lengths - 1
            self.proposer.commit(batch, draft, verdict, target)
            self.length.observe(batch, draft, verdict, target)
            clock.lap("host")
            for row, end in zip(rows, ended, strict=True):
                if len(row.generation.windows) == 1:
                    row.generation.first_token_seconds = clock.times.total
                if end:
                    row.generation.times = clock.times
            if feed is not None and any(ended):
                done += [row.generation for row in self._refill(feed, batch, cache, read, keys, rows, ended, sampling)]
                clock.lap("prefill")
            if any(ended):
                kept = compaction(ended)
                rows = [rows[b] for b in kept]
                read = read[kept.numpy()]
                keys = keys[kept.to(keys.device)]
                _keep(batch, kept)
                for holder in (cache, self.proposer, self.length):
                    holder.keep(kept)
        return done

    def _check(self, requests: Sequence[Request], sampling: Sampling) -> None:
        sampling.check()
        fits.check_sampling(self.proposer, sampling)
        for request in requests:
            if not request.prompt:
                raise UserError(f"request {request.id}: the prompt is empty; at least one token is needed")
            limit = request.room(sampling)
            if len(request.prompt) + limit > self.target.max_length:
                raise UserError(
                    f"request {request.id}: {len(request.prompt)} prompt tokens + max_new_tokens "
                    f"{limit} exceed the {self.target.max_length} positions of {self.target.name}; "
                    "lower max_new_tokens or shorten the prompt"
                )
        if sampling.stop and self.target.tokenizer is None:
            raise UserError("stop strings need a tokenizer, and the target was loaded without one")

    def _row(self, request: Request, sampling: Sampling, lossless: bool) -> Row:
        tokenizer = self.target.tokenizer
        generation = Generation(request.id, request.sample, len(request.prompt), lossless=lossless)
        return Row(generation, None if tokenizer is None else Detokenizer(tokenizer, sampling.stop))

    def _batch(self, requests: Sequence[Request], sampling: Sampling, longest: int) -> tuple[Batch, int]:
        """-> (the batch, the most slots a row can come to use: a full window past its last token)."""
        device = self.target.device
        lengths = np.array([len(request.prompt) for request in requests], dtype=np.int64)
        room = np.array([request.room(sampling) for request in requests], dtype=np.int64)
        capacity = max(int((lengths + room).max()), longest) + self.length.limit + 1
        text = np.zeros((len(requests), capacity), dtype=np.int64)
        for b, request in enumerate(requests):
            text[b, : lengths[b]] = request.prompt
        batch = Batch(
            requests=torch.tensor([request.id for request in requests], device=device),
            text=text,
            tokens=torch.from_numpy(text.copy()).to(device),
            lengths=lengths,
            room=room,
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

    def _refill(
        self,
        feed: Feed,
        batch: Batch,
        cache: SlotCache,
        read: np.ndarray,
        keys: torch.Tensor,
        rows: list[Row],
        ended: list[bool],
        sampling: Sampling,
    ) -> list[Row]:
        """Rows that ended go on with what the feed has for them, and count as ended no more -> they, in their order."""
        over = [b for b, end in enumerate(ended) if end]
        following = feed.after([rows[b].generation for b in over])
        begun = {b: request for b, request in zip(over, following, strict=True) if request is not None}
        self._check(list(begun.values()), sampling)
        refill.admit(self.target, cache, batch, read, begun, sampling)
        for b, request in begun.items():
            rows[b], ended[b] = self._row(request, sampling, self.accept.lossless(sampling)), False
            sample = torch.tensor([request.sample], device=batch.device)
            keys[b] = request_keys(sampling.seed, batch.requests[b : b + 1], sample)[0]
        return [rows[b] for b in begun]

    def _advance(
        self, row: Row, given: Emitted, batch: Batch, b: int, gaps: list[float] | None, on_token: OnToken | None
    ) -> bool:
        """Commit one row's new tokens on the host, in order -> whether the request ended."""
        generation, finish = row.generation, None
        kept = 0
        for token in given.tokens:
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
        generation.sources += given.sources[:kept]
        if gaps is not None:
            generation.gaps += gaps[:kept]
        # Candidates behind the end of the text count neither as proposed nor as accepted.
        proposed = given.proposed if kept == len(given.tokens) else min(given.proposed, kept)
        generation.windows.append((proposed, min(given.accepted, kept)))
        generation.rejected.append(given.rejected if kept == len(given.tokens) else [])
        generation.rounds += given.asked
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

    def _commit(self, batch: Batch, given: list[Emitted]) -> None:
        """Write the new tokens behind each row's text, on the host and on the device, and advance."""
        width = max(len(row.tokens) for row in given)
        block = np.zeros((len(batch), width), dtype=np.int64)
        for b, row in enumerate(given):
            block[b, : len(row.tokens)] = row.tokens
        slots = batch.lengths[:, None] + np.arange(width)  # what lies beyond a row's own tokens is garbage there
        np.put_along_axis(batch.text, slots, block, axis=1)
        batch.tokens.scatter_(1, torch.from_numpy(slots).to(batch.device), torch.from_numpy(block).to(batch.device))
        counts = np.array([len(row.tokens) for row in given])
        batch.lengths = batch.lengths + counts
        batch.room = batch.room - counts


def compaction(ended: list[bool]) -> torch.Tensor:
    """Which old row each new row is: the last live rows move into the holes, all others stay where they are."""
    alive = [b for b, end in enumerate(ended) if not end]
    movers = [b for b in alive if b >= len(alive)]
    return torch.tensor([b if not ended[b] else movers.pop() for b in range(len(alive))], dtype=torch.int64)


def _keep(batch: Batch, rows: torch.Tensor) -> None:
    on_device, on_host = rows.to(batch.device), rows.numpy()
    batch.requests, batch.tokens = batch.requests[on_device], batch.tokens[on_device]
    batch.text, batch.lengths, batch.room = batch.text[on_host], batch.lengths[on_host], batch.room[on_host]
