"""A method's grid: which methods it stands for, under which names, who is beside whom, and what is no grid."""

from collections import Counter

import pytest

from toolkit import methods
from toolkit.errors import UserError
from toolkit.evaluation import recipe as recipes
from toolkit.evaluation.grid import expand
from toolkit.evaluation.recipe import EvalRecipe, SpeedConfig
from toolkit.hub import ModelConfig

NODE = {"name": "a", "proposer": "ngram", "accept": {"type": "fuzzy"}}


def grid(**axes):
    return {**NODE, "grid": {key.replace("__", "."): values for key, values in axes.items()}}


def contenders(*nodes, chosen="all"):
    recipe = EvalRecipe(ModelConfig("m"), task="jsonl", methods=list(nodes), speed=SpeedConfig(methods=chosen))
    return recipes.contenders(recipe, "r.yaml")


def test_the_product_in_order():
    cells = expand(grid(accept__T=[1, 1.5], length__k=[4, 8, 16]), "r.yaml")
    assert [cell.node["name"] for cell in cells] == [
        "a_T=1_k=4",
        "a_T=1_k=8",
        "a_T=1_k=16",
        "a_T=1.5_k=4",
        "a_T=1.5_k=8",
        "a_T=1.5_k=16",
    ]
    assert [cell.place for cell in cells] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    last = methods.resolve(cells[-1].node, "r.yaml")
    assert (last.accept["T"], last.length) == (1.5, {"type": "fixed", "k": 16})
    assert (cells[-1].grid, cells[-1].values) == ("a", {"accept.T": 1.5, "length.k": 16})
    assert NODE == {"name": "a", "proposer": "ngram", "accept": {"type": "fuzzy"}}, "the recipe itself is left alone"


def test_keys_that_end_alike_are_written_out():
    node = NODE | {"accept": "topk", "grid": {"accept.k": [2, "all"], "length.k": [4], "proposer.max": [3]}}
    first, last = expand(node, "r.yaml")
    assert first.node["name"] == "a_accept.k=2_length.k=4_max=3"
    assert last.node["name"] == "a_accept.k=all_length.k=4_max=3"
    assert methods.resolve(last.node, "r.yaml").accept == {"type": "topk", "k": "all"}


def test_names_can_be_files_and_arguments():
    draft = {"type": "draft_model", "model": {"name": "x"}}
    node = {"name": "a", "proposer": draft, "grid": {"proposer.model.name": ["runs/my draft", "b"]}}
    first, second = expand(node, "r.yaml")
    assert [first.node["name"], second.node["name"]] == ["a_name=runs-my-draft", "a_name=b"]
    assert first.node["proposer"]["model"] == {"name": "runs/my draft"}
    assert [cell.node["name"] for cell in expand(grid(accept__T=[None, True]), "r.yaml")] == ["a_T=null", "a_T=true"]


def test_a_named_method_is_a_base():
    node = {"name": "mine", "base": "topk", "grid": {"accept.k": [2, 3], "proposer.max": [6]}}
    found = [methods.resolve(cell.node, "r.yaml") for cell in expand(node, "r.yaml")]
    assert [one.accept["k"] for one in found] == [2, 3]
    assert found[0].proposer == {"type": "ngram", "min": 2, "max": 6}


def test_neighbours_are_one_step_along_one_axis():
    cells = expand(grid(accept__T=[1, 1.5, 2], length__k=[4, 8, 16]), "r.yaml")
    middle = cells[4]
    assert [cell.node["name"] for cell in cells if cell.beside(middle)] == [
        "a_T=1_k=8",
        "a_T=1.5_k=4",
        "a_T=1.5_k=16",
        "a_T=2_k=8",
    ]
    [other, *_] = expand(grid(accept__T=[1, 1.5]) | {"name": "b"}, "r.yaml")
    [alone] = expand("ngram", "r.yaml")
    assert not any(cell.beside(other) or cell.beside(alone) for cell in cells)
    assert not alone.beside(alone)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"accept.T": []}, r"'accept\.T' is \[\]; expected a list of one value or more"),
        ({"length.k": 4}, r"'length\.k' is 4; expected a list"),
        ({"length.k": "4"}, r"'length\.k' is '4'; expected a list"),
        ({"length.k": [4, 8, 4]}, r"'length\.k' has 4 twice"),
        ({"accept.T": [1, 1.0]}, r"'accept\.T' has 1 twice"),
        ({"proposer.head": ["a/b", "a b"]}, r"'proposer\.head' has 'a-b' twice"),
        ({"length.k": [[4]]}, r"'length\.k' has \[4\]; expected numbers, words"),
        ({"lenght.k": [4]}, r"unknown key 'lenght\.k'. Did you mean 'length'"),
        ({"k": [4]}, r"unknown key 'k'\."),
        ({"length.": [4]}, r"unknown key 'length\.'"),
        ({"name.k": [4]}, r"unknown key 'name\.k'"),
        ({"proposer.min.max": [4]}, r"goes through 'min', which is 2; write it out"),
        ({}, r"is \{\}; expected options and lists"),
        ([4], r"is \[4\]; expected options and lists"),
    ],
)
def test_what_is_no_grid(axes, says):
    node = NODE | {"proposer": {"type": "ngram", "min": 2}, "grid": axes}
    with pytest.raises(UserError, match=r"^r\.yaml: method 'a', key 'grid'.*" + says):
        expand(node, "r.yaml")


def test_a_grid_without_a_name():
    with pytest.raises(UserError, match="has a grid, and no 'name'"):
        expand({"proposer": "ngram", "grid": {"length.k": [4]}}, "r.yaml")


def test_an_option_that_a_piece_has_not():
    with pytest.raises(UserError, match=r"method 'a_t=1', accept 'fuzzy': unknown key 't'.*Valid keys here: T"):
        contenders(grid(accept__t=[1]))


def test_cells_are_methods_like_others():
    found = contenders("ngram", grid(length__k=[2, 4]), "baseline")
    assert list(found) == ["baseline", "ngram", "a_k=2", "a_k=4"]
    assert [cell.grid for _, cell in found.values()] == [None, None, "a", "a"]
    with pytest.raises(UserError, match="'a_k=2' is there twice"):
        contenders(grid(length__k=[2]), NODE | {"name": "a_k=2"})


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (["a_k=3"], r"has 'a_k=3', which is no method of the recipe. Did you mean.*Its methods: .*a_k=4, a\."),
        (["a", 7], r"has 7, which is no method"),
        ([], r"is \[\]; expected all, front, or a list"),
        ("frnt", r"is 'frnt'; expected all, front"),
    ],
)
def test_speed_methods_names_methods_or_grids(chosen, says):
    node = grid(length__k=[2, 4])
    for right in ("all", "front", ["a_k=2"], ["a"], ["baseline", "a"]):
        contenders(node, chosen=right)
    with pytest.raises(UserError, match=r"r\.yaml: key 'speed\.methods' " + says):
        contenders(node, chosen=chosen)


@pytest.mark.parametrize(
    ("recipe", "cells"),
    [("sweep_steps", {"rejection": 3, "autojudge": 24, "topk": 18}), ("consensus_steps", {"consensus_learned": 2})],
)
def test_shipped_grids_are_written_out(recipe, cells):
    """Every cell is a method whose pieces take their options, though no model is loaded."""
    path = f"recipes/eval/{recipe}.yaml"
    found = recipes.contenders(recipes.load(path, []), path)
    assert Counter(cell.grid for _, cell in found.values() if cell.grid) == cells
