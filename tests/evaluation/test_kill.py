"""A run that is killed with SIGKILL at random moments, and restarted, ends as if nothing had happened."""

import json
import random
import signal
import time

import pytest

from tests.evaluation.conftest import Tiny, items, texts
from tests.evaluation.several import begin, end, finish
from toolkit.evaluation import parts
from toolkit.evaluation.validate import check

KILLS = 5
RUN = ["methods=[ngram,topk]", "seeds=[0,1]", "speed.prompts=4", "speed.batch=2", "quality.batch=2"]
TIMED, JUDGED = 3 * 4, 2 * 5  # with one seed: methods x speed prompts, and baseline and topk on all five


def is_unfinished_and_not_wrong(tiny):
    """Whatever the moment. Before run.json is there it is no run yet."""
    found = [*check(tiny.out, strict=True)] if (tiny.out / "run.json").exists() else []
    assert not [problem for checked in found for problem in checked.problems]


def kill_at_random(arguments, records, moment):
    """Kill the run at most a few rows after where it began; -> whether it was still at work."""
    size = records.stat().st_size if records.exists() else 0
    more = moment.randrange(0, 4000)  # bytes; a row has about a thousand
    [process] = begin(arguments, 1)
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
        is_unfinished_and_not_wrong(killed)
        sizes.append(len(killed.records.read_bytes().splitlines()) if killed.records.exists() else 0)
    assert 0 < sizes[0] < sizes[-1] < rows, sizes  # each went on where the one before had stopped
    for run in (killed, whole):
        finish([str(run.recipe), *settings], 1)
    assert set(items(killed.rows()).values()) == {1}
    assert len(killed.rows()) == rows
    assert texts(killed.rows()) == texts(whole.rows())
    assert "unfinished" not in " ".join(note for checked in check(killed.out, strict=True) for note in checked.notes)
    assert [s["n"] for s in killed.results()["speed"]] == [4, 4, 4]
    assert len(killed.results()["sessions"]) > 1


SHARED = ["methods=[ngram,topk]", "seeds=[0,1,2,3,4,5]", "speed.prompts=1", "quality.batch=1"]
SHARED += ["sampling.temperature=1", "sampling.max_new_tokens=8"]
SHARED_ROWS = 3 * 1 * 6 + 2 * 5 * 6  # methods x speed prompts x seeds, and baseline and topk on all five


def rows_of(tiny):
    """Bytes of rows, wherever they are."""
    return sum(path.stat().st_size for path in (tiny.records, *parts.left(tiny.out / "parts")) if path.exists())


def after_rows(tiny, moment):
    """So many bytes more are there; a row has about a thousand, and they fall at once where rows are merged."""
    until = rows_of(tiny) + moment.randrange(0, 5000)
    return lambda: rows_of(tiny) > until


def at_a_merge(tiny, moment):
    """records.jsonl is being written anew, or has just been."""
    before = tiny.records.stat().st_ino if tiny.records.exists() else None

    def reached():
        written = tiny.records.exists() and tiny.records.stat().st_ino != before
        return before is not None and (written or any(tiny.out.glob(".records.jsonl.*")))

    return reached


def at_the_report(tiny, moment):
    """All rows are there; somewhere between the first file and the last picture."""
    begun, wait, summary = time.time(), moment.random() * 0.5, tiny.out / "results.json"
    return lambda: summary.exists() and summary.stat().st_mtime > begun and time.time() > summary.stat().st_mtime + wait


def kill_one_or_all(tiny, reached, moment):
    """-> whether they were still at work. Whoever is left is ended as a launcher does it."""
    processes = begin([str(tiny.recipe), *SHARED], 2)
    deadline = time.monotonic() + 60
    while all(process.is_alive() for process in processes) and not reached():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(moment.random() * 0.01)
    doomed = moment.choice([processes, processes[:1], processes[1:]])
    for process in doomed:
        process.kill()
    for process in processes:
        process.terminate()
    end(processes, patience=20)
    is_unfinished_and_not_wrong(tiny)
    return any(process.exitcode == -signal.SIGKILL for process in doomed)


def killed_on_two_processes(tiny, kills, moment):
    """The last time while the report is written; before, after some rows, or where parts that were left are merged."""
    for number in range(kills - 1):
        left = parts.left(tiny.out / "parts")
        reached = at_a_merge if left and moment.random() < 0.4 else after_rows
        assert kill_one_or_all(tiny, reached(tiny, moment), moment), f"kill {number}: it had ended before"
    # A report is soon written, and the process that is to die may have no part in it: every start writes it again
    assert any(kill_one_or_all(tiny, at_the_report(tiny, moment), moment) for _ in range(8)), (
        "it had always ended before"
    )


def check_shared(tmp_path, kills, seed):
    moment = random.Random(seed)
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    killed, whole = Tiny(tmp_path / "killed"), Tiny(tmp_path / "whole")
    killed_on_two_processes(killed, kills, moment)
    finish([str(killed.recipe), *SHARED], moment.randint(1, 3))
    finish([str(whole.recipe), *SHARED], 1)
    assert set(items(killed.rows()).values()) == {1} and len(killed.rows()) == SHARED_ROWS
    assert texts(killed.rows()) == texts(whole.rows())
    assert {row["status"] for row in killed.rows()} == {"ok"}
    assert not (killed.out / "parts").exists()
    listed = {session["id"] for session in json.loads((killed.out / "run.json").read_text())["sessions"]}
    assert {row["session"] for row in killed.rows()} <= listed and len(listed) > 2


def test_two_processes_killed_eight_times(tmp_path):
    check_shared(tmp_path, kills=8, seed=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_two_processes_killed_twenty_times(tmp_path, seed):
    check_shared(tmp_path, kills=20, seed=seed)
