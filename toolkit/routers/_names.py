"""Drafts by name, as routers are told of them."""

from collections.abc import Sequence

from toolkit import registry
from toolkit.errors import UserError


def place(name: str, drafts: Sequence[str], where: str) -> int:
    """The place of a draft; UserError where there is none of that name."""
    known = list(drafts)
    if name not in known:
        raise UserError(
            f"{where}: no draft is called '{name}'.{registry.nearest(name, known)} The drafts are: "
            f"{registry.listed(known)}."
        )
    return known.index(name)
