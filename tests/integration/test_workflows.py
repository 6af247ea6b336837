"""Workflows on the starter models, through the service as a user starts it."""

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.integration.real_service import STARTERS, RealService, real_service

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
SAMPLES = Path(__file__).parents[2] / "service/page/samples"
MARGIN = 0.05


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    folder = tmp_path_factory.mktemp("service")
    repository = folder / "repository"
    for name in ("cards", "emoji", "zh-en", "news-topics", "workflows"):
        shutil.copytree(STARTERS / name, repository / name)
    (repository / "workflows" / "broken.toml").write_text('[steps.a]\ntask = "crop"\n')
    with real_service(folder, f"--models.repository={repository}") as running:
        yield running


def post(service: RealService, path: str, **body: Any) -> Any:
    response = httpx.post(f"{service.url}{path}", timeout=60, **body)
    assert response.is_success, response.text
    return response.json()


def run(service: RealService, name: str, **body: Any) -> dict[str, Any]:
    (result,) = post(service, f"/v1/run/{name}", **body)["results"]
    assert result["failed"] == 0
    steps = result["steps"]
    assert isinstance(steps, dict)
    return steps


def test_each_card_has_the_vector_of_its_own_picture(service: RealService) -> None:
    data = (SAMPLES / "cards_four.jpg").read_bytes()
    steps = run(service, "cards", files={"image": data})
    (alone,) = post(service, "/v1/detect", files={"image": data})["results"]
    objects = steps["cards"]["objects"]
    assert len(objects) == 4
    photo = Image.open(io.BytesIO(data))
    for found, expected in zip(objects, alone["objects"], strict=True):
        assert (found["label"], found["box"]) == (expected["label"], expected["box"])
        left, top, right, bottom = found["box"]
        x, y = MARGIN * (right - left), MARGIN * (bottom - top)
        edges = (int(left - x), int(top - y), int(right + x) + 1, int(bottom + y) + 1)
        buffer = io.BytesIO()
        photo.crop(edges).save(buffer, "PNG")
        (own,) = post(
            service, "/v1/embed", files={"image": buffer.getvalue()}, data={"model": "emoji"}
        )["results"]
        assert found["steps"]["vector"]["embedding"] == pytest.approx(own["embedding"], abs=1e-5)


def test_the_topic_is_that_of_the_translation(service: RealService) -> None:
    steps = run(service, "zh-news", json={"text": "科学家发现一颗新行星"})
    (translated,) = post(service, "/v1/translate", json={"text": "科学家发现一颗新行星"})["results"]
    assert steps["english"] == translated
    (topic,) = post(service, "/v1/classify", json={"text": translated["translation"], "top_k": 2})[
        "results"
    ]
    assert steps["topic"] == topic
    assert topic["labels"][0]["label"] == "science_technology"


def test_a_video_runs_the_steps_on_each_frame(service: RealService) -> None:
    with (SAMPLES / "cards.mp4").open("rb") as video:
        response = httpx.post(
            f"{service.url}/v1/video",
            files={"video": video},
            data={"workflow": "cards", "fps": "2", "end": "2", "track": "true"},
            timeout=60,
        )
    _, *frames, end = map(json.loads, response.text.splitlines())
    assert (len(frames), end["complete"]) == (4, True)
    for frame in frames:
        found = {each["id"]: each for each in frame["steps"]["cards"]["objects"] if each["id"]}
        assert {each["label"] for each in found.values()} == {"king", "nine"}
        assert sorted(found) == [1, 2]
        assert found[1]["steps"]["vector"]["embedding"]


def test_a_broken_file_is_listed_and_a_mended_one_is_used(service: RealService) -> None:
    def listed() -> dict[str, Any]:
        found = httpx.get(f"{service.url}/v1/workflows", timeout=10).json()["workflows"]
        return {each["workflow"]: each for each in found}

    states = {name: each["state"] for name, each in listed().items()}
    assert states == {"broken": "failed", "cards": "ready", "zh-news": "ready"}
    assert "crop takes objects, and input gives image" in listed()["broken"]["reason"]
    path = service.folder / "repository" / "workflows" / "broken.toml"
    path.write_text('[steps.a]\ntask = "embed"\n')
    patience = time.monotonic() + 60
    while listed()["broken"]["state"] != "ready":
        assert time.monotonic() < patience
        time.sleep(0.2)
    assert run(service, "broken", files={"image": (SAMPLES / "cards.jpg").read_bytes()})["a"]
