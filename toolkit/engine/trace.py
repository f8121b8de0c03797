"""Decode traces: what was proposed, what came of it and what it cost, as Arrow columns.

The loop calls a sink once a round, before anything is committed. `Recorder` keeps in memory a row a drafted position
(both laws at it, what each lenience would accept) and a row a round and request (sizes, milliseconds). Everything that
is learned about when to stop drafting and what to accept is learned from these rows. Their schema carries a version and
the lenience grid, so that a reader can refuse what it does not know.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from toolkit.engine.statistics import LENIENCE, judged
from toolkit.engine.types import Batch, Draft, TargetView, Verdict, Wants
from toolkit.errors import UserError

SCHEMA_VERSION = 2
_ROWS = 64  # positions whose laws are looked at together: what is computed on the way stays in a CPU's cache

_ROUNDS = {
    "temperature": pa.float32(),
    "request": pa.int64(),
    "window": pa.int32(),  # number of the round in its request
    "committed": pa.int32(),  # tokens of the row when the round began, prompt included
    "batch": pa.int32(),  # rows of this forward
    "width": pa.int32(),  # candidates of its widest row
    "drafted": pa.int32(),  # candidates of this row
    "accepted": pa.int32(),
    "draft_ms": pa.float32(),  # of the whole batch: drafting, and the target's forward with the verdict
    "verify_ms": pa.float32(),
}
_PLACES = {
    "temperature": pa.float32(),
    "request": pa.int64(),
    "window": pa.int32(),
    "committed": pa.int32(),
    "depth": pa.int8(),  # place in the window
    "token": pa.int32(),
    "accepted": pa.bool_(),
}
_LAWS = {  # see toolkit.engine.statistics
    "log_p": pa.float32(),
    "log_q": pa.float32(),
    "log_ratio": pa.float32(),  # log p(x)/q(x) as sampled; at temperature 0 log p(x)/max p, 0 = the target's choice
    "entropy_p": pa.float32(),  # nats
    "entropy_q": pa.float32(),
    "margin_p": pa.float32(),  # probability of the best token minus that of the next
    "margin_q": pa.float32(),
    "kl": pa.float32(),  # KL(q || p), nats
    "tv": pa.float32(),
    "rank_p": pa.int32(),  # 1 = most likely
    "rank_q": pa.int32(),
    "log_s": pa.float32(),  # sum of log accept_1 over the window's earlier places
}


def metadata(lenience: Sequence[float]) -> dict[str, str]:
    """What every file of a trace carries."""
    return {"draftsmith_trace_version": str(SCHEMA_VERSION), "lenience": json.dumps(list(lenience))}


def rounds_schema(lenience: Sequence[float]) -> pa.Schema:
    return pa.schema(_ROUNDS, metadata=metadata(lenience))


def places_schema(lenience: Sequence[float], hidden: dict[str, int]) -> pa.Schema:
    """hidden: which states are kept, and their size: {"draft": 576}."""
    grid = pa.list_(pa.float16(), len(lenience))
    states = {f"{name}_hidden": pa.list_(pa.float16(), size) for name, size in hidden.items()}
    return pa.schema(_PLACES | _LAWS | {"accept_T": grid, "tv_T": grid} | states, metadata=metadata(lenience))


class TraceSink(Protocol):
    """Whoever wants to see the rounds. Called before the round's tokens are committed to `batch`."""

    wants: Wants

    def round(
        self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView, drafting: float, verifying: float
    ) -> None:
        """drafting, verifying: seconds of the whole batch."""


