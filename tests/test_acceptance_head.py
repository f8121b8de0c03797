"""The acceptance head of SpecDec++: the network, its directory, and the length policy that reads it."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from toolkit.engine.types import DraftView
from toolkit.errors import UserError
from toolkit.lengths import specdecpp
from toolkit.lengths.specdecpp import Config, SpecDecPP
from toolkit.nets import heads
from toolkit.nets.heads import AcceptanceHead, HeadSettings

WIDTH, BLOCKS = 8, 3
SETTINGS = HeadSettings(threshold=0.4, max=6, temperature=1.0)


def random_head(width=WIDTH, blocks=BLOCKS):
    torch.manual_seed(0)
    head = AcceptanceHead(width, blocks)
    head.mean.normal_()
    head.scale.uniform_(0.5, 2)
    return head


def scripted(width=WIDTH):
    """A head whose f is the sigmoid of a state's first number."""
    head = AcceptanceHead(width, 1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.out.weight[heads.ACCEPT, 0] = 1
    return head


def view(depth, chances, width=WIDTH):
    """What a policy is shown where the head gives each row's newest candidate this chance."""
    hidden = torch.zeros(len(chances), width)
    hidden[:, 0] = torch.logit(torch.tensor(chances, dtype=torch.float64)).float()
    return DraftView(torch.arange(len(chances)), depth, torch.zeros(len(chances), 5), hidden)


def stopped(policy, *chances):
    """chances: of each candidate, a list of the rows -> where each row is stopped (None: nowhere)."""
    ends = [None] * len(chances[0])
    assert policy.stop(view(0, [0.001] * len(ends)))[0] is None, "nothing is drafted yet, and it was judged"
    for depth, row in enumerate(chances, start=1):
        stop, notes = policy.stop(view(depth, row))
        assert notes == {}
        if stop is not None:
            ends = [depth if end is None and now else end for end, now in zip(ends, stop.tolist(), strict=True)]
    return ends


def test_blocks_are_distinct_and_all_learn():
    head = random_head()
    count = sum(parameter.numel() for parameter in head.parameters())
    assert count == BLOCKS * (WIDTH * WIDTH + WIDTH) + 2 * WIDTH + 2
    before = [block.weight.detach().clone() for block in head.blocks]
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    functional.cross_entropy(head(torch.randn(16, WIDTH)), torch.randint(2, (16,))).backward()
    optimizer.step()
    moves = [block.weight.detach() - old for block, old in zip(head.blocks, before, strict=True)]
    assert all(move.abs().max() > 0 for move in moves)
    for i in range(BLOCKS):
        for j in range(i):
            assert not torch.allclose(moves[i], moves[j]) and not torch.equal(before[i], before[j])


def test_the_network_is_what_the_paper_says():
    head, hidden = random_head(), torch.randn(2, 3, WIDTH)
    state = (hidden - head.mean) * head.scale
    for block in head.blocks:
        inner = state @ block.weight.T + block.bias
        state = state + inner * torch.sigmoid(inner)
    logits = state @ head.out.weight.T + head.out.bias
    assert torch.allclose(head(hidden), logits, atol=1e-5)
    wanted = torch.sigmoid(logits[..., 1] - logits[..., 0])  # class 0 is reject
    assert torch.allclose(head.probability(hidden), wanted, atol=1e-5)
    assert head.probability(hidden.bfloat16()).dtype == torch.float32


def test_the_product_has_the_newest_candidate_in_it():
    policy = SpecDecPP(scripted(), threshold=0.5, least=1, limit=8)
    #              candidate 0  1          2
    assert stopped(policy, [0.4, 0.9, 0.9], [0.9, 0.5, 0.9], [0.9, 0.9, 0.6]) == [1, 2, 3]
    assert stopped(policy, [0.9], [0.8], [0.8]) == [None], "1 - 0.576 is below the threshold"
    assert stopped(policy, [0.9], [0.8], [0.69]) == [3], "1 - 0.4968 is above"


def test_a_window_forgets_the_one_before():
    policy = SpecDecPP(scripted(), threshold=0.5, least=1, limit=8)
    assert stopped(policy, [0.1, 0.9]) == [1, None]
    assert stopped(policy, [0.9, 0.1, 0.9]) == [None, 1, None], "of another number of rows, too"


def test_extreme_thresholds():
    rows = [0.999, 0.5, 0.001]
    assert stopped(SpecDecPP(scripted(), 0.0, 1, 8), rows, rows) == [1, 1, 1]
    assert stopped(SpecDecPP(scripted(), 1.0, 1, 8), rows, rows, rows) == [None] * 3


def test_the_shortest_window_is_drafted_in_any_case():
    policy = SpecDecPP(scripted(), threshold=0.5, least=3, limit=8)
    assert stopped(policy, [0.1, 0.9], [0.9, 0.9], [0.9, 0.9], [0.9, 0.1]) == [3, 4], "early doubts count later"


@pytest.mark.parametrize("width", [4, None])
def test_states_of_another_width_are_refused(width):
    policy = SpecDecPP(scripted(), 0.5, 1, 8)
    seen = view(1, [0.5], width or WIDTH)
    seen.hidden = seen.hidden if width else None
    policy.stop(view(0, [0.5]))
    with pytest.raises(UserError, match=f"width {WIDTH}, and the draft's have {width or 'none'}"):
        policy.stop(seen)


class Shelf:
    """Models that have one head."""

    def acceptance_head(self, directory):
        assert directory == "here"
        return scripted(), SETTINGS, "digest"


def test_what_a_method_leaves_out_is_the_artifact_s():
    policy = specdecpp.build(Config("here"), Shelf())
    assert (policy.threshold, policy.least, policy.limit, policy.made_for) == (0.4, 1, 6, "digest")
    policy = specdecpp.build(Config("here", threshold=0.7, min=2, max=3), Shelf())
    assert (policy.threshold, policy.least, policy.limit) == (0.7, 2, 3)


@pytest.mark.parametrize(
    "options", [{"threshold": 1.5}, {"threshold": -0.1}, {"min": 0}, {"max": 0}, {"min": 3, "max": 2}, {"min": 7}]
)
def test_bounds_that_cannot_be_meant(options):
    with pytest.raises(UserError, match="needs a threshold from 0 to 1 and 1 <= min <= max"):
        specdecpp.build(Config("here", **options), Shelf())


@pytest.fixture
def directory(tmp_path):
    heads.save(random_head(), tmp_path / "head", SETTINGS)
    return tmp_path / "head"


def test_what_was_saved_is_read(directory):
    before = torch.random.get_rng_state()
    head, settings = heads.read(directory)
    assert torch.equal(torch.random.get_rng_state(), before), "reading a head drew random numbers"
    assert settings == SETTINGS and not head.training and head.width == WIDTH
    for name, tensor in random_head().state_dict().items():
        stored = tensor if name in ("mean", "scale") else tensor.half().float()
        assert torch.equal(head.state_dict()[name], stored) and head.state_dict()[name].dtype == torch.float32
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "head.safetensors"]


