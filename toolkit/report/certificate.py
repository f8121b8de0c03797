"""What is claimed of losslessness, by whom, what the claim rests on, and what this run has checked of it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from toolkit import version
from toolkit.evaluation.score import BASELINE
from toolkit.evaluation.stats import wilson
from toolkit.report import parts
from toolkit.report.page import Column, Section, Table, Text, Value
from toolkit.report.runs import Group

SUITE = "tests/decode"  # from the root of the repository
_SUITES = [
    Column("commit", "decoded by commit"),
    Column("changed", "changed"),
    Column("sessions", "sessions", "count"),
    Column("suite_tree", f"git tree of {SUITE}", help="of that commit; empty where it is not in this repository"),
]
_COLUMNS = [
    Column("target", "target"),
    Column("task", "task"),
    parts.METHOD,
    Column("state", "state"),
    Column("temperature", "temperature", "number"),
    Column("claims_exact", "claims to be exact", help="under this run's sampling"),
    Column("rests_on", "the claim rests on", help="its acceptance rule, as it is set in this run"),
    Column("equal", "equal texts", "count"),
    Column("compared", "of", "count"),
    Column("equality", "greedy equality", "percent", None, "share of texts equal to the baseline's, Wilson interval"),
    Column("near_ties", "near-ties", "count", None, "differ where the target's two best tokens are as good as level"),
    Column("differ", "differ", "count", None, "unequal without a near-tie: of an exact method a bug"),
    Column("divergence", "D", "number"),
]


def section(groups: Sequence[Group]) -> Section | str:
    rows: list[list[Value]] = []
    for group in groups:
        checked = _checked(group)
        rows += [_row(group, name, checked.get(name)) for name in group.joined.methods if name != BASELINE]
    if not rows:
        return "no method beside the baseline"
    table = Table(
        "certificate",
        "What is claimed, and what was checked",
        _COLUMNS,
        rows,
        [
            "greedy equality is checked on the speed set at temperature 0; at other temperatures the law is what the "
            "suite tests, and no run of some prompts could",
        ],
    )
    intro = (
        "An exact method's output has the target's own law, whatever is drafted. That is a property of the code, which "
        f"the exactness suite ({SUITE}) tests: a joint chi-square against the enumerated law, and token for token "
        "equality at temperature 0, over every composition of lossless pieces."
    )
    return Section("certificate", "Losslessness certificate", intro, [_here(), _suites(groups), table])


def _checked(group: Group) -> dict[str, dict[str, Any]]:
    """By method; of several runs the one that refutes it most, else the first."""
    found: dict[str, dict[str, Any]] = {}
    for one in (one for run in group.runs for one in run.results["equality"]):
        if one["bugs"] > found.setdefault(one["method"], one)["bugs"]:
            found[one["method"]] = one
    return found


def _row(group: Group, method: str, found: dict[str, Any] | None) -> list[Value]:
    pieces = group.joined.methods[method]
    lossless = pieces["lossless"]
    point = next(point for point in group.points if point.method == method)
    divergence = point.quality.divergence if point.quality else None
    counts: list[Value] = [None] * 5
    if found:
        differ = found["n"] - found["equal"] - found["near_ties"]
        rate = wilson(found["equal"] / found["n"], found["n"])
        # of a lossy method nobody looks where its texts differ, so no near-tie is told from another difference
        counts = [found["equal"], found["n"], rate, *([found["near_ties"], differ] if lossless else [None, None])]
    rule = pieces["accept"]["type"]
    claim: list[Value] = [_state(lossless, found), group.temperature, lossless, f"rule {rule}" if lossless else None]
    return [group.target, group.task, method, *claim, *counts, divergence]


def _state(lossless: bool, found: dict[str, Any] | None) -> str:
    if not lossless:
        return "not claimed"
    if found is None:
        return "claimed, not checked in this run"
    if found["bugs"]:
        return f"claimed, and REFUTED by {found['bugs']} of {found['n']} texts"
    ties = ", but for near-ties" if found["near_ties"] else ""
    return f"claimed, and {found['n']} texts agree{ties}"


def _suites(groups: Sequence[Group]) -> Table:
    """Which suite stands behind the claims: that of the commits that decoded, as far as they are known here."""
    systems = [one["system"] for group in groups for run in group.runs for one in run.results["sessions"]]
    commits = Counter((one["git_sha"], bool(one["git_dirty"])) for one in systems)
    rows: list[list[Value]] = [
        [commit and commit[:12], dirty, sessions, _tree(commit)] for (commit, dirty), sessions in commits.items()
    ]
    notes = ["changed: files differed from the commit, so that code and suite may have been others"]
    return Table("suites", "The suite of the code that decoded", _SUITES, rows, notes)


def _tree(commit: str | None) -> str | None:
    """The digest of the suite at a commit; None where it is not known here."""
    if commit is None or not (version.ROOT / ".git").exists():
        return None
    tree = version.output("git", "rev-parse", "--verify", "--quiet", f"{commit}:{SUITE}")
    return tree and tree[:12]


def _here() -> Text:
    """Of the code that writes this report."""
    code, digest = version.code(), _digest()
    at = f", commit {code['commit'][:12]}{' with changes' if code['dirty'] else ''}" if code["commit"] else ""
    own = f"whose suite has SHA-256 {digest[:12]}" if digest else "without its suite"
    return Text(f"This report is written by draftsmith {code['version']}{at}, {own}.")


def _digest() -> str | None:
    """Of the suite's files, by name."""
    files = sorted((version.ROOT / SUITE).glob("*.py"))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
