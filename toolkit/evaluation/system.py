"""What a run ran on: versions, processor, git state. Once a run, and nothing that names the user or the host.

Times of two sessions can be compared where `comparable` says the same of both and no `SOFTWARE` differs.
"""

import importlib.metadata
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from toolkit import version

SOFTWARE = ("torch", "transformers", "git_sha")  # what decodes: another version of it is another method


def comparable(metadata: dict[str, object]) -> list[object]:
    """What must be equal for times to be compared."""
    return [metadata[key] for key in ("cpu", "gpu", "threads")]


def differing(systems: Sequence[dict[str, object]]) -> list[str]:
    """The software that is not the same in all of these sessions' metadata."""
    return [key for key in SOFTWARE if len({system[key] for system in systems}) > 1]


def metadata() -> dict[str, object]:
    """Processor, accelerator, versions and git state."""
    code = version.code()
    return {
        "cpu": _cpu(),
        "gpu": _gpu(),
        "threads": torch.get_num_threads(),
        "gpu_driver": version.output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "cuda_runtime": torch.version.cuda,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "git_sha": code["commit"],
        "git_dirty": code["dirty"],
    }


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes. GPU: the most this block allocated. CPU: the most the whole process ever held (it has no reset)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_label(device: torch.device) -> str:
    if device.type == "cuda":
        return "most allocated on the GPU while the method ran (the models of all methods included)"
    return "resident memory of the whole process so far (it holds the models of all methods)"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
