"""Everything below `service.api` works in a process without ASGI, sockets and Starlette."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.requests import process_without_http

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def found() -> Any:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", process_without_http.__name__]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_no_web_framework_is_imported(found: Any) -> None:
    assert found["web"] == []


def test_a_text_is_classified(found: Any) -> None:
    assert found["classified"] == "business"


def test_objects_are_detected_in_every_item(found: Any) -> None:
    first, second = found["detected"]
    assert first == second > 0


def test_a_translation_is_streamed_in_order_as_plain_events(found: Any) -> None:
    streamed = found["streamed"]
    assert streamed["kinds"] == [
        "StreamStart",
        "StreamError",
        "SegmentResult",
        "SegmentResult",
        "StreamEnd",
    ]
    assert "tea" in streamed["texts"][0].lower()
    assert streamed["record"] == ["zh-en", "model_not_ready"]


def test_a_cancelled_request_frees_its_place_in_the_queue(found: Any) -> None:
    before, after, all_cancelled = found["cancelled"]
    assert before >= 10
    assert after == 0
    assert all_cancelled
