"""Heads of well-known detectors, against decoders written from what each of them publishes."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.transforms.vision.heads import Head
from tests.unit.transforms.head_samples import (
    RNG,
    SHAPE,
    agrees,
    cells,
    decoded,
    normal,
    sigmoid,
    total,
)


def test_nanodet_plus() -> None:
    """Scores activated in the graph, then four distributions over 0 to 7 cells; one output."""
    strides, labels = (8, 16, 32, 64), 3
    output = normal(2, total(strides), labels + 32, scale=2.0)
    output[..., :labels] = sigmoid(output[..., :labels])
    head = Head(scores_at=0, box_at=labels, boxes="distances", bins=8, strides=strides)
    found = decoded(head, labels, {"output": output})
    for image in range(2):
        expected, at = [], 0
        for stride in strides:
            for row, column in cells(stride):
                numbers = output[image, at].astype(np.float64)
                powers = np.exp(numbers[labels:].reshape(4, 8))
                left, top, right, bottom = (
                    (powers / powers.sum(axis=1, keepdims=True)) @ np.arange(8) * stride
                )
                x, y = column * stride, row * stride
                box = [x - left, y - top, x + right, y + bottom]
                expected.append((box, numbers[:labels].max(), int(numbers[:labels].argmax())))
                at += 1
        agrees(found, expected, image)


def test_nanodet_of_two_outputs_a_level_counts_from_the_centre() -> None:
    strides, labels = (8, 16, 32), 2
    outputs = {}
    for stride in strides:
        outputs[f"cls_pred_stride_{stride}"] = sigmoid(
            normal(1, len(cells(stride)), labels)
        ).astype(np.float32)
        outputs[f"dis_pred_stride_{stride}"] = normal(1, len(cells(stride)), 32)
    head = Head(
        levels=tuple((f"cls_pred_stride_{s}", f"dis_pred_stride_{s}") for s in strides),
        strides=strides, scores_at=0, box_at=labels, boxes="distances", bins=8, point="centre",
    )  # fmt: skip
    expected = []
    for stride in strides:
        for at, (row, column) in enumerate(cells(stride)):
            scores = outputs[f"cls_pred_stride_{stride}"][0, at]
            powers = np.exp(outputs[f"dis_pred_stride_{stride}"][0, at].reshape(4, 8))
            sides = (powers / powers.sum(axis=1, keepdims=True)) @ np.arange(8) * stride
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            box = [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
            expected.append((box, scores.max(), int(scores.argmax())))
    agrees(decoded(head, labels, outputs), expected)


def test_yunet() -> None:
    """The score is the root of class times object; sizes are exponentials; as OpenCV decodes it."""
    strides = (8, 16, 32)
    outputs = {}
    for kind, numbers in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in strides:
            raw = normal(1, len(cells(stride)), numbers)
            outputs[f"{kind}_{stride}"] = (
                raw if numbers > 1 else sigmoid(raw).astype(np.float32) * np.float32(1.2)
            )
    head = Head(
        levels=tuple((f"cls_{s}", f"obj_{s}", f"bbox_{s}") for s in strides),
        strides=strides, scores_at=0, objectness_at=1, box_at=2, powers=(0.5, 0.5),
    )  # fmt: skip
    expected = []
    for stride in strides:
        for at, (row, column) in enumerate(cells(stride)):
            of_class, of_object = (
                min(1.0, float(outputs[f"{kind}_{stride}"][0, at, 0])) for kind in ("cls", "obj")
            )
            box = outputs[f"bbox_{stride}"][0, at]
            x, y = (column + box[0]) * stride, (row + box[1]) * stride
            width, height = np.exp(box[2]) * stride, np.exp(box[3]) * stride
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            expected.append((corners, np.sqrt(of_class * of_object), 0))
    agrees(decoded(head, 1, outputs), expected)


@pytest.mark.parametrize("batched", [True, False])
def test_scrfd(batched: bool) -> None:
    """Two candidates a cell, distances in cells from its corner; often without a batch axis."""
    strides = (8, 16, 32)
    outputs, levels = {}, []
    for number, stride in enumerate(strides):
        count = len(cells(stride)) * 2
        score, box = str(440 + number), str(450 + number)
        outputs[score] = sigmoid(normal(1, count, 1)).astype(np.float32)
        outputs[box] = np.abs(normal(1, count, 4))
        outputs[str(460 + number)] = normal(1, count, 10)  # points of the face
        levels.append((score, box))
    head = Head(
        levels=tuple(levels), strides=strides, per_cell=(2, 2, 2), batched=batched,
        scores_at=0, box_at=1, boxes="distances",
    )  # fmt: skip
    expected = []
    for (score, box), stride in zip(levels, strides, strict=True):
        centres = np.repeat([(x * stride, y * stride) for y, x in cells(stride)], 2, axis=0)
        for (x, y), one, sides in zip(centres, outputs[score][0], outputs[box][0], strict=True):
            left, top, right, bottom = sides.astype(np.float64) * stride
            expected.append(([x - left, y - top, x + right, y + bottom], one[0], 0))
    given = outputs if batched else {name: array[0] for name, array in outputs.items()}
    agrees(decoded(head, 1, given), expected)


def test_rtmdet() -> None:
    """Maps of logits, and maps of distances in pixels from the corner of each cell."""
    strides, labels = (8, 16, 32), 3
    outputs: dict[str, NDArray[np.float32]] = {}
    for stride in strides:
        rows, columns = SHAPE[0] // stride, SHAPE[1] // stride
        outputs[f"cls_{stride}"] = normal(2, labels, rows, columns, scale=3)
        outputs[f"reg_{stride}"] = np.abs(normal(2, 4, rows, columns, scale=20))
    head = Head(
        candidates="maps", levels=tuple((f"cls_{s}", f"reg_{s}") for s in strides),
        strides=strides, scores_at=0, box_at=labels, boxes="distances", offset_unit="pixels",
        activation="sigmoid",
    )  # fmt: skip
    found = decoded(head, labels, outputs)
    for image in range(2):
        expected = []
        for stride in strides:
            for row, column in cells(stride):
                scores = sigmoid(outputs[f"cls_{stride}"][image, :, row, column])
                left, top, right, bottom = outputs[f"reg_{stride}"][image, :, row, column]
                x, y = column * stride, row * stride
                box = [x - left, y - top, x + right, y + bottom]
                expected.append((box, scores.max(), int(scores.argmax())))
        agrees(found, expected, image)


ANCHORS = (((12.0, 18.0), (37.0, 49.0), (52.0, 132.0)), ((115.0, 73.0), (119.0, 199.0), (7.0, 9.0)))


@pytest.mark.parametrize("candidates", ["maps", "maps_last", "grids", "rows"])
@pytest.mark.parametrize("version", [3, 5])
def test_anchors_of_yolo(version: int, candidates: Any) -> None:
    """YOLOv3 and YOLO-Fastest: sigmoid, exp x anchor. v5: 2 sigmoid - 0.5, (2 sigmoid)^2."""
    strides, labels = (16, 32), 2
    outputs: dict[str, NDArray[np.float32]] = {}
    raw = {}
    for stride in strides:
        rows, columns = SHAPE[0] // stride, SHAPE[1] // stride
        raw[stride] = grid = normal(1, 3, rows, columns, 5 + labels)
        by_kind = {
            "grids": grid,
            "maps": grid.transpose(0, 1, 4, 2, 3).reshape(1, -1, rows, columns),
            "maps_last": grid.transpose(0, 2, 3, 1, 4).reshape(1, rows, columns, -1),
            "rows": grid.transpose(0, 2, 3, 1, 4).reshape(1, -1, 5 + labels),
        }
        outputs[f"out{stride}"] = by_kind[candidates]
    head = Head(
        candidates=candidates, levels=tuple((f"out{s}",) for s in strides), strides=strides,
        anchors=ANCHORS, objectness_at=4, scores_at=5, activation="sigmoid", offset="sigmoid",
        offset_scale=2.0 if version == 5 else 1.0,
        size="sigmoid_square" if version == 5 else "exp", size_unit="anchors",
    )  # fmt: skip
    expected = []
    for level, stride in enumerate(strides):
        for row, column in cells(stride):
            for anchor in range(3):
                numbers = raw[stride][0, anchor, row, column].astype(np.float64)
                share = sigmoid(numbers)
                if version == 5:
                    x, y = (share[:2] * 2 - 0.5 + (column, row)) * stride
                    width, height = (share[2:4] * 2) ** 2 * ANCHORS[level][anchor]
                else:
                    x, y = (share[:2] + np.array([column, row])) * stride
                    width, height = np.exp(numbers[2:4]) * ANCHORS[level][anchor]
                scores = share[4] * share[5:]
                box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                expected.append((box, scores.max(), int(scores.argmax())))
    agrees(decoded(head, labels, outputs), expected)


@pytest.mark.parametrize("candidates", ["maps", "maps_last"])
def test_yolo_fastest_v2(candidates: Any) -> None:
    """A cell has its anchors' boxes, their objectness, and one set of scores; all activated."""
    strides, labels = (16, 32), 2
    outputs: dict[str, NDArray[np.float32]] = {}
    for stride in strides:
        rows, columns = SHAPE[0] // stride, SHAPE[1] // stride
        raw = RNG.random((2, rows, columns, 3 * 5 + labels), np.float32)
        outputs[f"out{stride}"] = raw if candidates == "maps_last" else raw.transpose(0, 3, 1, 2)
    head = Head(
        candidates=candidates, grouped=True, levels=tuple((f"out{s}",) for s in strides),
        strides=strides, anchors=ANCHORS, objectness_at=4, scores_at=5, offset_scale=2.0,
        size="square", size_unit="anchors",
    )  # fmt: skip
    found = decoded(head, labels, outputs)
    for image in range(2):
        expected = []
        for level, stride in enumerate(strides):
            for row, column in cells(stride):
                raw = outputs[f"out{stride}"][image]
                numbers = raw[row, column] if candidates == "maps_last" else raw[:, row, column]
                for anchor in range(3):
                    box = numbers[4 * anchor : 4 * anchor + 4].astype(np.float64)
                    x, y = (box[:2] * 2 - 0.5 + np.array([column, row])) * stride
                    width, height = (box[2:] * 2) ** 2 * ANCHORS[level][anchor]
                    scores = numbers[12 + anchor] * numbers[15:]
                    corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                    expected.append((corners, scores.max(), int(scores.argmax())))
        agrees(found, expected, image)


