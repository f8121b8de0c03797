"""System calls that no solution of a problem needs, and that reach past namespaces and limits: they fail with EPERM.

Sockets: some kinds (to a virtual machine's host) know no network namespace. Shared memory of System V, queues and
semaphores: they stay when no process has them, and no limit counts them. Keys: those of whoever evaluates. Sessions and
groups of their own: processes are ended by their group where nothing else holds them. The rest is a way to another
process, or a part of the kernel that programs have no use for. It holds for good, and for all
that the process starts (seccomp, Linux). On a machine whose numbers are not here, the rest has to do.
"""

import ctypes
import os
import struct

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}  # audit number, column
_OTHER_NUMBERS = 0x40000000  # from here on: those of x32, the same calls once more
_REFUSED = {  # name: x86_64, the other two
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "setpgid": (109, 154),
    "setsid": (112, 157),
}
_SOCKET = (41, 198)
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in what it is shown (little-endian: the lower half)
_ALLOW, _EPERM = 0x7FFF0000, 0x00050000 | 1
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse() -> bool:
    """-> whether this machine's numbers are known. No new privileges first. OSError where the kernel has no filters."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    code = _instructions(*machine)
    program = _Program(len(code) // 8, code)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
    return True


def _instructions(audit: int, column: int) -> bytes:
    """Each: code, how many to skip where it holds and where it does not, value. The last two are allow and refuse."""
    refused = [numbers[column] for numbers in _REFUSED.values()]
    steps = [(_LOAD, "", _MACHINE), (_EQUAL, "else refuse", audit), (_LOAD, "", _NUMBER)]
    steps += [(_AT_LEAST, "refuse", _OTHER_NUMBERS), *((_EQUAL, "refuse", number) for number in refused)]
    steps += [(_EQUAL, "else allow", _SOCKET[column]), (_LOAD, "", _FIRST_ARGUMENT), (_EQUAL, "else refuse", _AF_UNIX)]
    code = b""
    for place, (operation, jump, value) in enumerate(steps):
        behind = len(steps) - place - 1  # steps up to `allow`; `refuse` follows it
        skipped = {"": (0, 0), "refuse": (behind + 1, 0), "else refuse": (0, behind + 1), "else allow": (0, behind)}
        code += struct.pack("=HBBI", operation, *skipped[jump], value)
    return code + struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW) + struct.pack("=HBBI", _RETURN, 0, 0, _EPERM)
