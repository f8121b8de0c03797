"""Compositions of several drafts under a router that the tests decide for, and what each round of a request drafted."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.decode.compose import Case
from tests.decode.models import model
from toolkit.acceptance.rejection import Rejection
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.routing import Asked, Choice
from toolkit.engine.trace import TraceSink
from toolkit.engine.types import Batch, Draft, LengthPolicy, TargetView, Verdict, Wants
from toolkit.lengths.fixed import Fixed
from toolkit.proposers._groups import Profile
from toolkit.proposers.routed import Routed

FAMILY = "llama"
LIMIT = 4  # of all windows
DRAFTS = [  # of one target: every kind of proposer, lengths of every kind, vocabularies of their own
    Case(FAMILY, kind="far"),
    Case(FAMILY, "eagle3", length="jointadaspec"),
    Case(FAMILY, kind="near", length="entropy", window=3),
    Case(FAMILY, "ngram"),
    Case(FAMILY, "none"),
    Case(FAMILY, kind="trimmed", length="specdecpp"),
    Case(FAMILY, "eagle3", window=2),
    Case(FAMILY, kind="far", length="jointadaspec"),
]


@dataclass
class Told:
    """A router that does as it is told, and remembers what it was asked and told."""

    choice: Callable[[Asked], int]
    every: int = 0
    learns: bool = False
    asked: list[Asked] = field(default_factory=list)
    observed: list[tuple[int, int, float]] = field(default_factory=list)

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        self.asked += asked
        return [Choice(self.choice(one)) for one in asked]

    def observe(self, draft: int, tokens: int, seconds: float) -> None:
        self.observed.append((draft, tokens, seconds))


def profiles(drafts: Sequence[Case] = DRAFTS) -> list[Profile]:
    return [Profile(case.name, case.propose(), case.length_policy()) for case in drafts]


def routed(
    router: Told, drafts: Sequence[Case] = DRAFTS, *, length: LengthPolicy | None = None, trace: TraceSink | None = None
) -> SpecDecoder:
    target = model(drafts[0].target).runner
    return SpecDecoder(target, Routed(profiles(drafts), router), length or Fixed(LIMIT), Rejection(), trace=trace)


def alone(case: Case, trace: TraceSink | None = None) -> SpecDecoder:
    """The draft as a method of its own."""
    return SpecDecoder(model(case.target).runner, case.propose(), case.length_policy(), Rejection(), trace=trace)


class Watch:
    """Every round of every request: the tokens that were proposed, and how many of them were accepted."""

    wants = Wants()

    def __init__(self) -> None:
        self.rounds: dict[int, list[tuple[list[int], int]]] = defaultdict(list)

    def round(
        self, batch: Batch, draft: Draft, verdict: Verdict, target: TargetView, drafting: float, verifying: float
    ) -> None:
        for b, request in enumerate(batch.requests.tolist()):
            window = draft.tokens[b][draft.valid[b]].tolist()
            self.rounds[request].append((window, int(verdict.accepted[b])))
