"""Conversations: a prompt with follow-ups is decoded turn by turn, and counts as one generation.

Each turn goes on from the tokens that were generated, as a chat server's would, and the user's words between two
answers are in no count but in the tokens: so prompt and tokens are together what the target has read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from toolkit.engine.loop import SpecDecoder
from toolkit.engine.routing import Account
from toolkit.engine.types import Generation, Request, Sampling, Times
from toolkit.evaluation.prompts import Prompt


@dataclass
class Conversation(Generation):
    """Several turns. told: how many of `tokens` the model was told, and did not generate; turns: where each was told
    something, as (its windows before, its tokens before, how many it was told).
    """

    told: int = 0
    turns: list[tuple[int, int, int]] = field(default_factory=list)


def generated(generation: Generation) -> int:
    """Tokens that the model has generated."""
    return len(generation.tokens) - _told(generation)


def windows(generation: Generation) -> list[list[int]]:
    """As `Record.windows`; [] where nothing was proposed."""
    if not any(proposed for proposed, _ in generation.windows):
        return []
    pairs = zip(generation.windows, generation.rejected, strict=True)
    found = [[accepted, *rejected] for (_, accepted), rejected in pairs]
    for before, at, told in reversed(_turns(generation)):
        found.insert(before, [-told, at])
    return found


def _turns(generation: Generation) -> list[tuple[int, int, int]]:
    return generation.turns if isinstance(generation, Conversation) else []


def _told(generation: Generation) -> int:
    return generation.told if isinstance(generation, Conversation) else 0


def go_on(
    decoder: SpecDecoder,
    prompts: Sequence[Prompt],
    requests: Sequence[Request],
    sampling: Sampling,
    first: Sequence[Generation],
) -> list[Generation]:
    """The later turns of those prompts that have some, those of all prompts at once. `first`: the first turns."""
    done = list(first)
    for turn in range(max(len(prompt.follow_ups) for prompt in prompts)):
        places = [place for place, prompt in enumerate(prompts) if len(prompt.follow_ups) > turn]
        between = [_between(done[place], prompts[place].follow_ups[turn]) for place in places]
        asked = [
            replace(requests[place], prompt=(*prompts[place].tokens, *done[place].tokens, *told))
            for place, told in zip(places, between, strict=True)
        ]
        waited = max((done[place].times for place in places), key=lambda times: times.total)
        answers = decoder.generate(asked, sampling)
        for place, told, answer in zip(places, between, answers, strict=True):
            done[place] = _joined(done[place], told, answer, waited)
    return done


def _between(answer: Generation, follow_up: tuple[int, ...]) -> tuple[int, ...]:
    """An end of turn that the model has generated is not said again."""
    return follow_up[1:] if follow_up[:1] == tuple(answer.tokens[-1:]) else follow_up


def _joined(past: Generation, told: tuple[int, ...], answer: Generation, waited: Times) -> Conversation:
    """`waited`: how long the turns before took, of the row that took longest: the others waited for it."""
    divergences = [one.divergence for one in (past, answer) if one.divergence is not None]
    return Conversation(
        id=past.id,
        sample=past.sample,
        prompt_tokens=past.prompt_tokens,
        tokens=[*past.tokens, *told, *answer.tokens],
        text=f"{past.text}\n\n{answer.text}",
        finish=answer.finish,
        windows=[*past.windows, *answer.windows],
        rejected=[*past.rejected, *answer.rejected],
        rounds=past.rounds + answer.rounds,
        sources=past.sources + answer.sources,
        times=Times(**{f.name: getattr(waited, f.name) + getattr(answer.times, f.name) for f in fields(Times)}),
        first_token_seconds=past.first_token_seconds,
        gaps=[*past.gaps, *answer.gaps],
        divergence=sum(divergences) if divergences else None,
        counters={name: past.counters.get(name, 0) + count for name, count in answer.counters.items()},
        routing=_routing(past.routing, answer.routing),
        lossless=past.lossless and answer.lossless,
        told=_told(past) + len(told),
        turns=[*_turns(past), (len(past.windows), len(past.tokens), len(told))],
    )


def _routing(past: Account | None, answer: Account | None) -> Account | None:
    """Every turn is routed anew."""
    if past is None or answer is None:
        return None
    return Account(past.confidence, past.seconds + answer.seconds, past.rounds + answer.rounds)
