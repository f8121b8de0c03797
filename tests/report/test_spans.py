"""Whose each token is: by hand, and of what a tiny model really decoded, in batches whose rows end one by one."""

import json

import pytest

from tests.evaluation.conftest import Tiny
from tests.evaluation.rows import row
from toolkit.engine.types import Generation, Times
from toolkit.evaluation import joined, turns
from toolkit.report.spans import pieces, spans
from toolkit.tiny import byte_tokenizer


def test_a_row_by_hand():
    found = row(tokens=6, windows=[(2, 1), (3, 3)])
    found.windows = [[1, 90], [3]]
    wanted = [("accepted", [0]), ("rejected", [90]), ("target", [1]), ("accepted", [2, 3, 4]), ("target", [5])]
    assert pieces(found) == wanted


def test_a_text_that_ends_in_its_window_has_no_token_of_the_target_behind_it():
    found = row(tokens=5, windows=[(2, 1), (3, 3)])
    found.windows = [[1, 90], [3]]
    assert pieces(found)[-1] == ("accepted", [2, 3, 4])


def test_who_proposed_nothing_is_the_targets():
    assert pieces(row(tokens=3)) == [("target", [0, 1, 2])]


def test_a_gate_that_did_not_ask():
    found = row(tokens=5, windows=[(2, 2), (2, 2)])
    found.windows, found.sources = [[2], [2]], "1121t"
    assert pieces(found) == [("accepted", [0, 1]), ("accepted", [2, 3]), ("target", [4])]


def test_what_was_said_between_two_turns():
    """Of a text that ends in its window, and of one that does not."""
    found = row(tokens=9, windows=[(2, 2), (2, 1)])
    found.windows = [[2], [-3, 2], [1, 90]]
    wanted = [("accepted", [0, 1]), ("prompt", [2, 3, 4]), ("accepted", [5]), ("rejected", [90]), ("target", [6])]
    assert pieces(found)[:5] == wanted
    found.windows = [[2], [-3, 3], [1, 90]]
    assert pieces(found)[:3] == [("accepted", [0, 1]), ("target", [2]), ("prompt", [3, 4, 5])]


def test_a_conversation_says_where_its_turns_are():
    def answer(tokens, windows, rejected):
        return Generation(1, 0, 5, tokens=tokens, windows=windows, rejected=rejected)

    talk = turns._joined(answer([1, 2], [(2, 1)], [[9]]), (7, 7, 7), answer([3], [(0, 0)], [[]]), Times())
    talk = turns._joined(talk, (8,), answer([4, 5, 6], [(2, 2)], [[]]), Times())
    assert turns.windows(talk) == [[1, 9], [-3, 2], [0], [-1, 6], [2]]
    found = row(tokens=0, windows=[(0, 0)])
    found.tokens, found.windows = talk.tokens, turns.windows(talk)
    kinds = {"accepted": [1, 4, 5], "rejected": [9], "target": [2, 3, 6], "prompt": [7, 7, 7, 8]}
    for kind, tokens in kinds.items():
        assert [t for one, some in pieces(found) if one == kind for t in some] == tokens
    assert turns.windows(answer([1], [(0, 0)], [[]])) == []


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """Five prompts of different lengths, in batches of three and five, that a stop string ends early or late."""
    tiny = Tiny(tmp_path_factory.mktemp("spans"))
    draft = "{type: draft_model, model: {name: target, draft_from: {layers: [0]}}}"
    methods = f"methods=[ngram,speculative,{{name: lenient, proposer: {draft}, accept: {{type: topk, k: 40}}}}]"
    stop = 'sampling.stop=["e","¼","a"]'
    assert tiny.run(methods, stop, "sampling.max_new_tokens=40", "target.device=cpu", "speed.batch=5") == 0
    return joined.rows(tiny.records)


def test_windows_are_the_tokens_of_what_was_decoded(decoded):
    assert {one.finish for one in decoded} >= {"stop"} and len(decoded) == 4 * 3 + 2 * 5
    for one in decoded:
        found = pieces(one)
        by = {kind: [t for k, some in found if k == kind for t in some] for kind in ("accepted", "target", "rejected")}
        assert [t for kind, some in found if kind != "rejected" for t in some] == one.tokens
        assert len(by["accepted"]) == one.accepted
        assert len(by["rejected"]) == one.proposed - one.accepted
        assert len(by["target"]) == one.n_tokens - one.accepted <= one.rounds
        assert len(one.windows) == (one.rounds if one.proposed else 0)
    assert sum(one.proposed - one.accepted for one in decoded) > 20 and sum(one.accepted for one in decoded) > 5


def test_what_a_lossless_rule_rejects_is_never_what_follows(decoded):
    """At temperature 0 a rejected token is not the target's choice."""
    for one in decoded:
        found = pieces(one)
        for (kind, rejected), (following, own) in zip(found, found[1:], strict=False):
            if one.lossless and (kind, following) == ("rejected", "target"):
                assert rejected[0] != own[0]


def test_spans_are_the_text(decoded):
    tokenizer = byte_tokenizer()
    for one in decoded:
        shown = spans(pieces(one), tokenizer)
        assert all(a.kind != b.kind for a, b in zip(shown, shown[1:], strict=False))
        said = "".join(span.text for span in shown if span.kind != "rejected")
        assert said.encode() != b"" and json.dumps(said)
    found = row(tokens=0, windows=[(0, 0)])
    found.tokens, found.windows = list(tokenizer("one two three").input_ids), [[3, *tokenizer("xy").input_ids], [8]]
    texts = [(span.text, span.kind) for span in spans(pieces(found), tokenizer)]
    assert texts == [
        ("one", "accepted"),
        ("xy", "rejected"),
        (" ", "target"),
        ("two thre", "accepted"),
        ("e", "target"),
    ]
