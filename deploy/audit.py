"""`python deploy/audit.py`: looks up known vulnerabilities of what the lock files install.

Exit status: 0 none is known, 1 some are, 3 the look-up failed and nothing is known.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOCKS = Path(__file__).with_name("locks")
_SERVICE = "osv"
_TIMEOUT = "20"
_FAILED = 3


def main() -> int:
    """Audit every lock file; return the exit status."""
    status = 0
    for lock in sorted(_LOCKS.glob("*.txt")):
        dependencies, error = _audit(lock)
        if dependencies is None:
            _say(f"{lock.name}: NOT AUDITED. The advisory service could not be asked: {error}")
            return _FAILED
        found = list(_vulnerabilities(dependencies))
        _say(f"{lock.name}: {len(dependencies)} packages, {len(found)} known vulnerabilities")
        for line in found:
            _say(f"  {line}")
        status |= bool(found)
    return status


def _audit(lock: Path) -> tuple[list[dict[str, Any]] | None, str]:
    """Return what pip-audit found for each package, or None and why it found nothing.

    Its exit status is 1 in both cases, but only a look-up that worked prints JSON. `--strict`
    makes a package that cannot be looked up a failure instead of a warning.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes",
               "--disable-pip", "--strict", "--vulnerability-service", _SERVICE, "--format", "json",
               "--timeout", _TIMEOUT, "--progress-spinner", "off"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return None, (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def _vulnerabilities(dependencies: list[dict[str, Any]]) -> Iterator[str]:
    for one in dependencies:
        for known in one.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            yield f"{one['name']} {one['version']}: {known['id']}, fixed in {fixed}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
