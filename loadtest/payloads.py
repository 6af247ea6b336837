"""What is asked: real headlines, sentences, phrases, photos, digits and emoji.

A repeat is one of a few requests that come again and again. Anything else is asked once only, and
no cache can know it: a text says when it came in, as a ticker does, and an image carries a comment.
"""

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from PIL import Image

from loadtest.kinds import Kind
from loadtest.pacing import Arrival

_BENCHMARKS = Path(__file__).parents[1] / "benchmarks" / "data"
_CLIP = Path(__file__).parents[1] / "service" / "page" / "samples" / "cards.mp4"
_OWN = Path(__file__).with_name("data")

_REPEATED = 20
"""Requests of a kind that are asked again and again; with more, most would be asked just once."""

_LABELS = 50

_JOINED = {1: 0.60, 2: 0.18, 3: 0.09, 4: 0.06, 5: 0.04, 6: 0.03}
"""Share of texts to classify by number of consecutive headlines: teasers and short articles."""

_SIZES = {0.5: 0.2, 1.0: 0.5, 2.0: 0.25, 4.0: 0.05}
"""Share of photos by how much they are enlarged from 336 x 448."""

_SECONDS_A_DAY = 86_400
_DAYS = 28
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December")  # fmt: skip
STAMPS = len(_MONTHS) * _DAYS * _SECONDS_A_DAY
"""Number of distinct texts."""

_JSON = {"Content-Type": "application/json"}
_BOUNDARY = "quartet-load-test"


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire; always a POST."""

    path: str
    body: bytes
    headers: Mapping[str, str]


def _lines(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _files(folder: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.*g"))]


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that requests are made of."""

    headlines: Sequence[str] = field(default_factory=lambda: _lines(_BENCHMARKS / "headlines.txt"))
    sentences: Sequence[str] = field(
        default_factory=lambda: [
            line.split("\t")[0] for line in _lines(_BENCHMARKS / "sentences_zh.tsv")
        ]
    )
    phrases: Sequence[str] = field(
        default_factory=lambda: [
            name for line in _lines(_OWN / "phrases.tsv") for name in line.split("\t")
        ]
    )
    digits: Sequence[bytes] = field(default_factory=lambda: _files(_OWN / "digits"))
    emoji: Sequence[bytes] = field(default_factory=lambda: _files(_OWN / "emoji"))
    clip: bytes = field(default_factory=_CLIP.read_bytes)
    photos: Mapping[float, Sequence[bytes]] = field(
        default_factory=lambda: {
            size: [_enlarged(photo, size) for photo in _files(_BENCHMARKS / "photos")]
            for size in _SIZES
        }
    )


class Payloads:
    """Makes the request of an arrival; the same one for the same seed, in whichever process."""

    def __init__(self, seed: int, material: Material | None = None) -> None:
        self._seed = seed
        self._material = material or Material()
        self._first_stamp = random.Random(seed).randrange(STAMPS)

    def request(self, arrival: Arrival) -> Request:
        """Return what to send."""
        if not arrival.repeat:
            draw = random.Random(f"{self._seed} {arrival.kind} {arrival.number}")
            return _MAKERS[arrival.kind](self._material, draw, self._first_stamp + arrival.number)
        # The repeated ones do not depend on the seed: to a cache that outlives the run they are
        # the most frequent requests.
        number = random.Random(f"{self._seed} {arrival.number}").randrange(_REPEATED)
        draw = random.Random(f"{arrival.kind} {number}")
        return _MAKERS[arrival.kind](self._material, draw, None)


def stamp(number: int) -> tuple[str, int, str]:
    """Return month, day and time of day that tell a text from all others."""
    days, seconds = divmod(number % STAMPS, _SECONDS_A_DAY)
    month, day = divmod(days, _DAYS)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return _MONTHS[month], day + 1, clock


