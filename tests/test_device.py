"""What a process is made ready for."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from tuneful.core.device import prepare_process
if sys.argv[1] == "prepared":
    prepare_process()
for turn in range(9):
    if turn == 6:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.empty(size << 20, dtype=torch.uint8).fill_(turn) for size in (24, 40)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as glibc makes them")
def test_freed_memory_is_kept() -> None:
    """Three turns of 64 MB in pages of 4 KB are 49,152 faults when every page is fetched anew."""
    found = {
        name: int(
            subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True).stdout
        )
        for name in ("as it is", "prepared")
    }
    assert found["as it is"] > 10_000, "glibc keeps it by itself now: is the setting still needed?"
    assert found["prepared"] < 1_000
