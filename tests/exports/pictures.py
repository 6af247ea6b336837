"""Pictures with something in them, of shapes that photographs have and of some they do not."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.unit.transforms.images import encoded

SIZES = [(120, 90), (90, 120), (64, 64), (200, 61), (33, 97), (120, 90)]


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Return blurred noise under shapes of every colour: all frequencies, no two alike."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        left, top = random.integers(0, size[0]), random.integers(0, size[1])
        right, bottom = left + random.integers(4, 60), top + random.integers(4, 60)
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.ellipse((int(left), int(top), int(right), int(bottom)), colour)
    return image


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]
FILES = [encoded(image) for image in PICTURES]
"""The same as PNG."""
