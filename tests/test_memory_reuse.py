"""Freed memory is kept while training and given back afterwards."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from metafe.training import memory
from metafe.training.memory import give_back_freed_memory, reuse_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
N_BLOCKS, BLOCK = 16, 16 * 2**20
TOTAL = N_BLOCKS * BLOCK


def resident_bytes() -> int:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def allocate_and_free() -> None:
    blocks = [torch.ones(BLOCK // 4) for _ in range(N_BLOCKS)]
    del blocks


@pytest.fixture(autouse=True)
def _nothing_kept_before() -> None:
    """Give back what earlier tests have freed, which new blocks would fill."""
    with reuse_freed_memory(torch.device("cpu")):
        pass


def allocate_and_fail() -> None:
    with reuse_freed_memory(torch.device("cpu")):
        allocate_and_free()
        raise ValueError("inside")


def test_memory_is_kept_inside_and_given_back_at_the_end() -> None:
    before = resident_bytes()
    with reuse_freed_memory(torch.device("cpu")), reuse_freed_memory(torch.device("cpu")):
        allocate_and_free()
        assert resident_bytes() - before > TOTAL // 2
    assert resident_bytes() - before < TOTAL // 2


def test_memory_is_given_back_when_asked() -> None:
    before = resident_bytes()
    with reuse_freed_memory(torch.device("cpu")):
        allocate_and_free()
        give_back_freed_memory()
        assert resident_bytes() - before < TOTAL // 2


def test_memory_is_given_back_after_an_error() -> None:
    before = resident_bytes()
    with pytest.raises(ValueError, match="inside"):
        allocate_and_fail()
    assert resident_bytes() - before < TOTAL // 2


def test_nothing_changes_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: pytest.fail("The allocator must be left alone."))
    with reuse_freed_memory(torch.device("cuda")):
        allocate_and_free()
