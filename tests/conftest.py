"""What all tests share."""

import gc
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
