"""A run that is killed, interrupted, or out of disk: nothing is lost, nothing is asked twice."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.stub_endpoint import Stub
from tests.training.teaching import Teaching, assert_no_secret, surround

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    surround(tmp_path, monkeypatch)


def start(teaching: Teaching, *overrides: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "train/teach.py", str(teaching.recipe), *overrides],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(teaching: Teaching, process: subprocess.Popen, count: int) -> None:
    path = teaching.out / "answers.jsonl"
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_bytes().splitlines()) < count:
        assert process.poll() is None, "it ended before the signal"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_resumed(tmp_path, capsys):
    with Stub() as server:
        server.delay = 0.05
        teaching = Teaching(tmp_path, server.url, count=40)
        with start(teaching, "endpoint.parallel=2") as process:
            wait_for_rows(teaching, process, 8)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        finished = {row["prompt"] for row in teaching.rows()}
        assert 8 <= len(finished) < 40
        time.sleep(2 * server.delay)  # until the server is done with what the killed process had sent
        before = len(server.asked)
        server.delay = 0.0
        assert teaching.run() == 0
        assert not finished & set(server.asked[before:])
        assert len(server.asked) - before == 40 - len(finished)
    assert sorted(row["prompt"] for row in teaching.rows()) == sorted(teaching.questions)
    assert len(teaching.rows("train")) == 40
    assert_no_secret(teaching.out, capsys)


def test_ctrl_c_keeps_what_is_under_way(tmp_path):
    with Stub() as server:
        server.delay = 0.2
        teaching = Teaching(tmp_path, server.url, count=40)
        with start(teaching, "endpoint.parallel=2") as process:
            wait_for_rows(teaching, process, 2)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert sorted(row["prompt"] for row in teaching.rows()) == sorted(server.asked)
        assert len(server.asked) < 40
        assert len(teaching.rows("train")) == len(server.asked)
    assert teaching.state()["counts"] == {"good": len(server.asked), "unanswered": 40 - len(server.asked)}


def test_a_torn_last_line_is_asked_again(tmp_path):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        teaching.run()
        path = teaching.out / "answers.jsonl"
        whole = path.read_bytes()
        torn = teaching.rows()[-1]["prompt"]
        path.write_bytes(whole[:-20])
        assert teaching.run() == 0
        assert server.asked[6:] == [torn]
    assert len(teaching.rows()) == 6
    assert {row["prompt"] for row in teaching.rows()} == set(teaching.questions)


def test_a_corrupt_line_is_named(tmp_path, capsys):
    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        teaching.run()
        path = teaching.out / "answers.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], b"{}\n", *lines[2:]]))
        assert teaching.run() == 2
    assert "answers.jsonl, line 2" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path, monkeypatch, capsys):
    writes = []

    def sync(_):
        writes.append(1)
        if len(writes) == 4:  # the state, two answers, and then
            raise OSError(errno.ENOSPC, "No space left on device")

    with Stub() as server:
        teaching = Teaching(tmp_path, server.url)
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", sync)
            assert teaching.run("endpoint.parallel=1") == 2
        assert "No space left on device" in capsys.readouterr().err
        assert len(server.asked) < 6
        assert teaching.run() == 0
    assert sorted(row["prompt"] for row in teaching.rows()) == sorted(teaching.questions)
    assert len(teaching.rows("train")) == 6


def test_two_runs_do_not_share_a_directory(tmp_path, capsys):
    with Stub() as server:
        server.delay = 0.3
        teaching = Teaching(tmp_path, server.url)
        with start(teaching, "endpoint.parallel=1") as process:
            wait_for_rows(teaching, process, 1)
            assert teaching.run() == 2
            process.kill()
            process.communicate()
    assert "another process writes there" in capsys.readouterr().err
