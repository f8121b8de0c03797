"""What processes that share a run have in common: the recipe, weights, data and software that its rows depend on.

The first one says what it has and each other one compares, before a directory is opened. Machines may differ: the rows
that are shared out are not timed.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from toolkit.errors import UserError
from toolkit.evaluation import system
from toolkit.evaluation.outdir import Identity, difference
from toolkit.evaluation.plan import Plan
from toolkit.evaluation.ranks import Ranks

_SAME = "Expected the same recipe, models, data and code wherever this run has a process"


@dataclass(frozen=True)
class Session:
    """A start of the program; all of its processes write rows of the same one."""

    id: str
    system: dict[str, Any]  # of the first process, which times


def agreed(plan: Plan, identity: Identity, ranks: Ranks) -> tuple[Plan, Session]:
    """The plan with the session that all write under; UserError where this process would write other rows."""
    mine = {
        "session": {"id": plan.setting.session, "system": system.metadata()},
        "identity": identity,
        "rows": _digest(plan),
    }
    mine = json.loads(json.dumps(mine))  # as it reads when it comes from another process
    first = json.loads(ranks.agreed(json.dumps(mine)))
    where = f"process {ranks.place} of {ranks.count}"
    if differs := difference(first["identity"], mine["identity"]):
        key, there, here = differs
        raise UserError(f"{where}: {key} is {here}, in the first process {there}. {_SAME}.")
    if versions := system.differing([first["session"]["system"], mine["session"]["system"]]):
        raise UserError(f"{where}: {', '.join(versions)} differ from the first process's. {_SAME}.")
    if first["rows"] != mine["rows"]:
        raise UserError(f"{where}: its problems, or what its tokenizer makes of them, are not the first's. {_SAME}.")
    session = Session(**first["session"])
    if plan.setting.session == session.id:  # the first one's own plan, whose keys are known
        return plan, session
    return replace(plan, setting=replace(plan.setting, session=session.id)), session


def _digest(plan: Plan) -> str:
    """Of all rows that are to be there, and what they depend on."""
    keys = sorted(plan.keys.values())
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()
