"""A graph as torchvision's detectors are exported: one image, finished objects. No batch axis.

torchvision is not installed here; the network stands for what is before its last step.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("onnx", reason='needs the extra "train"')

from service import tasks  # noqa: E402
from service.errors import ModelLoadError  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from service.tasks import DetectItem  # noqa: E402
from service.transforms.vision.regions import mask_of  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

LABELS = ["background", "red", "green", "blue"]


class Colours(torch.nn.Module):
    """Finds each colour in a part of the image; its values are the mask."""

    def forward(self, image: Any) -> tuple[Any, Any, Any, Any]:
        height, width = image.shape[1], image.shape[2]
        edges = torch.stack(
            [torch.tensor(0), torch.tensor(0), *map(torch.as_tensor, (width, height))]
        )
        boxes = edges[None].to(image.dtype) * torch.tensor([[0.5], [0.75], [1.0]])
        inside = torch.arange(width)[None, None] < boxes[:, 2, None, None]
        inside = inside & (torch.arange(height)[None, :, None] < boxes[:, 3, None, None])
        return boxes, torch.tensor([1, 2, 3]), image.amax((1, 2)), (image * inside)[:, None]


def directory(folder: Path) -> Path:
    folder.mkdir()
    outputs = ["boxes", "labels", "scores", "masks"]
    torch.onnx.export(
        Colours(), (torch.zeros(3, 20, 30),), str(folder / "model.onnx"), dynamo=False,
        input_names=["image"], output_names=outputs, opset_version=17,
        dynamic_axes={"image": {1: "height", 2: "width"}, outputs[-1]: {2: "height", 3: "width"}},
    )  # fmt: skip
    (folder / "model.toml").write_text(f"[parameters]\nlabels = {LABELS}\n")
    return folder


async def test_objects_are_those_of_the_network(tmp_path: Path) -> None:
    folder = directory(tmp_path / "m")
    for found in await answers(folder, [DetectItem(tasks.Image(file)) for file in FILES]):
        for answer, picture in zip(found, PICTURES, strict=True):
            image = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
            boxes, labels, scores, masks = (part.numpy() for part in Colours()(image))
            order = np.argsort(-scores, kind="stable")
            assert [one.label for one in answer.objects] == [LABELS[n] for n in labels[order]]
            for one, at in zip(answer.objects, order, strict=True):
                assert one.box == pytest.approx(boxes[at])
                assert one.score == pytest.approx(scores[at])
                assert one.mask is not None
                assert one.mask.rle is not None
                mask = mask_of(one.mask.rle.encode(), (answer.height, answer.width))
                np.testing.assert_array_equal(mask, masks[at, 0] > 0.5)


def test_it_is_known_by_its_outputs_and_wants_labels(tmp_path: Path) -> None:
    folder = directory(tmp_path / "m")
    with pytest.raises(ModelLoadError, check=sentence):
        infer(folder)
    table = infer(folder, {"parameters": {"labels": LABELS}}).table
    assert table["family"] == "torchvision_detector"
    assert table["parameters"]["masks"] is True
