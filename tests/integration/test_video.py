"""Videos, sent to the service as a user starts it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clips import write_clip
from tests.integration.real_service import RealService, real_service

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
CLIP = Path(__file__).parents[2] / "service/page/samples/cards.mp4"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    folder = tmp_path_factory.mktemp("service")
    options = (
        "--models.only=cards,emoji",
        "--limits.max-videos=1",
        f"--limits.video-folder={folder}",
    )
    with real_service(folder, *options) as running:
        yield running


def send(service: RealService, path: Path, **fields: Any) -> list[dict[str, Any]]:
    with path.open("rb") as video:
        response = httpx.post(
            f"{service.url}/v1/video", files={"video": video}, data=fields, timeout=120
        )
    assert response.is_success, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_ids_survive_that_one_card_hides_the_other(service: RealService) -> None:
    _, *frames, end = send(service, CLIP, track="true")
    assert end["complete"]
    assert (end["counts"], end["entries"], end["exits"]) == ({"king": 1, "nine": 1}, 2, 0)
    ids = [{found["label"]: found["id"] for found in each["objects"]} for each in frames]
    assert sorted(ids[0]) == ["king", "nine"]
    assert sorted(ids[0].values()) == [1, 2]
    assert ids[-1] == ids[0]


def test_a_frame_gives_the_boxes_of_its_picture(service: RealService, tmp_path: Path) -> None:
    import av  # noqa: PLC0415

    _, frame, _ = send(service, CLIP, end="0.05")
    with av.open(str(CLIP)) as container:
        next(container.decode(video=0)).to_image().save(tmp_path / "first.png")
    image = (tmp_path / "first.png").read_bytes()
    response = httpx.post(f"{service.url}/v1/detect", files={"image": image}, timeout=60)
    (alone,) = response.json()["results"]
    for found, expected in zip(frame["objects"], alone["objects"], strict=True):
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
        assert found["box"] == pytest.approx(expected["box"], abs=0.1)


def test_who_leaves_gives_back_the_room(service: RealService, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", 200, size=(640, 480))
    for _ in range(3):
        with (
            path.open("rb") as video,
            httpx.stream(
                "POST", f"{service.url}/v1/video", files={"video": video}, timeout=60
            ) as response,
        ):
            assert response.status_code == 200, response.read()
            next(response.iter_lines())
        while True:  # the service sees within milliseconds that the client has left
            answer = httpx.post(f"{service.url}/v1/video?end=0.1", content=CLIP.read_bytes())
            if answer.status_code != 429:
                break
        assert answer.status_code == 200, answer.text


def test_no_file_is_left(service: RealService) -> None:
    response = httpx.post(f"{service.url}/v1/video", content=b"no video")
    assert response.status_code == 422
    folder = service.folder
    assert list(folder.glob("quartet-*")) == []


def test_frames_are_labelled_with_given_labels(service: RealService) -> None:
    fields = {"task": "classify", "labels": ["dog face", "playing card"], "every": "30"}
    start, *frames, end = send(service, CLIP, **fields)
    refused = httpx.post(
        f"{service.url}/v1/video?task=classify&labels=one", content=CLIP.read_bytes()
    )
    assert start["model"] == "emoji"
    assert [frame["index"] for frame in frames] == [0, 30]
    for frame in frames:
        assert {found["label"] for found in frame["labels"]} == {"dog face", "playing card"}
        assert sum(found["score"] for found in frame["labels"]) == pytest.approx(1, abs=1e-4)
    assert end["complete"]
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")


def test_the_examples_of_the_documentation_answer(service: RealService) -> None:
    openapi = httpx.get(f"{service.url}/openapi.json").json()
    content = openapi["paths"]["/v1/video"]["post"]["requestBody"]["content"]
    for example in content["multipart/form-data"]["examples"].values():
        _, *frames, end = send(service, CLIP, **example["value"])
        assert end["complete"], example
        assert {each["event"] for each in frames} <= {"frame", "segment"}
