"""`draftsmith`: a door to each program. What they do lives in the modules that they call.

Errors meant for the user are one message on stderr and exit code 2; anything else that is raised is a bug and keeps
its traceback. Torch is imported by the command that needs it, so that `draftsmith list` answers at once.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.artifact import Manifest
from toolkit.errors import exit_code
from toolkit.export import commands
from toolkit.training import trace_commands

PROGRAMS = {  # each parses its own arguments, so that `python -m eval` and `draftsmith eval` are one program
    "eval": "run a recipe: baseline and methods side by side",
    "validate": "are the rows of an eval what other programs take them for",
    "bench": "speed beside transformers",
    "generate": "one prompt through one method, streamed",
    "report": "finished runs as one page to publish, with tables and pictures",
    **commands.DOES,
    **trace_commands.DOES,
}


def main(argv: list[str] | None = None) -> int:
    """Run a command -> its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    if argv[:1] == ["eval"]:
        from toolkit.evaluation import run
        from toolkit.report import command

        return run.main(argv[1:], command.write)
    if argv[:1] == ["bench"]:
        from toolkit.evaluation import bench

        return bench.main(argv[1:])
    if argv[:1] == ["validate"]:
        from toolkit.evaluation import validate

        return validate.main(argv[1:])
    if argv[:1] == ["generate"]:
        return _generate(argv[1:])
    if argv[:1] == ["report"]:
        from toolkit.report import command

        return command.main(argv[1:], PROGRAMS["report"])
    if argv and argv[0] in trace_commands.DOES:
        return trace_commands.run(argv[0], argv[1:], _smoke)
    if argv and argv[0] in commands.DOES:
        return commands.run(argv[0], argv[1:], _smoke)
    arguments = _parser().parse_args(argv)
    return _list(arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="draftsmith", description="Train and measure the pieces of speculative decoding."
    )
    parser.add_argument("--version", action="version", version=f"draftsmith {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, does in PROGRAMS.items():
        subparsers.add_parser(name, help=f"{does} (`draftsmith {name} --help`)")
    listing = subparsers.add_parser("list", help="methods, tasks, pieces and tiny models")
    listing.add_argument("--json", action="store_true", help="for programs")
    return parser


def _generate(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="draftsmith generate", description=PROGRAMS["generate"])
    parser.add_argument("prompt")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in sampling.temperature=1.0")
    parser.add_argument("--target", help="path, hub name or tiny-random:FAMILY (smollm2-135m; with --router, its own)")
    method = parser.add_mutually_exclusive_group()
    method.add_argument("--method", default="ngram", help="a named method, see `draftsmith list` (%(default)s)")
    method.add_argument("--router", metavar="DIR", help="a router of train/router.py, which chooses among its drafts")
    arguments = parser.parse_intermixed_args(argv)
    from toolkit import generate

    chosen = [f"target={arguments.target or 'smollm2-135m'}", f"method={arguments.method}"]
    if arguments.router:
        chosen = generate.by_router(arguments.router, arguments.target)
    return generate.main(arguments.prompt, [*chosen, *arguments.overrides])


def _smoke(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """What every training program ends with; exporting, which lies below training, is handed it from here."""
    from toolkit.training import finish

    return finish.smoke(directory, manifest)


def _list(as_json: bool) -> int:
    from toolkit import catalog

    everything = catalog.everything()
    if as_json:
        print(json.dumps(everything, indent=2))
        return 0
    width = max(len(name) for entries in everything.values() for name in entries)
    for title, entries in everything.items():
        print(title)
        for name, description in entries.items():
            print(f"  {name:<{width}}  {description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
