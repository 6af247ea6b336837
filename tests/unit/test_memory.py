"""Memory is returned, or nothing happens, wherever that is called."""

import subprocess
import sys

import pytest

from service.memory import return_free_memory

_BLOCK = 16 << 20
_KEEPS = f"""\
import ctypes, sys
from service.memory import map_large_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if "mapped" in sys.argv:
    map_large_blocks()

def kept():  # after a block was used and freed
    block = libc.malloc(ctypes.c_size_t({_BLOCK}))
    ctypes.memset(block, 1, {_BLOCK})
    after = libc.malloc(ctypes.c_size_t(1 << 10))  # above it in the heap
    libc.free(block)
    return int(open("/proc/self/statm").read().split()[1]) * 4096

first = kept()
print(kept() - first >= {_BLOCK} // 2)
"""


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_memory_is_returned_or_kept_without_a_word(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert return_free_memory() is None  # type: ignore[func-returns-value]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_large_blocks_are_no_part_of_the_heap() -> None:
    kept = {
        how: subprocess.run(
            [sys.executable, "-c", _KEEPS, how], capture_output=True, text=True, check=True
        ).stdout.strip()
        for how in ("heap", "mapped")
    }
    assert kept == {"heap": "True", "mapped": "False"}
