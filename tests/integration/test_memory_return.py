"""What large bodies and replaced versions took goes back to the system, with the collector off."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from tests.integration.real_service import STARTERS, TOKEN, RealService

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROUNDS = int(os.environ.get("GARBAGE_ROUNDS", "30"))
_MEGABYTE = 1 << 20
_BODY = b"x" * (8 * _MEGABYTE)
_NO_COLLECTOR = (
    "import gc, sys; gc.disable(); sys.argv[0] = 'service'; "
    "from service.__main__ import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    start = subprocess.Popen

    def without_collector(command: list[str], **more: Any) -> "subprocess.Popen[bytes]":
        assert command[1:3] == ["-m", "service"]
        return start([command[0], "-c", _NO_COLLECTOR, *command[3:]], **more)

    folder: Path = tmp_path_factory.mktemp("memory")
    with patch.object(subprocess, "Popen", without_collector):
        running = RealService(
            folder,
            *("--models.repository", str(STARTERS)),
            *("--models.only", "digits,news-topics"),
            *("--models.warm-up-seconds", "0.05"),
        )
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.end()


def resident(service: RealService) -> float:
    """Return the process's resident memory, in MB, once it has come to rest."""
    time.sleep(0.3)
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE


def form(end: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n'
    return head + _BODY + b"\r\n--b" + end


REFUSALS = {
    "413": (413, "application/json", _BODY * 3),
    "415": (415, "text/plain", _BODY),
    "422 JSON": (422, "application/json", b'{"text": 7, "image": "' + _BODY + b'"}'),
    "422 base64": (422, "application/json", b'{"image": "' + _BODY + b'!"}'),
    "415 image": (415, "image/png", _BODY),
    "415 form": (415, "multipart/form-data; boundary=b", form(b"--\r\n")),
    "400 form": (400, "multipart/form-data; boundary=b", form(b"")),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_body_is_given_back(service: RealService, kind: str) -> None:
    status, media_type, body = REFUSALS[kind]

    def refuse(times: int) -> None:
        for _ in range(times):
            with httpx.Client(timeout=120) as client:
                headers = {"content-type": media_type}
                url = f"{service.url}/v1/classify"
                answer = client.post(url, content=body, headers=headers)
                assert answer.status_code == status, answer.text

    refuse(5)
    before = resident(service)
    refuse(ROUNDS)
    # One body, or a few copies of it, may stay with the C library; ROUNDS of them may not.
    assert resident(service) - before < 4 * len(body) / _MEGABYTE


def test_a_replaced_version_is_given_back(service: RealService) -> None:
    def reload(times: int) -> None:
        for _ in range(times):
            answer = httpx.post(
                f"{service.url}/v1/models/news-topics/load",
                headers={"authorization": f"Bearer {TOKEN}"},
                timeout=120,
            )
            assert answer.status_code == 200, answer.text

    reload(3)
    before = resident(service)
    rounds = max(12, ROUNDS // 5)
    reload(rounds)
    # A version of news-topics takes 5 to 10 MB; what is free in the heap varies by 30 MB.
    assert resident(service) - before < 3.5 * rounds
