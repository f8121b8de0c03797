"""What the loop and its pieces say to each other: the shapes, and the four roles a piece can play.

Shapes: B live rows (requests), N drafted tokens in this round's widest window, V vocabulary, H hidden size.
Row b of every tensor is one request; rows are compacted when a request ends (`keep`). Lengths and committed
tokens live on the host as well, because the loop reads them back once a round anyway: a piece that needs
them (prompt lookup, say) must not make the device wait a second time.

The abstractions are those of docs/design.md. A method is a composition: proposer + length policy + rule.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from toolkit.engine.rng import Rng
from toolkit.engine.routing import Account
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError

Notes = dict[str, Tensor]
FinishReason = Literal["eos", "length", "stop"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and when a generation ends. One object serves target and draft alike."""

    temperature: float = 0.0  # 0 = greedy
    top_k: int = 0  # 0 = off
    top_p: float = 1.0  # 1 = off
    max_new_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()  # matched on the decoded text after each committed token

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def check(self) -> None:
        """Raise UserError naming the first field that is out of its range."""
        rules = [
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (off) or more"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1 (off)"),
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more"),
            ("stop", self.stop, all(self.stop), "texts that are not empty"),
        ]
        for name, value, right, expected in rules:
            if not right:
                raise UserError(f"sampling.{name} is {value!r}; expected {expected}")


@dataclass(frozen=True)
class Request:
    """One prompt to continue. (seed, id, sample) keys its randomness, so its text does not depend on batch mates."""

    id: int
    prompt: tuple[int, ...]  # token ids, at least one
    sample: int = 0
    limit: int | None = None  # new tokens, instead of the sampling's max_new_tokens

    def room(self, sampling: Sampling) -> int:
        """Tokens that it may be given."""
        return sampling.max_new_tokens if self.limit is None else self.limit


@dataclass
class Times:
    """Wall-clock seconds of the request's batch, from its start until this request ended, by phase."""

    prefill: float = 0.0
    draft: float = 0.0
    verify: float = 0.0
    host: float = 0.0  # everything else: bookkeeping, detokenising, callbacks

    @property
    def total(self) -> float:
        return self.prefill + self.draft + self.verify + self.host


@dataclass
class Generation:
    """What came of one request.

    `windows` holds one (proposed, accepted) pair a round, counting only tokens that were emitted in the end:
    what a stop string or the EOS cut away is in neither. `rounds` are target forwards after prefill: one a window,
    but for windows that a rule took unseen (acceptance/gated).
    """

    id: int
    sample: int
    prompt_tokens: int
    tokens: list[int] = field(default_factory=list)  # EOS included when it was emitted
    text: str = ""  # "" when the decoder has no tokenizer
    finish: FinishReason = "length"
    windows: list[tuple[int, int]] = field(default_factory=list)
    rejected: list[list[int]] = field(default_factory=list)  # a list a window: what it proposed and was not accepted
    rounds: int = 0
    times: Times = field(default_factory=Times)
    first_token_seconds: float = 0.0
    gaps: list[float] = field(default_factory=list)  # top-2 target logit gap a token; only with record_gaps
    divergence: float | None = None  # sum of D over the verified places; only with record_divergence
    counters: dict[str, int] = field(default_factory=dict)  # what its acceptance rule counted, summed over the rounds
    sources: str = ""  # a letter a token: 1 or 2, the draft whose choice a gate took, or t, the target; "": no gate
    routing: Account | None = None  # None: no router chose its draft
    lossless: bool = True


