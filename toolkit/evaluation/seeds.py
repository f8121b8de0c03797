"""Which seeds a method is decoded with: all of the recipe's where something is drawn, else the first alone.

At temperature 0 nothing is drawn, so another seed would write the same text again; the row of the first seed stands
for all (see paired). A proposer that learns from its own clock (`Proposer.learns`: a bandit router) is the exception,
as it chooses otherwise each time. Beside it the baseline is timed with every seed as well, since speeds are only
compared side by side. For more clocks there is `speed.repeats`.
"""

from collections.abc import Sequence

from toolkit.evaluation.measure import Block, Contender
from toolkit.evaluation.score import BASELINE


def varies(contender: Contender, temperature: float) -> bool:
    """May a prompt be decoded otherwise with another seed?"""
    return temperature > 0 or contender.decoder.proposer.learns


def asked(contender: Contender, block: Block, among: Sequence[Contender], seeds: Sequence[int], t: float) -> bool:
    """Is this block, with its seed, decoded by this one? among: all that are in the block's set; t: temperature."""
    if block.seed == seeds[0] or varies(contender, t):
        return True
    return block.set == "speed" and contender.name == BASELINE and any(varies(one, t) for one in among)


def note(contenders: Sequence[Contender], seeds: Sequence[int], temperature: float) -> str:
    """What several seeds mean for the tables."""
    named = ", ".join(map(str, seeds))
    if temperature > 0:
        return f"seeds {named}: each prompt was decoded with all of them; n and intervals count prompts"
    learning = [one.name for one in contenders if varies(one, temperature)]
    once = f"temperature 0 draws nothing: seed {seeds[0]} alone was run, and stands for seeds {named}"
    if not learning:
        return once
    return f"{once}; {', '.join(learning)}, which learns as it decodes, with each, and the baseline timed beside it"
