"""Small image files, made on the spot."""

import io

from PIL import Image


def encoded(kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    """Return a grey image of that kind."""
    buffer = io.BytesIO()
    Image.new("L", size, 128).save(buffer, kind)
    return buffer.getvalue()


PNG = encoded()
JPEG = encoded("JPEG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="6" height="4"/>'
