"""Several drafts, and a router that says which of them serves a prompt; a profile may be `none`, not to speculate.

The choice falls at prefill, on the clock like all else. The rows of a batch are grouped by it (see _groups), and the
decode loop sees one ordinary ragged Draft, so a lossless composition stays lossless: which draft proposes depends on
the past only. `length` of the method is the upper limit of every draft's own policy.

A router may choose anew every few rounds. A draft that takes over reads the text so far, as at prefill, with all the
rows that it serves; a head, which would need the target's states of that text, is not taken up within a text.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from toolkit import config as recipes
from toolkit.engine import clock as clocks
from toolkit.engine import fits
from toolkit.engine.routing import Account, Asked, Router
from toolkit.engine.types import Batch, Draft, LengthPolicy, Proposer, TargetView, Verdict, Wants
from toolkit.errors import UserError
from toolkit.hub import Models
from toolkit.proposers._groups import Group, Profile, merged

_REFUSED = ("routed", "consensus")  # the first holds drafts itself, the second decides for the rule what stands


@dataclass
class Config:
    drafts: dict[str, Any] = field(default_factory=dict)  # name -> {proposer, length}; empty: those of the artifact
    router: Any = None  # who chooses: bandit, fixed, random; null: what was learned in the artifact
    artifact: str | None = None  # a directory that train/router.py wrote

    def __post_init__(self) -> None:
        """Every piece checked and every default filled in, as for the pieces of a method."""
        where = "proposer routed"
        self.drafts = {name: profile(node, f"{where}: drafts.{name}") for name, node in self.drafts.items()}
        if bool(self.drafts) == bool(self.artifact):
            raise UserError(f"{where}: expected `drafts` and a `router`, or the `artifact` of train/router.py.")
        node = ({"type": "mlp"} if self.artifact else None) if self.router is None else self.router
        if node is None:
            raise UserError(f"{where}: key 'router' is missing: bandit, fixed or random, which need no training.")
        self.router = _spelled("routers", node, f"{where}: router")
        if self.router["type"] == "mlp":
            if not self.artifact:
                raise UserError(
                    f"{where}: router mlp is learned together with its drafts: name its `artifact` instead."
                )
            if self.router.get("artifact") not in ("", self.artifact):
                raise UserError(f"{where}: key 'router.artifact' is another than `artifact`: name the directory once.")
            self.router["artifact"] = self.artifact


def profile(node: Any, where: str) -> dict[str, Any]:
    """A draft's node, {proposer, length} or a proposer alone -> the same with every default filled in."""
    if isinstance(node, str) or (isinstance(node, dict) and "type" in node):
        node = {"proposer": node}
    if not isinstance(node, dict) or "proposer" not in node or node.keys() - {"proposer", "length"}:
        raise UserError(f"{where}: expected a proposer, or a mapping with proposer and length; got {node!r}.")
    drafts = _spelled("proposers", node["proposer"], f"{where}.proposer")
    if drafts["type"] in _REFUSED:
        raise UserError(f"{where}.proposer: '{drafts['type']}' is no single draft that any rule can verify.")
    return {"proposer": drafts, "length": _spelled("lengths", node.get("length", "fixed"), f"{where}.length")}


@dataclass
class Served:
    """A row, and what came of the choice that serves it."""

    request: int
    draft: int
    account: Account
    age: int = 0  # rounds under this choice
    tokens: int = 0  # emitted in them
    seconds: float = 0.0  # its share of theirs, and what its draft took to read the text