def marked(image: bytes, number: int) -> bytes:
    """Return the same picture as another file: a PNG or JPEG with a comment.

    Raises:
        ValueError: it is neither.
    """
    comment = f"number {number}".encode()
    if image.startswith(b"\x89PNG"):
        header = 33  # signature and IHDR, which must be first
        body = b"tEXtComment\0" + comment
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        return image[:header] + chunk + image[header:]
    if image.startswith(b"\xff\xd8"):
        segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        return image[:2] + segment + image[2:]
    raise ValueError("only PNG and JPEG can be marked")


def _enlarged(photo: bytes, factor: float) -> bytes:
    if factor == 1.0:
        return photo
    with Image.open(io.BytesIO(photo)) as image:
        size = (round(image.width * factor), round(image.height * factor))
        output = io.BytesIO()
        image.resize(size, Image.Resampling.BICUBIC).save(output, "JPEG", quality=85)
    return output.getvalue()


def _classify_text(material: Material, draw: random.Random, number: int | None) -> Request:
    text = _headlines(material, draw, number)
    return Request("/v1/classify", orjson.dumps({"text": text}), _JSON)


def _headlines(material: Material, draw: random.Random, number: int | None) -> str:
    count = draw.choices(list(_JOINED), list(_JOINED.values()))[0]
    text = ". ".join(draw.choices(material.headlines, k=count))
    if number is None:
        return text
    month, day, clock = stamp(number)
    return f"{month} {day}, {clock}: {text}"


def _classify_image(material: Material, draw: random.Random, number: int | None) -> Request:
    image = draw.choice(material.digits)
    body = image if number is None else marked(image, number)
    return Request("/v1/classify", body, {"Content-Type": "image/png"})


def _classify_labels(material: Material, draw: random.Random, number: int | None) -> Request:
    """A drawing, and fifty labels of which every request has the same ones."""
    image = draw.choice(material.emoji)
    content = base64.b64encode(image if number is None else marked(image, number)).decode()
    body = {
        "image": f"data:image/png;base64,{content}",
        "labels": list(dict.fromkeys(material.phrases))[:_LABELS],
        "top_k": 3,
    }
    return Request("/v1/classify", orjson.dumps(body), _JSON)


def _translate(material: Material, draw: random.Random, number: int | None) -> Request:
    text = draw.choice(material.sentences)
    if number is not None:
        text = f"{number % STAMPS}。{text}"
    return Request("/v1/translate", orjson.dumps({"text": text}), _JSON)


def _detect(material: Material, draw: random.Random, number: int | None) -> Request:
    size = draw.choices(list(_SIZES), list(_SIZES.values()))[0]
    image = draw.choice(material.photos[size])
    body = _form(image if number is None else marked(image, number))
    return Request(
        "/v1/detect", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    )


def _embed_text(material: Material, draw: random.Random, number: int | None) -> Request:
    text = _phrase(material, draw, number)
    return Request("/v1/embed", orjson.dumps({"text": text}), _JSON)


def _phrase(material: Material, draw: random.Random, number: int | None) -> str:
    text = draw.choice(material.phrases)
    return text if number is None else f"{text} {number % STAMPS}"


def _embed_image(material: Material, draw: random.Random, number: int | None) -> Request:
    image = draw.choice(material.emoji)
    content = base64.b64encode(image if number is None else marked(image, number)).decode()
    body = orjson.dumps({"image": f"data:image/png;base64,{content}"})
    return Request("/v1/embed", body, _JSON)


def _embed_openai(material: Material, draw: random.Random, number: int | None) -> Request:
    text = _phrase(material, draw, number)
    body = orjson.dumps({"model": "emoji", "input": text, "encoding_format": "base64"})
    return Request("/v1/embeddings", body, _JSON)


def _embed_rerank(material: Material, draw: random.Random, number: int | None) -> Request:
    documents = draw.sample(material.phrases, k=3)
    query = _phrase(material, draw, number)
    body = orjson.dumps({"model": "emoji", "query": query, "documents": documents})
    return Request("/v1/rerank", body, _JSON)


