"""The allocator keeps what it has: large tensors come from memory that the process holds already."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from arra_med.training.allocator import keep_freed_memory
assert sys.argv[1] == "default" or keep_freed_memory()
for _ in range(32):  # 32 MiB each, until the heap has found its size
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_large_tensors_no_longer_fault_their_pages_in_again() -> None:
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True).stdout
        )
        for mode in ("default", "kept")
    }
    assert faults["kept"] < faults["default"] / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from arra_med.training.allocator import keep_freed_memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
