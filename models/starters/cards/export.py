"""Exports `cards` to a version of the model repository.

The folder of the checkpoint is the `--out` of the training recipe:

    python -m models.starters.cards.export --checkpoint runs/cards --data DIR \
        --to models/repository/cards/1
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from tqdm import tqdm

from models.datasets.detection import Photo, read_photos
from models.datasets.files import data_folder
from models.evaluate.detection_answers import (
    IMAGE_SIZE,
    IOU_THRESHOLD,
    MAX_DETECTIONS,
    PAD_VALUE,
    Detections,
    Network,
    detect,
    fit,
)
from models.graphs.files import (
    export_graph,
    fold_batch_norms,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.graphs.static import Feeds, quantise_statically
from models.starters.cards.model import Detector, ServedDetector
from models.starters.cards.train import as_network
from models.starters.export_command_line import ExportRequest, read_export_request
from models.version_files import Goldens, write_card, write_manifest

SCORE_THRESHOLD = 0.25
GOLDEN_PHOTOS = 6
LARGEST_GOLDEN = 25_500  # bytes

ORIGIN = (
    "https://github.com/EdjeElectronics/"
    "TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-Windows-10"
)

CARD = """# cards

Finds playing cards in a photo and tells nine, ten, jack, queen, king and ace apart (the rank,
not the suit), lying at any angle.

Architecture: one-stage, anchor-free detector in the manner of YOLO for 320x320 pixels: a
cross-stage backbone of 3x3 convolutions with ReLU, one top-down and one bottom-up step, a grid
of cells at strides 16 and 32, boxes as distances to the four sides; {weights} weights, trained by
`models/starters/cards/train.py` on one CPU core (task-aligned assignment, complete-IoU and binary
cross-entropy losses, averaged weights) from the weights of the version before (`--start`), which
had been trained from random values on photos only.

