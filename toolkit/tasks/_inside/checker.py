"""The side of the tests: runs them with stand-ins for what the program defines. No word of the program runs here.

A stand-in asks the program's process for what a call returns. The answer arrives as plain data, or as another stand-in
for what is not plain, which equals nothing but itself, and whose truth the program is asked for (it could as well have
returned True). So equality and comparison are those of built-in types, and a test cannot be talked out of an answer:
`os._exit`, a patched `assert`, an `__eq__` that always agrees and an exit hook all happen in another process, which has
neither the tests nor a way to the verdict.
"""

from typing import Any

import plain


class ProgramError(Exception):
    """What the program raised; one type for all, as some types would mean something to the tests (StopIteration)."""


class Unfit(Exception):
    """The tests cannot be asked from here."""


class Stub:
    """Stands for something of the program's."""

    def __init__(self, number: int, ask: "Asker") -> None:
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_ask", ask)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", self, name)

    def __bool__(self) -> bool:
        return self._ask("truth", self)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", self, name, value)


class Asker:
    """Asks the program, and remembers a broken answer even where a test looks away."""

    def __init__(self, channel: plain.Channel) -> None:
        self._channel = channel
        self.calls = 0
        self.broken: Exception | None = None

    def name(self, name: str) -> Any:
        return self._answer(["name", name])

    def __call__(self, what: str, *parts: Any) -> Any:
        self.calls += what == "call"
        return self._answer([what, *(plain.pack(part, _number) for part in parts)])

    def _answer(self, request: list[Any]) -> Any:
        if self.broken is not None:
            raise self.broken
        try:
            self._channel.send(request)
            match self._channel.receive():
                case ["value", value]:
                    return plain.unpack(value, self._stub)
                case ["error", str(kind), str(text)]:
                    raised = ProgramError(f"{kind}: {text}")
                case _:
                    raise plain.Malformed("neither a value nor an error")
        except (plain.Gone, plain.Malformed, MemoryError) as error:
            self.broken = error
            raise
        raise raised

    def _stub(self, number: Any) -> Stub:
        if type(number) is not int:
            raise plain.Malformed(f"{number!r} stands for nothing")
        return Stub(number, self)


def _number(value: Any) -> int | str:
    if type(value) is Stub:
        return object.__getattribute__(value, "_number")
    if isinstance(value, type) and plain.TYPES.get(value.__name__) is value:
        return value.__name__
    raise Unfit(f"the tests hand over {type(value).__name__}, which is no plain data")


def check(context: str, names: list[str], tests: str, channel: plain.Channel) -> tuple[str, str]:
    """-> verdict, detail. `context`: what tests need beside the program; `names`: what they want of the program."""
    ask = Asker(channel)
    space: dict[str, Any] = {"__name__": "tests"}
    verdict, detail = "pass", ""
    try:
        exec(compile(context, "context.py", "exec"), space)
        space.update({name: ask.name(name) for name in names})
        exec(compile(tests, "tests.py", "exec"), space)
    except AssertionError as error:
        verdict, detail = "wrong", _line(error)
    except ProgramError as error:
        verdict, detail = "crash", str(error)
    except (Unfit, plain.TooLong) as error:
        verdict, detail = "refused", str(error)
    except Exception as error:  # noqa: BLE001  what tests do with values of unexpected types
        verdict, detail = "wrong", f"{type(error).__name__}: {error}, {_line(error)}"
    if isinstance(ask.broken, plain.Gone):
        return "gone", "the program ended before it had answered"
    if ask.broken is not None:
        return "refused", f"no answer of the program's: {ask.broken or type(ask.broken).__name__}"
    if verdict == "pass" and not ask.calls:
        return "refused", "the tests never called the program"
    return verdict, detail


def _line(error: Exception) -> str:
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests.py":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {lines[-1]} of the tests" if lines else "outside the tests"
