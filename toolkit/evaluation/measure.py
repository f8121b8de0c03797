"""One batch through one method -> its rows.

A prompt that fails becomes an `error` row with its traceback and the run goes on: when a batch fails, its prompts are
tried alone, so that only the culprit is lost. This is the one place that catches everything.
"""

import hashlib
import json
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Generation, Request, Sampling
from toolkit.evaluation import system, turns
from toolkit.evaluation.prompts import Prompt
from toolkit.evaluation.recipe import SamplingConfig, SpeedConfig
from toolkit.evaluation.records import Record, SetName
from toolkit.tasks._types import Problem, Score, Task


@dataclass(frozen=True)
class Contender:
    """A method, built."""

    name: str
    config: dict  # its pieces, every default filled in
    decoder: SpecDecoder
    lossless: bool  # under the recipe's sampling
    own: dict[str, dict] = field(default_factory=dict)  # what its pieces took where the config has null, by slot

    @property
    def described(self) -> dict:
        """Its config, with what stands for null beside it: that is a matter of the weights, so no key depends on it."""
        return self.config | ({"own": self.own} if self.own else {})


@dataclass(frozen=True)
class Setting:
    """What all rows of a run share. `common`: what all texts depend on; part of every resume key."""

    task: Task
    sampling: SamplingConfig
    common: dict
    speed: SpeedConfig
    session: str

    def sampling_of(self, block: "Block") -> Sampling:
        """How this block is decoded; timed texts may end earlier."""
        sampling = self.sampling.seeded(block.seed)
        if block.set == "speed" and self.speed.max_new_tokens:
            return replace(sampling, max_new_tokens=min(sampling.max_new_tokens, self.speed.max_new_tokens))
        return sampling


@dataclass(frozen=True)
class Block:
    """Prompts that are decoded together, once."""

    set: SetName
    index: int
    prompts: Sequence[Prompt]
    seed: int
    repeat: int = 0


def resume_key(setting: Setting, config: dict, prompt: Prompt, block: Block) -> str:
    """Changes with what this row depends on, and with nothing else: other methods, how many prompts, the directory.

    The quality set's batch is left out: it changes neither a law nor a clock.
    """
    parts = {
        "common": setting.common,
        "method": config,
        "prompt": [prompt.id, prompt.digest],
        "set": block.set,
        "seed": block.seed,
        "repeat": block.repeat,
        "batch": setting.speed.batch if block.set == "speed" else None,
        "max_new_tokens": setting.sampling_of(block).max_new_tokens,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def decode(
    decoder: SpecDecoder, prompts: Sequence[Prompt], sampling: Sampling, repeat: int = 0
) -> list[tuple[int, Generation | Exception]]:
    """Per prompt: how many were decoded with it, and its generation or what it died of."""
    requests = [Request(prompt.request_id, prompt.tokens, repeat) for prompt in prompts]
    try:
        first = decoder.generate(requests, sampling)
        return [(len(requests), generation) for generation in turns.go_on(decoder, prompts, requests, sampling, first)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a row
        if len(prompts) == 1:
            return [(1, error)]
    return [outcome for prompt in prompts for outcome in decode(decoder, [prompt], sampling, repeat)]


def measure(setting: Setting, contender: Contender, block: Block) -> list[Record]:
    """Decode a block and judge its texts."""
    device = contender.decoder.target.device
    contender.decoder.record_divergence = block.set == "quality" and not contender.lossless  # never on the clock
    system.reset_peak(device)
    outcomes = decode(contender.decoder, block.prompts, setting.sampling_of(block), block.repeat)
    peak = system.peak_memory(device)
    problems = (prompt.problem for prompt in block.prompts)
    scores = _judged(setting.task, [(p, outcome) for p, (_, outcome) in zip(problems, outcomes, strict=True)])
    rows = []
    for prompt, (batch, outcome), score in zip(block.prompts, outcomes, scores, strict=True):
        first = block.prompts[0] if batch > 1 else prompt
        row = Record(
            set=block.set,
            method=contender.name,
            prompt_id=prompt.id,
            seed=block.seed,
            repeat=block.repeat,
            resume_key=resume_key(setting, contender.config, prompt, block),
            session=setting.session,
            block=block.index,
            batch=batch,
            batch_key=resume_key(setting, contender.config, first, block),
            method_config=contender.described,
            temperature=setting.sampling.temperature,
            lossless=contender.lossless,
            peak_memory=peak,
        )
        _fill(row, outcome, score)
        rows.append(row)
    return rows


def _judged(task: Task, answers: Sequence[tuple[Problem, Generation | Exception]]) -> list[Score | Exception]:
    """The task's verdict on each text, all at once (programs are run side by side); alone where that fails."""
    texts = [(problem, outcome.text) for problem, outcome in answers if not isinstance(outcome, Exception)]
    try:
        scores = iter(task.scores(texts))
    except Exception as error:  # noqa: BLE001 - the same
        if len(answers) == 1:
            return [error]
        return [score for answer in answers for score in _judged(task, [answer])]
    return [outcome if isinstance(outcome, Exception) else next(scores) for _, outcome in answers]


def _fill(row: Record, outcome: Generation | Exception, score: Score | Exception) -> None:
    if isinstance(outcome, Exception):
        _fail(row, outcome)
        return
    _count(row, outcome)
    if isinstance(score, Exception):
        _fail(row, score)
        return
    # A number in half an answer is no answer, even where it happens to be the right one
    cut = outcome.finish == "length" and not score.complete
    row.correct = score.correct if score.correct is None else score.correct and not cut
    row.extracted, row.extraction = score.extracted, score.path


def _fail(row: Record, error: Exception) -> None:
    row.status, row.error_type, row.message = "error", type(error).__name__, str(error)
    row.traceback = "".join(traceback.format_exception(error))


def _count(row: Record, generation: Generation) -> None:
    windows = generation.windows
    widest = max((proposed for proposed, _ in windows), default=0)
    times = generation.times
    row.text, row.tokens, row.n_tokens = generation.text, generation.tokens, turns.generated(generation)
    row.prompt_tokens, row.finish = generation.prompt_tokens, generation.finish
    row.divergence = generation.divergence
    row.windows = turns.windows(generation)
    row.rounds, row.counters, row.sources = generation.rounds, generation.counters, generation.sources
    if generation.routing is not None:
        row.routed, row.routing_seconds = dict(generation.routing.rounds), generation.routing.seconds
    row.drafts = sum(proposed > 0 for proposed, _ in windows)
    row.proposed = sum(proposed for proposed, _ in windows)
    row.accepted = sum(accepted for _, accepted in windows)
    row.proposed_at = [sum(proposed > i for proposed, _ in windows) for i in range(widest)]
    row.reached_at = [sum(proposed > i and accepted >= i for proposed, accepted in windows) for i in range(widest)]
    row.accepted_at = [sum(accepted > i for _, accepted in windows) for i in range(widest)]
    row.times = {
        "prefill": times.prefill,
        "draft": times.draft,
        "verify": times.verify,
        "host": times.host,
        "total": times.total,
    }
    row.first_token_seconds = generation.first_token_seconds