def _embed_similarity(material: Material, draw: random.Random, number: int | None) -> Request:
    texts = draw.sample(material.phrases, k=3)
    body = {"model": "emoji", "source_text": _phrase(material, draw, number), "text": texts}
    return Request("/v1/similarity", orjson.dumps(body), _JSON)


def _classify_oip(material: Material, draw: random.Random, number: int | None) -> Request:
    tensor = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "data": [_headlines(material, draw, number)],
    }
    return Request("/v2/models/news-topics/infer", orjson.dumps({"inputs": [tensor]}), _JSON)


def _detect_workflow(material: Material, draw: random.Random, number: int | None) -> Request:
    image = draw.choice(material.photos[1.0])
    body = image if number is None else marked(image, number)
    return Request("/v1/run/cards", body, {"Content-Type": "image/jpeg"})


def _detect_video(material: Material, draw: random.Random, number: int | None) -> Request:
    """Two or three frames of a clip, with a box of MP4 that players skip."""
    until = draw.choice((1.0, 1.5))
    note = f"number {draw.randrange(_REPEATED) if number is None else number}".encode()
    body = material.clip + struct.pack(">I4s", 8 + len(note), b"free") + note
    return Request(f"/v1/video?fps=2&end={until}", body, {"Content-Type": "video/mp4"})


def _translate_generate(material: Material, draw: random.Random, number: int | None) -> Request:
    body = {"text": _headlines(material, draw, number), "max_new_tokens": 32}
    return Request("/v1/generate", orjson.dumps(body), _JSON)


def _classify_huggingface(material: Material, draw: random.Random, number: int | None) -> Request:
    body = {"inputs": _headlines(material, draw, number)}
    return Request("/hf/news-topics", orjson.dumps(body), _JSON)


def _classify_spans(material: Material, draw: random.Random, number: int | None) -> Request:
    body = {"text": _headlines(material, draw, number), "aggregate": "simple"}
    return Request("/v1/classify", orjson.dumps(body), _JSON)


def _translate_libretranslate(
    material: Material, draw: random.Random, number: int | None
) -> Request:
    native = orjson.loads(_translate(material, draw, number).body)
    body = {"q": native["text"], "source": "zh", "target": "en", "format": "text"}
    return Request("/translate", orjson.dumps(body), _JSON)


def _detect_deepstack(material: Material, draw: random.Random, number: int | None) -> Request:
    native = _detect(material, draw, number)
    return Request("/v1/vision/detection", native.body, native.headers)


def _embed_tei(material: Material, draw: random.Random, number: int | None) -> Request:
    body = {"inputs": _phrase(material, draw, number)}
    return Request("/tei/emoji/embed", orjson.dumps(body), _JSON)


def _form(image: bytes) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


_MAKERS: Mapping[Kind, Callable[[Material, random.Random, int | None], Request]] = {
    Kind.CLASSIFY_TEXT: _classify_text,
    Kind.CLASSIFY_IMAGE: _classify_image,
    Kind.CLASSIFY_LABELS: _classify_labels,
    Kind.TRANSLATE: _translate,
    Kind.DETECT: _detect,
    Kind.EMBED_TEXT: _embed_text,
    Kind.EMBED_IMAGE: _embed_image,
    Kind.EMBED_OPENAI: _embed_openai,
    Kind.EMBED_RERANK: _embed_rerank,
    Kind.CLASSIFY_OIP: _classify_oip,
    Kind.DETECT_WORKFLOW: _detect_workflow,
    Kind.CLASSIFY_HUGGINGFACE: _classify_huggingface,
    Kind.TRANSLATE_LIBRETRANSLATE: _translate_libretranslate,
    Kind.DETECT_DEEPSTACK: _detect_deepstack,
    Kind.EMBED_TEI: _embed_tei,
    Kind.CLASSIFY_SPANS: _classify_spans,
    Kind.DETECT_VIDEO: _detect_video,
    Kind.TRANSLATE_GENERATE: _translate_generate,
    Kind.EMBED_SIMILARITY: _embed_similarity,
}
