"""`draftsmith describe DIR | check-conditions POLICY TRACE...`: what is in a trace, and what a policy makes of it.

`describe` is of mined mismatches and of artifacts (toolkit.export.commands), too: which of these a directory is, its
JSON file says. What a command needs is imported when it runs: describing an artifact should not wait for torch.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from toolkit.artifact import MANIFEST
from toolkit.errors import UserError
from toolkit.export import commands

DOES = {
    "describe": "an artifact, a trace or mined mismatches in a few lines",
    "check-conditions": "do the conditions hold under which JointAdaSpec's policy is the best one",
}
# toolkit.training.traces.HEADER and mined.HEADER, whose modules bring torch
_TRACE, _MINED = "trace.json", "mined.json"


def run(name: str, argv: Sequence[str], smoke: commands.Smoke) -> int:
    """Run one of these commands."""
    return _describe(argv, smoke) if name == "describe" else _check_conditions(argv)


def _describe(argv: Sequence[str], smoke: commands.Smoke) -> int:
    parser = argparse.ArgumentParser(prog="draftsmith describe", description=DOES["describe"])
    files = f"with {MANIFEST} (artifact), {_TRACE} (trace) or {_MINED} (mined mismatches)"
    parser.add_argument("directory", metavar="DIR", type=Path, help=files)
    parser.add_argument("--json", action="store_true", help="the manifest, or the figures, for programs")
    arguments = parser.parse_args(argv)
    directory = arguments.directory
    if (directory / MANIFEST).is_file():
        return commands.run("describe", argv, smoke)
    kinds = [name for name in (_TRACE, _MINED) if (directory / name).is_file()]
    if not kinds:
        raise UserError(
            f"{directory}: no {MANIFEST}, no {_TRACE} and no {_MINED}, so this is no artifact and no trace, and "
            "nothing was mined here. Expected a directory that a program in train/ wrote."
        )
    from toolkit.evaluation import table
    from toolkit.files import finite
    from toolkit.training import mined_report, trace_report

    report = {_TRACE: trace_report, _MINED: mined_report}[kinds[0]]
    found = report.figures(directory)
    if arguments.json:
        print(json.dumps(finite(found), indent=2))
        return 0
    print(report.heading(found, directory) + "\n")
    table.show(report.tables(found), [])
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