Data: 363 photos by Evan Juras,
{origin} ,
`images/`, Apache-2.0; 256 train, 40 dev (from the author's training photos), 67 test (the
author's own test photos). Cards of the training photos were cut out along outlines found by
grabCut and pasted, turned and covered on other training photos; nothing was mirrored. A third of
the pasted cards were drawn with fonts, and a quarter of the scenes have a plain ground, some of
them with nothing on it. Six golden photos in this folder are from the dev split, one is a grey
cut-out of the first.

Six ranks: drawn cards of other ranks, backs and blank cards were trained on as nothing to be
found, in drawn form only, so other ranks of a real deck may still be called by one of the six.
All photos show one deck. The test photos are other photos (none is a near copy of a training
photo), but they show the same deck, partly in the same rooms: expect less elsewhere. Cards
shorter than about a tenth of the photo's longer side were not trained on.

int8: weights by channel and activations in 8 bits with scales fixed by calibration on training
photos, so an answer does not depend on its neighbours in a batch; the last convolution of each
head and the boxes stay in fp32. It needs about half of the time of fp32 on a CPU with VNNI
(3.9 against 8.4 ms of one core's time a photo), and is the default there.

Measured through the served code on the 67 test photos (143 cards) and on drawn pictures in a font
that was not trained on. The calibration error compares the scores of boxes from 0.25 on with the
share of them that lie on a card of their rank:

<!-- evaluation -->
<!-- /evaluation -->
"""


def load_checkpoint(folder: Path) -> tuple[Detector, list[str]]:
    """Return the detector, batch norms folded and weights rounded to fp16 values; and labels."""
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    detector = Detector(len(content["labels"]))
    detector.load_state_dict(content["weights"])
    fold_batch_norms(detector.eval())
    round_to_fp16(detector)
    return detector, content["labels"]


def kept_in_fp32(graph: onnx.ModelProto) -> list[str]:
    """Return the names of the last convolutions, those without ReLU, and of all that follows."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    late: set[str] = set()  # outputs that come after such a convolution
    names = []
    for node in graph.graph.node:
        followers = [reader.op_type for reader in readers.get(node.output[0], [])]
        last = node.op_type == "Conv" and followers != ["Relu"]
        if last or late.intersection(node.input):
            late.update(node.output)
            names.append(node.name)
    return names


def calibration(photos: Sequence[Photo]) -> Iterator[Feeds]:
    """Yield training photos as they are served."""
    for photo in photos:
        yield {"images": fit(photo.pixels)[0][None]}


def write_graphs(detector: Detector, photos: Sequence[Photo], folder: Path) -> None:
    """Write `model.onnx` and `model_int8.onnx`."""
    graph = export_graph(
        ServedDetector(detector),
        {"images": torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)},
        outputs=["output0"],
        dynamic_axes={"images": {0: "batch"}},
    )
    save_graph(store_weights_as_fp16(graph), folder / "model.onnx")
    int8 = quantise_statically(graph, calibration(photos), excluded=kept_in_fp32(graph))
    save_graph(store_weights_as_fp16(int8, exact=False), folder / "model_int8.onnx")


def as_answer(found: Detections, labels: Sequence[str]) -> dict[str, Any]:
    """Return detections in the shape of the HTTP API, best first."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    objects = [
        {
            "label": labels[label],
            "score": round(score, 5),
            "box": [round(side, 2) for side in box],
        }
        for box, score, label in rows
    ]
    return {"objects": objects}


def write_goldens(
    network: Network, labels: Sequence[str], data: Path, photos: Sequence[Photo], folder: Path
) -> None:
    """Record PyTorch's answers for photos of different kinds, and for a small cut-out of one."""
    goldens = Goldens(folder)
    for photo, found in zip(photos, detect(network, photos, SCORE_THRESHOLD), strict=True):
        goldens.add_image_file(data / "images" / photo.file_name, as_answer(found, labels))
    grey = grey_cut_out(photos[0])
    again = Photo("", np.asarray(grey.convert("RGB")), photos[0].boxes[:0], photos[0].labels[:0])
    goldens.add_image(grey, as_answer(detect(network, [again], SCORE_THRESHOLD)[0], labels))
    goldens.write()


def choose_goldens(photos: Sequence[Photo], data: Path) -> list[Photo]:
    """Return the photos with most cards among those whose files are small."""
    small = [
        photo
        for photo in photos
        if (data / "images" / photo.file_name).stat().st_size <= LARGEST_GOLDEN
    ]
    return sorted(small, key=lambda photo: -len(photo.labels))[:GOLDEN_PHOTOS]


def grey_cut_out(photo: Photo) -> Image.Image:
    """Return a photo's first card with a little around it, without colour."""
    left, top, right, bottom = (int(side) for side in photo.boxes[0])
    image = Image.fromarray(photo.pixels).crop((left - 10, top - 10, right + 40, bottom + 10))
    return image.convert("L")


def manifest(labels: Sequence[str]) -> dict[str, Any]:
    """Return what `model.toml` says."""
    return {
        "task": "detect",
        "family": "detector",
        "description": "Playing cards in a photo: nine, ten, jack, queen, king and ace",
        "graphs": {"fp32": {"model": "model.onnx"}, "int8": {"model": "model_int8.onnx"}},
        "default_precision": {"cpu": "int8", "cuda": "fp32"},
        "batching": {"max_batch_size": 16, "max_queue_size": 256},
        "tolerance": {"fp32": 0.001, "int8": 0.1},
        "parameters": {
            "labels": list(labels),
            "image_size": IMAGE_SIZE,
            "resize": "letterbox",
            "pad_value": PAD_VALUE,
            "score_threshold": SCORE_THRESHOLD,
            "iou_threshold": IOU_THRESHOLD,
            "max_detections": MAX_DETECTIONS,
        },
    }


def export(request: ExportRequest) -> None:
    """Write the whole version: graphs, goldens, manifest and card."""
    detector, labels = load_checkpoint(request.checkpoint)
    data = data_folder(request.data, "playing_cards")
    write_graphs(detector, read_photos(data, "train"), request.to)
    photos = choose_goldens(read_photos(data, "dev"), data)
    write_goldens(as_network(detector), labels, data, photos, request.to)
    write_manifest(request.to, manifest(labels))
    weights = sum(weight.numel() for weight in detector.parameters())
    write_card(request.to, CARD.format(weights=f"{weights:,}", origin=ORIGIN))
    tqdm.write(f"wrote {request.to}")


if __name__ == "__main__":
    export(read_export_request(__doc__))