@dataclass
class Batch:
    """The live rows of a generate call, as every piece sees them.

    A row's last committed token is *pending*: no cache holds it yet; the round's first forward ingests it.
    """

    requests: Tensor  # [B] int64 request ids
    text: np.ndarray  # [B, L] int64 on the host: committed tokens, prompt first; beyond `lengths`: garbage
    tokens: Tensor  # [B, L] int64, the same on the device
    lengths: np.ndarray  # [B] int64 on the host: committed tokens a row, pending included
    room: np.ndarray  # [B] int64 on the host: tokens a row may still emit; a useful draft is <= room - 1
    eos: Tensor  # [E] int64 token ids that end a generation
    sampling: Sampling
    rng: Rng  # this round's randomness

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def device(self) -> torch.device:
        return self.tokens.device

    def select(self, rows: Tensor) -> "Batch":
        """Some of its rows ([B'] int64, host) as a batch of their own, in that order; texts are copied."""
        on_device, on_host = rows.to(self.device), rows.numpy()
        return replace(
            self,
            requests=self.requests[on_device],
            text=self.text[on_host],
            tokens=self.tokens[on_device],
            lengths=self.lengths[on_host],
            room=self.room[on_host],
            rng=None if self.rng is None else self.rng.select(on_device),  # none yet at prefill
        )


@dataclass(frozen=True)
class Step:
    """What one forward of a draft says about the token that is drafted next."""

    logits: Tensor  # [B, V] raw; [B, D] of a draft with a vocabulary of its own
    hidden: Tensor  # [B, H]: the state that they were computed from, after the final norm


@dataclass
class Gating:
    """Of a window that a gate put together of two drafts' tokens (proposers/consensus)."""

    source: Tensor  # [B, N] int64: whose each candidate is, 0 the first draft's, 1 the second's
    asks: Tensor  # [B] bool: windows that end where the target is to be asked
    calls: Tensor  # [B, 2] int64: forwards of either draft that the row's choices took


@dataclass
class Draft:
    """A window of candidates a row (a chain: candidate i follows candidate i-1, candidate 0 the pending token)."""

    tokens: Tensor  # [B, N] int64; N = 0 is an ordinary step
    valid: Tensor  # [B, N] bool, a prefix of each row: rows are ragged
    onehot: Tensor  # [B] bool: this row's q is one-hot (prompt lookup, greedy); its logq is not read
    logq: Tensor | None = None  # [B, N, V] warped, in target ids; None when all rows are one-hot
    notes: Notes = field(default_factory=dict)  # [B, N, ...] by name, from the length policy
    steps: tuple[Step, ...] = ()  # the N steps that the candidates were drawn from; none of a prompt lookup
    vocabulary: Vocabulary | None = None  # of the steps' logits; None: the target's
    gate: Gating | None = None  # None: no gate chose the candidates
    accounts: Sequence[Account] = ()  # a row's, from its first window to its last; (): no router chose its draft

    @staticmethod
    def empty(batch: Batch) -> "Draft":
        rows, device = len(batch), batch.device
        tokens = torch.empty(rows, 0, dtype=torch.int64, device=device)
        return Draft(tokens, tokens.bool(), torch.ones(rows, dtype=torch.bool, device=device))


@dataclass
class DraftView:
    """What a length policy may look at BEFORE the token at `depth` is sampled.

    Stopping therefore never drops a candidate that was seen, which would bias the output.
    """

    requests: Tensor  # [B]
    depth: int
    logits: Tensor  # [B, V] raw draft logits for the token at `depth`; [B, D] of a draft with its own vocabulary
    hidden: Tensor | None  # [B, H] draft state after the final norm of the token at depth-1 (0: the pending one)


@dataclass
class TargetView:
    """One target forward: row 0 = the pending token, row 1+i = candidate i."""

    logits: Tensor | None  # [B, 1+N, V] raw; row j = law of the token after it; None at prefill
    hidden: dict[int, Tensor]  # k -> [B, 1+N, H]: state entering layer k; k = n_layers: after the final norm


@dataclass
class Verdict:
    """How much of each window stands, and what follows it."""

    accepted: Tensor  # [B] int64: length of the accepted prefix
    next: Tensor  # [B] int64: correction or bonus token; -1: the target was not asked, and none is emitted
    notes: Notes = field(default_factory=dict)  # [B] int64 by name: what this round adds to `Generation.counters`


