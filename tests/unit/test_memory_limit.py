"""How much memory the process may have, and what becomes of what asks for more."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.memory import default_memory_limit

GIB = 1 << 30


@pytest.mark.parametrize(
    ("file", "limit", "most"),
    [
        pytest.param("memory.max", f"{4 * GIB}\n", int(0.9 * 4 * GIB), id="cgroup 2"),
        pytest.param("memory/memory.limit_in_bytes", f"{4 * GIB}", int(3.6 * GIB), id="cgroup 1"),
        pytest.param("memory.max", str(GIB // 2), GIB, id="less than threads reserve"),
    ],
)
def test_the_limit_follows_the_control_group(
    tmp_path: Path, file: str, limit: str, most: int
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(limit)
    assert default_memory_limit(tmp_path) == pytest.approx(most, abs=2)


def test_a_group_without_a_limit_leaves_the_machines(tmp_path: Path) -> None:
    unbounded = default_memory_limit(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert default_memory_limit(tmp_path) == unbounded >= GIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own data")
def test_who_asks_for_more_gets_an_error_and_lives_on() -> None:
    script = (
        "import numpy as np\n"
        "from service.memory import limit_memory\n"
        f"limit_memory({GIB})\n"
        "try:\n"
        f"    np.empty({2 * GIB}, np.uint8)\n"
        "except MemoryError:\n"
        "    print('refused', len(np.ones(1000)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "refused 1000\n"
