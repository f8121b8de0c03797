"""Programs that reach past namespaces and limits by system calls; as in `escapes`. NUMBERS: {name: its number here}."""

REACHES = {
    "shared memory that no limit counts": """
import ctypes
won = ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0
""",
    "the same under its other number": """
import ctypes
won = ctypes.CDLL(None).syscall(0x40000000 | NUMBERS["shmget"], 0, 1 << 20, 0o1600) >= 0
""",
    "semaphores and queues": """
import ctypes
libc = ctypes.CDLL(None)
won = libc.semget(0, 100, 0o1600) >= 0 or libc.msgget(0, 0o1600) >= 0
won = won or libc.syscall(NUMBERS["mq_open"], b"queue", 0o102, 0o600, 0) >= 0
""",
    "a file in memory": """
import os
won = False
try: won = os.memfd_create("mine") >= 0
except OSError: pass
""",
    "sockets to a virtual machine's host, to the kernel, to anyone": """
import socket
won = []
for family in (40, 16, 38, 17, socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try: won.append(socket.socket(family, kind))
        except OSError: pass
""",
    "keys of whoever evaluates": """
import ctypes
libc = ctypes.CDLL(None)
won = any(libc.syscall(NUMBERS["keyctl"], 0, ring, 0) >= 0 for ring in (-1, -2, -3, -4, -5))
won = won or libc.syscall(NUMBERS["add_key"], b"user", b"mine", b"x", 1, -3) >= 0
""",
    "rings, which filters do not see": """
import ctypes
won = ctypes.CDLL(None).syscall(NUMBERS["io_uring_setup"], 8, ctypes.create_string_buffer(256)) >= 0
""",
    "input and output that a machine has so much of": """
import ctypes
context = ctypes.c_ulong(0)
won = ctypes.CDLL(None).syscall(NUMBERS["io_setup"], 1024, ctypes.byref(context)) == 0
""",
    "page faults, counters and programs in the kernel": """
import ctypes
libc = ctypes.CDLL(None)
room = ctypes.create_string_buffer(256)
won = libc.syscall(NUMBERS["userfaultfd"], 1) >= 0
won = won or libc.syscall(NUMBERS["perf_event_open"], room, 0, -1, -1, 0) >= 0
won = won or libc.syscall(NUMBERS["bpf"], 0, room, 256) >= 0
""",
    "another process's memory": """
import ctypes, os
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    import time
    time.sleep(5)
    os._exit(0)
won = libc.syscall(NUMBERS["ptrace"], 16, child, 0, 0) == 0
for path in ("/proc/1/mem", "/proc/self/mem", f"/proc/{child}/mem"):
    won = won or os.path.exists(path)
class Span(ctypes.Structure): _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))
text = ctypes.create_string_buffer(b"a secret")
span = Span(ctypes.addressof(text), 8)
room = ctypes.create_string_buffer(8)
mine = Span(ctypes.addressof(room), 8)
call = NUMBERS["process_vm_readv"]
won = won or libc.syscall(call, child, ctypes.byref(mine), 1, ctypes.byref(span), 1, 0) > 0
os.kill(child, 9)
os.waitpid(child, 0)
""",
    "a handle on another process": """
import os
won = False
try: won = os.pidfd_open(os.getpid()) >= 0
except OSError: pass
""",
    "a session or a group of its own": """
import os
won = False
for leave in (os.setsid, os.setpgrp):
    child = os.fork()
    if child == 0:
        try: leave()
        except OSError: os._exit(1)
        os._exit(0)
    won = won or os.waitpid(child, 0)[1] == 0
""",
    "the interpreter's own files": """
import os
won = False
for name in ("__pycache__/os.cpython-311.pyc", "sitecustomize.py", "site-packages/mine.pth", "os.py"):
    try:
        with open(os.path.join(os.path.dirname(os.__file__), name), "ab") as file: file.write(b"#")
        won = True
    except OSError: pass
""",
    "the root above the root": """
import os
won = False
root = os.open("/", os.O_RDONLY)
os.mkdir("deep")
for path in ("../../..", "../old", "../jail", "../proc", "/box/deep/../../../old"):
    try: won = won or not os.path.samestat(os.stat(path, dir_fd=root), os.stat("/"))
    except OSError: pass
""",
    "devices": """
import os
won = False
for number, path in enumerate(("/dev/mem", "/dev/kmem", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/dev/tty")):
    try: won = won or os.open(path, os.O_RDONLY) >= 0
    except OSError: pass
try:
    os.mknod("disk", 0o60600, os.makedev(8, 0))
    won = True
except OSError: pass
""",
}
