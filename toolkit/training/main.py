"""The command lines of `train/`: recipe and overrides in, exit code out.

A program's modules are imported once its arguments have been read. Run under `accelerate launch` every process comes
through here; only the first one speaks.
"""

from toolkit.config import program

_AS = "train.epochs=1 out=checkpoints/mine"
_FROM = "traces=[results/traces/mine] out=checkpoints/mine"
_MINED = "mined=[results/mined/mine] out=checkpoints/mine"


def lora(argv: list[str]) -> int:
    """`train/lora.py RECIPE [key=value ...]`."""
    return program("train/lora.py", "Train a LoRA adapter.", argv, _lora, _AS)


def cot_cod(argv: list[str]) -> int:
    """`train/cot_cod.py RECIPE [key=value ...]`."""
    return program("train/cot_cod.py", "Target, its answers, draft: the three stages.", argv, _cot_cod, _AS)


def _cot_cod(path: str, overrides: list[str]) -> None:
    from toolkit.training import pipeline

    pipeline.run(pipeline.load(path, overrides), path)


def _lora(path: str, overrides: list[str]) -> None:
    from toolkit.training import lora as training
    from toolkit.training import recipe

    training.run(recipe.load(path, overrides), recipe.command(path, overrides))


def eagle3(argv: list[str]) -> int:
    """`train/eagle3.py RECIPE [key=value ...]`."""
    return program("train/eagle3.py", "Train an EAGLE-3 head.", argv, _eagle3, _AS)


def _eagle3(path: str, overrides: list[str]) -> None:
    from toolkit.training import heads, recipe

    heads.run(heads.load(path, overrides), recipe.command(path, overrides, "train/eagle3.py"))


def distill(argv: list[str]) -> int:
    """`train/distill.py RECIPE [key=value ...]`."""
    return program("train/distill.py", "Distil a draft.", argv, _distill, _AS)


def _distill(path: str, overrides: list[str]) -> None:
    from toolkit.training import distill, recipe

    distill.run(distill.load(path, overrides), recipe.command(path, overrides, "train/distill.py"))


def collect(argv: list[str]) -> int:
    """`train/collect.py RECIPE [key=value ...]`."""
    return program("train/collect.py", "Record what a target says, or traces of decoding.", argv, _collect, _AS)


def _collect(path: str, overrides: list[str]) -> None:
    from toolkit.training import collect as collecting

    collecting.run(collecting.load(path, overrides), path)


def specdecpp(argv: list[str]) -> int:
    """`train/specdecpp.py RECIPE [key=value ...]`."""
    return program("train/specdecpp.py", "Train SpecDec++'s acceptance head on traces.", argv, _specdecpp, _FROM)


def _specdecpp(path: str, overrides: list[str]) -> None:
    from toolkit.training import recipe, specdecpp

    specdecpp.run(specdecpp.load(path, overrides), recipe.command(path, overrides, "train/specdecpp.py"))


def jointadaspec(argv: list[str]) -> int:
    """`train/jointadaspec.py RECIPE [key=value ...]`."""
    return program("train/jointadaspec.py", "Solve JointAdaSpec's policies from traces.", argv, _jointadaspec, _FROM)


def _jointadaspec(path: str, overrides: list[str]) -> None:
    from toolkit.training import jointadaspec, recipe

    jointadaspec.run(jointadaspec.load(path, overrides), recipe.command(path, overrides, "train/jointadaspec.py"))


def autojudge(argv: list[str]) -> int:
    """`train/autojudge.py RECIPE [key=value ...]`."""
    return program("train/autojudge.py", "Mine which mismatches matter, and learn it.", argv, _autojudge, _MINED)


def _autojudge(path: str, overrides: list[str]) -> None:
    from toolkit.training import autojudge as training
    from toolkit.training import recipe

    training.run(training.load(path, overrides), recipe.command(path, overrides, "train/autojudge.py"))


def router(argv: list[str]) -> int:
    """`train/router.py RECIPE [key=value ...]`."""
    does = "Try drafts on prompts, and learn which prompt is whose."
    return program("train/router.py", does, argv, _router, "train.loss=regret out=checkpoints/mine")


def _router(path: str, overrides: list[str]) -> None:
    from toolkit.training import recipe
    from toolkit.training import router as training

    training.run(training.load(path, overrides), recipe.command(path, overrides, "train/router.py"))


def consensus(argv: list[str]) -> int:
    """`train/consensus.py RECIPE [key=value ...]`."""
    example = "features=d1_only out=checkpoints/mine"
    return program("train/consensus.py", "Train a gate between two drafts and their target.", argv, _consensus, example)


def _consensus(path: str, overrides: list[str]) -> None:
    from toolkit.training import consensus as training
    from toolkit.training import recipe

    training.run(training.load(path, overrides), recipe.command(path, overrides, "train/consensus.py"))