def test_a_head_of_a_real_draft_is_two_megabytes(tmp_path):
    heads.save(AcceptanceHead(576), tmp_path, SETTINGS)
    assert math.isclose((tmp_path / "head.safetensors").stat().st_size, 2e6, rel_tol=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "eagle3"}, "key 'kind' is not 'specdecpp'"),
        ({"blocks": None}, "key 'blocks' is missing; expected a number"),
        ({"blocks": 2}, "tensor 'blocks.2.bias' has shape .8., and config.json asks for none"),
        ({"blocks": 0}, "key 'blocks' is 0; expected 1 to 64"),
        ({"hidden_size": "8"}, "key 'hidden_size' is '8'; expected a number"),
        ({"hidden_size": 9}, "has shape .8, 8., and config.json asks for .9, 9.|asks for .9."),
        ({"threshold": None}, "key 'threshold' is missing"),
        ({"threshold": 1.2}, "key 'threshold' is 1.2; expected 0 to 1"),
        ({"threshold": True}, "key 'threshold' is True; expected a number"),
        ({"max": 2.5}, "key 'max' is 2.5; expected a number"),
        ({"max": 0}, "key 'max' is 0; expected 1 or more"),
        ({"temperature": -1}, "key 'temperature' is -1.0; expected 0 or more"),
    ],
)
def test_a_config_that_is_no_head_s_is_named(directory, changes, message):
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(UserError, match=message):
        heads.read(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": None}, "tensor 'mean' has shape none, and config.json asks for .8."),
        ({"more": torch.zeros(3)}, "tensor 'more' has shape .3., and config.json asks for none"),
        ({"out.weight": torch.zeros(3, WIDTH)}, "tensor 'out.weight' has shape .3, 8."),
        ({"out.weight": torch.full((2, WIDTH), torch.nan)}, "tensor 'out.weight' has values that are no numbers"),
    ],
)
def test_weights_that_are_no_head_are_named(directory, changes, message):
    path = directory / "head.safetensors"
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(UserError, match=rf"head\.safetensors: {message}"):
        heads.read(directory)


def test_files_that_are_not_there_or_not_readable(directory, tmp_path):
    with pytest.raises(UserError, match=r"config\.json: not readable as JSON"):
        heads.read(tmp_path / "nowhere")
    weights = directory / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        heads.read(directory)
    weights.unlink()
    with pytest.raises(UserError, match=r"head\.safetensors: missing"):
        heads.read(directory)
