"""The one exception a user is meant to read: what is wrong, where, what was expected, how to fix it.

Programs print it without a traceback and exit with code 2 (`exit_code`). Everything else that is raised is a bug of
ours and keeps its traceback.
"""

import os
import sys
import time
from collections.abc import Callable

_PATIENCE = 20.0  # seconds in which the first of several processes says what all of them found


class UserError(Exception):
    """A mistake in a recipe, a path, a model or a record that the user can mend.

    The message names the file and key, says what was expected and how to fix it.
    """


class NotThere(UserError):  # noqa: N818  a UserError by its base
    """What is named is not on this machine: the files of a model, or the device that it was to be on.

    Elsewhere it may well be. What is there and wrong (damaged, of another kind) is a plain UserError.
    """


def exit_code(work: Callable[[], int | None], after: str = "") -> int:
    """What every program is wrapped in -> 2 for what the user can mend, 130 for Ctrl-C, else what `work` returns (0).

    `after`: what holds once it is interrupted. Under `accelerate launch`, which turns both codes into its own 1, every
    process comes through here.
    """
    try:
        return work() or 0
    except UserError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(_PATIENCE)  # the launcher ends all when one has ended: not before the first one has spoken
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {after}" if after else "interrupted", file=sys.stderr)
        return 130
