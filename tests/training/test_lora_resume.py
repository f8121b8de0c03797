"""A run that is killed, or out of disk, and started again with the same command, ends as if nothing had happened."""

import fcntl
import itertools
import json

import pytest

from tests.training.runs import EVERY, STEPS, Training, furthest, kill_when, sums, write_rows
from toolkit.training import finish, rundir

SAME = 1e-6  # of the largest weight; the very same sums in the same order, so nothing but rounding may differ


def curve(training):
    return list(itertools.chain(*training.manifest()["training"]["eval_loss"]))


def assert_same_end(training, other):
    assert furthest(training.weights(), other.weights()) < SAME
    assert curve(training) == pytest.approx(curve(other), rel=1e-5)
    assert len(curve(training)) == 2 * STEPS / EVERY
    assert not training.work.exists()


@pytest.fixture
def almost(tmp_path, monkeypatch):
    """A run that was interrupted between its last step and its artifact."""
    training = Training(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(finish, "lora", interrupt)
        assert training.run() == 130
    assert training.checkpoints()[-1] == STEPS
    return training


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed(processes, request, tmp_path):
    uninterrupted = request.getfixturevalue("whole" if processes == 1 else "shared")
    settings = ["train.batch=2"] if processes == 2 else []
    killed = Training(tmp_path)
    kill_when(killed.start(*settings, processes=processes), lambda: rundir.last_checkpoint(killed.work, processes))
    last = rundir.last_checkpoint(killed.work, processes).name
    assert EVERY <= int(last.split("-")[1]) < STEPS and not killed.out.exists()
    assert f"going on from {last}" in killed.launch(*settings, processes=processes)
    assert_same_end(killed, uninterrupted)


def test_a_run_that_lacks_only_its_artifact(almost, whole, capsys):
    assert almost.run() == 0
    assert f"going on from checkpoint-{STEPS}" in capsys.readouterr().err
    assert_same_end(almost, whole)


@pytest.mark.parametrize("file", ["trainer_state.json", "rng_state.pth"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_half_written_checkpoint_is_passed_over(damage, file, almost, whole, capsys):
    newest = almost.work / f"checkpoint-{STEPS}" / file
    if damage == "missing":
        newest.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[:-100])
    assert almost.run() == 0
    assert f"going on from checkpoint-{STEPS - EVERY}" in capsys.readouterr().err
    assert_same_end(almost, whole)


def test_a_run_begun_with_another_recipe_or_other_data_is_refused(almost, capsys):
    before = almost.checkpoints()
    assert almost.run("train.lr=0.02", "lora.rank=4") == 2
    assert "other values of recipe.lora.rank, recipe.train.lr." in capsys.readouterr().err
    begun = almost.work / "identity.json"
    alone = begun.read_text()
    begun.write_text(json.dumps(json.loads(alone) | {"processes": 2}))  # as two processes would have begun it
    assert almost.run() == 2
    assert "other values of processes." in capsys.readouterr().err
    begun.write_text(alone)
    write_rows(almost.data, sums()[:-1])
    assert almost.run() == 2
    assert "other values of data." in capsys.readouterr().err
    assert almost.checkpoints() == before and not almost.out.exists()


def test_two_runs_do_not_share_a_directory(almost, capsys):
    with (almost.work / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert almost.run() == 2
    assert "another process trains there" in capsys.readouterr().err


def test_what_is_finished_is_not_trained_again(whole, capsys):
    before = (whole.out / "manifest.json").read_bytes()
    assert whole.run() == 0
    assert "is there already" in capsys.readouterr().err
    assert whole.run("train.lr=0.02") == 2
    assert "holds the artifact of another recipe" in capsys.readouterr().err
    assert (whole.out / "manifest.json").read_bytes() == before
