"""YOLO heads, exported with the metadata their exporters write, against a decoder of our own.

Their packages are not installed here (their licence forbids it), so the heads are small networks
with the same outputs, and the reference below is written from the papers' arithmetic.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
cv2 = pytest.importorskip("cv2", reason='needs the extra "train"')
onnx = pytest.importorskip("onnx", reason='needs the extra "train"')

from PIL import Image  # noqa: E402

from service import tasks  # noqa: E402
from service.errors import ModelLoadError  # noqa: E402
from service.tasks import Detections, DetectItem  # noqa: E402
from tests.exports.pictures import picture  # noqa: E402
from tests.exports.serving import answers, serving  # noqa: E402
from tests.sentences import sentence  # noqa: E402
from tests.unit.transforms.images import encoded  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SIDE = 64
STRIDES = (8, 16, 32)
NAMES = {0: "person", 1: "traffic light", 2: "it's"}
IMAGES = [picture(size, seed) for seed, size in enumerate([(64, 48), (40, 64), (201, 147)])]
IOU, THRESHOLD = 0.5, 0.25


class Head(torch.nn.Module):
    """A network of one layer that looks at cells of three sizes."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layout = layout
        self.look = torch.nn.Conv2d(3, 5 + len(NAMES), 8, 8)
        torch.nn.init.normal_(self.look.weight, 0, 0.12)

    def raw(self, images: Any) -> Any:
        """[B, cells, 5 + labels] of plain numbers, and each cell's corner and size."""
        whole = self.look(images - images.mean((1, 2, 3), keepdim=True))
        rows, corner, sizes = [], [], []
        for stride in STRIDES:
            level = torch.nn.functional.avg_pool2d(whole, stride // 8) * (stride // 8)
            count = SIDE // stride
            ys, xs = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
            rows.append(level.flatten(2).transpose(1, 2))
            corner.append(torch.stack([xs, ys], -1).reshape(-1, 2))
            sizes.append(torch.full((count * count, 1), stride))
        return torch.cat(rows, 1), torch.cat(corner).float(), torch.cat(sizes).float()

    def forward(self, images: Any) -> Any:
        rows, corner, sizes = self.raw(images / 255 if self.layout == "yolox" else images)
        middle, extent = rows[..., :2], rows[..., 2:4].clamp(-1, 1) + 1
        scores = rows[..., 4:].sigmoid()
        if self.layout == "yolox":
            return torch.cat([middle, extent, scores], -1)
        boxes = torch.cat([(middle + corner) * sizes, extent.exp() * sizes], -1)
        if self.layout == "yolov5":
            return torch.cat([boxes, scores], -1)
        if self.layout == "yolov8":
            return torch.cat([boxes, scores[..., 1:]], -1).transpose(1, 2)
        best, label = scores[..., 1:].max(-1, keepdim=True)
        half = boxes[..., 2:] / 2
        found = torch.cat([boxes[..., :2] - half, boxes[..., :2] + half, best, label.float()], -1)
        return found[:, :20]


def metadata(layout: str) -> dict[str, str]:
    written = {"stride": "32", "names": repr(NAMES)}
    if layout != "yolov5":  # which is older
        arguments = {"batch": 1, "nms": layout == "end_to_end"}
        written |= {"task": "detect", "imgsz": f"[{SIDE}, {SIDE}]", "args": repr(arguments)}
    return written


def export(layout: str, folder: Path, written: dict[str, str], dynamic: bool = True) -> Head:
    folder.mkdir()
    head, path = Head(layout).eval(), folder / "best.onnx"
    torch.onnx.export(
        head, (torch.zeros(1, 3, SIDE, SIDE),), str(path), input_names=["images"],
        output_names=["output0"], opset_version=17, dynamo=False,
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}} if dynamic else None,
    )  # fmt: skip
    graph = onnx.load(path)
    for key, value in written.items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, path)
    return head


