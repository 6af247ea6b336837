"""`python -m loadtest`: puts a realistic load on the service and says whether the level was held.

Without --host it starts the service itself, on a free port. Exit status: 0 the level was held,
1 it was not, 2 the run is not valid, 3 it could not be started, 130 it was interrupted.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from loadtest.scenario import FOLDER, Scenario, find
from loadtest.service_process import end, serving

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_SPARE_SECONDS = 180.0
"""Beyond the scenario: for users to start, the last answers and the report."""
_END_SECONDS = 20.0
_NOT_STARTED = 3
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a scenario; return the exit status."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        text = find(given.scenario).read_text(encoding="utf-8")
        scenario = Scenario.parse(text).scaled(given.time_factor, given.rate_factor)
        with ExitStack() as stack:
            host = given.host or stack.enter_context(
                serving(scenario.service, given.out / "service.log")
            )
            return _run(_command(given, host), scenario.seconds + _SPARE_SECONDS)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return _NOT_STARTED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    add = parser.add_argument
    shipped = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
    add("scenario", nargs="?", default="smoke", help=f"{shipped}, or the path of a TOML file")
    add("--host", help="URL of a running service; without it one is started for the run")
    add("--time-factor", type=float, default=1.0, help="multiply the duration of every stage")
    add("--rate-factor", type=float, default=1.0, help="multiply the request rate")
    add("--seed", type=int, help="the same seed asks the same at the same times")
    add(
        "--workers",
        type=int,
        default=0,
        help="number of sending processes, in addition to the master",
    )
    add("--out", type=Path, default=Path("loadtest/out"), help="where everything is written")
    return parser


def _command(given: argparse.Namespace, host: str) -> Sequence[str]:
    """Return how locust is called."""
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"),
        *("--host", host, "--scenario", given.scenario, "--out", str(given.out)),
        *("--time-factor", str(given.time_factor), "--rate-factor", str(given.rate_factor)),
        *("--html", str(given.out / "locust.html")),
    ]
    if given.seed is not None:
        command += ["--seed", str(given.seed)]
    if given.workers:
        command += ["--processes", str(given.workers)]
    return command


def _run(command: Sequence[str], patience: float) -> int:
    """Run locust to its end. Raises RuntimeError if it takes too long."""
    process = subprocess.Popen(command)
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        end(process, _END_SECONDS)
        raise RuntimeError("the run did not come to its end") from None
    except KeyboardInterrupt:
        end(process, _END_SECONDS)
        raise


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
