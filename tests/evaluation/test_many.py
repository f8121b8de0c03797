"""Runs on several processes leave the rows of one, however many have been at it, and nobody waits for the dead."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.evaluation.conftest import Tiny, items
from tests.evaluation.several import begin, end, finish
from tests.training import runs
from toolkit.evaluation import pulse, ranks, run, study, system

SMALL = ["methods=[ngram,topk]", "quality.batch=2", "speed.prompts=1", "sampling.max_new_tokens=8"]
STUDY = """
recipe: recipes/eval/smoke.yaml
axes:
  temperature: {{greedy: [sampling.temperature=0], sampled: [sampling.temperature=1]}}
out: {out}
"""
SMOKE = ["task.limit=7", "methods=[topk,ngram]", "quality.batch=2", "speed.prompts=2", "sampling.max_new_tokens=12"]


def verdicts(rows):
    """What a row says of its text."""
    keys = ("set", "method", "prompt_id", "seed", "repeat")
    said = ("status", "tokens", "text", "rounds", "accepted", "finish", "correct", "extracted", "resume_key")
    return {tuple(row[key] for key in keys): [row[key] for key in said] for row in rows}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def two(tmp_path):
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    return Tiny(tmp_path / "one"), Tiny(tmp_path / "many")


def test_a_study_that_is_launched_is_that_of_one_process(tmp_path):
    """At temperature 0 and at 1: two cells, each shared out; the table and each summary are written once."""
    for name in ("one", "many"):
        (tmp_path / f"{name}.yaml").write_text(STUDY.format(out=tmp_path / name))
    assert study.main([str(tmp_path / "one.yaml"), *SMOKE]) == 0
    said = runs.finish(runs.start("-m", "eval.study", tmp_path / "many.yaml", *SMOKE, processes=2))
    for cell in ("greedy", "sampled"):
        one, many = (lines(tmp_path / name / cell / "records.jsonl") for name in ("one", "many"))
        assert set(items(many).values()) == {1}
        assert verdicts(many) == verdicts(one)
        assert not (tmp_path / "many" / cell / "parts").exists()
    one, many = (json.loads((tmp_path / name / "study.json").read_text()) for name in ("one", "many"))
    assert [cell["values"] for cell in many["cells"]] == [cell["values"] for cell in one["cells"]]
    assert said.count("cell 2 of 2: sampled") == 1
    assert said.count("2 processes share the quality set; the first one alone times the speed set") == 1
    assert said.count("quality set: 14/14 prompts") == 2, said


def test_what_is_launched_is_timed_like_a_run_of_one_process(tmp_path):
    """A launcher leaves each process one thread. The first one times with as many as a plain run has, and alone."""
    one, many = two(tmp_path)
    plain = [sys.executable, "-m", "eval", one.recipe, *SMALL]
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run(plain, cwd=runs.ROOT, env=free, check=True, capture_output=True)
    runs.finish(runs.start("-m", "eval", many.recipe, *SMALL, processes=2))
    assert verdicts(many.rows()) == verdicts(one.rows())
    [alone], [launched] = one.results()["sessions"], many.results()["sessions"]
    assert system.comparable(launched["system"]) == system.comparable(alone["system"])
    assert (alone["processes"], launched["processes"]) == (1, 2)
    assert {row["session"] for row in many.rows()} == {launched["id"]}


def watched(arguments):
    """A run that notes who decodes what, with how many threads."""
    measure, notes = run.measure, []

    def noted(setting, contender, block):
        notes.append((block.set, torch.get_num_threads(), time.monotonic()))
        return measure(setting, contender, block)

    run.measure = noted
    code = run.main(arguments[1:])
    Path(f"{arguments[0]}-{os.environ['RANK']}.json").write_text(json.dumps(notes))
    return code


@pytest.mark.parametrize("front", [False, True])
def test_nobody_is_at_work_while_the_first_one_times(tmp_path, front):
    tiny = Tiny(tmp_path)
    order = ["speed.methods=front"] if front else []
    asked = [str(tmp_path / "notes"), str(tiny.recipe), *SMALL, *order, "quality.batch=1", "threads=2"]
    finish(asked, 2, watched)
    first, other = (json.loads((tmp_path / f"notes-{place}.json").read_text()) for place in (0, 1))
    assert {(kind, threads) for kind, threads, _ in first} == {("speed", 2), ("quality", 1)}
    assert {(kind, threads) for kind, threads, _ in other} == {("quality", 1)}
    timed = [moment for kind, _, moment in first if kind == "speed"]
    shared = [moment for kind, _, moment in first + other if kind == "quality"]
    assert max(shared) < min(timed) if front else max(timed) < min(shared)
    assert len(shared) == 10 and set(items(tiny.rows()).values()) == {1}


def mortal(arguments, sent=signal.SIGKILL):
    """A run whose process of this number is killed at its second batch of the quality set; all take their time."""
    measure, begun = run.measure, []

    def timely(setting, contender, block):
        begun.extend([block] if block.set == "quality" else [])
        if len(begun) == 2 and os.environ["RANK"] == arguments[0]:
            os.kill(os.getpid(), sent)
        time.sleep(0.3 * len(begun))
        return measure(setting, contender, block)

    run.measure = timely
    return run.main(arguments[1:])


def frozen(arguments):
    """It is stopped instead, and closes no connection, as on a machine that is down. Three seconds are silence here."""
    pulse.BEAT, pulse.MISSED = 0.2, 15
    return mortal(arguments, signal.SIGSTOP)


def killed_in_the_quality_set(tiny, settings, count, who):
    """One process is killed, and the others are ended as a launcher does it -> what they said, rows in their parts."""
    said = tiny.out.parent / "said"
    processes = begin([str(who), str(tiny.recipe), *settings], count, mortal, said=said)
    processes[who].join(60)
    for process in processes[:who] + processes[who + 1 :]:
        process.terminate()
    codes = end(processes, patience=20)
    assert codes.pop(who) == -signal.SIGKILL and set(codes) == {1}
    return said.read_text(), sum(len(lines(path)) for path in tiny.out.glob("parts/*.jsonl"))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_another_number_of_processes_goes_on(tmp_path, temperature):
    """Two, three, then one: what the parts of each hold is kept, and not done again."""
    one, many = two(tmp_path)
    settings = [*SMALL, "quality.batch=1", "seeds=[0,1]", f"sampling.temperature={temperature}"]
    said, first = killed_in_the_quality_set(many, settings, 2, who=1)
    assert "process 0 of 2 ends, as process 1 has ended" in said or "process 0 of 2 ends, as another one has" in said
    assert "the same command goes on from it, with any number of processes" in said
    _, second = killed_in_the_quality_set(many, settings, 3, who=0)
    seeds = 2 if temperature else 1  # where nothing is drawn the first one is enough
    assert first and second and first + second < 10 * seeds and len(many.rows()) == 3 * seeds + first
    for tiny in (one, many):
        finish([str(tiny.recipe), *settings], 1)
    assert set(items(many.rows()).values()) == {1}
    assert verdicts(many.rows()) == verdicts(one.rows())
    assert not (many.out / "parts").exists()
    assert {row["session"] for row in many.rows()} <= {session["id"] for session in many.results()["sessions"]}
    assert [session["processes"] for session in many.results()["sessions"]] == [2, 3, 1]


def test_who_waits_for_the_dead_ends_by_itself(tmp_path):
    """Where no launcher of its machine does it."""
    tiny, said = Tiny(tmp_path), tmp_path / "said"
    assert end(begin(["1", *asked(tiny)], 2, mortal, said=said)) == [1, -signal.SIGKILL]
    assert "process 0 of 2 ends, as process 1 has ended (" in said.read_text()
    assert "Connection closed by peer" in said.read_text() and list(tiny.out.glob("parts/*.jsonl"))


def asked(tiny):
    return [str(tiny.recipe), *SMALL, "quality.batch=5", "seeds=[0,1]", "sampling.temperature=1.0"]


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_silent_is_waited_for_no_longer_and_named(tmp_path, who):
    """Also where it is the first one, who keeps the store."""
    tiny, said = Tiny(tmp_path), tmp_path / "said"
    processes = begin([str(who), *asked(tiny)], 2, frozen, said=said)
    waiting, silent = processes[1 - who], processes[who]
    waiting.join(60)
    assert silent.is_alive()
    silent.kill()
    assert end([waiting, silent]) == [1, -signal.SIGKILL]
    assert f"process {1 - who} of 2 ends, as process {who} has gone silent" in said.read_text()
    assert "the same command goes on from it" in said.read_text()


def test_who_takes_long_is_waited_for(tmp_path):
    tiny = Tiny(tmp_path)
    finish(asked(tiny), 2, slow)
    assert set(items(tiny.rows()).values()) == {1}


def slow(arguments):
    """The first batch of the first process takes longer than three seconds."""
    pulse.BEAT, pulse.MISSED = 0.2, 15
    measure, begun = run.measure, []

    def timely(setting, contender, block):
        begun.append(block)
        time.sleep(5 if len(begun) == 1 and os.environ["RANK"] == "0" else 0)
        return measure(setting, contender, block)

    run.measure = timely
    return run.main(arguments)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("sampling.max_new_tokens=4", "sampling.max_new_tokens is 4, in the first process 8. Expected the same recipe"),
        ("task.limit=4", "its problems, or what its tokenizer makes of them, are not the first's"),
    ],
)
def test_what_differs_between_processes_is_refused(tmp_path, other, message):
    tiny, said = Tiny(tmp_path), tmp_path / "said"
    base = [str(tiny.recipe), *SMALL]
    assert end(begin([base, [*base, other]], 2, said=said)) == [1, 2]
    assert f"process 1 of 2: {message}" in said.read_text()


def test_a_directory_that_is_anothers_is_said_once(tmp_path):
    tiny, said = Tiny(tmp_path), tmp_path / "said"
    tiny.out.mkdir()
    tiny.records.touch()
    assert end(begin([str(tiny.recipe), *SMALL], 2, said=said)) == [2, 1]
    assert said.read_text().count("but no run.json that says whose rows they are") == 1
    assert "goes on from it" not in said.read_text()


def test_a_plain_run_is_no_process_group(tiny, monkeypatch):
    ranks.joined.cache_clear()
    monkeypatch.setattr(ranks, "Many", lambda _: pytest.fail("joined others"))
    threads = torch.get_num_threads()
    assert tiny.run(*SMALL) == 0
    assert not torch.distributed.is_initialized() and torch.get_num_threads() == threads


def test_threads_are_a_runs_own():
    """The next one of the same program (a study's cell, a task) has them as torch finds them again."""
    before = torch.get_num_threads()
    alone = ranks.Alone(launched=False)
    alone.use_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    alone.use_threads(None)
    assert torch.get_num_threads() == before


def test_one_process_where_several_were_asked_for_is_pointed_out(monkeypatch, capsys):
    """What `accelerate launch --num_processes 2` does without a GPU and without a configuration."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    joined = ranks.joined.__wrapped__()
    assert joined.first and joined.count == 1
    assert "one process was launched. For several without GPUs add --config_file" in capsys.readouterr().err
