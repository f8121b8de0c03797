"""What there is: named methods, tasks, pieces, tiny models, each with one line. `draftsmith list` prints it.

Names are file names and descriptions are first lines, so nothing is listed twice and nothing heavy is imported.
"""

from toolkit import config, registry, tiny


def everything() -> dict[str, dict[str, str]]:
    """Title -> name -> one line."""
    pieces = {role: {name: registry.describe(role, name) for name in registry.names(role)} for role in registry.ROLES}
    models = {f"{tiny.PREFIX}{family}": text for family, text in tiny.FAMILIES.items()}
    return {"methods": _methods(), **pieces, "models": models}


def _methods() -> dict[str, str]:
    """A method file's first line is the command that runs it, its second says what it is."""
    lines = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in config.named_methods()}
    return {name: text[1].removeprefix("#").strip() for name, text in lines.items()}
