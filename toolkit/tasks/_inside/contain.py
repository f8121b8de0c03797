"""Takes away from this process all but a processor, some memory and an empty directory.

Namespaces (Linux): no network, no process but its own, and a file system of a few read-only directories (the standard
library and what it links to) and one empty directory in memory. It has no privileges and cannot get any: it is nobody,
without capabilities, under no_new_privs, in a chroot, where the kernel lets nobody make a user namespace of their own.
What namespaces and limits do not reach is refused as system calls (`calls.py`).
Limits hold everywhere. The first step is taken before the fork that a new process namespace needs, the second after it.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Any

NOBODY = 65534
MINE = "/box"  # the empty directory
_DIRECTORIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store")  # what the standard library may link to
_FILES = ("/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom")

_NEW_USER = 0x10000000
_NEW_OTHERS = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mount, uts, ipc, pid, net
_RDONLY, _NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 0x1, 0x2, 0x4, 0x1000, 0x4000, 0x40000
_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_PR_PDEATHSIG, _PR_DUMPABLE, _PR_NO_NEW_PRIVS = 1, 4, 38

_libc = ctypes.CDLL(None, use_errno=True)


def go_first() -> None:
    """When the machine's memory runs out, its kernel ends this process, and what it starts, before any other."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")  # where there is no /proc (bubblewrap, other systems), it chooses for itself


def leave() -> None:
    """Out of this machine's namespaces; the next fork is the first process of the new ones."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", _NEW_OTHERS)  # a user namespace follows, once root is nobody
        return
    _call("unshare", _NEW_USER | _NEW_OTHERS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123  nothing is imported that is not needed
            file.write(text)


def enter(room: int) -> None:
    """Into a file system of its own, without a way back. `room`: bytes that fit into the empty directory."""
    os.umask(0o022)
    needed = _needed()
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    os.mkdir("/tmp/old")  # noqa: PTH102
    _call("pivot_root", b"/tmp", b"/tmp/old")
    os.chdir("/")
    for target, source in needed.items():
        _show(target, source)
    os.makedirs(f"/jail{MINE}", exist_ok=True)  # noqa: PTH103
    _call("umount2", b"/old", _DETACH)
    attributes = (ctypes.c_uint64 * 4)(_RDONLY | _NOSUID, 0, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, ctypes.c_size_t(32))
    _mount("tmpfs", f"/jail{MINE}", "tmpfs", _NOSUID | _NODEV, f"size={room},nr_inodes=1024,mode=1777")
    if os.geteuid() == 0:
        become_nobody()
        _call("unshare", _NEW_USER)
    os.chroot("/jail")
    _call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def limit(limits: dict[str, int]) -> None:
    """For good: hard limits of this process and of all that it starts."""
    _lower(resource.RLIMIT_CPU, limits["cpu_seconds"])
    _lower(resource.RLIMIT_FSIZE, limits["file_bytes"])
    _lower(resource.RLIMIT_NPROC, limits["processes"])
    _lower(resource.RLIMIT_NOFILE, 64)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_STACK, limits["memory"] // 8)
    if sys.platform == "linux":  # elsewhere the system does not keep to it
        _lower(resource.RLIMIT_AS, limits["memory"])
        _call("prctl", _PR_NO_NEW_PRIVS, 1, 0, 0, 0)


def die_with_parent(how: signal.Signals) -> None:
    """A changed user forgets it, so this comes after that."""
    if sys.platform == "linux":
        _call("prctl", _PR_PDEATHSIG, int(how), 0, 0, 0)


def hide() -> None:
    """From debuggers and from /proc of others of the same user."""
    if sys.platform == "linux":
        _call("prctl", _PR_DUMPABLE, 0, 0, 0, 0)


def _needed() -> dict[str, str]:
    """Paths to show -> where they really are."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120
    chosen: dict[str, str] = {}
    for path in sorted({sys.base_prefix, sys.base_exec_prefix, library, *_DIRECTORIES, *_FILES}):
        inside = any(path.startswith(f"{other}/") for other in chosen if not os.path.islink(other))  # noqa: PTH114
        if not inside and os.path.exists(path):  # noqa: PTH110
            link = path in _DIRECTORIES and os.path.islink(path)  # noqa: PTH114
            chosen[path] = os.readlink(path) if link else os.path.realpath(path)  # noqa: PTH115
    return chosen


def _show(target: str, source: str) -> None:
    """At the same path as before: a link again, a directory or a file read-only (once all are there)."""
    place = f"/jail{target}"
    os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103,PTH120
    if target in _DIRECTORIES and source != target:
        os.symlink(source, place)  # noqa: PTH211
        return
    if os.path.isdir(f"/old{source}"):  # noqa: PTH112
        os.mkdir(place)  # noqa: PTH102
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
    _mount(f"/old{source}", place, None, _BIND | _REC)


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def _call(name: str, *arguments: Any) -> None:
    if _libc[name](*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
