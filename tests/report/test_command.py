"""The command and its directory: what is written, what is refused, and a kill at any moment."""

import hashlib
import math
import multiprocessing
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report import sample, synthetic
from toolkit import cli, files
from toolkit.errors import UserError
from toolkit.report import writing

SMALL = synthetic.Size(quality=6, speed=6, tokens=16)


def write(seed, out):
    return writing.write(sample.page(seed, methods=3), Path(out), lambda what: None)


def write_a_little(seed, out):
    """In less time, so that kills come at all of its steps."""
    whole = sample.page(seed, methods=3)
    charts = replace(whole.sections[1], parts=whole.sections[1].parts[:1])
    writing.write(replace(whole, sections=[whole.sections[0], charts]), Path(out), lambda what: None)


def tree(out):
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(out)}


def files_of(out):
    return sorted(path for path in out.rglob("*") if path.is_file())


def test_everything_is_written(tmp_path):
    out = tmp_path / "a" / "report"
    written = write(0, out)
    charts = [
        f"charts/{name}.{end}"
        for name in ("by_task", "harm", "pareto", "phases", "positions")
        for end in ("pdf", "png")
    ]
    tables = [f"tables/{name}.csv" for name in ("empty", "harm", "headline")]
    assert sorted(tree(out)) == sorted([*charts, *tables, "report.html", "report.md"])
    assert [path.relative_to(out).as_posix() for path in written] == sorted(tree(out))
    for path in written:
        starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>", ".md": b"# "}
        assert path.read_bytes().startswith(starts.get(path.suffix, b""))
        assert path.stat().st_size
    assert {path.name for path in out.parent.iterdir()} == {"report", ".report.lock"}


def test_again_is_the_same_and_another_takes_its_place(tmp_path):
    out = tmp_path / "report"
    write_a_little(0, out)
    first = tree(out)
    write_a_little(0, out)
    assert tree(out) == first, "no date, no order by chance"
    write_a_little(1, out)
    assert tree(out).keys() == first.keys() and tree(out) != first


def test_without_the_one_step_it_is_done_in_two(tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.artifact.swap", lambda one, other: False)
    out = tmp_path / "report"
    write_a_little(0, out)
    first = tree(out)
    write_a_little(1, out)
    assert tree(out) != first
    assert {path.name for path in tmp_path.iterdir()} == {"report", ".report.lock"}


def test_swap(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "a").touch()
    assert files.swap(one, other) and (other / "a").exists() and not (one / "a").exists()
    assert not files.swap(one, tmp_path / "missing")


@pytest.mark.parametrize("name", ["records.jsonl", "tables/mine.txt", "charts/deep/a.png", "report.html/a", ".hidden"])
def test_what_is_no_report_is_not_put_away(tmp_path, name):
    mine = tmp_path / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match="which is no report's. Choose another --out DIR"):
        write(0, tmp_path)
    assert mine.read_text() == "mine"


def test_a_file_in_its_place_and_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; a report is a directory"):
        write(0, tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        write(0, tmp_path / "file" / "report")


def test_one_at_a_time(tmp_path):
    with files.lock(tmp_path / ".report.lock", "taken"), pytest.raises(UserError, match="another process writes"):
        write(0, tmp_path / "report")


def test_two_of_a_name_are_a_bug(tmp_path):
    page = sample.page()
    page.sections.append(page.sections[0])
    with pytest.raises(ValueError, match="'headline': 2 times"):
        writing.write(page, tmp_path / "report", lambda what: None)
    assert not (tmp_path / "report").exists()


def test_the_command_writes_beside_its_run_and_says_so(tmp_path, capsys):
    run = tmp_path / "run"
    synthetic.write(run, synthetic.METHODS[:3], size=SMALL)
    assert cli.main(["report", str(run)]) == 0
    said = capsys.readouterr()
    assert f"{run / 'report' / 'report.html'}: " in said.out and "report.md, " in said.out and " PNG" in said.out
    assert said.err.startswith("report: reading ")
    page = (run / "report" / "report.html").read_text()
    names = [path.stem for path in (run / "report" / "tables").iterdir()]
    assert names and all(f'id="table-{name}"' in page for name in names)
    first = tree(run / "report")
    assert cli.main(["report", str(run)]) == 0
    assert tree(run / "report") == first


def test_the_command_refuses_before_it_reads(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert cli.main(["report", str(tmp_path / "missing"), "--out", str(tmp_path)]) == 2
    assert "notes.txt, which is no report's" in capsys.readouterr().err


def report(seed, out):
    """The whole command, over one of two runs beside its output."""
    cli.main(["report", str(Path(out).parent / f"run{seed}"), "--out", str(out)])


def start(work, seed, out):
    """In a process of its own; a fork of a server that has imported everything, so it starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.report.test_command", "toolkit.report.pictures", "toolkit.report.content"])
    process = context.Process(target=work, args=(seed, str(out)))
    process.start()
    return process


def killed_at_random(tmp_path, work, kills):
    """After every kill what is there is one of the two reports, byte for byte."""
    moment = random.Random(kills)
    whole, took = [], math.inf
    for seed in (0, 1):
        began = time.monotonic()
        process = start(work, seed, tmp_path / f"whole{seed}")
        process.join()
        took = min(took, time.monotonic() - began)
        assert process.exitcode == 0
        whole.append(tree(tmp_path / f"whole{seed}"))
    out = tmp_path / "report"
    work(0, out)
    in_time = 0
    for n in range(kills):
        process = start(work, (n + 1) % 2, out)
        time.sleep(moment.random() * took)
        process.kill()
        process.join()
        in_time += process.exitcode == -signal.SIGKILL
        assert tree(out) in whole, f"half a report after kill {n}"
    assert in_time > kills / 2, "most had ended before the kill"
    process = start(work, 1, out)
    process.join()
    assert process.exitcode == 0 and tree(out) == whole[1]
    assert {path.name for path in tmp_path.iterdir() if "whole" not in path.name and path.name[:3] != "run"} == {
        "report",
        ".report.lock",
    }


def test_killed_five_times(tmp_path):
    killed_at_random(tmp_path, write_a_little, 5)


@pytest.mark.slow
def test_the_command_killed_twenty_times(tmp_path):
    for seed in (0, 1):
        synthetic.write(tmp_path / f"run{seed}", synthetic.METHODS[:3], size=SMALL, seed=seed)
    killed_at_random(tmp_path, report, 20)


def swapping(one, other):
    while True:
        files.swap(one, other)


def test_a_path_is_never_missing_while_two_trade_places(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    process = multiprocessing.get_context("forkserver").Process(target=swapping, args=(one, other))
    process.start()
    seen = [one.is_dir() for _ in range(20000)]
    process.kill()
    process.join()
    assert all(seen)
