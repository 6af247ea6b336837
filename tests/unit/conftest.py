"""Makes `tests/unit/fakes.py` importable as `fakes`: the test folders are no packages."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop servers without a pause for clients that are just connecting."""
    monkeypatch.setattr("service.api.listening._HANDSHAKE_SECONDS", 0.0)
