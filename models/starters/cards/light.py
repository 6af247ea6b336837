"""What light, lens and camera do to a scene; nothing here moves a pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.detection import Pixels


def develop(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Return the scene [S, S, 3] in other light, colour, sharpness, noise and compression."""
    image: NDArray[np.float32] = pixels.astype(np.float32)
    if random.random() < 0.4:
        image *= _light(pixels.shape[0], random)
    gain = np.exp(random.normal(0, 0.18) + random.normal(0, 0.06, 3)).astype(np.float32)
    image = (image - 128) * np.float32(np.exp(random.normal(0, 0.15))) + 128
    image = image * gain + np.float32(random.normal(0, 8))
    if random.random() < 0.4:
        grey = image.mean(axis=2, keepdims=True)
        image = grey + (image - grey) * np.float32(random.uniform(0.3, 1.5))
    if random.random() < 0.2:
        blurred = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.4, 1.2)))
        image = blurred.astype(np.float32)
    if random.random() < 0.2:
        image += random.standard_normal(image.shape, np.float32) * random.uniform(2, 10)
    result: Pixels = np.clip(image, 0, 255).astype(np.uint8)
    if random.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))]
        file = cv2.imencode(".jpg", result, quality)[1]
        result = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(result)


def _light(size: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return brightness factors [S, S, 1]: a slope, or a shadow with a soft straight edge."""
    angle, shift = random.uniform(0, 2 * np.pi), random.uniform(-1, 1)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    along = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None] + shift
    steepness = np.exp(random.uniform(np.log(0.7), np.log(40)))
    slope = 1 / (1 + np.exp(-np.clip(steepness * along, -30, 30)))
    return np.asarray(1 - random.uniform(0.2, 0.6) * slope, dtype=np.float32)[..., None]
