"""The side of the program that is judged: runs it, and says what its functions return. Nothing here is trusted.

It knows neither the tests nor what they expect: only arguments come in, one call at a time.
"""

import sys
import types
from typing import Any

import plain


def load(name: str, prelude: str, code: str) -> types.ModuleType:
    """The program as a module of this name. It finds no arguments, no environment and no path to this file."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.argv, sys.orig_argv = [""], [""]
    for text, where in ((prelude, "prelude.py"), (code, "program.py")):
        exec(compile(text, where, "exec", dont_inherit=True), module.__dict__)
    return module


def script(prelude: str, code: str) -> None:
    """From standard input to standard output."""
    try:
        load("__main__", prelude, code)
    except SystemExit:  # the benchmarks take it for an end, whatever its code
        return


def serve(prelude: str, code: str, channel: plain.Channel) -> None:
    """Until nobody asks any more."""
    kept: list[Any] = []
    try:
        space = load("program", prelude, code).__dict__
        failure = None
    except BaseException as error:  # noqa: BLE001  whatever a program does is an answer
        failure = _error(error)
    while True:
        try:
            request = channel.receive()
        except plain.Gone:
            return
        if failure is None:
            try:
                reply = ["value", plain.pack(_act(request, space, kept), _remember(kept))]
                channel.send(reply)
                continue
            except BaseException as error:  # noqa: BLE001  the same
                reply = _error(error)
        else:
            reply = failure
        channel.send(reply)


def _act(request: list[Any], space: dict[str, Any], kept: list[Any]) -> Any:
    what, *rest = request
    if what == "name":
        if rest[0] not in space:
            raise NameError(f"the program defines no {rest[0]}")
        return space[rest[0]]
    of, *rest = (
        plain.unpack(part, lambda named: plain.TYPES[named] if type(named) is str else kept[named]) for part in rest
    )
    if what == "truth":
        return bool(of)
    if what == "get":
        return getattr(of, rest[0])
    if what == "set":
        return setattr(of, rest[0], rest[1])
    return of(*rest[0], **rest[1])


def _remember(kept: list[Any]) -> plain.Remember:
    def remember(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    return remember


def _error(error: BaseException) -> list[str]:
    try:
        text = str(error)[:200]
    except BaseException:  # noqa: BLE001  its own __str__
        text = ""
    return ["error", type(error).__name__[:80], text]
