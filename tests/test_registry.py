"""A file's name is its registry key."""

import pytest

from toolkit import catalog, methods, registry, tiny
from toolkit.errors import UserError


def test_names_are_files_without_helpers(tmp_path, monkeypatch):
    role = tmp_path / "proposers"
    role.mkdir()
    for name in ("__init__", "_shared", "zebra", "ant"):
        (role / f"{name}.py").write_text('"""What it does.\n\nMore."""\n')
    monkeypatch.setattr(registry, "_TOOLKIT", tmp_path)
    assert registry.names("proposers") == ["ant", "zebra"]
    assert registry.describe("proposers", "ant") == "What it does."


def test_load_imports_the_module_of_that_name():
    assert registry.load("lengths", "fixed").__name__ == "toolkit.lengths.fixed"


def test_an_unknown_type_lists_what_exists():
    with pytest.raises(
        UserError, match=r"x.yaml: unknown type 'fixd' in lengths. Did you mean 'fixed'.*entropy, fixed"
    ):
        registry.load("lengths", "fixd", "x.yaml")


@pytest.mark.parametrize("name", ["../config", "_chain", "__init__", ""])
def test_only_pieces_load(name):
    with pytest.raises(UserError, match="unknown type"):
        registry.load("acceptance", name)


def test_everything_is_listed_with_a_line():
    listing = catalog.everything()
    assert list(listing["methods"]) == methods.names()
    assert set(listing["models"]) == {tiny.PREFIX + family for family in tiny.FAMILIES}
    assert {"rejection", "topk", "fuzzy"} <= set(listing["acceptance"])
    assert all(line for entries in listing.values() for line in entries.values())
