"""vLLM as an engine: a model directory and token ids in; token ids, counters and seconds out.

vLLM pins versions of its own, so it lives in another environment (`make vllm-env`), and a worker process there is asked
through JSON files. Drafts are vLLM's own: `speculative` is its speculative_config, as in
`{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4, "prompt_lookup_min": 2}`. The directory of an
EAGLE-3 head stands for the target that its config names, with the head as its draft.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import sources
from toolkit.engine.types import Sampling
from toolkit.errors import UserError
from toolkit.files import write_json

LONGEST = 2048  # tokens of prompt and continuation; bounds what vLLM sets aside
_PYTHON = "DRAFTSMITH_VLLM_PYTHON"
_WORKER = Path(__file__).parent / "_vllm_worker.py"
_TAIL = 20  # lines of the worker's log that an error shows
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
_ENVIRONMENT = {
    "PYTHONSAFEPATH": "1",  # else `import vllm` finds this very file, which lies beside the worker
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned threads wait for whatever else runs on their core
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # greedy runs repeat, and there is no second process to lose
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # all that it loads are local directories
}


@dataclass(frozen=True)
class VllmResult:
    """counters: what vLLM counted, by its own names: `vllm:spec_decode_num_drafts`, `..._num_draft_tokens`,
    `..._num_accepted_tokens` and, a list, `..._num_accepted_tokens_per_pos`. Empty without speculation.
    """

    tokens: list[list[int]]  # a row a prompt, EOS included when it was emitted
    counters: dict[str, Any]
    seconds: float  # of all prompts together as vLLM batches them, loading and one warm-up left out
    version: str


def python_path() -> Path:
    """The Python that has vLLM; UserError where there is none."""
    chosen = os.environ.get(_PYTHON)
    path = Path(chosen) if chosen else Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
    if not path.is_file():
        raise UserError(
            f"vLLM: no Python at {path}. `make vllm-env` makes .venv-vllm in a checkout; or set {_PYTHON} to the "
            "python of an environment that has vLLM."
        )
    return path


def generate(
    model_dir: Path,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    speculative: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> VllmResult:
    """Continue the prompts (token ids). A worker that fails is a UserError with the end of its log, which is kept."""
    sampling.check()
    python = python_path()
    work = _work_directory()
    request = {
        "engine": {
            "model": str(model_dir.resolve()),
            "dtype": dtype,
            "seed": sampling.seed,
            "max_model_len": _longest(model_dir, prompts, sampling),
            "enable_prefix_caching": False,  # a prompt that repeats would cost nothing
            "speculative_config": speculative,
        },
        "sampling": [_parameters(sampling, sampling.seed * len(prompts) + i) for i in range(len(prompts))],
        "prompts": [list(tokens) for tokens in prompts],
    }
    write_json(work / "request.json", request)
    _run(python, work)
    answer = json.loads((work / "result.json").read_text())
    shutil.rmtree(work)
    return VllmResult(**answer)


def _parameters(sampling: Sampling, seed: int) -> dict[str, Any]:
    """vLLM's SamplingParams. A seed for each prompt and run: under one seed equal prompts would have equal texts."""
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
        "stop": list(sampling.stop),
    }


def _run(python: Path, work: Path) -> None:
    """The worker in its own process group, which does not outlive this call, however it ends."""
    log = work / "worker.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [python, _WORKER, work],
            env=_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = child.wait()
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    if code != 0 or not (work / "result.json").is_file():
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
        raise UserError(f"vLLM ended with code {code}. The end of its log ({log}):\n{tail}")


def _environment() -> dict[str, str]:
    """Without what a launcher of several processes set: the worker is a run of its own, on its process's own GPU."""
    inherited = {key: value for key, value in os.environ.items() if key not in _LAUNCHER}
    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        return inherited | _ENVIRONMENT
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    own = visible.split(",")[int(rank)] if visible else rank
    return inherited | _ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": own}


def _longest(model_dir: Path, prompts: Sequence[Sequence[int]], sampling: Sampling) -> int:
    """The context to ask vLLM for; UserError where a prompt does not fit into it."""
    config = model_dir / "config.json"
    if not sources.is_complete(model_dir):
        raise UserError(f"vLLM: {model_dir} is no model directory; expected config.json and safetensors weights.")
    read = json.loads(config.read_text())
    shape = read.get("transformer_layer_config", read)  # of a head, which has its target's positions
    longest = min(LONGEST, shape.get("max_position_embeddings", LONGEST))
    for i, tokens in enumerate(prompts):
        if not 0 < len(tokens) <= longest - sampling.max_new_tokens:
            raise UserError(
                f"vLLM: prompt {i} has {len(tokens)} tokens; expected 1 to {longest - sampling.max_new_tokens}, "
                f"which with max_new_tokens {sampling.max_new_tokens} is {longest}."
            )
    return longest


def _work_directory() -> Path:
    parent = sources.home() / "vllm"
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=parent))
