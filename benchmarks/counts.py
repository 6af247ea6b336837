"""How many objects the tracker counts in short clips, against what a person sees.

    python -m benchmarks.counts FOLDER

The folder holds `cars_topdown.mp4` (one car drives through) and `people_one_by_one.mp4` (one man
walks in and stays), from https://github.com/intel-iot-devkit/sample-videos, CC BY 4.0. Boxes come
from the difference to the first frames (OpenCV), not from a detector: this measures the tracker of
`/v1/video`, `service/transforms/vision/tracking.py`, on boxes that flicker, split and merge. The
score of a box is the root of the share of it that differs.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.tasks import DetectedObject
from service.transforms.vision.frames import Sampling, VideoReader
from service.transforms.vision.tracking import TRACKED_FROM, Tracker

SEEN: Mapping[str, int] = {"cars_topdown": 1, "people_one_by_one": 1}
"""Objects that a person counts, by clip."""

_MOST_PIXELS = 50_000_000
_LEAST_SHARE = 0.004
"""Of the frame, that an object covers."""
_LEARNING = 12
"""Frames to learn the background from, before the first is counted."""
_DIFFERENCE = 40
"""Levels of brightness by which an object differs from the background."""
_GAP = 25
"""Pixels between parts of one object."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was found in a clip."""

    clip: str
    seen: int
    counted: int
    exits: int
    frames: int
    boxes: int


def count(path: Path) -> Counted:
    """Follow what moves in a clip."""
    frames = boxes = 0
    with VideoReader(path, _MOST_PIXELS) as reader:
        tracker = Tracker(TRACKED_FROM, reader.info.rate or 10.0)
        for seconds, found in _moving(reader):
            frames, boxes = frames + 1, boxes + len(found)
            tracker.update(seconds, found)
    counted = tracker.counts["moving"]
    return Counted(path.stem, SEEN[path.stem], counted, tracker.exits, frames, boxes)


def _moving(reader: VideoReader) -> Iterator[tuple[float, Sequence[DetectedObject]]]:
    """Yield the time of each frame after the background is known, and what differs from it."""
    first: list[NDArray[np.uint8]] = []
    background = np.zeros((1, 1, 3), np.float32)
    for frame in reader.frames(Sampling()):
        if len(first) < _LEARNING:
            first.append(frame.pixels)
            background = np.median(first, axis=0).astype(np.float32) + 1
            continue
        # A camera changes its exposure when something large enters the picture.
        gain = np.median((frame.pixels + np.float32(1)) / background, axis=(0, 1))
        differs = np.abs(frame.pixels - gain * background).max(axis=-1) > _DIFFERENCE
        yield frame.seconds, _objects(differs.astype(np.uint8))


def _objects(mask: NDArray[np.uint8]) -> list[DetectedObject]:
    """Return a box around each region that differs."""
    certain = np.asarray(cv2.medianBlur(mask, 5), np.uint8)
    joined = cv2.morphologyEx(certain, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    _, _, regions, _ = cv2.connectedComponentsWithStats(joined)
    found = []
    for left, top, width, height, area in regions[1:]:
        if area < _LEAST_SHARE * mask.size:
            continue
        inside = certain[top : top + height, left : left + width]
        box = (float(left), float(top), float(left + width), float(top + height))
        found.append(DetectedObject("moving", float(inside.mean()) ** 0.5, box))
    return sorted(found, key=lambda each: -each.score)


def main() -> int:
    """Print a table; return 1 if a count differs, 3 if the clips are not there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.counts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    paths = [folder / f"{clip}.mp4" for clip in SEEN]
    if missing := [path.name for path in paths if not path.is_file()]:
        sys.stderr.write(f"{folder} lacks {', '.join(missing)}; --help says where they are from\n")
        return 3
    results = [count(path) for path in paths]
    lines = ["| clip | a person sees | counted | left | frames | boxes |", "|" + " --- |" * 6]
    lines += [
        f"| {r.clip} | {r.seen} | {r.counted} | {r.exits} | {r.frames} | {r.boxes} |"
        for r in results
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(result.counted != result.seen for result in results))


if __name__ == "__main__":
    sys.exit(main())
