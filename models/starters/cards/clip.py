"""The page's sample video: two cards that pass each other, made of photos of the test split.

.venv/bin/python -m models.starters.cards.clip --data DATA --to service/page/samples/cards.mp4
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.detection import (
    Outline,
    Photo,
    Pixels,
    find_outlines,
    read_labels,
    read_photos,
)

WIDTH, HEIGHT, RATE, SECONDS = 448, 336, 12, 5
CARD_HEIGHT = 150

# Centres of the two cards at the beginning and at the end: the first passes over the second.
PATHS = (((70, 150), (378, 170)), ((378, 190), (70, 160)))
TURNS = ((-8.0, 10.0), (6.0, -6.0))


@dataclass(frozen=True, slots=True)
class Card:
    """A card cut out of a photo."""

    pixels: Pixels
    mask: NDArray[np.uint8]


def cut(photo: Photo, outline: Outline) -> Card:
    """Cut out a card, at the height that it has in the video."""
    left, top = np.floor(outline.points.min(0)).astype(int)
    right, bottom = np.ceil(outline.points.max(0)).astype(int)
    mask = np.zeros(photo.pixels.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(outline.points).astype(np.int32), 255)
    scale = CARD_HEIGHT / (bottom - top)
    size = (round((right - left) * scale), CARD_HEIGHT)
    pixels = cv2.resize(photo.pixels[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    cut_mask = cv2.resize(mask[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
    return Card(np.asarray(pixels, np.uint8), np.asarray(cut_mask, np.uint8))


def table(photo: Photo) -> Pixels:
    """Return a background: the photo's edge, blurred until no card can be seen in it."""
    small = cv2.resize(photo.pixels[:, : photo.pixels.shape[1] // 12], (WIDTH, HEIGHT))
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 6), np.uint8)


def frames(background: Pixels, cards: Sequence[Card]) -> Iterator[Pixels]:
    """Yield the frames: cards move evenly, the last one below."""
    count = RATE * SECONDS
    for number in range(count):
        share = number / (count - 1)
        picture = background.astype(np.float32)
        for card, path, turns in reversed([*zip(cards, PATHS, TURNS, strict=True)]):
            x, y = (a + share * (b - a) for a, b in zip(*path, strict=True))
            height, width = card.mask.shape
            angle = turns[0] + share * (turns[1] - turns[0])
            move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            move[:, 2] += (x - width / 2, y - height / 2)
            size = (WIDTH, HEIGHT)
            pixels = cv2.warpAffine(card.pixels, move, size, flags=cv2.INTER_LINEAR)
            mask = cv2.warpAffine(card.mask, move, size).astype(np.float32)[..., None] / 255
            picture = mask * pixels + (1 - mask) * picture
        yield np.round(picture).astype(np.uint8)


def write(path: Path, pictures: Iterator[Pixels]) -> None:
    """Write an H.264 file that browsers play."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "26", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def largest(photos: Sequence[Photo], label: int) -> tuple[Photo, Outline]:
    """Return the largest clean and upright card of a label."""
    found = [
        (photo, outline)
        for photo in photos
        for outline in find_outlines(photo)
        if outline.label == label and outline.clean
    ]

    def rank(pair: tuple[Photo, Outline]) -> float:
        width, height = np.ptp(pair[1].points, axis=0)
        fill = cv2.contourArea(pair[1].points) / float(width * height)
        return float(height * (fill > 0.85) * (height > 1.2 * width))

    return max(found, key=rank)


def main() -> None:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--to", type=Path, required=True)
    chosen = parser.parse_args()
    folder = chosen.data / "playing_cards"
    labels, photos = read_labels(folder), read_photos(folder, "test")
    picked = [largest(photos, labels.index(name)) for name in ("king", "nine")]
    write(chosen.to, frames(table(picked[0][0]), [cut(*pair) for pair in picked]))


if __name__ == "__main__":
    main()
