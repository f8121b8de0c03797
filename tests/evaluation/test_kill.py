"""A run that is killed with SIGKILL at random moments, and restarted, ends as if nothing had happened."""

import multiprocessing
import random
import signal
import time

import pytest

from tests.evaluation.conftest import Tiny, items, texts
from toolkit.evaluation.run import main

KILLS = 5
RUN = ["methods=[ngram,topk]", "seeds=[0,1]", "speed.prompts=4", "speed.batch=2", "quality.batch=2"]
TIMED, JUDGED = 3 * 4, 2 * 5  # with one seed: methods x speed prompts, and baseline and topk on all five


def start(arguments):
    """The run in a process of its own; a fork of a server that has imported everything, so it starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toolkit.evaluation.run", "toolkit.tasks.jsonl", "tests.evaluation.conftest"])
    process = context.Process(target=main, args=(arguments,))
    process.start()
    return process


def kill_at_random(arguments, records, moment):
    """Kill the run at most a few rows after where it began; -> whether it was still at work."""
    size = records.stat().st_size if records.exists() else 0
    more = moment.randrange(0, 4000)  # bytes; a row has about a thousand
    process = start(arguments)
    deadline = time.monotonic() + 60
    while process.is_alive() and time.monotonic() < deadline:
        if records.exists() and records.stat().st_size > size + more:
            break
        time.sleep(0.0005)
    time.sleep(moment.random() * 0.01)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


# At temperature 0 one seed stands for both
@pytest.mark.parametrize(
    ("temperature", "repeats", "rows"), [(0.0, 2, 2 * TIMED + JUDGED), (1.0, 1, 2 * TIMED + 2 * JUDGED)]
)
def test_killed_five_times(tmp_path, temperature, repeats, rows):
    moment = random.Random(int(temperature))
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    killed, whole = Tiny(tmp_path / "killed"), Tiny(tmp_path / "whole")
    settings = [*RUN, f"sampling.temperature={temperature}", f"speed.repeats={repeats}"]
    sizes = []
    for _ in range(KILLS):
        assert kill_at_random([str(killed.recipe), *settings], killed.records, moment), "it had ended before the kill"
        sizes.append(len(killed.records.read_bytes().splitlines()) if killed.records.exists() else 0)
    assert 0 < sizes[0] < sizes[-1] < rows, sizes  # each went on where the one before had stopped
    for run in (killed, whole):
        process = start([str(run.recipe), *settings])
        process.join()
        assert process.exitcode == 0
    assert set(items(killed.rows()).values()) == {1}
    assert len(killed.rows()) == rows
    assert texts(killed.rows()) == texts(whole.rows())
    assert [s["n"] for s in killed.results()["speed"]] == [4, 4, 4]
    assert len(killed.results()["sessions"]) > 1
