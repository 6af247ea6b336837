"""Decodes many large pictures at once and prints the peak of additional memory.

A program of its own, since a process's peak never falls again. Usage: threads, megapixels of each
picture, megapixels of the budget; and the kinds of picture, or none for all.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from service import tasks
from service.errors import LimitExceededError
from service.families.image_input import ImageInput
from service.memory import return_free_memory
from service.transforms.vision.image import DECODING
from service.transforms.vision.processing import ImageProcessor, Processing

SIDE = 640


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def shaped(mode: str, pixels: int, aspect: float = 1.0) -> Image.Image:
    height = int((pixels / aspect) ** 0.5)
    return Image.new(mode, (pixels // height, height), 3 if mode[0] in "LPI1" else None)


KINDS: Mapping[str, Callable[[int], bytes]] = {
    "RGB PNG": lambda n: encoded(shaped("RGB", n), "PNG", compress_level=1),
    "turned RGBA PNG": lambda n: encoded(shaped("RGBA", n), "PNG", compress_level=1, exif=turned()),
    "palette PNG with transparency": lambda n: encoded(
        shaped("P", n), "PNG", compress_level=1, transparency=3
    ),
    "turned 16-bit PNG": lambda n: encoded(
        shaped("I;16", n), "PNG", compress_level=1, exif=turned()
    ),
    "grey PNG with alpha": lambda n: encoded(shaped("LA", n), "PNG", compress_level=1),
    "JPEG": lambda n: encoded(shaped("RGB", n), "JPEG"),
    "turned progressive JPEG": lambda n: encoded(
        shaped("RGB", n), "JPEG", progressive=True, subsampling=0, exif=turned()
    ),
    "progressive CMYK JPEG": lambda n: encoded(
        shaped("CMYK", n), "JPEG", progressive=True, subsampling=0
    ),
    "cut JPEG": lambda n: encoded(shaped("RGB", n), "JPEG", progressive=True)[:-2],
    "WebP with alpha": lambda n: encoded(shaped("RGBA", n), "WEBP", method=0),
    "lossless WebP": lambda n: encoded(shaped("RGB", n), "WEBP", lossless=True, method=0),
    "GIF": lambda n: encoded(shaped("P", n), "GIF"),
    "TIFF of one strip": lambda n: encoded(
        shaped("RGBA", n), "TIFF", compression="tiff_deflate", tiffinfo={278: 1 << 20}
    ),
    "tall TIFF": lambda n: encoded(
        shaped("RGB", n, aspect=0.012), "TIFF", compression="tiff_deflate"
    ),
    "tall PNG": lambda n: encoded(shaped("L", n, aspect=0.012), "PNG", compress_level=1),
    "narrow PNG": lambda n: encoded(shaped("L", n // 12, aspect=0.0011), "PNG"),
    "32-bit TIFF": lambda n: encoded(
        Image.new("I", shaped("L", n).size, 40_000), "TIFF", compression="tiff_deflate"
    ),
}


def main(threads: int, pixels: int, budget: int, kinds: list[str]) -> None:
    files = [KINDS[kind](pixels) for kind in kinds or KINDS]
    DECODING.most = budget
    recipes = [
        Processing(size=(SIDE, SIDE)),
        Processing(size=(SIDE, SIDE), mode="L"),
        Processing(resize="letterbox", size=(SIDE, SIDE), antialias=False),
    ]
    inputs = [ImageInput(ImageProcessor(recipe), (255, 255, 255)) for recipe in recipes]
    Image.new("L", (8, 8)).resize((4, 4))
    before = _peak_reset()
    gate = threading.Barrier(threads)

    def work(number: int) -> None:
        if number < threads:
            gate.wait()
        file = files[number % len(files)]
        with suppress(LimitExceededError):  # the tallest of the largest
            inputs[number % len(inputs)].read(tasks.Image(file))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(max(threads, len(files)))))
    sys.stdout.write(f"{_peak() - before}\n")


def _peak_reset() -> int:
    """Forget the peak so far, which making the pictures took, and return what is in use."""
    return_free_memory()
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Return the most bytes that were resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) * 1024


if __name__ == "__main__":
    main(
        int(sys.argv[1]), int(float(sys.argv[2]) * 1e6), int(float(sys.argv[3]) * 1e6), sys.argv[4:]
    )
