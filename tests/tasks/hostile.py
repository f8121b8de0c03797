"""Programs that want to pass without solving the problem, which is f(x) = x * x, and programs that do not end."""

FORGERIES = {
    "exit at import": "import os\nos._exit(0)",
    "exit in the call": "import os\ndef f(x): os._exit(0)",
    "SystemExit at import": "raise SystemExit(0)",
    "SystemExit in the call": "import sys\ndef f(x): sys.exit(0)",
    "KeyboardInterrupt in the call": "def f(x): raise KeyboardInterrupt",
    "StopIteration in the call": "def f(x): raise StopIteration",
    "AssertionError of its own": "def f(x): raise AssertionError",
    "patched built-ins": """
import builtins, operator
class Quiet(BaseException): pass
builtins.AssertionError = Quiet
builtins.isinstance = builtins.all = builtins.any = operator.eq = lambda *_: True
def f(x): return None
""",
    "always equal": """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
def f(x): return Yes()
""",
    "equal as an int": """
class Yes(int):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def f(x): return Yes(7)
""",
    "equal as a float, a text, a list, a dict": """
def always(kind):
    return type("Yes", (kind,), {"__eq__": lambda *_: True, "__ne__": lambda *_: False, "__hash__": lambda _: 0})
kinds = [float, str, list, dict, tuple, set, frozenset, bytes, complex]
def f(x): return always(kinds.pop() if kinds else float)()
""",
    "ANY of unittest.mock": "from unittest.mock import ANY\ndef f(x): return ANY",
    "a mock that answers all": """
from unittest.mock import MagicMock
f = MagicMock()
f.return_value.__eq__ = lambda *_: True
""",
    "a false class": """
class Lie:
    __class__ = int
    def __index__(self): return 4
    def __eq__(self, other): return True
def f(x): return Lie()
""",
    "not a number": "def f(x): return float('nan')",
    "pickled code": """
class Bomb:
    def __reduce__(self): return (eval, ("4",))
def f(x): return Bomb()
""",
    "exit hook": """
import atexit, os, sys
def cheat():
    print("pass")
    os._exit(0)
atexit.register(cheat)
sys.exit(0)
""",
    "verdict written to every descriptor": """
import os
for fd in range(3, 256):
    for text in (b'["pass", ""]', b'pass\\n', b'\\x00\\x00\\x00\\x0c["pass", ""]'):
        try: os.write(fd, text)
        except OSError: pass
os._exit(0)
""",
    "answers before they are asked": """
import os
for fd in range(3, 256):
    for text in (b'["value", true]', b'["value", ["handle", 0]]', b'["value", ["list"]]'):
        try: os.write(fd, len(text).to_bytes(4, "big") + text)
        except OSError: pass
def f(x): return True
""",
    "a message that is no message": """
import os
for fd in range(3, 256):
    try: os.write(fd, b"\\xff" * 64)
    except OSError: pass
def f(x): return None
""",
    "patched serialiser": """
import gc, json, sys
for name in ("plain", "program"):
    for value in list(vars(sys.modules[name])):
        if value in ("pack", "_act"):
            setattr(sys.modules[name], value, lambda *_: True)
def f(x): return None
""",
    "patched main": """
import sys
main = sys.modules["__main__"]
main.CRASHED = main.OVERTIME = main.UNCONTAINED = 0
main._watch = main.main = lambda *_: 0
def f(x): return None
""",
    "nested too deep": """
def f(x):
    value = []
    for _ in range(100_000): value = [value]
    return value
""",
    "an answer too long": "def f(x): return 'x' * (100 << 20)",
    "a number too long": "def f(x): return 1 << (200 << 20)",
    "endless generator": "def f(x):\n    while True: yield x",
    "tracing": """
import sys
sys.settrace(lambda *_: None)
sys.setprofile(lambda frame, event, argument: None)
def f(x): return None
""",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "no such function": "def g(x): return x * x",
    "a generator of nothing": "f = ()",
    "the exit codes of the sandbox": "import os\ndef f(x): os._exit(70 if x == 2 else 124)",
    "itself as its answer": "def f(x): return f",
    "a promise": "async def f(x): return x * x",
    "a generator": "def f(x): yield x * x",
    "no end of numbers": "def f(x): return range(10**18)",
    "closes everything": "import os\nos.closerange(0, 256)\ndef f(x): return None",
    "two that answer": """
import os
os.fork()
def f(x): return 4 if os.getppid() else 9
""",
    "numbers that stand for nothing": """
import os
for fd in range(3, 256):
    for text in (b'["value", ["handle", true]]', b'["value", ["handle", "f"]]', b'["value", ["range"]]', b'["value"]'):
        try: os.write(fd, len(text).to_bytes(4, "big") + text)
        except OSError: pass
def f(x): return True
""",
    "patched JSON": """
import json, json.encoder
json.dumps = json.encoder.JSONEncoder.encode = lambda *_, **__: '["value", true]'
def f(x): return None
""",
    "hash collisions": "def f(x): return {i * (2**61 - 1): 0 for i in range(20000)}",
    "redefines what asks": """
import sys
class Answer(dict):
    def __missing__(self, key): return lambda *_: 4
sys.modules["program"].__dict__["f"] = lambda x: None
sys.modules["program"] = Answer()
""",
}

SLEEPERS = {
    "sleeps": "import time\ntime.sleep(10**6)",
    "sleeps in the call": "import time\ndef f(x): time.sleep(10**6)",
    "closes everything, and sleeps": "import os, time\nos.closerange(0, 256)\ntime.sleep(10**6)",
    "stays behind": """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    if os.fork():
        time.sleep(10**6)
    try: os.setsid()
    except OSError: pass
time.sleep(10**6)
""",
}

# From standard input to standard output: what is asked is the square of a number
SCRIPTS = {
    "exit": "import os\nos._exit(0)",
    "prints a verdict": "print('pass')",
    "prints much": "while True: print('x' * 65536)",
    "exit hook": "import atexit\natexit.register(lambda: print('pass'))",
    "expected output in memory": """
import gc
print(*[text for text in gc.get_objects() if type(text) is str and text.strip() == "4"])
""",
    "expected output in a descriptor": """
import os
for fd in range(256):
    try:
        os.lseek(fd, 0, 0)
        os.write(1, os.read(fd, 1 << 16))
    except OSError: pass
""",
    "both answers": "print(4)\nprint(9)",
    "infinity": "print('Infinity')",
    "another writes behind it": """
import os, time
if os.fork() == 0:
    while True: os.pwrite(1, b"4\\n9\\n", 0)
print(0)
""",
    "a child goes on": """
import os, time
if os.fork() == 0:
    os.closerange(0, 256)
    try: os.setsid()
    except OSError: pass
    time.sleep(10**6)
print(0)
""",
    "one line of many numbers": "print('4 ' * (1 << 22))",
    "a file with a hole": "import os\nos.ftruncate(1, 1 << 40)",
    "loops": "while True: pass",
    "dies": "import os, signal\nprint(4, flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n1 / 0",
    "raises": "print(4)\n1 / 0",
}
