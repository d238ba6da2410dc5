"""What lies free on the heap goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Blocks below the size that glibc maps by itself, every other one of which stays: the heap cannot shrink at its end.
HOLES = """
import re
import torch
from expo_lite.memory.halving import free_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1000

del_first = torch.ones(7_000_000)  # 28 MB: from here on blocks of up to that size are taken from the heap
del del_first
blocks = [torch.ones(500_000) for _ in range(200)]  # 2 MB each
del blocks[::2]
before = resident()
free_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_holes_in_the_heap_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 150  # of 200 MB
