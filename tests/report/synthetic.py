"""Output directories of evals that nobody ran: as many rows as one likes, of any methods, in a second or so.

`write(directory)` leaves run.json, recipe.yaml, prompts.jsonl, records.jsonl and results.json as `python -m eval` does,
over a target with the byte tokenizer. A method is a few numbers (`Made`): how likely a drafted token is to pass, what a
round costs, how often its answers are right. Tables are filled by the evaluation's own summaries, so they agree with
the rows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from toolkit.evaluation import report
from toolkit.evaluation.records import Record, encode
from toolkit.evaluation.score import BASELINE

TARGET = "tiny-random:llama"
SESSION = "0123456789ab"
SYSTEM = {
    "cpu": "a processor",
    "gpu": "",
    "threads": 2,
    "gpu_driver": None,
    "cuda_runtime": None,
    "platform": "Linux x86_64",
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
    "git_sha": "0" * 40,
    "git_dirty": False,
}
WORDS = ["first", "we", "add", "the", "two", "numbers", "then", "take", "half", "of", "it,", "so", "there", "are left"]


@dataclass(frozen=True)
class Made:
    """A method. Seconds of a round: 1e-3 x (30 + draft x window)."""

    name: str
    window: int = 4
    passes: float = 0.7  # chance that a drafted token stands, given those before
    draft: float = 2.0  # milliseconds a drafted token
    right: float = 0.5  # share of right answers, where it is lossy
    lossless: bool = True
    grid: str | None = None
    proposer: dict[str, Any] = field(default_factory=lambda: {"type": "draft_model", "model": "small"})
    routes: tuple[str, ...] = ()  # names of its drafts
    gated: bool = False

    @property
    def config(self) -> dict[str, Any]:
        accept = {"type": "rejection"} if self.lossless else {"type": "fuzzy", "t": 2.0}
        return {"proposer": self.proposer, "length": {"type": "fixed", "k": self.window}, "accept": accept}


PLAIN = Made(BASELINE, window=0, proposer={"type": "none"})
METHODS = (
    PLAIN,
    Made("ngram", passes=0.4, draft=0.1, proposer={"type": "ngram", "min": 1, "max": 3}),
    *(Made(f"draft_k={k}", window=k, grid="draft") for k in (2, 4, 8)),
    Made("fuzzy", passes=0.9, right=0.4, lossless=False),
    Made("routed", passes=0.8, proposer={"type": "routed", "router": {"type": "random"}}, routes=("code", "chat")),
    Made("gated", passes=0.95, right=0.45, lossless=False, gated=True, proposer={"type": "consensus"}),
)


@dataclass(frozen=True)
class Size:
    quality: int = 30  # prompts of either set
    speed: int = 12
    tokens: int = 48  # an answer, at most
    windows: bool = True  # False: rows as they were before they had windows
    seeds: int = 1


def write(
    directory: Path,
    methods: Sequence[Made] = METHODS,
    *,
    task: str = "gsm8k",
    target: str = TARGET,
    adapters: Sequence[str] = (),
    size: Size = Size(),
    temperature: float = 0.0,
    failing: int = 0,  # rows of the last method in the speed set that died
    finished: bool = True,  # False: as a killed run leaves it, without results.json
    seed: int = 0,
) -> list[Record]:
    """-> the rows that are in its records.jsonl."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(np.random.default_rng(seed), methods, task, size, temperature))
    for row in [row for row in rows if row.set == "speed" and row.method == methods[-1].name][:failing]:
        row.status, row.error_type, row.message = "error", "RuntimeError", "the device ran out of memory"
        row.text, row.tokens, row.windows, row.times, row.n_tokens, row.sources = "", [], [], {}, 0, ""
        row.rounds, row.drafts, row.proposed, row.accepted, row.routed = 0, 0, 0, 0, {}
        row.correct, row.extraction, row.finish, row.first_token_seconds = None, None, None, 0.0
    (directory / "records.jsonl").write_bytes(b"".join(map(encode, rows)))
    ids = dict.fromkeys(row.prompt_id for row in rows)
    (directory / "prompts.jsonl").write_text("".join(f"{json.dumps(_asked(name))}\n" for name in ids))
    model = {"name": target, "quant": "none", "revision": None, "draft_from": None, "adapters": list(adapters)}
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0, "max_new_tokens": size.tokens, "stop": []}
    sessions = [{"id": SESSION, "started": "2026-01-01T00:00:00Z", "system": SYSTEM}]
    recipe = {
        "target": {**model, "dtype": "auto", "device": "auto"},
        "task": {"type": task, "split": "test"},
        "use": list(adapters),
        "methods": [{"name": one.name, **one.config} for one in methods[1:]],
        "sampling": sampling,
        "seeds": list(range(size.seeds)),
        "chat_template": True,
        "thinking": False,
        "quality": {"enabled": size.quality > 0, "batch": 16, "prompts": size.quality},
        "speed": {"prompts": size.speed, "methods": "all", "batch": 1, "max_new_tokens": None, "repeats": 1},
        "out": str(directory),
        "threads": None,
    }
    identity = {
        "target": {**model, "dtype": "torch.float32", "device": "cpu"},
        "weights": "f" * 64,
        "vocab": 259,
        "sampling": sampling,
        "chat_template": True,
        "task": {"type": task, "split": "test", "limit": None},
        "speed": {"batch": 1},
        "methods": {one.name: one.config for one in methods},
    }
    marker = {"recipe": f"recipes/eval/{task}.yaml", "identity": identity, "sessions": sessions}
    (directory / "run.json").write_text(json.dumps(marker))
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    if finished:
        label = " + ".join([target, *adapters])
        results = _results(methods, rows, temperature) | {"recipe": recipe, "name": task, "sessions": sessions}
        results["models"] = {label: {"source": "seeded", "fingerprint": "f" * 64}}
        (directory / "results.json").write_text(json.dumps(results))
    return rows


