"""What is measured: models in a repository of their own, each with the items asked of it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from benchmarks.detector import SIZE, detector
from benchmarks.distilbert import Arithmetic, text_classifier
from benchmarks.graph_builder import save
from benchmarks.texts import PAD, headlines, mixed_texts, photos, sentences_zh, word_pieces
from service.repository.manifest import read_manifest

TOPICS = ("business", "entertainment", "health", "science")
CARDS = ("nine", "ten", "jack", "queen", "king", "ace")
MAX_TOKENS = 128
PAD_COLOUR = 114

_TEXTS = 512
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model alone in a repository, as a user would point the service at it."""

    name: str
    """Also the model's."""
    repository: Path
    route: str
    content_type: str
    items: Sequence[str | bytes]
    """Texts, or image files."""

    @property
    def folder(self) -> Path:
        """Return the folder of the model's only version."""
        return next(path.parent for path in self.repository.glob(f"{self.name}/*/model.toml"))

    @property
    def bodies(self) -> Sequence[bytes]:
        """Return the bodies of one HTTP request an item."""
        return [
            item if isinstance(item, bytes) else json.dumps({"text": item}).encode()
            for item in self.items
        ]

    def named(self) -> Mapping[str, Any]:
        """Return what another process needs to find the same items (see `reopen`)."""
        return {"name": self.name, "repository": str(self.repository)}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where subjects come from and go to."""

    cache: Path
    """A folder of ours; what is in it may be made again at any time."""
    starters: Path
    """The model repository that holds the starter models."""
    arithmetic: Arithmetic = Arithmetic.ROWS


def _make_distilbert(sources: Sources, folder: Path) -> None:
    is_fp32 = sources.arithmetic is Arithmetic.FP32
    precision, file = ("fp32", "model.onnx") if is_fp32 else ("int8", "model_int8.onnx")
    save(text_classifier(sources.arithmetic), folder / file)
    word_pieces(headlines()).save(str(folder / "tokenizer.json"))
    manifest = f"""\
        task = "classify"
        family = "text_classifier"
        description = "Size of DistilBERT, random weights, {sources.arithmetic}"
        [graphs.{precision}]
        model = "{file}"
        [default_precision]
        cpu = "{precision}"
        [parameters]
        labels = {json.dumps(TOPICS)}
        max_length = {MAX_TOKENS}
        pad_id = {PAD}
    """
    _write_manifest(folder, manifest)


def _make_detector(sources: Sources, folder: Path) -> None:
    samples = np.stack([_square(photo) for photo in photos()])
    save(
        detector(
            len(CARDS),
            lambda graph: ort.InferenceSession(
                graph.SerializeToString(), providers=["CPUExecutionProvider"]
            ).run(None, {"images": samples}),
        ),
        folder / "model.onnx",
    )
    manifest = f"""\
        task = "detect"
        family = "detector"
        description = "Size of YOLOv8-n, random weights"
        [graphs.fp32]
        model = "model.onnx"
        [parameters]
        labels = {json.dumps(CARDS)}
        image_size = {SIZE}
        resize = "letterbox"
        pad_value = {PAD_COLOUR}
        score_threshold = 0.25
        iou_threshold = 0.5
        max_detections = 100
    """
    _write_manifest(folder, manifest)


def _square(photo: bytes) -> NDArray[np.float32]:
    image = Image.open(BytesIO(photo)).convert("RGB").resize((SIZE, SIZE))
    return np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)


def _write_manifest(folder: Path, text: str) -> None:
    lines = [line.strip() for line in text.splitlines()]
    (folder / "model.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


_MAKERS: Final[Mapping[str, Callable[[Sources, Path], None]]] = {
    "distilbert": _make_distilbert,
    "detector": _make_detector,
}

SUBJECTS: Final = ("distilbert", "detector", "news-topics", "zh-en")

TRAINED: Final = ("cards",)
"""A detector with trained weights, for engines that must not change what it finds."""


def prepare(name: str, sources: Sources) -> Subject:
    """Make a subject, unless the very same was made before.

    Raises:
        FileNotFoundError: it is a starter model, and the repository of those has none.
        ValueError: there is no such subject.
    """
    if name not in (known := (*SUBJECTS, *TRAINED)):
        raise ValueError(f"no subject {name!r}; there are {', '.join(known)}")
    repository = sources.cache / "subjects" / name
    if name in _MAKERS:
        _make(name, sources, repository)
    else:
        _copy_newest(name, sources.starters, repository)
    return reopen(name, repository)


def reopen(name: str, repository: Path) -> Subject:
    """Return a subject that `prepare` has made."""
    match name:
        case "detector" | "cards":
            return Subject(name, repository, "/v1/detect", "image/jpeg", photos())
        case "zh-en":
            return Subject(name, repository, "/v1/translate", _JSON, sentences_zh())
        case _:
            return Subject(name, repository, "/v1/classify", _JSON, mixed_texts(_TEXTS))


def published(folder: Path) -> Subject:
    """Return a model of a repository, which classifies or embeds texts."""
    subject = Subject(folder.name, folder.parent, "", _JSON, mixed_texts(_TEXTS))
    task = read_manifest(subject.folder / "model.toml").task
    return replace(subject, route=f"/v1/{task}")


def _make(name: str, sources: Sources, repository: Path) -> None:
    stamp = repository / "made_by.txt"
    wanted = f"{_digest_of_makers()} {sources.arithmetic}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(repository, ignore_errors=True)
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    _MAKERS[name](sources, folder)
    stamp.write_text(wanted, encoding="utf-8")


def _digest_of_makers() -> str:
    """Return what changes when the code or the data that makes subjects changes."""
    here = Path(__file__).parent
    files = ("detector.py", "distilbert.py", "graph_builder.py", "subjects.py", "texts.py")
    digest = hashlib.blake2b(ort.__version__.encode(), digest_size=16)
    for path in (*(here / name for name in files), here / "data" / "headlines.txt"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _copy_newest(name: str, starters: Path, repository: Path) -> None:
    versions = sorted((starters / name).glob("*/model.toml"), key=lambda at: int(at.parent.name))
    if not versions:
        raise FileNotFoundError(f"{starters} holds no model {name}")
    shutil.rmtree(repository, ignore_errors=True)
    folder = versions[-1].parent
    shutil.copytree(folder, repository / name / folder.name)
