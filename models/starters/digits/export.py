"""Exports `digits` to a version of the model repository.

The folder of the checkpoint is the `--out` of the training recipe:

    python -m models.starters.digits.export --checkpoint runs/digits --data DIR \
        --to models/repository/digits/1
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from models.graphs.files import (
    export_graph,
    fold_batch_norms,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.graphs.static import Feeds, quantise_statically
from models.starters.digits.pictures import distorted, normalised, photographed
from models.starters.digits.train import DEV_SIZE, Digits, read_mnist
from models.starters.export_command_line import ExportRequest, read_export_request
from models.version_files import Goldens, label_scores, write_card, write_manifest
from service.transforms.vision.image import decode_image
from service.transforms.vision.processing import ImageProcessor, Processing

LABELS = tuple(str(digit) for digit in range(10))
SIZE = (28, 28)

CARD = """# digits

A single handwritten digit in a small picture, white on black or dark on white, anywhere in it and
down to about 0.4 of the size that digits have in MNIST.

Architecture: six 3x3 convolutions with batch norm and one linear layer; 136,482 parameters,
trained by `models/starters/digits/train.py` on one CPU core, from the weights of the version
before (`--start`), which was trained from scratch on the same pictures.

Data: MNIST (Yann LeCun, Corinna Cortes, Christopher Burges), http://yann.lecun.com/exdb/mnist/ ,
CC BY-SA 3.0; the first 10,000 of the 60,000 training pictures, of which 1,000 were kept to make
choices. Training pictures were rotated, bent, made smaller, shifted, thickened, thinned, blurred,
put on uneven paper and inverted. Empty pages (of one grey, shaded, ruled, framed, stained,
speckled, noisy) were drawn for the training. The golden pictures in this folder are from MNIST;
the last two are empty pages.

An empty page is no digit: it gets about 0.1 for each of the ten. Take a best score under 0.4 as
"no digit". Other signs, and several digits at once, were not trained on and may get a high score.

A temperature was chosen on the pictures kept for choices, so that scores mean what they say: of
the answers with a score of 0.9, nine in ten are right on pictures like those of MNIST.

int8: weights by channel in 7 bits and activations in 8, with scales fixed by calibration, so an
answer does not depend on its neighbours in a batch. It takes 0.4 times the time of fp32 on a CPU
and is the default there.

Measured on the 10,000 test pictures, and on 1,000 empty pages drawn with another seed, through
the served code:

<!-- evaluation -->
<!-- /evaluation -->
"""


def load_checkpoint(folder: Path) -> Digits:
    """Return the trained model, batch norms folded and weights rounded to fp16 values."""
    model = Digits()
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True)["model"])
    fold_batch_norms(model.eval())
    round_to_fp16(model)
    return model


def calibration(images: Tensor) -> Iterator[Feeds]:
    """Yield batches as they may be served: MNIST's own, inverted ones, and photographs."""
    for part in images[:600].split(100):
        for pictures in (part, 1 - part, photographed(distorted(part))):
            yield {"pixel_values": normalised(pictures).numpy()}


def write_graphs(model: Digits, images: Tensor, folder: Path) -> None:
    """Write `model.onnx` and `model_int8.onnx`."""
    graph = export_graph(
        model,
        {"pixel_values": torch.zeros(2, 1, *SIZE)},
        outputs=["logits"],
        dynamic_axes={"pixel_values": {0: "batch"}},
    )
    save_graph(store_weights_as_fp16(graph), folder / "model.onnx")
    save_graph(quantise_statically(graph, calibration(images)), folder / "model_int8.onnx")


def golden_pictures(images: Tensor, digits: Tensor) -> list[Image.Image]:
    """Return one picture of each digit, four that are not as MNIST has them, two empty ones."""
    rows = [int((digits == digit).nonzero()[0]) for digit in range(10)]
    pictures = [Image.fromarray((images[row, 0] * 255).byte().numpy()) for row in rows]
    inverted = pictures[3].point([255 - value for value in range(256)])
    wide = Image.new("L", (60, 44), 235)
    wide.paste(inverted.resize((44, 44)), (8, 0))
    ink = Image.new("RGBA", SIZE, (20, 30, 140, 0))
    ink.putalpha(pictures[7])
    empty = [Image.new("L", SIZE, 255), Image.new("RGB", (200, 280), (90, 84, 80))]
    large = pictures[5].resize((140, 140), Image.Resampling.BICUBIC)
    return [*pictures, inverted, wide, ink, large, *empty]


@torch.no_grad()
def write_goldens(model: Digits, pictures: list[Image.Image], folder: Path) -> None:
    """Record PyTorch's answers, one picture at a time, through the served transform."""
    goldens = Goldens(folder)
    served = ImageProcessor(Processing(size=SIZE, mode="L", mean=(0.5,), std=(0.5,)))
    for picture in pictures:
        file = BytesIO()
        picture.save(file, "PNG")
        pixels, _ = served(decode_image(file.getvalue()))
        logits = model(torch.from_numpy(np.array(pixels))[None])[0]
        goldens.add_image(picture, label_scores(LABELS, logits))
    goldens.write()


def export(request: ExportRequest) -> None:
    """Write the whole version: graphs, goldens, manifest and card."""
    torch.manual_seed(0)
    model = load_checkpoint(request.checkpoint)
    images, digits = read_mnist(request.data, "train")
    write_graphs(model, images, request.to)
    write_goldens(model, golden_pictures(images[-DEV_SIZE:], digits[-DEV_SIZE:]), request.to)
    write_manifest(
        request.to,
        {
            "task": "classify",
            "family": "image_classifier",
            "description": "A handwritten digit, light on dark or dark on light",
            "graphs": {
                "fp32": {"model": "model.onnx"},
                "int8": {"model": "model_int8.onnx"},
            },
            "default_precision": {"cpu": "int8", "cuda": "fp32"},
            "batching": {"max_batch_size": 64, "max_queue_size": 512},
            "tolerance": {"fp32": 0.001, "int8": 0.1},
            "parameters": {
                "labels": list(LABELS),
                "image_size": list(SIZE),
                "mode": "L",
                "mean": [0.5],
                "std": [0.5],
            },
        },
    )
    write_card(request.to, CARD)
    tqdm.write(f"wrote {request.to}")


if __name__ == "__main__":
    export(read_export_request(__doc__))
