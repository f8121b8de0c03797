"""`draftsmith record | card | export | check | describe DIR`: what can be done with an artifact once it is there.

Each parses its own arguments and returns an exit code. What it needs is imported when it runs: describing a directory
should not wait for torch.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from toolkit.artifact import Manifest

DOES = {
    "record": "put measured figures into an artifact's manifest",
    "card": "write an artifact's model card, from its manifest",
    "export": "an artifact as a full model, or to the Hugging Face hub",
    "check": "an artifact's files are whole, and it was tried",
    "describe": "an artifact in a few lines",
}
Smoke = Callable[[Path, Manifest], dict[str, Any]]  # loads the artifact and decodes with it


def run(name: str, argv: Sequence[str], smoke: Smoke) -> int:
    """Run one of these commands."""
    if name == "record":
        return _record(argv)
    if name == "card":
        return _card(argv)
    if name == "export":
        return _export(argv)
    if name == "check":
        return _check(argv, smoke)
    return _describe(argv)


def _record(argv: Sequence[str]) -> int:
    parser = _parser("record")
    parser.add_argument("results", metavar="RESULTS", nargs="+", type=Path, help="results.json or study.json")
    arguments = parser.parse_args(argv)
    from toolkit.export import measured

    for results in arguments.results:
        manifest = measured.record(arguments.directory, results)
    print(f"{arguments.directory}: {len(manifest.metrics)} measurements; `draftsmith card` shows them")
    return 0


def _card(argv: Sequence[str]) -> int:
    parser = _parser("card")
    parser.add_argument("--online", action="store_true", help="also ask the hub's validator (sends the card's text)")
    arguments = parser.parse_args(argv)
    from toolkit.export import card

    path = card.write(arguments.directory)
    if arguments.online:
        card.check_online(card.read(arguments.directory), path)
    print(path)
    return 0


def _export(argv: Sequence[str]) -> int:
    parser = _parser("export")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--merge", metavar="OUT", type=Path, help="write the full directory, merged, to OUT")
    where.add_argument("--push", metavar="REPO", help="upload the artifact to OWNER/NAME on the hub")
    parser.add_argument("--target", metavar="NAME", help="with --merge: the target, if not where the manifest says")
    parser.add_argument(
        "--target-adapter",
        metavar="DIR",
        action="append",
        default=[],
        help="with --merge: an adapter of the target that a draft was made of; once for each, in order",
    )
    parser.add_argument("--verifier", metavar="NAME", help="with --merge, of a head: what its config calls its target")
    parser.add_argument(
        "--embeddings", action="store_true", help="with --merge, of a head: its target's embeddings go into its file"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --push: say what would be sent, and send nothing")
    parser.add_argument("--private", action="store_true", help="with --push: a new repository is private")
    arguments = parser.parse_args(argv)
    if arguments.merge is None:
        if arguments.target or arguments.target_adapter or arguments.verifier or arguments.embeddings:
            parser.error("--target, --target-adapter, --verifier and --embeddings go with --merge")
        return _push(arguments.directory, arguments.push, arguments.dry_run, arguments.private)
    if arguments.dry_run or arguments.private:
        parser.error("--dry-run and --private go with --push")
    from toolkit.export import describe, standalone

    written = standalone.export(
        arguments.directory,
        arguments.merge,
        target=arguments.target,
        target_adapters=arguments.target_adapter,
        verifier=arguments.verifier,
        embeddings=arguments.embeddings,
    )
    print(f"{arguments.merge}: {len(written.files)} files; tried: {describe.smoke(written)}")
    return 0


def _push(directory: Path, repository: str, dry_run: bool, private: bool) -> int:
    from toolkit.export import push

    upload = push.prepare(directory, repository)
    print(upload.describe())
    if dry_run:
        print("\ndry run: nothing was sent")
        return 0
    print(f"\n{push.send(upload, private)}")
    return 0


def _check(argv: Sequence[str], smoke: Smoke) -> int:
    directory = _parser("check").parse_args(argv).directory
    from toolkit import artifact
    from toolkit.export import describe

    manifest = artifact.verify(directory)
    if "skipped" in manifest.smoke:
        tried = smoke(directory, manifest)
        manifest = artifact.write(directory, dataclasses.replace(manifest, smoke=tried))
    print(describe.summary(manifest, directory))
    print(f"\n{len(manifest.files)} files, as they were written")
    return 0


def _describe(argv: Sequence[str]) -> int:
    parser = _parser("describe")
    parser.add_argument("--json", action="store_true", help="the manifest, for programs")
    arguments = parser.parse_args(argv)
    from toolkit import artifact
    from toolkit.export import describe

    manifest = artifact.read(arguments.directory)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(manifest), indent=2))
    else:
        print(describe.summary(manifest, arguments.directory))
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"draftsmith {name}", description=DOES[name])
    parser.add_argument("directory", metavar="DIR", type=Path, help="an artifact: a directory with manifest.json")
    return parser
