"""Workers that hang, crash or do not start, under a supervisor of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

_SUPERVISE = """
import sys, time
from service.api.listening import bind
from service.processes.channel import encoded
from service.processes.supervisor import Supervisor, SupervisorOptions

lives = open(sys.argv[2], "a+b")

def work(worker):
    lives.write(b"%d" % worker.number)
    lives.flush()
    lives.seek(0)
    life = lives.read().count(b"%d" % worker.number)
    if sys.argv[1] == "starts never":
        return 3
    worker.board.beat(worker.number)
    worker.control.send(encoded({"kind": "started"}))
    print("life", worker.number, life, flush=True)
    while True:
        time.sleep(0.02)
        if worker.number == 1 and life == 1:
            if sys.argv[1] == "crashes":
                return 7
        else:
            worker.board.beat(worker.number)

options = SupervisorOptions(processes=2, backlog=8, stop_seconds=5.0, hang_seconds=0.5)
sys.exit(Supervisor(bind("127.0.0.1", 0), options, work).run())
"""


@contextmanager
def supervising(behaviour: str, lives: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _SUPERVISE, behaviour, lives]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("behaviour", ["hangs", "crashes"])
def test_a_worker_that_hangs_or_crashes_is_replaced(
    behaviour: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lives = str(tmp_path_factory.mktemp("lives") / "lives")
    with supervising(behaviour, lives) as process:
        assert process.stdout is not None
        begun = {process.stdout.readline() for _ in range(3)}
        assert begun == {"life 0 1\n", "life 1 1\n", "life 1 2\n"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_a_worker_that_does_not_start_ends_the_service_with_its_status(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lives = str(tmp_path_factory.mktemp("lives") / "lives")
    with supervising("starts never", lives) as process:
        assert process.wait(timeout=60) == 3