def test_blazeface() -> None:
    """128 x 128: two anchors a cell of 8 pixels and six of 16, all of fixed size; as MediaPipe."""
    outputs = {"regressors": normal(1, 896, 16, scale=10), "classificators": normal(1, 896, 1)}
    head = Head(
        outputs=("regressors", "classificators"), strides=(8, 16), per_cell=(2, 6), box_at=0,
        scores_at=16, activation="sigmoid", point="centre", offset_unit="pixels",
        size="linear", size_unit="pixels",
    )  # fmt: skip
    anchors = []
    for stride, per_cell in ((8, 2), (16, 6)):
        side = 128 // stride
        for row in range(side):
            for column in range(side):
                anchors += [((column + 0.5) / side, (row + 0.5) / side)] * per_cell
    assert len(anchors) == 896
    expected = []
    for (x, y), box, score in zip(
        anchors, outputs["regressors"][0], outputs["classificators"][0], strict=True
    ):
        centre_x, centre_y = box[0] / 128 + x, box[1] / 128 + y
        width, height = box[2] / 128, box[3] / 128
        corners = [
            centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2
        ]  # fmt: skip
        expected.append(([128 * side for side in corners], sigmoid(score[0]), 0))
    agrees(decoded(head, 1, outputs, (128, 128)), expected)


