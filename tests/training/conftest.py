"""Runs that several tests look at."""

import pytest

from tests.training.runs import Training


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
