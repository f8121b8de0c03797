"""What models might write, against the sandbox: everything is contained, and nothing passes."""

import os
import runpy
import socket
import subprocess
import sys

import pytest

from tests.tasks import escapes, hostile, reaches
from tests.tasks.processes import left_behind, wait_until
from toolkit.tasks import _contained, _sandbox
from toolkit.tasks._sandbox import Asserts, Cases, Job, Limits

SQUARES = Asserts(("f",), "SECRET_OF_THE_TESTS = 'EXPECTED'\nassert f(2) == 4\nassert f(3) == 9\n")
QUICK = Limits(cpu_seconds=1, wall_seconds=20)
LONG = Limits(cpu_seconds=20, wall_seconds=60)  # for those that come to their end, on a busy machine too
SHORT = Limits(cpu_seconds=1, wall_seconds=4)
CONTAINED = {**escapes.LEAKS, **escapes.WRITES, **escapes.PRIVILEGES, **reaches.REACHES, **escapes.BOMBS}
COLUMN = 0 if os.uname().machine == "x86_64" else 1
NUMBERS = {
    name: numbers[COLUMN] for name, numbers in runpy.run_path(str(_contained.INSIDE / "calls.py"))["_REFUSED"].items()
}
TIMEOUTS = {"infinite output", "infinite loop", "infinite loop in the call", "deaf to signals"}


@pytest.fixture(autouse=True)
def namespaces():
    if _contained.containment() == "limits":
        pytest.skip("this machine has neither namespaces nor bubblewrap: programs run under limits only")


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """What programs must not reach -> how it is named in them."""
    monkeypatch.setenv("DRAFTSMITH_SECRET", "1")
    tmp_path.chmod(0o777)
    (tmp_path / "canary").mkdir(mode=0o777)
    (tmp_path / "secret").write_text("a secret")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0draftsmith-{os.getpid()}")
        abstract.listen()
        yield {
            "SECRET_FILE": str(tmp_path / "secret"),
            "CANARY": str(tmp_path / "canary"),
            "HOME": os.path.expanduser("~"),  # noqa: PTH111
            "INSIDE": str(_contained.INSIDE),
            "PARENT": str(os.getpid()),
            "PORT": str(server.getsockname()[1]),
            "NAME": f"draftsmith-{os.getpid()}",
            "NUMBERS": str(NUMBERS),
        }
    assert [path.name for path in (tmp_path / "canary").iterdir()] == []
    assert (tmp_path / "secret").read_text() == "a secret"


def judged(programs, limits):
    """limits: of all, or by the program's name."""
    each = limits if isinstance(limits, dict) else dict.fromkeys(programs, limits)
    jobs = [Job(code, SQUARES, limits=each[name]) for name, code in programs.items()]
    return dict(zip(programs, _sandbox.judge(jobs), strict=True))


def test_the_right_program_passes():
    [verdict] = _sandbox.judge([Job("won = True" + escapes.WINS, SQUARES)])
    assert verdict.name == "pass"


def test_no_verdict_is_forged():
    verdicts = judged(hostile.FORGERIES, QUICK)
    assert len(verdicts) >= 25
    assert {name: verdict for name, verdict in verdicts.items() if verdict.name == "pass"} == {}
    named = {name: verdict.name for name, verdict in verdicts.items()}
    assert named["always equal"] == named["equal as an int"] == named["ANY of unittest.mock"] == "wrong"
    assert named["exit at import"] == named["segmentation fault"] == named["AssertionError of its own"] == "crash"
    assert named["endless generator"] in ("timeout", "crash")
    assert named["the exit codes of the sandbox"] == "crash"


def test_what_could_not_be_contained_has_no_verdict():
    """A machine that runs out of something says nothing about the program: the row fails, and is tried again."""
    if _contained.containment() != "namespaces":
        pytest.skip("bubblewrap takes its size from elsewhere")
    with pytest.raises(OSError, match="could contain programs before"):
        _sandbox.judge([Job("def f(x): return x * x", SQUARES, limits=Limits(file_bytes=-1))])


def test_nothing_gets_out(outside):
    programs = {}
    for name, code in CONTAINED.items():
        for placeholder, value in outside.items():
            code = code.replace(placeholder, value)
        programs[name] = code if "def f" in code else code + escapes.WINS
    verdicts = judged(programs, {name: QUICK if name in escapes.BOMBS else LONG for name in programs})
    assert {name: verdict for name, verdict in verdicts.items() if verdict.name == "pass"} == {}
    for name in escapes.LEAKS | escapes.WRITES | reaches.REACHES:  # they came to their end, and had not won
        assert verdicts[name].name == "wrong", (name, verdicts[name])
    assert {verdicts[name].name for name in TIMEOUTS} == {"timeout"}
    assert not left_behind()


def test_who_waits_is_ended():
    verdicts = judged(hostile.SLEEPERS, SHORT)
    assert {verdict.name for verdict in verdicts.values()} == {"timeout"}
    assert not left_behind()


def test_programs_that_write_are_judged_by_what_they_write():
    cases = Cases((("2\n", "4\n"), ("3\n", "9\n")))
    good, *bad = _sandbox.judge(
        [Job(code, cases, limits=QUICK) for code in ("print(int(input()) ** 2)", *hostile.SCRIPTS.values())]
    )
    assert good.name == "pass"
    named = dict(zip(hostile.SCRIPTS, (verdict.name for verdict in bad), strict=True))
    assert "pass" not in named.values(), named
    assert (named["loops"], named["raises"], named["both answers"]) == ("timeout", "crash", "wrong")
    assert not left_behind()


def test_who_is_killed_leaves_nothing(tmp_path):
    """The evaluating process dies in the middle of it: what it had started ends by itself."""
    script = tmp_path / "evaluate.py"
    script.write_text(
        "from toolkit.tasks._contained import containment\n"
        "from toolkit.tasks._sandbox import Asserts, Job, judge\n"
        "containment()\n"
        "print('ready', flush=True)\n"
        f"judge([Job({hostile.SLEEPERS['stays behind']!r}, Asserts(('f',), 'f(1)'))])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"ready\n"
    wait_until(lambda: len(left_behind()) >= 4)  # both sides, each with the one that watches it
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not left_behind())
