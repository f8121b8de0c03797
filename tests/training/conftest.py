"""Runs that several tests look at."""

import shutil

import pytest

from tests.training import distilling
from tests.training.runs import TINY, Training
from tests.training.traced import Tracing, edit


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A run of one process from beginning to end."""
    training = Training(tmp_path_factory.mktemp("whole"))
    training.said = training.launch()
    return training


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The same rows an update, by two processes."""
    training = Training(tmp_path_factory.mktemp("shared"))
    training.said = training.launch("train.batch=2", processes=2)
    return training


@pytest.fixture(scope="session")
def adapted(whole):
    """A target whose answers are regular: what it has learned of sums."""
    return {"name": TINY, "adapters": [str(whole.out)]}


@pytest.fixture(scope="session")
def answers(adapted, tmp_path_factory):
    """What the adapted target says to other sums."""
    return distilling.write_answers(tmp_path_factory.mktemp("answers") / "sums.jsonl", adapted)


@pytest.fixture(scope="session")
def distilled(adapted, answers, tmp_path_factory):
    """A draft of one of the target's two layers, by one process from beginning to end."""
    made = distilling.Distilling(tmp_path_factory.mktemp("distilled"), adapted, answers)
    made.said = made.launch()
    return made


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """A trace of a tiny pair, collected by one process from beginning to end. Only to be read."""
    tracing = Tracing(tmp_path_factory.mktemp("collected"))
    assert tracing.run() == 0
    return tracing


@pytest.fixture
def copied(collected, tmp_path):
    """The trace, to be damaged."""
    shutil.copytree(collected.path, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.fixture
def trace_alone(collected, tmp_path):
    """The same trace where its target is not at hand: whatever loads the target fails -> the trace's directory."""
    directory = tmp_path / "alone"
    shutil.copytree(collected.path, directory)
    edit(directory / "trace.json", target=collected.header()["target"] | {"name": str(tmp_path / "gone")})
    return directory
