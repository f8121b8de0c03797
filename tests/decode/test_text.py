"""Text, stop strings and streaming: what is said depends on the tokens, never on how rounds were cut.

Two of the five tokens are halves of "é", so that text has to wait for the other half, or turns out to be broken.
"""

import functools
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tests.decode.compose import Case
from tests.decode.draws import request
from tests.decode.models import EOS, build, model
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.runner import Runner
from toolkit.engine.types import Generation, Request, Sampling
from toolkit.errors import UserError
from toolkit.lengths.entropy import Entropy
from toolkit.lengths.fixed import Fixed
from toolkit.proposers.none import Nothing

LIMIT = 14
REQUESTS = [Request(i, request(i).prompt) for i in range(90)]
STOPS = [("ab",), ("é",), ("aa", "b"), ("aéa", "bb"), ("ba", "abab")]
CASES = [
    Case("llama", "none"),
    Case("llama", "ngram"),
    Case("llama", kind="near", window=1),
    Case("llama", kind="near", window=4),
    Case("llama", kind="far", length="entropy", window=4),
]


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """a, b, the two bytes of é, end of text."""
    backend = Tokenizer(WordLevel({"a": 0, "b": 1, "Ã": 2, "©": 3, "</s>": EOS}, unk_token="a"))
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", clean_up_tokenization_spaces=False)


@functools.cache
def _target() -> Runner:
    return Runner(build(CASES[0].target), tokenizer())


def _decoder(case: Case) -> SpecDecoder:
    return SpecDecoder(_target(), case.propose(), case.length_policy(), Rejection())


def _decode(tokens: list[int]) -> str:
    return tokenizer().decode(tokens, skip_special_tokens=True)


def _cut(whole: Generation, stops: tuple[str, ...]) -> Generation:
    """What a generation should be with stop strings, from what it is without."""
    for count in range(1, len(whole.tokens) + 1):
        text = _decode(whole.tokens[:count])
        ends = [text.index(stop) for stop in stops if stop in text]
        if ends:
            cut = replace(whole, tokens=whole.tokens[:count], text=text[: min(ends)], finish="stop", windows=[])
            break
    else:
        return whole
    began = 0
    for proposed, accepted in whole.windows:
        kept = min(count - began, accepted + 1)
        counted = proposed if kept == accepted + 1 else min(proposed, kept)
        cut.windows.append((counted, min(accepted, kept)))
        began += kept
        if began == count:
            break
    return cut


def _essence(generation: Generation) -> tuple[object, ...]:
    return generation.tokens, generation.text, generation.finish, generation.windows


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_text_is_that_of_the_tokens(case: Case, temperature: float) -> None:
    sampling = Sampling(temperature, max_new_tokens=LIMIT)
    for generation in _decoder(case).generate(REQUESTS, sampling):
        assert generation.text == _decode(generation.tokens)


@pytest.mark.parametrize("stops", STOPS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_stop_string_cuts_tokens_text_and_counts(case: Case, temperature: float, stops: tuple[str, ...]) -> None:
    """Exactly there where the same run without stop strings would contain the first of them."""
    sampling = Sampling(temperature, max_new_tokens=LIMIT, seed=5)
    decoder = _decoder(case)
    whole = decoder.generate(REQUESTS, sampling)
    wanted = [_cut(generation, stops) for generation in whole]
    stopped = decoder.generate(REQUESTS, replace(sampling, stop=stops))
    assert [_essence(g) for g in stopped] == [_essence(g) for g in wanted]
    if temperature:
        assert sum(g.finish == "stop" for g in stopped) >= 5, "too few generations met a stop string"


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_greedy_stops_where_autoregression_does(stops: tuple[str, ...]) -> None:
    sampling = Sampling(max_new_tokens=LIMIT, stop=stops)
    outputs = [[(g.tokens, g.text, g.finish) for g in _decoder(case).generate(REQUESTS, sampling)] for case in CASES]
    assert all(output == outputs[0] for output in outputs)


@pytest.mark.parametrize("stops", [(), *STOPS], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_streaming(case: Case, stops: tuple[str, ...]) -> None:
    """Tokens come in order, the pieces of text add up to the text, and nothing is shown that is then taken back."""
    tokens: dict[int, list[int]] = {r.id: [] for r in REQUESTS}
    texts: dict[int, str] = {r.id: "" for r in REQUESTS}

    def on_token(id: int, token: int, text: str) -> None:
        tokens[id].append(token)
        texts[id] += text

    sampling = Sampling(1.0, max_new_tokens=LIMIT, stop=stops, seed=6)
    for generation in _decoder(case).generate(REQUESTS, sampling, on_token):
        assert tokens[generation.id] == generation.tokens
        assert texts[generation.id] == generation.text
        assert not any(stop in generation.text for stop in stops)


def test_text_is_streamed_early() -> None:
    """All but what may yet become a stop string, or a character."""
    shown: list[tuple[int, str]] = []
    sampling = Sampling(1.0, max_new_tokens=LIMIT, stop=("bb",), seed=6)
    _decoder(CASES[3]).generate(REQUESTS, sampling, lambda _, token, text: shown.append((token, text)))
    assert any(token == 0 and text == "a" for token, text in shown)
    assert not any(token == 0 and text == "" for token, text in shown), "nothing that ends in 'a' can become 'bb'"
    assert any(token == 1 and text == "" for token, text in shown), "a 'b' must wait"


@pytest.mark.parametrize(
    ("requests", "sampling", "hint"),
    [
        ([Request(7, ())], Sampling(), "request 7: the prompt is empty"),
        ([Request(7, (1,) * 60)], Sampling(max_new_tokens=5), "60 prompt tokens"),
        ([Request(7, (1,))], Sampling(max_new_tokens=0), "max_new_tokens"),
        ([Request(7, (1,))], Sampling(max_new_tokens=2, stop=("a",)), "tokenizer"),
    ],
)
def test_bad_requests(requests: list[Request], sampling: Sampling, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        Case("llama", "none").decoder().generate(requests, sampling)


def test_a_policy_without_its_logits() -> None:
    runner = model(CASES[0].target).runner
    with pytest.raises(UserError, match="'entropy'.*'none'"):
        SpecDecoder(runner, Nothing(), Entropy(1.0, 4), Rejection())
    assert SpecDecoder(runner, Nothing(), Fixed(4), Rejection()).generate([], Sampling()) == []