class Routed:
    has_logits = False  # where a window ends is the business of each draft's own policy
    stateful = True
    gates = False

    def __init__(
        self,
        profiles: Sequence[Profile],
        router: Router,
        clock: Callable[[torch.device | None], float] = clocks.seconds,
    ) -> None:
        self.profiles, self.router, self._clock = profiles, router, clock
        self.learns = router.learns
        self.wants = Wants(frozenset().union(*(one.proposer.wants.target_layers for one in profiles)))
        named = " ".join(f"{one.name} {one.proposer.weights}" for one in profiles)
        self.weights = hashlib.sha256(named.encode()).hexdigest()
        # Drafts that share a proposer are served together: the first of them stands for it
        self._server = [next(i for i, one in enumerate(profiles) if one.proposer is each.proposer) for each in profiles]
        self._midway = [i for i, one in enumerate(profiles) if not one.proposer.wants.target_layers]

    def prefill(self, batch: Batch, capacity: int, target: TargetView) -> None:
        self._capacity = capacity
        # Only rewards need to know what each draft took: without them the device is never waited for here
        self._waits_for = batch.device if self.learns else None
        every = tuple(range(len(self.profiles)))
        asked = [Asked(id, batch.text[b, : batch.lengths[b]], every) for b, id in enumerate(batch.requests.tolist())]
        began = self._now()
        choices = self.router.choose(asked)
        share = (self._now() - began) / len(batch)
        self.rows = [
            Served(one.request, choice.draft, Account(choice.confidence, share))
            for one, choice in zip(asked, choices, strict=True)
        ]
        self.groups: dict[int, Group] = {}  # by server
        for server in sorted({self._server[row.draft] for row in self.rows}):
            served = [b for b, row in enumerate(self.rows) if self._server[row.draft] == server]
            self._begin(server, served, served, batch, target)

    def propose(self, batch: Batch, length: LengthPolicy) -> Draft:
        if self.router.every:
            self._reconsider(batch)
        self._lengths, self._laps = batch.lengths, [self._now()]
        for group in self.groups.values():
            group.propose(batch, length.limit)
            self._laps.append(self._now())
        draft = merged(batch, list(self.groups.values()))
        return replace(draft, accounts=[row.account for row in self.rows])

    def commit(self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView) -> None:
        for group in self.groups.values():
            group.commit(batch, verdict, target)
        emitted = (batch.lengths - self._lengths).tolist()
        # A draft pays for its own drafting; the rest of the round is shared by all rows alike
        common = (self._now() - self._laps[-1]) / len(batch)
        for group, began, ended in zip(self.groups.values(), self._laps, self._laps[1:], strict=False):
            for b in group.rows.tolist():
                row = self.rows[b]
                row.account.rounds[self.profiles[row.draft].name] += 1
                row.age, row.tokens = row.age + 1, row.tokens + emitted[b]
                row.seconds += common + (ended - began) / len(group.rows)

    def keep(self, rows: Tensor) -> None:
        place = torch.full((len(self.rows),), -1, dtype=torch.int64)
        place[rows] = torch.arange(len(rows))
        for row, now in zip(self.rows, place.tolist(), strict=True):
            if now < 0:
                self._close(row)
        self._keep_groups(place)
        self.rows = [self.rows[b] for b in rows.tolist()]

    def _now(self) -> float:
        return self._clock(self._waits_for)

    def _reconsider(self, batch: Batch) -> None:
        """Rows whose choice has been in force long enough are asked about again; those that move change groups."""
        due = [b for b, row in enumerate(self.rows) if row.age >= self.router.every]
        if not due:
            return
        asked = []
        for b in due:
            row = self.rows[b]
            self._close(row)
            asked.append(Asked(row.request, batch.text[b, : batch.lengths[b]], self._open(row.draft)))
        began = self._now()
        choices = self.router.choose(asked)
        share = (self._now() - began) / len(due)
        left = {}  # row -> the draft that it had
        for b, choice in zip(due, choices, strict=True):
            row = self.rows[b]
            row.account.seconds += share
            if choice.draft != row.draft:
                left[b] = row.draft
            self.rows[b] = Served(row.request, choice.draft, row.account)
        if left:
            self._regroup(batch, left)

    def _open(self, draft: int) -> tuple[int, ...]:
        return tuple(sorted({draft, *self._midway}))

    def _regroup(self, batch: Batch, left: dict[int, int]) -> None:
        """left: row -> the draft that it had; another choice of the same proposer takes over as things stand."""
        now = {b: self._server[self.rows[b].draft] for b in left}
        moved = [b for b in left if now[b] != self._server[left[b]]]
        place = torch.arange(len(self.rows))
        place[moved] = -1
        self._keep_groups(place)
        joined = {now[b] for b in moved}
        for server in sorted(joined):
            there = self.groups[server].rows.tolist() if server in self.groups else []
            new = [b for b in moved if now[b] == server]
            self._begin(server, [*there, *new], new, batch, TargetView(None, {}))
        for server in {now[b] for b in left} - joined:
            self.groups[server].choose(self._choices(self.groups[server].rows.tolist()))

    def _begin(self, server: int, rows: Sequence[int], new: Sequence[int], batch: Batch, target: TargetView) -> None:
        """new: those of the rows for whose sake the texts are read, who pay for it."""
        began = self._now()
        self.groups[server] = Group(self.profiles[server], rows, self._choices(rows))
        self.groups[server].prefill(batch, self._capacity, target)
        share = (self._now() - began) / len(new)
        for b in new:
            self.rows[b].seconds += share

    def _choices(self, rows: Sequence[int]) -> list[str | None]:
        return [self.profiles[self.rows[b].draft].choice for b in rows]

    def _keep_groups(self, place: Tensor) -> None:
        self.groups = {server: group for server, group in self.groups.items() if group.keep(place)}

    def _close(self, row: Served) -> None:
        """A choice is over."""
        if self.learns and row.tokens:
            self.router.observe(row.draft, row.tokens, row.seconds)