def fitted(image: Image.Image, corner: bool) -> tuple[np.ndarray, list[float], int, int]:
    """The letterbox as the YOLO programs make it, with OpenCV."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    gain = min(SIDE / height, SIDE / width)
    rounded = int if corner else round
    across, down = rounded(width * gain), rounded(height * gain)
    pixels = cv2.resize(pixels, (across, down), interpolation=cv2.INTER_LINEAR)
    left = 0 if corner else round((SIDE - across) / 2 - 0.1)
    top = 0 if corner else round((SIDE - down) / 2 - 0.1)
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    canvas[top : top + down, left : left + across] = pixels
    # YOLOX takes one scale for both axes, Ultralytics that of each.
    scales = [gain, gain] if corner else [across / width, down / height]
    return canvas, scales * 2, left, top


def expected(head: Head, image: Image.Image) -> list[tuple[str, float, list[float]]]:
    """Names, scores and boxes, worked out one candidate after the other."""
    is_yolox = head.layout == "yolox"
    canvas, scales, left, top = fitted(image, corner=is_yolox)
    pixels = canvas[..., ::-1].astype(np.float32) if is_yolox else canvas / np.float32(255)
    with torch.no_grad():
        inputs = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        output = head(inputs)[0].numpy()
        _, corner, sizes = head.raw(torch.zeros(1, 3, SIDE, SIDE))
    rows = output.T if head.layout == "yolov8" else output
    found = []
    for row, cell, (size,) in zip(rows, corner.tolist(), sizes.tolist(), strict=False):
        if head.layout == "end_to_end":
            box, label, score = row[:4], int(row[5]), row[4]
        else:
            x, y, width, height = row[:4]
            if is_yolox:
                x, y = (x + cell[0]) * size, (y + cell[1]) * size
                width, height = np.exp(width) * size, np.exp(height) * size
            box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
            scores = row[4:] if head.layout == "yolov8" else row[4] * row[5:]
            label, score = int(scores.argmax()), scores.max()
        if score >= THRESHOLD:
            found.append((NAMES[label], float(score), box))
    found.sort(key=lambda one: -one[1])
    kept: list[Any] = []
    for name, score, box in found:
        rivals = [other for rival, _, other in kept if rival == name]
        if head.layout == "end_to_end" or all(overlap(box, other) <= IOU for other in rivals):
            kept.append((name, score, box))
    edges = [image.width, image.height] * 2
    return [
        (name, score, np.clip((box - [left, top, left, top]) / scales, 0, edges).tolist())
        for name, score, box in kept
    ]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))


def compare(answer: Detections, wanted: list[tuple[str, float, list[float]]]) -> None:
    assert [one.label for one in answer.objects] == [name for name, _, _ in wanted]
    found = [one.score for one in answer.objects]
    np.testing.assert_allclose(found, [score for _, score, _ in wanted], atol=1e-4)
    boxes = [one.box for one in answer.objects]
    np.testing.assert_allclose(boxes, [box for _, _, box in wanted], atol=0.05)


ITEMS = [DetectItem(tasks.Image(encoded(i)), threshold=THRESHOLD, iou=IOU) for i in IMAGES]

YOLOX = f"""
task = "detect"
family = "detector"
[parameters]
labels = {list(NAMES.values())!r}
layout = "yolox"
[parameters.processing]
resize = "letterbox"
size = [{SIDE}, {SIDE}]
anchor = "corner"
antialias = false
mode = "BGR"
rescale = 1.0
"""


@pytest.mark.parametrize("layout", ["yolov8", "yolov5", "end_to_end", "yolox"])
async def test_a_lone_graph_answers_as_its_layout_says(layout: str, tmp_path: Path) -> None:
    head = export(layout, tmp_path / "m", {} if layout == "yolox" else metadata(layout))
    if layout == "yolox":  # which writes nothing into its graphs
        (tmp_path / "m" / "model.toml").write_text(YOLOX)
    wanted = [expected(head, image) for image in IMAGES]
    assert all(len(objects) > 1 for objects in wanted)
    for found in await answers(tmp_path / "m", ITEMS):
        for answer, objects in zip(found, wanted, strict=True):
            compare(answer, objects)


async def test_a_graph_exported_for_one_image_is_asked_one_at_a_time(tmp_path: Path) -> None:
    head = export("yolov8", tmp_path / "m", metadata("yolov8"), dynamic=False)
    async with serving(tmp_path / "m") as loaded:
        assert loaded.files.manifest.batching.max_batch_size == 1
    _, together = await answers(tmp_path / "m", ITEMS)
    for answer, image in zip(together, IMAGES, strict=True):
        compare(answer, expected(head, image))


async def test_a_head_without_a_name_is_declared(tmp_path: Path) -> None:
    head = export("yolov8", tmp_path / "m", {})
    (tmp_path / "m" / "model.toml").write_text(
        YOLOX.replace('"yolox"', '"yolov5"').replace('"corner"', '"centre"')
        .replace("rescale = 1.0", "").replace('"BGR"', '"RGB"')
        + '[parameters.head]\ncandidates = "columns"\nboxes = "centre"\nscores_at = 4\n'
    )  # fmt: skip
    alone, _ = await answers(tmp_path / "m", ITEMS)
    for answer, image in zip(alone, IMAGES, strict=True):
        compare(answer, expected(head, image))


@pytest.mark.parametrize(
    "written",
    [
        {"task": "depth"},
        {"task": "segment"},
        {"names": "{0: 'a'}"},
        {"names": "__import__('os')"},
    ],
)
async def test_a_graph_that_does_not_tell_enough_is_refused(
    written: dict[str, str], tmp_path: Path
) -> None:
    export("yolov8", tmp_path / "m", metadata("yolov8") | written, dynamic=False)
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(tmp_path / "m"):
            pass
