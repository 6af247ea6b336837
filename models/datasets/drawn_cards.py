"""Playing cards drawn with fonts: the six ranks, and cards that are none of them.

Ranks that the detector does not know, backs and blank cards have the label of what is no object.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.datasets.detection import Pixels, Points

RANKS: Mapping[str, str] = {
    "nine": "9",
    "ten": "10",
    "jack": "J",
    "queen": "Q",
    "king": "K",
    "ace": "A",
}
OTHER_RANKS = ("2", "3", "4", "5", "6", "7", "8")
SUITS = "♠♥♦♣"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold"),
    *("DejaVuSansMono-Bold", "STIXGeneral", "STIXGeneralBol", "DejaVuSerif-Italic", "cmss10"),
)
HELD_OUT_FONT = "DejaVuSansMono"
"""For measuring: no training card is written in it."""

WIDTH, HEIGHT = 180, 252
Colour = tuple[int, int, int]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class DrawnCard:
    """A card as pixels [H, W, 3], its outline [K, 2], and the name of its rank or None."""

    pixels: Pixels
    points: Points
    rank: str | None


def draw_card(rank: str | None, random: Random, fonts: Sequence[str] = FONTS) -> DrawnCard:
    """Draw a card of a rank, or one of no rank: another rank, a back, or a blank one."""
    paper = _near(random, (250, 249, 245), 8)
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    pen = ImageDraw.Draw(image)
    if rank is not None:
        _face(image, RANKS[rank], random, fonts)
    elif (kind := random.random()) < 0.45:
        _face(image, str(random.choice(OTHER_RANKS)), random, fonts)
    elif kind < 0.85:
        _back(pen, random)
    if random.random() < 0.7:
        rim = (0, 0, WIDTH - 1, HEIGHT - 1)
        pen.rectangle(
            rim, outline=_near(random, (90, 90, 90), 80), width=int(random.integers(1, 4))
        )
    return DrawnCard(np.asarray(image), _outline(int(random.integers(2, 18))), rank)


def _face(image: Image.Image, sign: str, random: Random, fonts: Sequence[str]) -> None:
    pen = ImageDraw.Draw(image)
    suit, font = str(random.choice(list(SUITS))), str(random.choice(list(fonts)))
    red, black = _near(random, (200, 20, 30), 30), _near(random, (20, 20, 25), 20)
    ink = red if suit in "♥♦" else black
    style = random.random()
    if style < 0.85:
        size = int(random.integers(26, 54))
        with_suit = random.random() < 0.8
        corner = _corner(sign, suit if with_suit else "", (font, size), (*ink, 255), random)
        margin = int(random.integers(4, 14)), int(random.integers(4, 14))
        image.paste(corner, margin, corner)
        if random.random() < 0.9:
            turned = corner.rotate(180)
            at = (WIDTH - margin[0] - turned.width, HEIGHT - margin[1] - turned.height)
            image.paste(turned, at, turned)
    if style >= 0.85 or random.random() < 0.3:
        _write(pen, (WIDTH / 2, HEIGHT / 2), sign, (font, int(random.integers(70, 130))), ink)
        if random.random() < 0.5:
            below = (WIDTH / 2, HEIGHT * float(random.uniform(0.78, 0.86)))
            _write(pen, below, suit, ("DejaVuSans", 50), ink)
    elif sign in "JQK":
        _figure(pen, sign, suit, ink, random)
    else:
        _pips(pen, 1 if sign == "A" else int(sign), suit, ink, random)


def _corner(
    sign: str, suit: str, font: tuple[str, int], ink: tuple[int, ...], random: Random
) -> Image.Image:
    name, size = font
    corner = Image.new("RGBA", (round(size * 1.5), round(size * 2.2)), (*ink[:3], 0))
    pen = ImageDraw.Draw(corner)
    pen.text((corner.width / 2, 0), sign, font=_font(name, size), fill=ink, anchor="ma")
    if suit:
        small = round(size * float(random.uniform(0.6, 0.9)))
        at = (corner.width / 2, size * 1.15)
        pen.text(at, suit, font=_font("DejaVuSans", small), fill=ink, anchor="ma")
    return corner


def _pips(pen: ImageDraw.ImageDraw, count: int, suit: str, ink: Colour, random: Random) -> None:
    """Lay out the suit as often as the rank says, in two columns and a middle one."""
    if count == 1:
        size = int(random.integers(50, 120))
        _write(pen, (WIDTH / 2, HEIGHT / 2), suit, ("DejaVuSans", size), ink)
        return
    sides = {2: 0, 3: 0, 4: 2, 5: 2, 6: 3, 7: 3, 8: 3, 9: 4, 10: 4}[count]
    middle = count - 2 * sides
    size = int(random.integers(26, 40))
    for row in range(sides):
        y = HEIGHT * (0.2 + 0.6 * row / (sides - 1))
        for x in (0.32, 0.68):
            _write(pen, (WIDTH * x, y), suit, ("DejaVuSans", size), ink)
    for row in range(middle):
        y = HEIGHT * (0.5 if middle == 1 else 0.3 + 0.4 * row / (middle - 1))
        _write(pen, (WIDTH / 2, y), suit, ("DejaVuSans", size), ink)


def _figure(pen: ImageDraw.ImageDraw, sign: str, suit: str, ink: Colour, random: Random) -> None:
    """Draw a framed half figure twice, upside down below: a head, a hat, and a coloured coat."""
    left, top, right, bottom = 44, 40, WIDTH - 44, HEIGHT - 40
    if random.random() < 0.8:
        pen.rectangle((left, top, right, bottom), outline=ink, width=2)
    coats = [_near(random, colour, 40) for colour in ((200, 40, 40), (240, 190, 40), (40, 60, 160))]
    middle = HEIGHT / 2
    for side in (-1, 1):
        neck = middle + side * 38
        coat = coats[int(random.integers(3))]
        pen.polygon(
            [
                (left + 8, middle),
                (right - 8, middle),
                (WIDTH / 2 + 14, neck),
                (WIDTH / 2 - 14, neck),
            ],
            fill=coat,
            outline=ink,
        )
        head = neck + side * 13
        box = (WIDTH / 2 - 13, head - 15, WIDTH / 2 + 13, head + 15)
        pen.ellipse(box, fill=_near(random, (240, 215, 185), 15), outline=ink)
        _hat(pen, sign, (head + side * 13, side), coats[int(random.integers(3))], ink)
    _write(pen, (left + 14, top + 16), suit, ("DejaVuSans", 22), ink)


def _hat(
    pen: ImageDraw.ImageDraw, sign: str, at: tuple[float, int], colour: Colour, ink: Colour
) -> None:
    y, side = at
    x = WIDTH / 2
    if sign == "K":
        heights = (10, 2, 14, 2, 10)
        points = [(x - 14 + 7 * step, y + side * height) for step, height in enumerate(heights)]
        pen.polygon(
            [(x - 14, y - side * 4), *points, (x + 14, y - side * 4)], fill=colour, outline=ink
        )
    elif sign == "Q":
        pen.ellipse(
            (x - 14, min(y, y + side * 8), x + 14, max(y, y + side * 8)), fill=colour, outline=ink
        )
    else:
        pen.rectangle(
            (x - 15, min(y, y + side * 6), x + 8, max(y, y + side * 6)), fill=colour, outline=ink
        )


def _back(pen: ImageDraw.ImageDraw, random: Random) -> None:
    """Fill a card with the pattern of a back."""
    ink = _near(random, ((170, 30, 40), (30, 50, 140), (30, 90, 60))[int(random.integers(3))], 50)
    margin = int(random.integers(0, 18))
    box = (margin, margin, WIDTH - 1 - margin, HEIGHT - 1 - margin)
    kind, step = int(random.integers(4)), int(random.integers(7, 26))
    if kind == 0:
        pen.rectangle(box, fill=ink)
        size = int(random.integers(20, 60))
        pale = _near(random, (230, 220, 200), 25)
        x, y = WIDTH / 2, HEIGHT / 2
        pen.ellipse((x - size, y - size, x + size, y + size), outline=pale, width=4)
        return
    pen.rectangle(box, outline=ink, width=2)
    for start in range(-HEIGHT, WIDTH + HEIGHT, step):
        line = (start, box[1], start + HEIGHT, box[3])
        if kind in {1, 2}:
            pen.line(line, fill=ink, width=int(step / 4) + 1)
        if kind in {2, 3}:
            pen.line((start + HEIGHT, box[1], start, box[3]), fill=ink, width=int(step / 5) + 1)
    if margin:  # what was drawn over the margin
        paper = (250, 249, 245)
        pen.rectangle((0, 0, margin - 1, HEIGHT), fill=paper)
        pen.rectangle((WIDTH - margin, 0, WIDTH, HEIGHT), fill=paper)


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, font: tuple[str, int], ink: Colour
) -> None:
    pen.text(at, text, font=_font(*font), fill=ink, anchor="mm")


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)


def _near(random: Random, colour: Colour, far: int) -> Colour:
    red, green, blue = np.clip(np.array(colour) + random.integers(-far, far + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def _outline(radius: int) -> Points:
    """Return the rim of a card with round corners, clockwise."""
    points = []
    for x, y, start in (
        (WIDTH - radius, radius, -90),
        (WIDTH - radius, HEIGHT - radius, 0),
        (radius, HEIGHT - radius, 90),
        (radius, radius, 180),
    ):
        for step in range(4):
            angle = math.radians(start + 30 * step)
            points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return np.array(points, np.float32)
