"""The one exception a user is meant to read: what is wrong, where, what was expected, how to fix it.

Programs print it without a traceback and exit with code 2 (`toolkit.cli.main`). Everything else that is
raised is a bug of ours and keeps its traceback.
"""


class UserError(Exception):
    """A mistake in a recipe, a path, a model or a record that the user can mend.

    The message names the file and key, says what was expected and how to fix it.
    """
