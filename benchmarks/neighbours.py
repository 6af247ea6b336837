"""`python -m benchmarks.neighbours`: a lone client of a small model during a heavy load.

The small model is a starter that classifies a text. The load is a flood on a detector or, with
`--uploads`, clients that send photos of 12 megapixels. Each is measured alone, then both together.
"""

import argparse
import json
import shutil
import sys
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.load import closed_loop, open_loop
from benchmarks.samples import Load
from benchmarks.servers import Server
from benchmarks.subjects import Sources, Subject, prepare
from benchmarks.target import Target
from benchmarks.texts import photos

_PHOTO_SIZE = (4000, 3000)
_GRAIN, _QUALITY = 6, 90


@dataclass(frozen=True, slots=True)
class _Bounds:
    p50: float
    """Seconds, of the small model during the load."""
    p99: float
    rate: float
    """Share of its rate alone that the load keeps."""


_FLOOD, _UPLOADS = _Bounds(0.005, 0.020, 0.9), _Bounds(0.006, 0.006, 0.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return 1 if one is out of bounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    add = parser.add_argument
    add("--uploads", choices=("file", "base64"), help="photos, as the body or in JSON")
    add("--seconds", type=float, default=5.0, help="of each measurement")
    add("--clients", type=int, help="of the load: 16, or 2 that upload")
    add("--rate", type=float, default=0.0, help="of the small one a second; 0: one after another")
    add("--cache", type=Path, default=Path.home() / ".cache" / "quartet-benchmarks")
    add("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    given.clients = given.clients or (2 if given.uploads else 16)
    sources = Sources(given.cache, given.starters)
    subjects = [prepare(name, sources) for name in ("news-topics", "detector")]
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            shutil.copytree(subject.repository, Path(folder, "models"), dirs_exist_ok=True)
        if given.uploads:
            subjects[1] = _uploads(subjects[1], given.uploads)
        settings = {"QUARTET_CACHE__ENABLED": "false"}
        with Server.quartet(Path(folder, "models"), Path(folder, "log"), settings) as server:
            server.wait_ready()
            small, heavy = (
                Target.of(subject, server.port, Path(folder, subject.name)) for subject in subjects
            )
            return _report(given, small, heavy)


def _uploads(subject: Subject, kind: str) -> Subject:
    """Return the subject with photos of 12 megapixels, some three megabytes each, as its items."""
    draw, files = np.random.default_rng(0), []
    for photo in photos()[:2]:
        large = Image.open(BytesIO(photo)).convert("RGB").resize(_PHOTO_SIZE)
        grain = draw.normal(0, _GRAIN, (*large.size[::-1], 3))
        pixels = np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
        files.append(file.getvalue())
    if kind == "file":
        return replace(subject, items=files)
    bodies = [json.dumps({"image": b64encode(file).decode()}).encode() for file in files]
    return replace(subject, items=bodies, content_type="application/json")


def _report(given: argparse.Namespace, small: Target, heavy: Target) -> int:
    def lone() -> Load:
        if given.rate:
            return open_loop(small, given.rate, given.seconds)
        return closed_loop(small, 1, given.seconds, "client")

    def load(seconds: float) -> Load:
        return closed_loop(heavy, given.clients, seconds, "client")

    load(1.0)
    alone, full = lone(), load(given.seconds)
    with ThreadPoolExecutor(2) as threads:
        loaded, beside = threads.submit(load, given.seconds), threads.submit(lone)
        less, shared = loaded.result(), beside.result()
    kept = less.rate / full.rate
    print_ = Console(width=120).print
    for name, seen in (("alone", alone), ("during the load", shared)):
        found = seen.answered
        print_(
            f"small {name}: {seen.rate:.0f}/s, p50 {found.p50 * 1e3:.2f} ms, "
            f"p99 {found.p99 * 1e3:.2f} ms"
        )
    print_(f"load alone {full.rate:.1f}/s, with the small one {less.rate:.1f}/s: {kept:.3f} of it")
    bounds = _UPLOADS if given.uploads else _FLOOD
    is_good = shared.answered.p50 <= bounds.p50 and shared.answered.p99 <= bounds.p99
    return int(not (is_good and kept >= bounds.rate))


if __name__ == "__main__":
    sys.exit(main())
