"""Where the machine has neither namespaces nor bubblewrap: it is said, limits hold, nothing stays behind."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.tasks import hostile
from tests.tasks.processes import left_behind, wait_until
from toolkit.errors import UserError
from toolkit.tasks import _contained, _sandbox
from toolkit.tasks._sandbox import Asserts, Job, Limits

SYSTEM = Path("/usr/bin/python3")
SQUARES = Asserts(("f",), "assert f(2) == 4\nassert f(3) == 9\n")


def names(verdicts):
    return [verdict.name for verdict in verdicts]


@pytest.fixture
def without(monkeypatch):
    """Makes this machine one that lacks some kinds of containment."""
    real = _contained._works

    def lack(*kinds):
        monkeypatch.setattr(_contained, "_works", lambda kind: kind not in kinds and real(kind))
        _contained.containment.cache_clear()

    yield lack
    _contained.containment.cache_clear()


def test_where_nothing_contains_it_is_said_once(without, capsys, monkeypatch):
    without("namespaces", "bubblewrap")
    monkeypatch.setattr(_contained, "_works", lambda kind: kind == "limits")
    assert _contained.containment() == _contained.containment() == "limits"
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "NOT contained: all files" in said


@pytest.fixture
def limits_alone(without, monkeypatch):
    """There is nothing else, and others can read the Python. No file stays behind."""
    without("namespaces", "bubblewrap")
    if os.geteuid() == 0 and SYSTEM.exists():
        monkeypatch.setattr(_contained, "_PYTHON", str(SYSTEM))
    if not _contained._works("limits"):
        pytest.skip("this is root, whose Python others cannot read")
    monkeypatch.setattr(_contained, "_works", lambda kind: kind == "limits")
    assert _contained.containment() == "limits"
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # nobody, too, has to get through it
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield
        assert list(Path(directory).iterdir()) == []


def test_under_limits_alone(limits_alone):
    """No verdict is forged, and limits hold."""
    limits = Limits(cpu_seconds=1, wall_seconds=10)
    programs = {
        "def f(x): return x * x": "pass",
        "def f(x): return x + x": "wrong",
        "import os\nos._exit(0)": "crash",
        "class Yes:\n def __eq__(self, _): return True\ndef f(x): return Yes()": "wrong",
        "import socket\nsocket.socket()\ndef f(x): return x * x": "crash" if sys.platform == "linux" else "pass",
        "held = [bytes(1 << 20) for _ in range(2000)]\ndef f(x): return x * x": "crash",
        "while True: pass": "timeout",
        "import os\nassert not os.environ and not os.listdir('.')\ndef f(x): return x * x": "pass",
    }
    assert names(_sandbox.judge([Job(code, SQUARES, limits=limits) for code in programs])) == list(programs.values())


@pytest.mark.skipif(sys.platform != "linux", reason="needs a filter of system calls")
def test_under_limits_alone_nobody_stays_behind(limits_alone):
    """One at a time, and with room for the user's other processes, as their limit is of all of them."""
    limits = Limits(cpu_seconds=1, wall_seconds=2, processes=64)
    for name in ("stays behind", "closes everything, and sleeps"):
        [verdict] = _sandbox.judge([Job(hostile.SLEEPERS[name], SQUARES, limits=limits)])
        assert verdict.name == "timeout", verdict
        wait_until(lambda: not left_behind(), seconds=5)


def test_root_without_namespaces_is_refused(without):
    without("namespaces", "bubblewrap", "limits")
    with pytest.raises(UserError, match="cannot be run here"):
        _contained.containment()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_busy_machine_is_not_one_without_namespaces(monkeypatch):
    monkeypatch.setattr(_contained, "ended", lambda _: _contained.OVERTIME)
    _contained.containment.cache_clear()
    with pytest.raises(UserError, match="too busy"):
        _contained.containment()
