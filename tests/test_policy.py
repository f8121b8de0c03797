"""JointAdaSpec's tables as a file: read back as written, states as numbers, and every fault refused by name."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from toolkit import policy
from toolkit.errors import UserError
from toolkit.policy import Bins, Policy, Solution

BINS = Bins(policy.edges(4, 0.1, 1.6, "log"), policy.edges(3, 0.0, 3.0, "linear"), k_max=2)
GRID = (1.0, 2.0, 4.0)


def made():
    random = np.random.default_rng(0)
    solutions = []
    for order, kappa in (("joint", 0.0), ("joint", 1.0), ("length_then_verif", 1.0)):
        lenient = random.integers(3, size=BINS.states).astype(np.int8)
        action = np.where(random.random(BINS.states) < 0.5, 0, 1 + lenient).astype(np.int8)
        action.reshape(BINS.shape)[..., -1] = 0
        solutions.append(Solution(order, kappa, 0.02, action, lenient))
    visits = random.integers(100, size=(BINS.states, 2)).astype(np.int32)
    return Policy(BINS, GRID, tuple(solutions), visits, 1.0)


def test_it_is_read_as_it_was_written(tmp_path):
    policy.save(made(), tmp_path)
    found, expected = policy.read(tmp_path), made()
    assert (found.bins, found.lenience) == (expected.bins, expected.lenience)
    assert (found.visits == expected.visits).all()
    for one, other in zip(found.solutions, expected.solutions, strict=True):
        assert (one.order, one.kappa, one.c_time) == (other.order, other.kappa, other.c_time)
        assert (one.action == other.action).all() and (one.lenient == other.lenient).all()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4000


def test_bins():
    assert BINS.entropy == pytest.approx((0.2, 0.4, 0.8)) and BINS.divergence == pytest.approx((1.0, 2.0))
    assert BINS.shape == (4, 3, 3) and BINS.states == 36
    assert policy.edges(1, 0.1, 1.0, "log") == ()


def test_states_are_numbered_by_entropy_divergence_and_depth():
    edges = BINS.edges(torch.device("cpu"))
    entropy = torch.tensor([0.0, 0.3, 0.4, 9.0])  # below all, between, on an edge, beyond
    found = BINS.encode(edges, entropy, torch.tensor([0.0, 1.0, 1.5, 99.0]), 2)
    assert found.tolist() == [(h * 3 + k) * 3 + 2 for h, k in ((0, 0), (1, 1), (2, 1), (3, 2))]
    every = BINS.encode(
        edges, torch.tensor([[[0.1]], [[0.3]], [[0.5]], [[1.0]]]), torch.tensor([[0.5], [1.5], [2.5]]), torch.arange(3)
    )
    assert every.reshape(-1).tolist() == list(range(36))


def test_a_solution_that_is_not_there():
    assert made().solution("joint", 1.0, "here").label == "joint kappa=1"
    with pytest.raises(UserError, match=r"here: .*'joint' and kappa 3; it has joint kappa=0, joint kappa=1, length_"):
        made().solution("joint", 3.0, "here")


def test_solutions_have_notes_of_their_own(tmp_path):
    policy.save(made(), tmp_path)
    found = policy.read(tmp_path)
    assert len({found.note(one) for one in found.solutions}) == 3
    tables = load_file(tmp_path / policy.TABLES)
    tables["lenient"][0, 0] = (tables["lenient"][0, 0] + 1) % 3
    save_file(tables, tmp_path / policy.TABLES)
    assert policy.read(tmp_path).note(found.solutions[0]) != found.note(found.solutions[0])


def test_exact_is_about_tokens_that_are_drafted():
    action, lenient = np.array([0, 1], np.int8), np.array([2, 0], np.int8)
    assert Solution("joint", 1.0, 0.1, action, lenient).exact
    assert not Solution("joint", 1.0, 0.1, np.array([2, 1], np.int8), lenient).exact


CONFIGS = [
    ({"policy_version": 2}, "'policy_version' is 2"),
    ({"bins": {"entropy": [0.2, 0.4]}}, "'bins'"),
    ({"bins": {"entropy": [0.4, 0.2, 0.8], "divergence": [1.0, 2.0], "k_max": 2}}, "ascending"),
    ({"bins": {"entropy": ["a"], "divergence": [1.0, 2.0], "k_max": 2}}, "list of numbers"),
    ({"bins": {"entropy": [0.2, 0.4, 0.8], "divergence": [1.0, 2.0], "k_max": 0}}, "'bins.k_max' is 0"),
    ({"bins": {"entropy": [0.2, 0.8], "divergence": [1.0, 2.0], "k_max": 2}}, "tensor 'action' is int8 of shape"),
    ({"lenience": [2.0, 4.0]}, "begin with 1"),
    ({"lenience": [1.0, 2.0]}, "tensor 'action' has values outside of 0 to 2"),
    ({"solutions": []}, "one solution or more"),
    ({"solutions": [{"order": "first", "kappa": 1.0, "c_time": 0.1}]}, "'solutions.0'"),
]


@pytest.mark.parametrize(("change", "said"), CONFIGS, ids=[said for _, said in CONFIGS])
def test_a_config_that_is_wrong(tmp_path, change, said):
    policy.save(made(), tmp_path)
    path = tmp_path / policy.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError) as error:
        policy.read(tmp_path)
    assert said in str(error.value) and str(tmp_path) in str(error.value)


def drafts_on(tables):
    tables["action"].reshape(-1, *BINS.shape)[0, 0, 0, -1] = 1


def goes_below(tables):
    tables["lenient"][1, 3] = -1


def is_wider(tables):
    tables["action"] = tables["action"].astype(np.int32)


TABLES = [
    (drafts_on, "drafts on at place 2"),
    (goes_below, "'lenient' has values outside"),
    (is_wider, "'action' is int32"),
    (lambda tables: tables.pop("visits"), "'visits' is missing or unknown"),
]


@pytest.mark.parametrize(("change", "said"), TABLES, ids=[said for _, said in TABLES])
def test_tables_that_are_wrong(tmp_path, change, said):
    policy.save(made(), tmp_path)
    tables = load_file(tmp_path / policy.TABLES)
    change(tables)
    save_file(tables, tmp_path / policy.TABLES)
    with pytest.raises(UserError) as error:
        policy.read(tmp_path)
    assert said in str(error.value) and policy.TABLES in str(error.value)


def test_files_that_are_damaged(tmp_path):
    policy.save(made(), tmp_path)
    (tmp_path / policy.TABLES).write_bytes(b"half")
    with pytest.raises(UserError, match="safetensors"):
        policy.read(tmp_path)
    (tmp_path / policy.CONFIG).write_text("{")
    with pytest.raises(UserError, match="JSON"):
        policy.read(tmp_path)
    with pytest.raises(UserError, match="JSON"):
        policy.read(tmp_path / "nowhere")
