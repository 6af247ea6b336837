"""The detector's boxes are where its cells are, and its graph says what PyTorch says."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("cv2")

from onnx import ModelProto  # noqa: E402

from models.graphs.files import (  # noqa: E402
    export_graph,
    fold_batch_norms,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.graphs.static import quantise_statically  # noqa: E402
from models.starters.cards.export import kept_in_fp32  # noqa: E402
from models.starters.cards.model import (  # noqa: E402
    Detector,
    ServedDetector,
    all_centres,
    cell_centres,
)
from tests.exact_session import exact_session  # noqa: E402

LABELS, SIZE, CELLS = 3, 96, 36 + 9


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A small network with random weights and batch norms that have seen something."""
    torch.manual_seed(0)
    model = Detector(LABELS, widths=(8, 8, 16, 16, 16))
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.rand(4, 3, SIZE, SIZE))
    fold_batch_norms(model.eval())
    round_to_fp16(model)
    return model


def test_cells_are_listed_row_by_row_the_finer_grid_first() -> None:
    assert cell_centres(2, 3, 16).T.tolist() == [
        [8, 8],
        [24, 8],
        [40, 8],
        [8, 24],
        [24, 24],
        [40, 24],
    ]
    assert all_centres(64).shape == (2, 16 + 4)
    assert all_centres(64)[:, 16].tolist() == [16, 16]


@torch.no_grad()
def test_every_box_contains_the_centre_of_its_cell(detector: Detector) -> None:
    boxes, logits = detector(torch.rand(2, 3, SIZE, SIZE))
    assert boxes.shape == (2, 4, CELLS)
    assert logits.shape == (2, LABELS, CELLS)
    centres = all_centres(SIZE)
    assert (boxes[:, :2] < centres).all()
    assert (boxes[:, 2:] > centres).all()


@torch.no_grad()
def test_the_served_output_is_centre_size_and_scores(detector: Detector) -> None:
    images = torch.rand(2, 3, SIZE, SIZE)
    boxes, logits = detector(images)
    output = ServedDetector(detector)(images)
    assert output.shape == (2, 4 + LABELS, CELLS)
    torch.testing.assert_close(output[:, :2] * 2, boxes[:, :2] + boxes[:, 2:])
    torch.testing.assert_close(output[:, 2:4], boxes[:, 2:] - boxes[:, :2])
    torch.testing.assert_close(output[:, 4:], logits.sigmoid())


def test_training_in_bf16_places_boxes_to_a_fraction_of_a_pixel(detector: Detector) -> None:
    images = torch.rand(1, 3, 320, 320)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        boxes, _ = detector(images)
    assert boxes.dtype == torch.float32
    assert (boxes[:, :2] < all_centres(320)).all()


@pytest.fixture(scope="module")
def graph(detector: Detector) -> ModelProto:
    images = torch.rand(2, 3, SIZE, SIZE)
    axes = {"images": {0: "batch"}}
    return export_graph(ServedDetector(detector), {"images": images}, ["output0"], axes)


@torch.no_grad()
def test_both_graphs_answer_as_pytorch_whatever_the_batch(
    detector: Detector, graph: ModelProto, tmp_path: Path
) -> None:
    images = torch.rand(3, 3, SIZE, SIZE)
    save_graph(store_weights_as_fp16(graph), tmp_path / "fp32.onnx")
    calibration = [{"images": image[None].numpy()} for image in images]
    int8 = quantise_statically(graph, calibration, excluded=kept_in_fp32(graph))
    save_graph(int8, tmp_path / "int8.onnx")

    expected = ServedDetector(detector)(images).numpy()
    for name, box_atol, score_atol in (("fp32.onnx", 1e-3, 1e-5), ("int8.onnx", 4, 0.02)):
        session = exact_session(tmp_path / name)
        (together,) = session.run(None, {"images": images.numpy()})
        alone = [session.run(None, {"images": image[None].numpy()})[0] for image in images]
        np.testing.assert_allclose(together[:, :4], expected[:, :4], atol=box_atol)
        np.testing.assert_allclose(together[:, 4:], expected[:, 4:], atol=score_atol)
        np.testing.assert_array_equal(np.concatenate(alone), together)


def test_only_what_follows_the_last_convolutions_stays_in_fp32(graph: ModelProto) -> None:
    kinds = {node.name: node.op_type for node in graph.graph.node}
    kept = [kinds[name] for name in kept_in_fp32(graph)]
    assert kept.count("Conv") == 4  # labels and distances of two heads
    assert {"Softplus", "Sigmoid"} <= set(kept)
    assert not {"Relu", "MaxPool", "Resize"} & set(kept)