@dataclass(frozen=True)
class Wants:
    """Which target hidden states a piece must be shown (ids as in `TargetView.hidden`)."""

    target_layers: frozenset[int] = frozenset()


class LengthPolicy(Protocol):
    """When to stop drafting. State is kept a row, in the order of the batch."""

    limit: int  # the longest window; no draft forward is spent past it
    reads_logits: bool  # needs a proposer that has draft logits to show
    writes: frozenset[str]  # the notes that `stop` gives each token
    made_for: str | None  # digest of the draft's weights that it was trained with; None: any draft

    def prefill(self, batch: Batch) -> None:
        """These requests begin."""

    def stop(self, view: DraftView) -> tuple[Tensor | None, Notes]:
        """-> ([B] bool: rows that end their window before this token, or None: nobody), notes for this token."""

    def observe(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None: ...

    def keep(self, rows: Tensor) -> None:
        """Rows were compacted: new row i is old row rows[i] ([B'] int64, host)."""


class Proposer(Protocol):
    """Drafts tokens. State is kept a row, in the order of the batch."""

    wants: Wants
    has_logits: bool  # False: only the length policy's limit is asked, never `stop`
    stateful: bool  # keeps of each row what it has read, as a draft model does: a row cannot go on with another text
    gates: bool  # says where the target is to be asked (Draft.gate), by a gate that knows most likely tokens only
    learns: bool  # from its own clock, as it serves: a prompt may be decoded otherwise each time, even at temperature 0
    weights: str  # digest of the draft's weights, to which what was trained with them is bound; "": it has none

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        """Take in the prompts, all but the pending token. capacity: the most slots a row can reach, drafts included."""

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft: ...

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        """The round is over; `batch` already holds what was committed."""

    def keep(self, rows: Tensor) -> None: ...


class Chooses(Proposer, Protocol):
    """A proposer that is several drafts in one, as adapters over one model are: each row is told which it drafts with.

    Its Config has a `choice`, for rows that nobody tells. Drafts of a router that differ in nothing else are served
    together by one proposer.
    """

    names: tuple[str, ...]  # what there is to choose from

    def prefill(self, batch: Batch, capacity: int, target: TargetView, choices: Sequence[str] | None = None) -> None:
        """choices: which of `names` each row drafts with, in the order of the batch; None: all with `choice`."""

    def choose(self, choices: Sequence[str]) -> None:
        """From here on rows draft with these, in the order of the batch; what they have read stays as it is."""


class AcceptanceRule(Protocol):
    """Which drafted tokens to keep."""

    wants: Wants
    reads: frozenset[str]  # the notes that it needs of the length policy
    needs_gate: bool  # takes what a gate has passed, and asks the target where the gate says so
    made_for: str | None  # digest of the draft's weights that it was trained with; None: any draft

    def lossless(self, sampling: Sampling) -> bool:
        """Of this instance (T = 1, say) under this sampling: is the output law exactly the target's?"""

    def verify(self, batch: Batch, draft: Draft, target: TargetView) -> Verdict: ...

    def divergence(self, batch: Batch, draft: Draft, target: TargetView) -> Tensor:
        """D [B, N]: TV between what this rule emits at each place and the target's law there; 0 of a lossless one.

        Of warped laws. At temperature 0, where laws are one-hot: 1 - p1(x) / max p1 of a miss that is accepted.
        """


class Feed(Protocol):
    """What the rows of a batch go on with when their requests have ended."""

    longest: int  # tokens, prompt and new ones together, that a row may come to have

    def after(self, ended: Sequence[Generation]) -> Sequence[Request | None]:
        """-> the request that goes on in each one's row; None: the row is dropped."""


OnToken = Callable[[int, int, str], None]  # (request id, token, new text) in order, as tokens are committed