def test_ssd_boxes_are_scaled_by_variances_and_anchors() -> None:
    """As RetinaFace and SSD have it: x = 0.1 t w + cx, width = w exp(0.2 t), with background."""
    strides, sizes = (16, 32), (((16.0, 16.0), (32.0, 32.0)), ((64.0, 64.0), (128.0, 128.0)))
    count = total(strides, 2)
    outputs = {"loc": normal(1, count, 4), "conf": normal(1, count, 2)}
    head = Head(
        outputs=("loc", "conf"), strides=strides, anchors=sizes, activation="softmax",
        no_object="first", point="centre", offset_unit="anchors", size_unit="anchors",
        variances=(0.1, 0.2),
    )  # fmt: skip
    expected, at = [], 0
    for level, stride in enumerate(strides):
        for row, column in cells(stride):
            for width, height in sizes[level]:
                t = outputs["loc"][0, at].astype(np.float64)
                powers = np.exp(outputs["conf"][0, at])
                x = (column + 0.5) * stride + t[0] * 0.1 * width
                y = (row + 0.5) * stride + t[1] * 0.1 * height
                w, h = width * np.exp(t[2] * 0.2), height * np.exp(t[3] * 0.2)
                box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                expected.append((box, powers[1] / powers.sum(), 0))
                at += 1
    agrees(decoded(head, 1, outputs), expected)