class Recorder:
    """Keeps rounds and drafted positions in memory until they are asked for as tables.

    keep_draft: keep the draft's state that each token was drawn from. target_layer: keep the target's state entering
    this layer (n_layers: after the final norm) that its law p came from. Both are states of the token before it.
    """

    def __init__(
        self, lenience: Sequence[float] = LENIENCE, *, keep_draft: bool = False, target_layer: int | None = None
    ) -> None:
        self.lenience = tuple(lenience)
        self._keep_draft, self._layer = keep_draft, target_layer
        self.wants = Wants(frozenset() if target_layer is None else frozenset({target_layer}))
        self._seen: dict[int, int] = defaultdict(int)  # request -> rounds so far
        self._rounds: list[dict[str, np.ndarray]] = []
        self._places: list[dict[str, np.ndarray]] = []
        self._hidden: dict[str, int] = {}

    def round(
        self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView, drafting: float, verifying: float
    ) -> None:
        requests = batch.requests.cpu().numpy()
        rows, width = len(batch), draft.tokens.shape[1]
        common = {
            "temperature": np.full(rows, batch.sampling.temperature, np.float32),
            "request": requests,
            "window": np.array([self._seen[request] for request in requests.tolist()], np.int32),
            "committed": batch.lengths.astype(np.int32),
        }
        for request in requests.tolist():
            self._seen[request] += 1
        accepted = verdict.accepted.cpu().numpy()
        sizes = {"batch": rows, "width": width}
        self._rounds.append(
            common
            | {name: np.full(rows, value, np.int32) for name, value in sizes.items()}
            | {"drafted": draft.valid.sum(1).cpu().numpy().astype(np.int32), "accepted": accepted.astype(np.int32)}
            | {"draft_ms": np.full(rows, 1e3 * drafting, np.float32)}
            | {"verify_ms": np.full(rows, 1e3 * verifying, np.float32)}
        )
        if width == 0:
            return
        if not draft.steps:
            raise UserError("a trace needs a proposer that has draft logits; prompt lookup has none")
        at = draft.valid.nonzero()  # [M, 2]: row, depth
        row, depth = at.cpu().numpy().T
        places = {name: column[row] for name, column in common.items()} | {
            "depth": depth.astype(np.int8),
            "token": draft.tokens[draft.valid].cpu().numpy().astype(np.int32),
            "accepted": depth < accepted[row],
        }
        self._places.append(places | self._laws(batch, draft, target, at))

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """-> (rounds, positions) so far, which are forgotten."""
        rounds, places = self._rounds, self._places
        self._rounds, self._places, self._seen = [], [], defaultdict(int)
        return (
            _table(rounds, rounds_schema(self.lenience)),
            _table(places, places_schema(self.lenience, self._hidden)),
        )

    def _laws(self, batch: Batch, draft: Draft, target: TargetView, at: torch.Tensor) -> dict[str, np.ndarray]:
        """Columns of the M drafted positions."""
        row, depth = at.T
        parts = []
        for chunk in range(0, len(at), _ROWS):
            b, i = row[chunk : chunk + _ROWS], depth[chunk : chunk + _ROWS]
            q = torch.stack([draft.steps[d].logits[r] for r, d in zip(b.tolist(), i.tolist(), strict=True)])
            p, tokens = target.logits[b, i], draft.tokens[b, i]
            parts.append(judged(p, q, tokens, draft.vocabulary, batch.sampling, self.lenience))
        columns = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        strict = torch.zeros(draft.valid.shape, dtype=torch.float64)
        strict[row.cpu(), depth.cpu()] = torch.from_numpy(columns["accept_T"][:, 0]).double().clamp(min=1e-30).log()
        before = strict.cumsum(1) - strict  # [B, N]
        columns["log_s"] = before[row.cpu(), depth.cpu()].numpy()
        if self._keep_draft:
            states = torch.stack([step.hidden for step in draft.steps], 1)  # [B, N, H]
            columns["draft_hidden"] = states[row, depth].half().cpu().numpy()
            self._hidden["draft"] = states.shape[-1]
        if self._layer is not None:
            states = target.hidden[self._layer]
            columns["target_hidden"] = states[row, depth].half().cpu().numpy()
            self._hidden["target"] = states.shape[-1]
        return columns


def _table(parts: Sequence[dict[str, np.ndarray]], schema: pa.Schema) -> pa.Table:
    return pa.table([_column([part[name] for part in parts], schema.field(name).type) for name in schema.names], schema)


def _column(parts: Sequence[np.ndarray], kind: pa.DataType) -> pa.Array:
    if not parts:
        return pa.array([], kind)
    joined = np.concatenate(parts)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(joined.astype(np.float16).reshape(-1)), type=kind)
    return pa.array(joined, kind)
