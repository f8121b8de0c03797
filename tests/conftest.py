"""What all tests share."""

import gc
import signal
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def lean_process() -> Iterator[None]:
    """Tiny models gain nothing from threads, and the collector nothing from walking the libraries again and again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(before)


# A shell starts what it puts into the background with SIGINT ignored, which its children inherit: tests send some
signal.signal(signal.SIGINT, signal.default_int_handler)
