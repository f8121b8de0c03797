"""Reading the config.json that stands beside the weights of a learned piece."""

import json
from pathlib import Path
from typing import Any

from toolkit.errors import UserError


def read(path: Path, kind: str, what: str) -> dict[str, Any]:
    """The file's keys. UserError where it is no JSON, or not of this kind. what: whose directory was expected."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}). Expected the directory of {what}.") from None
    if not isinstance(config, dict) or config.get("kind") != kind:
        raise UserError(f"{path}: key 'kind' is not '{kind}'; expected the directory of {what}.")
    return config
