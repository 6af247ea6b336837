"""Photos with boxed objects, and the outlines that turn a few photos into many scenes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

SMALLEST_FILL = 0.45  # of its box; what grabCut leaves below that is no card


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo with its objects: boxes [M, 4] as left, top, right, bottom; labels [M] from 0."""

    file_name: str
    pixels: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outline:
    """The visible part of an object: a convex polygon [K, 2] in pixels of its photo.

    `clean` says that it was found in the pixels; otherwise it is the corners of the box.
    """

    label: int
    points: Points
    clean: bool


def read_labels(folder: Path) -> list[str]:
    """Return the names of the classes, in the order of their numbers."""
    content = json.loads((folder / "train.json").read_text())
    return [row["name"] for row in sorted(content["categories"], key=lambda row: row["id"])]


def read_photos(folder: Path, split: str) -> list[Photo]:
    """Read one split (`train`, `dev` or `test`) of a data set in COCO style."""
    content = json.loads((folder / f"{split}.json").read_text())
    objects: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in content["images"]}
    for row in content["annotations"]:
        objects[row["image_id"]].append(row)
    photos = []
    for row in content["images"]:
        with Image.open(folder / "images" / row["file_name"]) as image:
            pixels = np.asarray(image.convert("RGB"))
        mine = objects[row["id"]]
        boxes = np.array([item["bbox"] for item in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([item["category_id"] - 1 for item in mine], np.int64)
        photos.append(Photo(row["file_name"], pixels, boxes, labels))
    return photos


def find_outlines(photo: Photo) -> list[Outline]:
    """Find the outline of every object of a photo, in the order of its boxes.

    An outline is trusted if it fills enough of its box and reaches all four sides of it.
    """
    outlines = []
    for box, label in zip(photo.boxes, photo.labels, strict=True):
        left, top, right, bottom = box
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        points = _hull(photo.pixels, box)
        clean = points is not None and _fits(points, box)
        outlines.append(
            Outline(int(label), points if clean and points is not None else corners, clean)
        )
    return outlines


def _hull(pixels: Pixels, box: NDArray[np.float32]) -> Points | None:
    """Separate the object from what surrounds its box; return its convex hull."""
    height, width = pixels.shape[:2]
    margin = 12
    x0, y0 = (max(0, int(value) - margin) for value in box[:2])
    x1, y1 = min(width, int(box[2]) + margin), min(height, int(box[3]) + margin)
    crop = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    inner = (int(box[0]) - x0, int(box[1]) - y0, int(box[2] - box[0]) + 1, int(box[3] - box[1]) + 1)
    mask = np.zeros(crop.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(crop, mask, inner, *models, 4, cv2.GC_INIT_WITH_RECT)
    front = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    front = cv2.morphologyEx(front, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(front, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    largest = max(contours, key=cv2.contourArea)
    hull = cv2.convexHull(largest).reshape(-1, 2).astype(np.float32)
    return hull + np.array([x0 + 0.5, y0 + 0.5], np.float32)


def _fits(points: Points, box: NDArray[np.float32]) -> bool:
    size = box[2:] - box[:2]
    reach = np.concatenate([points.min(0) - box[:2], box[2:] - points.max(0)])
    fill = cv2.contourArea(points) / float(size.prod())
    return bool(
        len(points) > 3 and fill > SMALLEST_FILL and np.abs(reach).max() < 0.07 * size.max()
    )


def to_batch(squares: Sequence[Pixels]) -> NDArray[np.float32]:
    """Stack squares [S, S, 3] into images [B, 3, S, S] of 0..1."""
    return np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
