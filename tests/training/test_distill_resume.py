"""A distillation that is killed and started again, and one by two processes, come to the same draft."""

import pytest

from tests.training.distilling import STEPS, Distilling
from tests.training.runs import furthest, kill_when

SAME = 1e-6  # of the largest weight: the very same sums in the same order
CLOSE = 1e-3  # gradients of two processes are added up in another order, and Adam makes much of small differences


@pytest.mark.parametrize("share", [0.0, 0.3], ids=["off policy", "on policy"])
def test_killed_and_resumed(share, adapted, answers, distilled, tmp_path):
    settings = [f"on_policy.share={share}"]
    killed = Distilling(tmp_path, adapted, answers)
    kill_when(killed.start(*settings), killed.checkpoints)
    reached = killed.checkpoints()[-1]
    assert 0 < reached < STEPS and not killed.out.exists()
    assert f"going on from step {reached} of {STEPS}" in killed.launch(*settings)
    if share:
        (tmp_path / "whole").mkdir()
        uninterrupted = Distilling(tmp_path / "whole", adapted, answers)
        assert uninterrupted.run(*settings) == 0
    else:
        uninterrupted = distilled
    assert furthest(killed.weights(), uninterrupted.weights()) < SAME
    taus = [[row["tau"] for row in one.training()["curve"]] for one in (killed, uninterrupted)]
    assert taus[0] == taus[1]
    assert not killed.work.exists()


def test_two_processes_train_the_same_draft(adapted, answers, tmp_path):
    """Of the same texts an update, for a few updates: rounding grows from there."""
    runs = []
    for processes in (1, 2):
        directory = tmp_path / str(processes)
        directory.mkdir()
        runs.append(Distilling(directory, adapted, answers))
        said = runs[-1].launch("train.epochs=1", f"train.batch={8 // processes}", processes=processes)
        assert f"{processes} process(es)" in said
    alone, shared = runs
    assert (alone.training()["world_size"], shared.training()["world_size"]) == (1, 2)
    assert furthest(alone.weights(), shared.weights()) < CLOSE
    assert alone.training()["untrained"] == shared.training()["untrained"]


def test_two_processes_killed_and_resumed(adapted, answers, distilled, tmp_path):
    killed = Distilling(tmp_path, adapted, answers)
    kill_when(killed.start("train.batch=4", processes=2), killed.checkpoints)
    reached = killed.checkpoints()[-1]
    assert 0 < reached < STEPS and not killed.out.exists()
    assert killed.run("train.batch=4") == 2  # one process would take half as many texts a step
    assert f"going on from step {reached} of {STEPS}" in killed.launch("train.batch=4", processes=2)
    assert killed.training()["best"]["tau"] == pytest.approx(distilled.training()["best"]["tau"], rel=0.05)
