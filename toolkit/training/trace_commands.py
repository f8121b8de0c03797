"""`draftsmith describe DIR | check-conditions POLICY TRACE...`: what is in a trace, and what a policy makes of it.

`describe` is of artifacts, too (toolkit.export.commands): which of the two a directory is, its JSON file says. What a
command needs is imported when it runs: describing an artifact should not wait for torch.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from toolkit.artifact import MANIFEST
from toolkit.errors import UserError
from toolkit.export import commands

DOES = {
    "describe": "an artifact or a trace in a few lines",
    "check-conditions": "do the conditions hold under which JointAdaSpec's policy is the best one",
}
_HEADER = "trace.json"  # toolkit.training.traces.HEADER, whose module brings torch


def run(name: str, argv: Sequence[str], smoke: commands.Smoke) -> int:
    """Run one of these commands."""
    return _describe(argv, smoke) if name == "describe" else _check_conditions(argv)


def _describe(argv: Sequence[str], smoke: commands.Smoke) -> int:
    parser = argparse.ArgumentParser(prog="draftsmith describe", description=DOES["describe"])
    parser.add_argument("directory", metavar="DIR", type=Path, help=f"with {MANIFEST} (artifact) or {_HEADER} (trace)")
    parser.add_argument("--json", action="store_true", help="the manifest, or a trace's figures, for programs")
    arguments = parser.parse_args(argv)
    directory = arguments.directory
    if (directory / MANIFEST).is_file():
        return commands.run("describe", argv, smoke)
    if not (directory / _HEADER).is_file():
        raise UserError(
            f"{directory}: no {MANIFEST} and no {_HEADER}, so this is no artifact and no trace. Expected a directory "
            "that a program in train/ wrote."
        )
    from toolkit.evaluation import table
    from toolkit.files import finite
    from toolkit.training import trace_report

    found = trace_report.figures(directory)
    if arguments.json:
        print(json.dumps(finite(found), indent=2))
        return 0
    print(trace_report.heading(found, directory) + "\n")
    table.show(trace_report.tables(found), [])
    return 0


def _check_conditions(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="draftsmith check-conditions", description=DOES["check-conditions"])
    parser.add_argument("policy", metavar="POLICY", type=Path, help="a directory that train/jointadaspec.py wrote")
    parser.add_argument("traces", metavar="TRACE", nargs="+", type=Path, help="of the policy's target and draft")
    parser.add_argument("--kappa", type=float, default=1.0, help="which of the policy's solutions (%(default)s)")
    parser.add_argument("--temperature", type=float, help="which of the trace's (the policy's own)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="(results/conditions/<name of the policy>)")
    arguments = parser.parse_args(argv)
    from toolkit.evaluation import table
    from toolkit.training import conditions_report

    checked = conditions_report.check(arguments.policy, arguments.traces, arguments.kappa, arguments.temperature)
    out = arguments.out or Path("results/conditions") / arguments.policy.resolve().name
    conditions_report.write(checked, out)
    table.show(conditions_report.tables(checked.figures), [f"{out}: conditions.json and pictures"])
    return 0
