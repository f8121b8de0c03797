"""Mistakes get one message, exit code 2, and no directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HALF = "{name: target, draft_from: {layers: [0]}}"
DRAFT, DRAFTS = f"{{type: draft_model, model: {HALF}}}", f"proposer: {{d1: {HALF}, d2: {HALF}}}"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["sampling.temprature=1"], ["temprature", "temperature"]),
        (["methods=[ngran]"], ["unknown method 'ngran'", "ngram", "speculative"]),
        (["methods=[{name: a, proposer: psychic}]"], ["psychic", "draft_model", "ngram"]),
        (["methods=[ngram, ngram]"], ["twice"]),
        (["task.type=gsm9k"], ["gsm9k", "gsm8k"]),
        (["task.path=nowhere.jsonl"], ["nowhere.jsonl"]),
        (["target=nowhere/model"], ["nowhere/model"]),
        (["target=tiny-random:elephant"], ["elephant", "llama"]),
        (["sampling.temperature=-1"], ["tiny.yaml: sampling.temperature is -1.0", "or more"]),
        (["sampling.top_p=0"], ["tiny.yaml: sampling.top_p is 0.0", "above 0"]),
        (["sampling.top_k=-1"], ["tiny.yaml: sampling.top_k is -1"]),
        (["sampling.stop=['']"], ["tiny.yaml: sampling.stop"]),
        (["sampling.max_new_tokens=0"], ["tiny.yaml: sampling.max_new_tokens is 0", "1 or more"]),
        (["sampling.max_new_tokens=many"], ["max_new_tokens", "many"]),
        (["seeds=[]"], ["seeds"]),
        (["speed.prompts=0", "quality.enabled=false"], ["speed.prompts"]),
        (
            [f"methods=[{{name: a, proposer: {DRAFT}, accept: gated}}]"],
            ["acceptance gated:", "Use proposer 'consensus'"],
        ),
        (
            [f"methods=[ngram, {{name: a, base: consensus_autojudge, {DRAFTS}}}]", "sampling.temperature=0.7"],
            ["proposer consensus: sampling.temperature is 0.7", "Set temperature 0"],
        ),
    ],
)
def test_mistakes(tiny, capsys, monkeypatch, overrides, says):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert tiny.run(*overrides) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    assert [word for word in says if word not in message] == []
    assert not tiny.out.exists()


def test_the_directory_of_another_recipe(tiny, capsys):
    tiny.run()
    before = {path: path.read_bytes() for path in tiny.out.iterdir()}
    assert tiny.run("sampling.temperature=1.0") == 2
    message = capsys.readouterr().err
    assert f"out={tiny.out}" in message and "sampling.temperature is 0.0 there, 1.0" in message
    assert {path: path.read_bytes() for path in tiny.out.iterdir()} == before


def test_changed_data(tiny, capsys):
    tiny.run()
    tiny.ask([f"What is twice {i}?" for i in range(5)])
    assert tiny.run() == 2
    assert "other data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["speeed.prompts=1"], "Did you mean 'speed'"),
        (["task={type: gsm8k}"], "set DRAFTSMITH_DATA_DIR to a directory"),
    ],
)
def test_the_program_exits_with_2(tiny, overrides, says):
    """Through the door that a user takes, with no data and no hub."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("DRAFTSMITH_DATA_DIR", None)
    command = [sys.executable, "-m", "eval", tiny.recipe, *overrides]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and says in done.stderr
    assert done.stdout == ""
    assert not tiny.out.exists()
