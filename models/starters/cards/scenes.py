"""Endless training scenes from a few photos: warped photos with more objects pasted on.

Everything is drawn with outlines, not boxes, so a box is always the extent of what can be
seen of an object after it was turned, covered and cut. Nothing is mirrored: a mirrored
letter is another sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.detection import Outline, Photo, Pixels, Points
from models.datasets.drawn_cards import draw_card
from models.starters.cards.light import develop
from models.starters.cards.pieces import Piece, cut_pieces

Matrix = NDArray[np.float64]

SMALLEST_VISIBLE = 0.3  # share of an object; with less of it visible it cannot be identified
SMALLEST_SIDE = 10  # pixels
PLAIN = 0.25  # share of scenes without a photo behind
DRAWN = 0.35  # share of pasted cards that are drawn, not cut out of a photo
OCCLUDER = -1  # the label of what covers objects without being one


@dataclass(frozen=True, slots=True)
class Scene:
    """A square image [S, S, 3] with boxes [M, 4] (left, top, right, bottom) and labels [M]."""

    pixels: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(slots=True)
class Canvas:
    """A scene being drawn; `owner` [S, S] is 1 + the place in `labels` of what is on top."""

    pixels: Pixels
    owner: NDArray[np.uint8]
    labels: list[int]
    areas: list[float]

    def lay(self, label: int, points: Points) -> None:
        """Note that an object covers the polygon from now on."""
        self.labels.append(label)
        self.areas.append(max(1.0, float(cv2.contourArea(points.astype(np.float32)))))
        cv2.fillConvexPoly(self.owner, np.round(points).astype(np.int32), len(self.labels))

    def scene(self) -> Scene:
        """Return the picture with the boxes of all objects of which enough can be seen."""
        boxes, labels = [], []
        for place, (label, area) in enumerate(zip(self.labels, self.areas, strict=True), start=1):
            if label == OCCLUDER:
                continue
            rows, columns = np.nonzero(self.owner == place)
            if len(rows) < SMALLEST_VISIBLE * area:
                continue
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_SIDE:
                boxes.append(box)
                labels.append(label)
        return Scene(
            self.pixels,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
        )


def transform(points: Points, matrix: Matrix) -> Points:
    """Map points [K, 2] by a homography [3, 3]."""
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], dtype=np.float32)


class SceneMaker:
    """Draws random scenes; the same generator state draws the same scenes."""

    def __init__(
        self,
        photos: Sequence[Photo],
        outlines: Sequence[Sequence[Outline]],
        generator: np.random.Generator,
        names: Sequence[str] = (),
    ) -> None:
        """Cut out the objects of some photos.

        Args:
            photos: what scenes are made of.
            outlines: of the objects of each photo.
            generator: what is drawn follows from its state.
            names: names of the labels; with them, drawn cards are pasted too.
        """
        self._photos, self._outlines = photos, outlines
        self._random, self._names = generator, names
        pieces = cut_pieces(photos, outlines)
        labels = sorted({piece.label for piece in pieces})
        self._pieces = [[piece for piece in pieces if piece.label == label] for label in labels]

    def draw(self, size: int, pasted: float = 0.7) -> Scene:
        """Return a new scene of size x size pixels; `pasted` of all scenes get more objects."""
        if self._names and self._random.random() < PLAIN:
            return self._draw_plain(size)
        canvas = self._background(size)
        if self._random.random() < pasted:
            self._paste_pieces(canvas)
        if self._random.random() < 0.3:
            self._cover(canvas)
        scene = canvas.scene()
        return Scene(develop(scene.pixels, self._random), scene.boxes, scene.labels)

    def _draw_plain(self, size: int) -> Scene:
        """Draw a plain ground: empty, with one large drawn card, or with a few cards."""
        random = self._random
        colours = random.integers(0, 256, (2, 2, 3))
        if random.random() < 0.6:
            colours[:] = colours[0, 0]
        if random.random() < 0.4:
            colours[:] = 255 if random.random() < 0.7 else 0
        ground = cv2.resize(colours.astype(np.uint8), (size, size), interpolation=cv2.INTER_LINEAR)
        canvas = Canvas(np.array(ground), np.zeros((size, size), np.uint8), [], [])
        kind = random.random()
        if kind < 0.35:
            angle = float(random.normal(0, 6)) if random.random() < 0.7 else self._angle()
            middle = (size / 2 + random.normal(0, 0.05, 2) * size).astype(np.float32)
            long_side = size * float(random.uniform(0.45, 1.0))
            self._paste(canvas, self._drawn_piece(), long_side, angle, middle)
        elif kind < 0.8:
            self._paste_pieces(canvas)
        scene = canvas.scene()
        if random.random() < 0.4:
            return scene
        return Scene(develop(scene.pixels, random), scene.boxes, scene.labels)

    def _drawn_piece(self) -> Piece:
        """Draw a card: one in three is of no rank that has a label."""
        known = self._random.random() < 2 / 3
        label = int(self._random.integers(len(self._names))) if known else OCCLUDER
        card = draw_card(self._names[label] if known else None, self._random)
        return Piece(label, card.pixels, card.points)

    def _some_piece(self) -> Piece:
        if self._names and self._random.random() < DRAWN:
            return self._drawn_piece()
        # Drawn label first, so that rare labels are seen as often as common ones.
        group = self._pieces[int(self._random.integers(len(self._pieces)))]
        return group[int(self._random.integers(len(group)))]

    def _background(self, size: int) -> Canvas:
        """Put a whole photo, turned and scaled, on a canvas."""
        random = self._random
        place = int(random.integers(len(self._photos)))
        photo = self._photos[place]
        height, width = photo.pixels.shape[:2]
        scale = size / max(height, width) * float(np.exp(random.uniform(np.log(0.7), np.log(1.8))))
        matrix = self._placement((width, height), scale, self._angle(), size, spread=0.2)
        canvas = Canvas(
            cv2.warpPerspective(
                photo.pixels,
                matrix,
                (size, size),
                flags=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR,
                borderValue=self._rim(),
            ).astype(np.uint8),
            np.zeros((size, size), np.uint8),
            [],
            [],
        )
        # Small boxes lie on top of large ones more often than the other way round.
        for outline in sorted(
            self._outlines[place], key=lambda each: -float(cv2.contourArea(each.points))
        ):
            canvas.lay(outline.label, transform(outline.points, matrix))
        return canvas

    def _rim(self) -> tuple[int, int, int]:
        """Return the colour around a photo: mostly the grey of the letterbox."""
        if self._random.random() < 0.6:
            return (114, 114, 114)
        red, green, blue = self._random.integers(0, 256, 3)
        return (int(red), int(green), int(blue))

    def _angle(self) -> float:
        """Return an angle in degrees: half of them near a right angle, as people hold things."""
        if self._random.random() < 0.5:
            return float(90 * self._random.integers(4) + self._random.normal(0, 12))
        return float(self._random.uniform(0, 360))

    def _placement(
        self, size: tuple[int, int], scale: float, angle: float, canvas: int, spread: float
    ) -> Matrix:
        """Return a homography that turns a rectangle about its middle and puts it somewhere."""
        random = self._random
        width, height = size
        radians = np.deg2rad(angle)
        turn = scale * np.array(
            [[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]
        )
        stretch = np.exp(random.normal(0, 0.05))
        turn = turn @ np.diag([stretch, 1 / stretch])
        middle = canvas * (0.5 + random.uniform(-spread, spread, 2))
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        matrix[:2, 2] = middle - turn @ np.array([width / 2, height / 2])
        # Perspective about the middle of the canvas, as if the camera was tilted.
        tilt = np.eye(3)
        tilt[2, :2] = random.normal(0, 0.2, 2) / canvas
        centre = np.eye(3)
        centre[:2, 2] = canvas / 2
        back = np.eye(3)
        back[:2, 2] = -canvas / 2
        return np.asarray(centre @ tilt @ back @ matrix)

    def _paste_pieces(self, canvas: Canvas) -> None:
        """Paste one to four objects: scattered, or as a heap of similar size."""
        random = self._random
        size = canvas.pixels.shape[0]
        count = int(random.integers(1, 5))
        heap = random.random() < 0.5
        long_side = size * float(np.exp(random.uniform(np.log(0.14), np.log(0.6))))
        middle, angle = random.uniform(0.2, 0.8, 2) * size, self._angle()
        for _ in range(count):
            piece = self._some_piece()
            if heap:
                middle = middle + random.normal(0, 0.5, 2) * long_side
                angle = angle + random.normal(0, 20) + 180 * int(random.integers(2))
            else:
                long_side = size * float(np.exp(random.uniform(np.log(0.14), np.log(0.6))))
                middle, angle = random.uniform(0.05, 0.95, 2) * size, self._angle()
            self._paste(canvas, piece, long_side, angle, middle)

    def _paste(
        self, canvas: Canvas, piece: Piece, long_side: float, angle: float, middle: Points
    ) -> None:
        height, width = piece.pixels.shape[:2]
        size = canvas.pixels.shape[0]
        sides = cv2.minAreaRect(piece.points)[1]
        matrix = self._placement((width, height), long_side / max(sides), angle, size, spread=0.0)
        shift = np.eye(3)
        shift[:2, 2] = np.asarray(middle) - size / 2
        matrix = shift @ matrix
        points = transform(piece.points, matrix)
        low = np.clip(np.floor(points.min(0)).astype(int) - 2, 0, size)
        high = np.clip(np.ceil(points.max(0)).astype(int) + 3, 0, size)
        if (high - low).min() < SMALLEST_SIDE:
            return
        shift[:2, 2] = -low
        extent = (int(high[0] - low[0]), int(high[1] - low[1]))
        shrinks = long_side < 0.6 * max(sides)  # plain interpolation would flicker
        source = cv2.GaussianBlur(piece.pixels, (3, 3), 0.7) if shrinks else piece.pixels
        pasted = cv2.warpPerspective(
            source, shift @ matrix, extent, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.float32)
        gain = np.exp(self._random.normal(0, 0.12) + self._random.normal(0, 0.03, 3))
        pasted = np.minimum(pasted * gain, 255).astype(np.float32)
        mask = np.zeros(extent[::-1], np.uint8)
        cv2.fillConvexPoly(
            mask, np.round((points - low) * 16).astype(np.int32), 255, cv2.LINE_AA, 4
        )
        alpha = cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32)[..., None] / 255
        region = canvas.pixels[low[1] : high[1], low[0] : high[0]]
        if self._random.random() < 0.5:
            self._shade(region, mask)
        region[:] = (region * (1 - alpha) + pasted * alpha).astype(np.uint8)
        canvas.lay(piece.label, points)

    def _shade(self, region: Pixels, mask: Pixels) -> None:
        """Darken the ground around a pasted object a little, as its shadow would."""
        shadow = cv2.GaussianBlur(mask, (0, 0), float(self._random.uniform(1, 3)))
        depth = float(self._random.uniform(0.2, 0.7)) / 255
        region[:] = (region * (1 - depth * shadow.astype(np.float32))[..., None]).astype(np.uint8)

    def _cover(self, canvas: Canvas) -> None:
        """Put a scrap of another photo on top: a strip or a patch of something else."""
        random = self._random
        size = canvas.pixels.shape[0]
        photo = self._photos[int(random.integers(len(self._photos)))].pixels
        if random.random() < 0.3:
            scrap = np.full((size, size, 3), random.integers(0, 256, 3), np.uint8)
        else:
            scrap = cv2.resize(photo, (size, size)).astype(np.uint8)
            scrap = np.roll(scrap, int(random.integers(size)), axis=int(random.integers(2)))
        sides = size * np.exp(random.uniform(np.log(0.04), np.log(0.35), 2))
        middle = random.uniform(0, size, 2)
        corners = cv2.boxPoints(
            (
                (float(middle[0]), float(middle[1])),
                (float(sides[0]), float(sides[1])),
                self._angle(),
            )
        )
        mask = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 1)
        if not (canvas.owner * mask).any():
            return
        # Blurred, so that no object of the other photo can be read without having a label.
        np.copyto(canvas.pixels, cv2.GaussianBlur(scrap, (9, 9), 4), where=mask[..., None] > 0)
        canvas.lay(OCCLUDER, corners.astype(np.float32))