def _asked(prompt: str) -> dict[str, Any]:
    said = {"system": "You add.", "user": f"{prompt}: <b>how</b> many?"}
    return {
        "id": prompt,
        "messages": [{"role": role, "content": text} for role, text in said.items()],
        "follow_ups": [],
    }


def _results(methods: Sequence[Made], rows: list[Record], temperature: float) -> dict[str, Any]:
    names = [one.name for one in methods]
    quality = report.qualities(rows, names)
    place = {one.name: {"name": one.grid, "values": {"length.k": one.window}, "place": [0]} for one in methods}
    timed = [one for one in methods[1:] if temperature == 0 and any(r.method == one.name and r.ok for r in rows)]
    n = len({row.prompt_id for row in rows if row.set == "speed"})
    return {
        "schema_version": 3,
        "methods": {
            one.name: one.config | {"lossless": one.lossless, "grid": place[one.name] if one.grid else None}
            for one in methods
        },
        "untimed": {},
        "peak_memory": "resident memory of the whole process so far",
        "speed": [asdict(one, dict_factory=report._finite) for one in report.speeds(rows, names, quality)],
        "quality": [asdict(one) for one in quality],
        "equality": [
            {"method": one.name, "lossless": one.lossless, "n": n, "equal": n - 1, "near_ties": 1, "differences": []}
            | {"rate": (n - 1) / n, "bugs": 0}
            for one in timed
            if n
        ],
        "routing": {},
        "notes": [f"target {TARGET}: seeded"],
    }


def _rows(
    rng: np.random.Generator, methods: Sequence[Made], task: str, size: Size, temperature: float
) -> Iterator[Record]:
    for set_name, prompts in (("speed", size.speed), ("quality", size.quality)):
        for seed in range(size.seeds):
            for index in range(prompts):
                hard = rng.random()  # of the prompt, for all methods alike
                for one in methods:
                    if set_name == "speed" or not one.lossless or one is methods[0]:
                        yield _row(rng, one, f"{task}-{index}", index, hard, set_name, seed, size, temperature)


