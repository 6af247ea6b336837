"""Load by wrk, a generator in C, where it is installed."""

import json
import resource
import shutil
import subprocess
import tempfile
from typing import Any

from benchmarks.samples import Latencies, Load
from benchmarks.target import HOST, Target

_MARK = "RESULT "
_SPARE_SECONDS = 120.0

_SCRIPT = """\
local count, folder = {count}, {folder}
local requests, last = {{}}, 0

function init(arguments)
  for number = 1, count do
    local file = assert(io.open(folder .. "/" .. number, "rb"))
    requests[number] = wrk.format("POST", {route}, {headers}, file:read("*a"))
    file:close()
  end
end

function request()
  last = last % count + 1
  return requests[last]
end

function done(summary, latency, rates)
  local errors = summary.errors
  io.write(string.format(
    "{mark}{{\\"requests\\": %d, \\"microseconds\\": %d, \\"status\\": %d, \\"broken\\": %d, " ..
    "\\"p50\\": %d, \\"p90\\": %d, \\"p99\\": %d, \\"most\\": %d}}\\n",
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
"""


def is_installed() -> bool:
    """Tell whether there is a wrk."""
    return shutil.which("wrk") is not None


def script(target: Target) -> str:
    """Return the Lua program that sends a target's requests in turn."""
    pairs = (f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in target.all_headers().items())
    return _SCRIPT.format(
        count=target.count,
        folder=json.dumps(str(target.bodies.resolve())),
        route=json.dumps(target.route),
        headers="{" + ", ".join(pairs) + "}",
        mark=_MARK,
    )


def closed_loop(target: Target, concurrency: int, seconds: float) -> Load:
    """Keep `concurrency` requests on their way for so long.

    Raises:
        RuntimeError: wrk failed.
        TimeoutExpired: it did not end.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as program:
        program.write(script(target))
        program.flush()
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", "60s", "-s", program.name, f"http://{HOST}:{target.port}"]
        before = _children_seconds()
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + _SPARE_SECONDS
        )
        spent = _children_seconds() - before
    if run.returncode or _MARK not in run.stdout:
        raise RuntimeError(f"wrk failed: {run.stderr or run.stdout}")
    return parse(run.stdout, spent)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parse(output: str, cpu_seconds: float) -> Load:
    """Read what the program wrote at the end.

    wrk does not tell apart the times of answers and of refusals: `answered` has those of all,
    and refusals only have their number, under status 0.

    Raises:
        ValueError: there is no result in the output.
    """
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise ValueError("wrk wrote no result")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
    refused = int(found["status"])
    times = (found[name] / 1e6 for name in ("p50", "p90", "p99", "most"))
    seconds = found["microseconds"] / 1e6
    return Load(
        seconds,
        Latencies(int(found["requests"]) - refused, *times),
        {0: Latencies(refused, 0.0, 0.0, 0.0, 0.0)} if refused else {},
        int(found["broken"]),
        cpu_seconds / seconds,
    )
