"""A target's own answers to training prompts: what its draft is trained on.

Decoded in batches by our loop, or by vLLM; each process of `accelerate launch` takes its share of the prompts. Every
batch is written when it is done, so that a killed run goes on where it stopped, with any number of processes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from toolkit import artifact, chat, methods, sources
from toolkit.backends import vllm
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.export import merge
from toolkit.files import write_atomic, write_json
from toolkit.hub import ModelConfig, Models
from toolkit.loading import identify, read_tokenizer
from toolkit.tasks._types import Problem, Task
from toolkit.training import data, gates, processes
from toolkit.training.gates import Figures, Gates, Generated
from toolkit.training.recipe import DataConfig


@dataclass
class AnswersConfig:
    """How the target answers; greedy unless said otherwise."""

    path: str  # the file of {key, response, ...} lines
    engine: Literal["loop", "vllm"] = "loop"
    method: str = "baseline"  # a named method; a lossless one changes the time only
    batch: int = 32  # with vllm, which schedules for itself and starts anew for each: a thousand and more
    keep_merged: bool = False  # vllm: keep the merged model for the next time
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    gates: Gates = field(default_factory=Gates)


@dataclass(frozen=True)
class Asked:
    """A prompt and whose it is."""

    key: str
    task: Task
    problem: Problem
    tokens: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """Names the prompt's very tokens: an answer to another wording, style or template is no answer to this."""
        return hashlib.sha256(json.dumps(self.tokens).encode()).hexdigest()[:16]

    @property
    def name(self) -> tuple[str, str]:
        """As `read_parts` has it."""
        return self.key, self.prompt

    @property
    def number(self) -> int:
        """Keys the randomness: of the name alone, so batches and sittings do not change a text."""
        return int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:8]) >> 1


def run(target: ModelConfig, prompts: DataConfig, settings: AnswersConfig, where: Path | str) -> Figures:
    """Answer whatever is not answered yet, then check the gates -> the figures that they judge."""
    state = processes.joined()
    path = Path(settings.path)
    asked_for = asked(prompts, read_tokenizer(target), where)
    parts = _open(path, {"target": identify(target), "settings": _decoding(settings)}, where)
    done = read_parts(parts)
    missing = [one for one in asked_for if one.name not in done]
    missing.sort(key=lambda one: len(one.tokens))
    own = missing[state.process_index :: state.num_processes]
    state.wait_for_everyone()  # nobody writes before all have read what is there
    if own:
        with _engine(target, settings) as decode, Bar("answers", len(own)) as bar:
            for chunk in _chunks(own, settings.batch):
                lines = [json.dumps(_row(*answered)) + "\n" for answered in decode(chunk)]
                append(parts / f"{state.process_index}.jsonl", "".join(lines))
                bar.advance(len(chunk), settings.method)
    state.wait_for_everyone()
    done = read_parts(parts)
    if state.is_main_process:
        rows = [done[one.name] for one in asked_for]
        with artifact.writing(path):
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    generated = [_judged(one, done[one.name]) for one in asked_for]
    figures = gates.check(generated, settings.gates, where, "answers.gates")
    if state.is_main_process:
        with artifact.writing(path):
            write_json(path.with_suffix(".figures.json"), dataclasses.asdict(figures))
        sources.say(f"{path}: {len(asked_for)} answers\n{gates.table(figures, settings.gates)}")
    return figures


def asked(prompts: DataConfig, tokenizer: PreTrainedTokenizerBase, where: Path | str) -> list[Asked]:
    """The prompts that a recipe's tasks ask, under the template of evaluation."""
    return [
        Asked(key, task, problem, chat.encode(task.messages(problem), tokenizer, prompts.thinking))
        for key, task, problem in data.keyed(data.tasks(prompts.tasks, where), where)
    ]


Decoded = tuple[Asked, list[int], str, str]  # prompt, tokens, text, why it ended
Decode = Callable[[Sequence[Asked]], Iterator[Decoded]]


