"""What a learning router is told that its drafts took, where a device is still at work when the host goes on."""

import pytest
import torch

from tests.decode.draws import PROMPTS
from tests.decode.models import TARGETS, model
from tests.decode.routing import Told
from toolkit.acceptance.rejection import Rejection
from toolkit.engine import clock
from toolkit.engine.loop import SpecDecoder
from toolkit.engine.types import Request, Sampling
from toolkit.lengths.fixed import Fixed
from toolkit.proposers._groups import Profile
from toolkit.proposers.draft_model import DraftModel
from toolkit.proposers.routed import Routed

READS, DRAFTS, TARGET_READS = (7.0, 2.0), (5.0, 1.0), 100.0  # seconds of the device, of either draft and of the target


class Device:
    """Does what it is given when somebody waits for it, and no sooner."""

    def __init__(self):
        self.now = self.queued = 0.0
        self.waited_for = set()

    def give(self, seconds):
        self.queued += seconds

    def wait(self):
        self.now, self.queued = self.now + self.queued, 0.0

    def clock(self, wait_for):
        self.waited_for.add(wait_for)
        if wait_for is not None:
            self.wait()
        return self.now


def decoder(device, router):
    """Two drafts on a device that works by itself; the target reads its prompts there before they do."""
    runner = model(TARGETS["llama"]).runner

    class Slow(DraftModel):
        number = 0

        def prefill(self, *parts):
            device.give(READS[self.number])
            super().prefill(*parts)

        def propose(self, *parts):
            device.give(DRAFTS[self.number])
            return super().propose(*parts)

    class Second(Slow):
        number = 1

    class Target(Routed):
        def prefill(self, *parts):
            device.give(TARGET_READS)
            super().prefill(*parts)

    class Read(Rejection):
        def verify(self, *parts):
            device.wait()  # as the loop does to read the verdict
            return super().verify(*parts)

    drafts = [Profile(kind.__name__, kind(runner), Fixed(2)) for kind in (Slow, Second)]
    return SpecDecoder(runner, Target(drafts, router, clock=device.clock), Fixed(2), Read())


REQUESTS = [Request(i, PROMPTS[2], limit=9) for i in range(2)]


def test_each_draft_is_told_its_own_time():
    device, router = Device(), Told(lambda asked: asked.request, learns=True)
    done = decoder(device, router).generate(REQUESTS, Sampling(max_new_tokens=9))
    told = {draft: seconds for draft, _, seconds in router.observed}
    assert told == {i: READS[i] + DRAFTS[i] * len(one.windows) for i, one in enumerate(done)}
    assert device.waited_for == {torch.device("cpu")}


def test_nobody_waits_where_nothing_is_learned():
    device, router = Device(), Told(lambda asked: asked.request)
    decoder(device, router).generate(REQUESTS, Sampling(max_new_tokens=9))
    assert device.waited_for == {None}


@pytest.mark.parametrize("device", [None, "cpu", "cuda:0"])
def test_the_clock_waits_for_accelerators(device, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    device = device and torch.device(device)
    assert clock.seconds(device) <= clock.seconds()
    assert waited == ([device] if device and device.type == "cuda" else [])
