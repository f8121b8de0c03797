"""The recipes in `recipes/train`: by which program each is run, under which configuration of accelerate."""

import shlex
from pathlib import Path

import yaml

from toolkit.config import recipes_dir

ROOT = Path(__file__).parents[2]
TRAIN = sorted(path.relative_to(ROOT) for path in recipes_dir().glob("train/**/*.yaml"))
CONFIGS = sorted(ROOT.glob("accelerate_configs/*.yaml"))
LARGE = ("qwen3_14b_0.6b", "qwen2.5_7b_0.5b", "llama3_8b_1b")  # with LoRAs of target and draft
DRAFTED = (
    "qwen2.5_7b_0.5b",
    "qwen2.5_14b_0.5b",
    "qwen3_14b",
    "llama3_8b",
)  # with answers, a head and a distilled draft


def command(path: Path) -> list[str]:
    """The words of the command in the first line."""
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    return shlex.split(first.removeprefix("#"))


def program(path: Path) -> str:
    """`train/lora.py`, `train/cot_cod.py`, ..."""
    return next(word for word in command(path) if word.startswith("train/"))


def launched(path: Path) -> Path:
    """The configuration of accelerate that the command names."""
    words = command(path)
    return ROOT / words[words.index("--config_file") + 1]


def processes(path: Path) -> int:
    """How many the command starts."""
    return yaml.safe_load(launched(path).read_text())["num_processes"]


def run_by(name: str) -> list[Path]:
    """The recipes of one program."""
    return [path for path in TRAIN if program(path) == f"train/{name}.py"]


LORA, PIPELINES = run_by("lora"), run_by("cot_cod")
COLLECTED, HEADS, DISTILLED = run_by("collect"), run_by("eagle3"), run_by("distill")
TRACES = [path for path in COLLECTED if "trace" in yaml.safe_load((ROOT / path).read_text())]
ANSWERS = [path for path in COLLECTED if path not in TRACES]
ACCEPTANCE_HEADS, POLICIES = run_by("specdecpp"), run_by("jointadaspec")
JUDGES, GATES, ROUTERS = run_by("autojudge"), run_by("consensus"), run_by("router")
