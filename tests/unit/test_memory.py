"""Returning memory works, or does nothing, wherever it is called."""

import sys

import pytest

from service.memory import return_free_memory


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_memory_is_returned_or_kept_without_a_word(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert return_free_memory() is None  # type: ignore[func-returns-value]