def _row(
    rng: np.random.Generator,
    made: Made,
    prompt: str,
    index: int,
    hard: float,
    set_name: str,
    seed: int,
    size: Size,
    temperature: float,
) -> Record:
    """A row whose rounds were drawn; it ends by itself or at the limit."""
    wanted = int(rng.integers(size.tokens // 2, size.tokens * 5 // 4))
    total, finish = min(wanted, size.tokens), "eos" if wanted <= size.tokens else "length"
    text = (" ".join(rng.choice(WORDS, size=total // 4 + 1))[: total - 4] + f" #{index}").ljust(total, ".")[:total]
    tokens = list(_ids(text))
    rounds = _rounds(rng, made, total)
    windows = [[accepted, *rng.integers(64, 90, size=proposed - accepted).tolist()] for proposed, accepted in rounds]
    widest = max((proposed for proposed, _ in rounds), default=0)
    seconds = 1e-3 * (30 * len(rounds) + made.draft * sum(proposed for proposed, _ in rounds)) * rng.uniform(0.9, 1.1)
    correct = hard < made.right and finish != "length"
    asked = len(rounds)
    return Record(
        set=set_name,
        method=made.name,
        prompt_id=prompt,
        seed=seed,
        repeat=0,
        resume_key=f"{made.name}-{set_name}-{prompt}-{seed}",
        session=SESSION,
        block=index if set_name == "speed" else 0,
        batch=1,
        batch_key=f"{made.name}-{set_name}-{prompt}-{seed}",
        method_config=made.config,
        temperature=temperature,
        lossless=made.lossless,
        text=text,
        tokens=tokens,
        n_tokens=total,
        prompt_tokens=40 + len(prompt) + index % 7,
        finish=finish,
        divergence=0.01 * total if set_name == "quality" and not made.lossless else None,
        sources=_sources(rounds, total) if made.gated else "",
        routed={made.routes[index % len(made.routes)]: asked} if made.routes else {},
        rounds=asked,
        drafts=sum(proposed > 0 for proposed, _ in rounds),
        proposed=sum(proposed for proposed, _ in rounds),
        accepted=sum(accepted for _, accepted in rounds),
        proposed_at=[sum(p > i for p, _ in rounds) for i in range(widest)],
        reached_at=[sum(p > i and a >= i for p, a in rounds) for i in range(widest)],
        accepted_at=[sum(a > i for _, a in rounds) for i in range(widest)],
        windows=windows if widest and size.windows else [],
        times={
            "prefill": 0.1 * seconds,
            "draft": 0.2 * seconds,
            "verify": 0.6 * seconds,
            "host": 0.1 * seconds,
            "total": seconds,
        },
        first_token_seconds=0.1 * seconds + 0.03,
        peak_memory=2**30,
        correct=correct,
        extracted=str(index) if finish == "eos" else None,
        extraction="marker" if finish == "eos" else "none",
    )


def _rounds(rng: np.random.Generator, made: Made, total: int) -> list[tuple[int, int]]:
    """(proposed, accepted) until all tokens are there; the target adds one to each."""
    found, left = [], total
    runs = rng.geometric(1 - made.passes, size=total) - 1  # tokens that would stand in a row
    while left:
        proposed = min(made.window, left - 1)
        accepted = min(proposed, int(runs[len(found)]))
        found.append((proposed, accepted))
        left -= accepted + 1
    return found


def _sources(rounds: Sequence[tuple[int, int]], total: int) -> str:
    return "".join("12"[i % 2] * accepted + "t" for i, (_, accepted) in enumerate(rounds))[:total]


def _ids(text: str) -> bytes:
    """Of printable letters in the byte tokenizer: its alphabet begins with `!`, and a space comes late in it."""
    return bytes(220 if letter == " " else ord(letter) - ord("!") for letter in text)