def test_fastestdet() -> None:
    """One map: object, box, labels; the score is object^0.6 x label^0.4, the box of tanh."""
    labels, stride = 3, 16
    rows, columns = SHAPE[0] // stride, SHAPE[1] // stride
    output = normal(1, 5 + labels, rows, columns)
    output[:, 0] = sigmoid(output[:, 0])
    output[:, 5:] = np.exp(output[:, 5:]) / np.exp(output[:, 5:]).sum(axis=1, keepdims=True)
    head = Head(
        candidates="maps", strides=(stride,), objectness_at=0, box_at=1, scores_at=5,
        powers=(0.6, 0.4), offset="tanh", size="sigmoid", size_unit="input",
    )  # fmt: skip
    expected = []
    for row, column in cells(stride):
        of_object, *box = output[0, :5, row, column].astype(np.float64)
        scores = output[0, 5:, row, column]
        width, height = sigmoid(box[2]), sigmoid(box[3])
        x, y = (np.tanh(box[0]) + column) / columns, (np.tanh(box[1]) + row) / rows
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        corners *= (SHAPE[1], SHAPE[0]) * 2
        score = float(of_object) ** 0.6 * float(scores.max()) ** 0.4
        expected.append((corners.tolist(), score, int(scores.argmax())))
    agrees(decoded(head, labels, {"output": output}), expected)


@pytest.mark.parametrize("boxes", ["corners", "centre", "corner_size"])
def test_boxes_whose_y_comes_first(boxes: Any) -> None:
    numbers = np.array([[[0.25, 0.125, 0.5, 0.75, 0.9]]], np.float32)
    plain = numbers[..., [1, 0, 3, 2, 4]]
    turned = decoded(Head(boxes=boxes, relative=True, order="yx"), 1, {"o": numbers})
    np.testing.assert_array_equal(
        turned[0], decoded(Head(boxes=boxes, relative=True), 1, {"o": plain})[0]
    )


def test_cells_cover_an_input_that_strides_do_not_divide() -> None:
    """NanoDet at 416: seven cells of 64 pixels."""
    head = Head(scores_at=0, box_at=1, boxes="distances", strides=(64,))
    boxes, _, _ = decoded(head, 1, {"o": np.zeros((1, 49, 5), np.float32)}, (416, 416))
    assert boxes[0, -1].tolist() == [384, 384, 384, 384]
