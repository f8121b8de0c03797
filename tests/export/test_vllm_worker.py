"""What the process that runs vLLM says when it cannot, and that it never outlives the call. No vLLM is needed."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from toolkit.backends import vllm
from toolkit.engine.types import Sampling
from toolkit.errors import UserError
from toolkit.hub import ModelConfig, load_hf

SAMPLING = Sampling(max_new_tokens=8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    model, tokenizer = load_hf(ModelConfig("tiny-random:llama", device="cpu"))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def use(tmp_path, monkeypatch, script):
    """A program in the place of the other environment's Python; its second argument is the work directory."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setenv("DRAFTSMITH_VLLM_PYTHON", str(python))


def test_no_environment_names_the_command_that_makes_one(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_VLLM_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere.*make vllm-env.*DRAFTSMITH_VLLM_PYTHON"):
        vllm.generate(directory, [[1, 2]], SAMPLING)


def test_an_environment_without_vllm(directory, home, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_VLLM_PYTHON", sys.executable)
    with pytest.raises(UserError, match="(?s)code 1.*worker.log.*No module named 'vllm'"):
        vllm.generate(directory, [[1, 2]], SAMPLING)
    [log] = home.rglob("worker.log")
    assert "Traceback" in log.read_text()


def test_an_error_shows_the_end_of_a_long_log(directory, tmp_path, monkeypatch):
    use(
        tmp_path,
        monkeypatch,
        "i=0; while [ $i -lt 99 ]; do echo line-$i; i=$((i+1)); done; echo out of memory >&2; exit 7",
    )
    with pytest.raises(UserError, match="(?s)code 7.*line-98\nout of memory") as raised:
        vllm.generate(directory, [[1, 2]], SAMPLING)
    assert "line-9\n" not in str(raised.value)


def test_a_result_is_read_and_the_files_go(directory, home, tmp_path, monkeypatch):
    answer = '{"tokens": [[3]], "counters": {}, "seconds": 0.5, "version": "0"}'
    use(tmp_path, monkeypatch, f"cat $2/request.json > {tmp_path}/seen; echo '{answer}' > $2/result.json")
    assert vllm.generate(directory, [[1, 2]], SAMPLING) == vllm.VllmResult([[3]], {}, 0.5, "0")
    assert list((home / "vllm").iterdir()) == []
    request = json.loads((tmp_path / "seen").read_text())
    assert request["prompts"] == [[1, 2]]
    assert request["sampling"][0]["max_tokens"] == 8


def test_a_worker_without_a_result_has_failed(directory, tmp_path, monkeypatch):
    use(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(UserError, match="code 0"):
        vllm.generate(directory, [[1, 2]], SAMPLING)


def test_an_interrupt_ends_the_worker_and_its_children(directory, tmp_path, monkeypatch):
    pids = tmp_path / "pids"
    use(tmp_path, monkeypatch, f"trap '' INT; sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait; wait")

    def interrupt():
        while not pids.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        vllm.generate(directory, [[1, 2]], SAMPLING)
    deadline = time.monotonic() + 10
    while any(map(alive, pids.read_text().split())):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.01)


def alive(pid):
    """Not gone, nor a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("prompt", "sampling", "expected"),
    [
        ([], SAMPLING, "prompt 1 has 0 tokens; expected 1 to 2040"),
        ([5] * 2041, SAMPLING, "prompt 1 has 2041 tokens; expected 1 to 2040.*max_new_tokens 8 is 2048"),
        ([5], Sampling(temperature=-1), "sampling.temperature"),
    ],
)
def test_requests_that_vllm_would_refuse_late(directory, monkeypatch, prompt, sampling, expected):
    monkeypatch.setenv("DRAFTSMITH_VLLM_PYTHON", sys.executable)
    with pytest.raises(UserError, match=expected):
        vllm.generate(directory, [[1, 2], prompt], sampling)


def test_no_model_there(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAFTSMITH_VLLM_PYTHON", sys.executable)
    with pytest.raises(UserError, match="no model directory"):
        vllm.generate(tmp_path, [[1, 2]], SAMPLING)
