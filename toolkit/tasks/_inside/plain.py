"""Plain data over pipes: what crosses between a program and whoever judges it.

Only exact built-in values are ever rebuilt (None, bool, int, float, complex, str, bytes and containers of them), so
nothing that a program says can bring behaviour of its own along: no `__eq__`, no `__bool__`, no pickle. What is not
plain stays where it is, and a number stands for it.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

LIMIT = 16 << 20  # bytes of a message
# what tests may hand over by name; never what a program returns, as that may be its function
TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)}
_EXACT = 2**53  # larger integers are sent in base 16, whose reading takes linear time

Remember = Callable[[Any], int | str]  # what is not plain -> what stands for it: a number, or the name of a type
Recall = Callable[[int | str], Any]


class Gone(Exception):
    """Nobody is at the other end any more."""


class Malformed(Exception):
    """What came is no message."""


class TooLong(Exception):
    """A message over the limit."""


class Channel:
    """Messages both ways: four bytes of length, then JSON."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing

    def send(self, message: Any) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > LIMIT:
            raise TooLong(f"{len(data)} bytes; {LIMIT} may be sent")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        try:
            while view:
                view = view[os.write(self._writing, view) :]
        except BrokenPipeError:
            raise Gone from None

    def receive(self) -> Any:
        size = int.from_bytes(self._read(4), "big")
        if size > LIMIT:
            raise Malformed(f"a message of {size} bytes")
        try:
            return json.loads(self._read(size))
        except (ValueError, RecursionError) as error:
            raise Malformed(str(error)) from None

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            some = os.read(self._reading, min(size - len(data), 1 << 16))
            if not some:
                raise Gone
            data += some
        return bytes(data)


def pack(value: Any, remember: Remember) -> Any:
    """As JSON. Values of subclasses are sent as what they were made of, iterators as what is left of them."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if -_EXACT < value < _EXACT else ["int", hex(value)]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", *([pack(key, remember), pack(item, remember)] for key, item in dict.items(value))]
    if isinstance(value, range):
        return ["range", *(pack(end, remember) for end in (value.start, value.stop, value.step))]
    for name, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return [name, *(pack(item, remember) for item in kind.__iter__(value))]
    if isinstance(value, Iterator):
        return ["iterator", *(pack(item, remember) for item in value)]
    return ["handle", remember(value)]


_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def unpack(message: Any, recall: Recall) -> Any:
    """The value again, of built-in types only. Malformed where it is no packed value."""
    if message is None or isinstance(message, (bool, int, str)):
        return message
    try:
        kind, *rest = message
        return _REBUILT[kind](rest, recall)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from None


def _float(text: str) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(text) or float.fromhex(text)


def _items(rest: list[Any], recall: Recall) -> Iterator[Any]:
    return (unpack(item, recall) for item in rest)


_REBUILT: dict[str, Callable[[list[Any], Recall], Any]] = {
    "int": lambda rest, _: int(rest[0], 16),
    "float": lambda rest, _: _float(rest[0]),
    "complex": lambda rest, _: complex(_float(rest[0]), _float(rest[1])),
    "bytes": lambda rest, _: bytes.fromhex(rest[0]),
    "dict": lambda rest, recall: {unpack(key, recall): unpack(item, recall) for key, item in rest},
    "list": lambda rest, recall: list(_items(rest, recall)),
    "tuple": lambda rest, recall: tuple(_items(rest, recall)),
    "set": lambda rest, recall: set(_items(rest, recall)),
    "frozenset": lambda rest, recall: frozenset(_items(rest, recall)),
    "range": lambda rest, recall: range(*_items(rest, recall)),
    "iterator": lambda rest, recall: iter(list(_items(rest, recall))),
    "handle": lambda rest, recall: recall(rest[0]),
}
