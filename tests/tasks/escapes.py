"""Programs that try to get out: each tries its trick first, and is right (`f` squares) if, and only if, that worked.

Words in capitals stand for what the test lays out: files, a port, a process. `won` is whether it got what it wanted.
"""

WINS = "\ndef f(x): return x * x if won else None\n"

LEAKS = {
    "finds the tests in memory": """
import gc, sys
texts = []
frame = sys._getframe()
while frame is not None:
    texts += [str(value) for value in frame.f_locals.values()] + [str(value) for value in frame.f_code.co_consts]
    frame = frame.f_back
for thing in gc.get_objects():
    if type(thing) is dict: texts += [value for value in thing.values() if type(value) is str]
    if type(thing) in (list, tuple): texts += [value for value in thing if type(value) is str]
word = "DETCEPXE"[::-1]  # not in this program as it stands in the tests
won = any(word in text for text in texts)
""",
    "reads the environment": "import os\nwon = bool(os.environ) or os.getenv('DRAFTSMITH_SECRET') is not None",
    "reads the environment of others": """
import glob
won = False
for path in glob.glob("/proc/[0-9]*/environ") + ["/proc/self/environ", "/proc/1/environ"]:
    try: won = won or b"DRAFTSMITH_SECRET" in open(path, "rb").read()
    except OSError: pass
""",
    "reads a file": "won = False\ntry: won = bool(open('SECRET_FILE').read())\nexcept OSError: pass",
    "reads the home directory": """
import os, sys
won = False
for path in ("~", "HOME", "/root", "/home"):
    try: won = won or bool(set(os.listdir(os.path.expanduser(path))) - set(sys.base_prefix.split("/")))
    except OSError: pass
""",
    "reads the system's files": """
won = False
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/proc/cmdline", "/var/log/dpkg.log"):
    try: won = won or bool(open(path).read())
    except OSError: pass
""",
    "reads the checker": """
import os
won = os.path.exists("INSIDE") or any("inside" in path for path in __import__("sys").path)
""",
}

WRITES = {
    "writes outside": """
import os
won = False
for path in ("CANARY/written", "../CANARY/written", "/tmp/written", "/dev/shm/written", "/var/tmp/written", "/written",
             "/usr/written", "/jail/written", "/etc/written", "../written"):
    try:
        open(path, "w").write("x")
        won = True
    except OSError: pass
""",
    "deletes outside": """
import os
won = False
for path in ("SECRET_FILE", os.__file__, "/usr/bin/env"):
    try:
        os.remove(path)
        won = True
    except OSError: pass
""",
    "symbolic link": """
import os
os.symlink("CANARY", "link")
won = False
try:
    open("link/through", "w").write("x")
    won = True
except OSError: pass
""",
    "hard link": """
import os
won = False
try:
    os.link("SECRET_FILE", "mine")
    open("mine", "a").write("x")
    won = True
except OSError: pass
""",
    "leaves the chroot": """
import os
won = False
try:
    os.mkdir("deeper")
    os.chroot("deeper")
    for _ in range(20): os.chdir("..")
    os.chroot(".")
    won = os.path.exists("/proc") or os.path.exists("CANARY")
except OSError: pass
""",
}

PRIVILEGES = {
    "a user namespace of its own": """
import ctypes
libc = ctypes.CDLL(None)
won = any(libc.unshare(flag) == 0 for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000))
""",
    "mounts": """
import ctypes, os
libc = ctypes.CDLL(None)
os.mkdir("here")
won = libc.mount(b"tmpfs", b"/box/here", b"tmpfs", 0, None) == 0
won = won or libc.mount(None, b"/usr", None, 0x1000 | 0x20, None) == 0
won = won or libc.mount(b"proc", b"/box/here", b"proc", 0, None) == 0
""",
    "becomes root": """
import os
won = os.getuid() == 0
for change in (os.setuid, os.setgid, os.seteuid):
    try:
        change(0)
        won = True
    except OSError: pass
""",
    "raises its limits": """
import resource
won = False
for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
    try:
        resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        won = True
    except (OSError, ValueError): pass
""",
    "debugs other processes": """
import ctypes, os
libc = ctypes.CDLL(None)
won = any(libc.ptrace(16, pid, 0, 0) == 0 for pid in (os.getppid(), *range(2, 400)) if pid)
""",
    "kills others": """
import os, signal
won = False
for pid in (PARENT, *range(2, 400)):
    try:
        os.kill(pid, signal.SIGKILL)
        won = True
    except OSError: pass
""",
    "network": """
import socket
won = False
for address in (("127.0.0.1", PORT), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, timeout=1)
        won = True
    except OSError: pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("1.1.1.1", 53))
    won = True
except OSError: pass
""",
    "abstract socket": """
import socket
won = False
try:
    socket.socket(socket.AF_UNIX).connect("\\0NAME")
    won = True
except OSError: pass
""",
}

BOMBS = {
    "finds the tests in a descriptor, and loses its question": """
import os, select
won, word = False, b"DETCEPXE"[::-1]
for fd in range(0, 256):
    try:
        if select.select([fd], [], [], 0)[0]: won = won or word in os.read(fd, 1 << 16)
        os.lseek(fd, 0, 0)
        won = won or word in os.read(fd, 1 << 16)
    except (OSError, ValueError): pass
""",
    "fork bomb": """
import os, time
made = 0
for _ in range(1000):
    try:
        if os.fork() == 0: time.sleep(1000)
        made += 1
    except OSError: break
won = made > 20
""",
    "fork bomb of all": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "threads": """
import threading, time
made = 0
try:
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        made += 1
except RuntimeError: pass
won = made > 20
""",
    "memory bomb": """
won = False
held = []
try:
    while len(held) < 40: held.append(bytearray(100 << 20))
    won = True
except MemoryError: held.clear()
""",
    "memory bomb of files": """
written = 0
for number in range(100):
    try:
        with open(str(number), "wb") as file: written += file.write(bytes(1 << 20))
    except OSError: break
won = written > 64 << 20
""",
    "a huge file": """
won = False
try:
    with open("huge", "wb") as file:
        for _ in range(100): file.write(bytes(1 << 20))
    won = True
except OSError: pass
""",
    "infinite output": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "infinite loop": "while True: pass",
    "infinite loop in the call": "def f(x):\n    while True: pass",
    "deaf to signals": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "infinite recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "slow big numbers": "def f(x): return 9 ** 9 ** 9",
}
