"""A running service with exports that find masks, keypoints, rotated boxes and labels of pixels."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from huggingface_hub import InferenceClient
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision.regions import mask_of
from tests.browser import running_browser, visiting
from tests.exports import yolo_heads as heads
from tests.integration.page.asking import DESKTOP, ask, choose
from tests.integration.real_service import RealService, real_service
from tests.unit.transforms.images import encoded

pytestmark = pytest.mark.looptime(False)

IMAGE = heads.IMAGES[2]
FILE = encoded(IMAGE)
THRESHOLD = {"threshold": str(heads.THRESHOLD), "iou": str(heads.IOU)}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    folder = tmp_path_factory.mktemp("masks")
    for task in (*heads.EXTRAS, "semantic"):
        (folder / "repository" / task).mkdir(parents=True)
        onnx.save(heads.model(task), folder / "repository" / task / "best.onnx")
    with real_service(folder, "--models.repository", str(folder / "repository")) as running:
        yield running


def detect(service: RealService, model: str, **fields: str) -> list[dict[str, Any]]:
    response = httpx.post(
        f"{service.url}/v1/detect",
        data={"model": model, **THRESHOLD, **fields},
        files={"image": FILE},
        timeout=60,
    )
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    objects: list[dict[str, Any]] = result["objects"]
    assert len(objects) > 1
    return objects


def from_counts(mask: dict[str, Any]) -> NDArray[np.bool_]:
    height, width = mask["size"]
    assert (width, height) == IMAGE.size
    return mask_of(mask["counts"].encode(), (height, width))


def from_png(data: str) -> NDArray[np.bool_]:
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("L")) > 0


def test_masks_come_in_the_form_that_was_asked_for(service: RealService) -> None:
    plain = detect(service, "segment")
    images = detect(service, "segment", masks="png")
    outlines = detect(service, "segment", masks="polygons")
    for one, image, outline in zip(plain, images, outlines, strict=True):
        np.testing.assert_array_equal(from_counts(one["mask"]), from_png(image["mask"]["png"]))
        assert outline["mask"].keys() == {"polygons"}
        corners = np.array([corner for ring in outline["mask"]["polygons"] for corner in ring])
        rows, columns = np.nonzero(from_counts(one["mask"]))
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [*corners.min(0), *corners.max(0)] == pytest.approx(extent, abs=1)
    assert all(
        one.keys() == {"label", "score", "box"} for one in detect(service, "segment", masks="none")
    )


def test_only_what_a_model_finds_is_in_its_objects(service: RealService) -> None:
    plain = {"label", "score", "box"}
    assert {*detect(service, "pose")[0]} == plain | {"keypoints"}
    assert {*detect(service, "obb")[0]} == plain | {"rotated_box"}
    assert np.shape(detect(service, "pose")[0]["keypoints"]) == heads.POINTS
    refused = httpx.post(
        f"{service.url}/v1/detect", data={"model": "pose", "masks": "rle"}, files={"image": FILE}
    )
    assert refused.status_code == 422
    assert "finds no masks" in refused.text


def test_each_pixel_has_one_label(service: RealService) -> None:
    objects = detect(service, "semantic", threshold="0")
    total = sum(from_counts(one["mask"]).astype(int) for one in objects)
    assert (total == 1).all()


def test_the_client_of_hugging_face_segments_images(service: RealService) -> None:
    client = InferenceClient(f"{service.url}/hf/segment")
    found = client.image_segmentation(FILE, threshold=heads.THRESHOLD)
    wanted = detect(service, "segment", iou="0.7")
    assert [one.label for one in found] == [one["label"] for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(one.mask) > 0, from_counts(other["mask"]))
    about = httpx.get(f"{service.url}/hf/segment/info").json()
    assert about["pipeline_tag"] == "image-segmentation"


@pytest.mark.parametrize(
    ("model", "name", "member"),
    [
        ("segment", "mask", "mask"),
        ("pose", "keypoints", "keypoints"),
        ("obb", "rotated_box", "rotated_box"),
    ],
)
def test_the_open_inference_protocol_has_an_output_for_it(
    service: RealService, model: str, name: str, member: str
) -> None:
    data = [base64.b64encode(FILE).decode()]
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
    parameters = {"threshold": heads.THRESHOLD, "iou": heads.IOU}
    answer = httpx.post(
        f"{service.url}/v2/models/{model}/infer", json={"inputs": [image], "parameters": parameters}
    ).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    described = httpx.get(f"{service.url}/v2/models/{model}").json()["outputs"]
    assert {one["name"] for one in described} == outputs.keys()
    native = [one[member] for one in detect(service, model)]
    if name == "mask":
        assert outputs[name]["data"] == [one["counts"] for one in native]
    else:
        assert outputs[name]["shape"] == [1, *np.shape(native)]
        np.testing.assert_allclose(outputs[name]["data"], np.ravel(native), rtol=1e-6)


def test_frames_of_a_video_have_masks_if_they_are_asked_for(service: RealService) -> None:
    video = io.BytesIO()
    IMAGE.save(video, "GIF")
    for masks, parts in (
        ("rle", {"label", "score", "box", "mask"}),
        (None, {"label", "score", "box"}),
    ):
        query = {"model": "segment", **THRESHOLD} | ({} if masks is None else {"masks": masks})
        response = httpx.post(
            f"{service.url}/v1/video",
            params=query,
            content=video.getvalue(),
            headers={"content-type": "image/gif"},
            timeout=60,
        )
        events = [json.loads(line) for line in response.text.splitlines()]
        frames = [event for event in events if event["event"] == "frame"]
        assert frames
        assert all(one.keys() == parts for frame in frames for one in frame["objects"])
        assert frames[0]["objects"]


PAINTED = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return Array.from({ length: width * height }, (_, at) => data[4 * at + 3] > 0);
}"""


@pytest.mark.browser
def test_the_page_paints_masks_points_and_rotated_boxes(service: RealService) -> None:
    with (
        running_browser() as browser,
        visiting(browser, f"{service.url}/", DESKTOP) as visit,
    ):
        page = visit.page
        page.locator("#readiness[data-state=ready]").wait_for()
        page.locator("#tab-detect").click()
        choose(visit, "detect", "picture.png", FILE, "image/png")
        # The page asks for every object and draws those above its slider, at 0.3 at first.
        least = page.locator("#detect [type=range]").input_value()
        for model in ("segment", "pose", "obb"):
            page.locator("#detect select").select_option(model)
            canvas = ask(visit, "detect").locator("canvas")
            painted = np.array(canvas.evaluate(PAINTED)).reshape(IMAGE.height, IMAGE.width)
            objects = detect(service, model, threshold=least, iou="0.7")
            if model == "segment":
                union = np.logical_or.reduce([from_counts(one["mask"]) for one in objects])
                np.testing.assert_array_equal(painted, union)
            elif model == "pose":
                points = np.concatenate([one["keypoints"] for one in objects])
                visible = points[points[:, 2] >= 0.5, :2].astype(int)
                columns, rows = visible.T
                is_within = (columns < IMAGE.width) & (rows < IMAGE.height)
                assert painted[rows[is_within], columns[is_within]].all()
            else:
                assert painted.any()
                assert page.locator("#detect .box.around").count() == len(objects)
