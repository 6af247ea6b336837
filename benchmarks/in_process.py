"""A classifier or detector answered with no service around it.

A few lines a task, which share no code with the service: what a user would write.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from service.runtime.graphs import open_exact

Item: TypeAlias = str | bytes

PRECISIONS = ("fp32", "fp16", "int8")
"""In the order in which the service falls back on them."""

_CPU = ["CPUExecutionProvider"]


class Answerer(Protocol):
    """One model of one task. Used by one thread at a time, or by many at once."""

    def answer(self, item: Item) -> Mapping[str, Any]:
        """Do all of it for one item: tokenise or decode, run, post-process."""
        ...

    def length(self, item: Item) -> int:
        """Return what a row of this item costs: tokens, or 1."""
        ...

    def collate(self, items: Sequence[Item]) -> Any:
        """Return the feeds of a batch, for `run`."""
        ...

    def run(self, feeds: Any) -> Any:
        """Run the session, and nothing else."""
        ...


def open_session(
    folder: Path, manifest: Mapping[str, Any], threads: int | None
) -> ort.InferenceSession:
    """Open the session `model` of the precision that the service would choose on a CPU."""
    graphs = manifest["graphs"]
    fallback = next(precision for precision in PRECISIONS if precision in graphs)
    precision = manifest.get("default_precision", {}).get("cpu", fallback)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return open_exact(str(folder / graphs[precision]["model"]), options, list(_CPU))


@dataclass(frozen=True, slots=True)
class TextAnswerer:
    """A text classifier."""

    session: ort.InferenceSession
    tokenizer: Tokenizer
    labels: Sequence[str]
    pad: int

    @classmethod
    def open(cls, folder: Path, manifest: Mapping[str, Any], threads: int | None) -> "TextAnswerer":
        """Read the graph and the tokenizer."""
        parameters = manifest["parameters"]
        file = parameters.get("tokenizer", "tokenizer.json")
        tokenizer = Tokenizer.from_file(str(folder / file))
        tokenizer.enable_truncation(parameters["max_length"])
        tokenizer.no_padding()
        session = open_session(folder, manifest, threads)
        return cls(session, tokenizer, parameters["labels"], parameters["pad_id"])

    def answer(self, item: Item) -> Mapping[str, Any]:
        """Return labels by descending probability."""
        return self.answers([item])[0]

    def answers(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        """Answer a batch."""
        return [self._ranked(logits) for logits in self.run(self.collate(items))[0]]

    def _ranked(self, logits: NDArray[Any]) -> Mapping[str, Any]:
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        ranked = np.argsort(-scores)
        return {"labels": [{"label": self.labels[i], "score": float(scores[i])} for i in ranked]}

    def length(self, item: Item) -> int:
        """Return tokens."""
        return len(self.tokenizer.encode(item).ids)

    def collate(self, items: Sequence[Item]) -> Any:
        """Tokenise and pad to the longest."""
        ids = [self.tokenizer.encode(item).ids for item in items]
        padded = np.full((len(ids), max(map(len, ids))), self.pad, np.int64)
        mask = np.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return {"input_ids": padded, "attention_mask": mask}

    def run(self, feeds: Any) -> Any:
        """Run the graph."""
        return self.session.run(None, feeds)


@dataclass(frozen=True, slots=True)
class DetectorAnswerer:
    """A detector with YOLOv8's output."""

    session: ort.InferenceSession
    parameters: Mapping[str, Any]

    @classmethod
    def open(
        cls, folder: Path, manifest: Mapping[str, Any], threads: int | None
    ) -> "DetectorAnswerer":
        """Read the graph."""
        return cls(open_session(folder, manifest, threads), manifest["parameters"])

    def answer(self, item: Item) -> Mapping[str, Any]:
        """Return objects by descending score, boxes in pixels of the photo."""
        return self.answers([item])[0]

    def answers(self, items: Sequence[Item]) -> Sequence[Mapping[str, Any]]:
        """Answer a batch."""
        squares = [self._letterbox(item) for item in items]
        # One is not copied: the limit answers one at a time.
        one = squares[0][0][None]
        batch = one if len(squares) == 1 else np.stack([pixels for pixels, *_ in squares])
        outputs = self.run({"images": batch})[0]
        return [
            self._objects(output, *square[1:])
            for output, square in zip(outputs, squares, strict=True)
        ]

    def _objects(
        self, output: NDArray[Any], scale: float, corner: NDArray[Any], size: NDArray[Any]
    ) -> Mapping[str, Any]:
        best = output[4:].max(axis=0)
        chosen = np.flatnonzero(best >= self.parameters["score_threshold"])
        chosen = chosen[np.argsort(-best[chosen])]
        labels = output[4:, chosen].argmax(axis=0)
        centre, half = output[:2, chosen].T, output[2:4, chosen].T / 2
        boxes = np.hstack([centre - half, centre + half])
        kept = _suppressed(boxes, labels, self.parameters["iou_threshold"])
        kept = kept[: self.parameters["max_detections"]]
        boxes = np.clip((boxes - np.tile(corner, 2)) / scale, 0, np.tile(size, 2))
        names = self.parameters["labels"]
        return {
            "objects": [
                {
                    "label": names[labels[i]],
                    "score": float(best[chosen[i]]),
                    "box": boxes[i].tolist(),
                }
                for i in kept
            ]
        }

    def length(self, item: Item) -> int:
        """Return 1: every photo becomes the same square."""
        return 1

    def collate(self, items: Sequence[Item]) -> Any:
        """Decode and fit."""
        return {"images": np.stack([self._letterbox(item)[0] for item in items])}

    def run(self, feeds: Any) -> Any:
        """Run the graph."""
        return self.session.run(None, feeds)

    def _letterbox(
        self, item: Item
    ) -> tuple[NDArray[np.float32], float, NDArray[Any], NDArray[Any]]:
        """Return the square, the scale, where in it the photo begins, and the photo's size."""
        if isinstance(item, str):
            raise TypeError("a detector takes image files")
        side, grey = self.parameters["image_size"], self.parameters["pad_value"]
        image = Image.open(BytesIO(item)).convert("RGB")
        scale = min(side / image.width, side / image.height)
        fitted = round(image.width * scale), round(image.height * scale)
        left, top = (side - fitted[0]) // 2, (side - fitted[1]) // 2
        pixels = np.full((3, side, side), grey / 255, np.float32)
        resized = np.asarray(image.resize(fitted, Image.Resampling.BILINEAR))
        pixels[:, top : top + fitted[1], left : left + fitted[0]] = resized.transpose(2, 0, 1)
        pixels[:, top : top + fitted[1], left : left + fitted[0]] /= 255
        return pixels, scale, np.array([left, top]), np.array(image.size)


TextOrImage: TypeAlias = TextAnswerer | DetectorAnswerer


def open_text_or_image(folder: Path, threads: int | None) -> TextOrImage:
    """Open the folder of a classifier's or a detector's version.

    Raises:
        ValueError: it is another family's.
    """
    manifest = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
    match manifest["family"]:
        case "text_classifier":
            return TextAnswerer.open(folder, manifest, threads)
        case "detector":
            return DetectorAnswerer.open(folder, manifest, threads)
        case family:
            raise ValueError(f"no answerer for the family {family}")


def _suppressed(boxes: NDArray[Any], labels: NDArray[Any], most: float) -> list[int]:
    """Return the indices that stay, of boxes by descending score."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while left.size:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        low = np.maximum(boxes[left, :2], boxes[first, :2])
        high = np.minimum(boxes[left, 2:], boxes[first, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=1)
        overlap = shared / (areas[left] + areas[first] - shared)
        left = left[(overlap <= most) | (labels[left] != labels[first])]
    return kept