def build(config: Config, models: Models) -> Routed:
    where, nodes, weights = "proposer routed", config.drafts, {}
    if config.artifact:
        where = f"{where}: {config.artifact}"
        stored = models.router(config.artifact).drafts
        nodes = {one.name: profile(one.node, f"{where}: draft '{one.name}'") for one in stored}
        weights = {one.name: one.weights for one in stored}
    found = profiles(nodes, models, where)
    for one in found:
        if weights.get(one.name, one.proposer.weights) != one.proposer.weights:
            raise UserError(
                f"{where}: draft '{one.name}' has other weights than when the router was trained "
                f"({weights[one.name][:12] or 'none'}... there, {one.proposer.weights[:12] or 'none'}... here). Put "
                "the draft of then there, or train the router again."
            )
    module, options = recipes.piece("routers", config.router, f"{where}: router")
    return Routed(found, module.build(options, models, [one.name for one in found]))


def profiles(nodes: dict[str, dict[str, Any]], models: Models, where: str) -> list[Profile]:
    """Drafts from nodes that `profile` has spelled out. Those that differ in their `choice` alone are one proposer."""
    found, shared = [], {}
    for name, node in nodes.items():
        here = f"{where}: draft '{name}'"
        choice = node["proposer"].get("choice")  # of a Chooses
        if choice is None:
            found.append(Profile(name, *_built(node, models, here)))
            continue
        key = json.dumps([node["proposer"] | {"choice": None}, node["length"]])
        if key not in shared:
            shared[key] = _built(node, models, here)
        proposer, length = shared[key]
        if choice not in proposer.names:
            raise UserError(f"{here}: key 'choice' is '{choice}'; expected one of {', '.join(proposer.names)}.")
        found.append(Profile(name, proposer, length, proposer, choice))
    return found


def _built(node: dict[str, Any], models: Models, where: str) -> tuple[Proposer, LengthPolicy]:
    found = [
        recipes.piece(role, node[slot], f"{where}, {slot}")
        for slot, role in (("proposer", "proposers"), ("length", "lengths"))
    ]
    try:
        drafts, length = (module.build(options, models) for module, options in found)
        fits.drafts(drafts, length)
    except UserError as error:  # of its kind: what is not there can be told from what is wrong
        raise type(error)(f"{where}: {error}") from None
    return drafts, length


def _spelled(role: str, node: Any, where: str) -> dict[str, Any]:
    module, options = recipes.piece(role, node, where)
    return {"type": module.__name__.rpartition(".")[2], **asdict(options)}
