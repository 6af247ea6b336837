"""timm's models: config.json with `pretrained_cfg`, against timm's transforms written out.

The transforms are torchvision's, on Pillow's images; neither package is installed here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("onnx", reason='needs the extra "train"')

from PIL import Image  # noqa: E402

from service import tasks  # noqa: E402
from service.errors import ModelLoadError  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from service.tasks import ClassifyItem, EmbedItem  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SIDE = 40
CFG: dict[str, Any] = {
    "input_size": [3, SIDE, SIDE],
    "interpolation": "bilinear",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.5, 0.25, 0.2],
}


def network() -> Any:
    """See every pixel, so that an image that lies one pixel further has another answer."""
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIDE * SIDE, 5)).eval()


def directory(folder: Path, cfg: dict[str, Any], classes: int = 5, **said: Any) -> Path:
    folder.mkdir()
    config = {"architecture": "resnet10t", "num_classes": classes, "pretrained_cfg": cfg, **said}
    (folder / "config.json").write_text(json.dumps(config))
    torch.onnx.export(
        network(), (torch.zeros(1, 3, SIDE, SIDE),), str(folder / "model.onnx"), dynamo=False,
        input_names=["pixel_values"], output_names=["logits"], opset_version=17,
        dynamic_axes={"pixel_values": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip
    return folder


def squashed(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    return image.resize((int(SIDE / 0.9), int(SIDE / 0.9)), resample)


def shortened(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    edge, short, long = int(SIDE / 0.9), min(image.size), max(image.size)
    other = int(edge * long / short)
    return image.resize((edge, other) if image.width <= image.height else (other, edge), resample)


def transformed(image: Image.Image, *, squashes: bool = False, bicubic: bool = False) -> Any:
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    image = (squashed if squashes else shortened)(image, resample)
    left, top = (round((length - SIDE) / 2) for length in image.size)
    pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    pixels = (pixels - np.float32(CFG["mean"])) / np.float32(CFG["std"])
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None])


def given(image: Image.Image, **options: bool) -> Any:
    with torch.no_grad():
        return network()(transformed(image, **options))[0].numpy()


IMAGES = [ClassifyItem(tasks.Image(file)) for file in FILES]


@pytest.mark.parametrize(
    ("cfg", "options"),
    [
        pytest.param(CFG, {}, id="the centre of the shortened image"),
        pytest.param(CFG | {"crop_mode": "squash"}, {"squashes": True}, id="squashed"),
        pytest.param(CFG | {"interpolation": None}, {"bicubic": True}, id="bicubic by default"),
    ],
)
async def test_scores_are_those_of_timms_transforms(
    cfg: dict[str, Any], options: dict[str, bool], tmp_path: Path
) -> None:
    folder = directory(tmp_path / "m", cfg, label_names=["a", "b", "c", "d", "e"])
    for found in await answers(folder, IMAGES):
        for answer, image in zip(found, PICTURES, strict=True):
            logits = given(image, **options)
            scores = np.exp(logits - logits.max())
            shown = {label.name: label.score for label in answer.labels}
            np.testing.assert_allclose(
                [shown[name] for name in "abcde"], scores / scores.sum(), atol=1e-4
            )


async def test_a_network_without_classes_gives_vectors(tmp_path: Path) -> None:
    folder = directory(tmp_path / "m", CFG, classes=0)
    found, _ = await answers(folder, [EmbedItem(tasks.Image(file)) for file in FILES])
    for answer, image in zip(found, PICTURES, strict=True):
        vector = given(image)
        np.testing.assert_allclose(answer.vector, vector / np.linalg.norm(vector), atol=1e-4)


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    told = infer(directory(tmp_path / "m", CFG))
    assert told.table["parameters"]["labels"] == [f"LABEL_{number}" for number in range(5)]


def test_a_way_of_cropping_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = directory(tmp_path / "m", CFG | {"crop_mode": "border"})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)