@contextmanager
def _engine(target: ModelConfig, settings: AnswersConfig) -> Iterator[Decode]:
    """Loaded, or merged, once for all chunks."""
    if settings.engine == "loop":
        decoder = methods.decoder(methods.resolve(settings.method, "answers.method"), Models(target))
        yield partial(_by_loop, decoder, settings)
        return
    dtype = {"auto": "bfloat16" if processes.on_gpu() else "float32"}.get(target.dtype, target.dtype)
    model = dataclasses.replace(target, device="cpu", dtype=dtype)  # merged beside the GPU, which vLLM wants for itself
    with merge.merged_directory(model, sources.home(), keep_merged=settings.keep_merged) as directory:
        yield partial(_by_vllm, directory, dtype, read_tokenizer(target), settings)


def _by_loop(decoder: SpecDecoder, settings: AnswersConfig, chunk: Sequence[Asked]) -> Iterator[Decoded]:
    """Our loop: every chunk is a batch."""
    requests = [Request(one.number, one.tokens) for one in chunk]
    for one, generation in zip(chunk, decoder.generate(requests, _sampling(settings)), strict=True):
        yield one, generation.tokens, generation.text, generation.finish


def _by_vllm(
    directory: Path, dtype: str, tokenizer: PreTrainedTokenizerBase, settings: AnswersConfig, chunk: Sequence[Asked]
) -> Iterator[Decoded]:
    """A worker a chunk, which schedules its prompts itself."""
    result = vllm.generate(directory, [one.tokens for one in chunk], _sampling(settings), dtype=dtype)
    for one, tokens in zip(chunk, result.tokens, strict=True):
        ended = tokens[-1:] == [tokenizer.eos_token_id]
        yield one, tokens, tokenizer.decode(tokens, skip_special_tokens=True), "eos" if ended else "length"


def _sampling(settings: AnswersConfig) -> Sampling:
    return Sampling(settings.temperature, max_new_tokens=settings.max_new_tokens, seed=settings.seed)


def _row(one: Asked, tokens: list[int], text: str, finish: str) -> dict[str, Any]:
    score = one.task.score(one.problem, text)
    return {
        "key": one.key,
        "prompt": one.prompt,
        "input_ids": list(one.tokens),
        "output_ids": tokens,
        "response": text,
        "tokens": len(tokens),
        "finish": finish,
        "correct": score.correct,
        "path": score.path,
    }


def _judged(one: Asked, row: dict[str, Any]) -> Generated:
    score = one.task.score(one.problem, row["response"])
    cut = row["finish"] == "length"
    return Generated(one.problem, row["response"], score, gates.tier_of(one.task, one.problem), cut)


def _decoding(settings: AnswersConfig) -> dict[str, Any]:
    """What the texts depend on: batch, method and gates may change between two sittings."""
    return {"max_new_tokens": settings.max_new_tokens, "temperature": settings.temperature, "seed": settings.seed}


def _open(path: Path, identity: dict[str, Any], where: Path | str) -> Path:
    """The directory of the parts, beside the file; UserError where it belongs to another target."""
    parts = path.with_suffix(".parts")
    marker = parts / "identity.json"
    if marker.is_file() and json.loads(marker.read_text()) != identity:
        raise UserError(
            f"{where}: {parts} holds answers of another target or under other sampling. Set answers.path to another "
            f"file, or delete {parts} to answer anew."
        )
    with artifact.writing(parts):
        parts.mkdir(parents=True, exist_ok=True)
        write_json(marker, identity)
    return parts


def append(part: Path, lines: str) -> None:
    """Starts on a line of its own where a kill cut the last one short."""
    with artifact.writing(part), part.open("ab+") as file:
        torn = file.tell() and part.read_bytes()[-1:] != b"\n"
        file.write((b"\n" if torn else b"") + lines.encode())


def read_parts(parts: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by key and prompt, of all processes of all sittings; a line that a kill cut short counts as not there.

    A key may have been asked in other words in an earlier sitting: which file such a row is in says nothing of its age.
    """
    rows = {}
    for part in sorted(parts.glob("*.jsonl")):
        for line in part.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            rows[row["key"], row["prompt"]] = row
    return rows


def _chunks(items: Sequence[Asked], size: int) -> Iterator[Sequence[Asked]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
