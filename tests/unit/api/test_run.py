"""POST /v1/run/{workflow}: results of steps, of crops, and of what fails among them."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from service.api.openapi import ProblemBody
from service.api.run import RunResponse, WorkflowsResponse
from service.repository.workflows import Workflow, read_workflows
from service.tasks import (
    ClassifyItem,
    DetectedObject,
    Detections,
    DetectItem,
    EmbedItem,
    Frame,
    Text,
)
from tests.unit.api import fakes
from tests.unit.api.fakes import DIMENSIONS, FakeRegistry
from tests.unit.api.images import PNG, encoded

URL = "/v1/run/flow"
CROPS = """
[steps.found]
task = "detect"
[steps.cut]
task = "crop"
most = 2
only = ["ace"]
[steps.label]
task = "classify"
top_k = 1
[steps.vector]
task = "embed"
input = "cut"
"""
TEXTS = """
input = "text"
[steps.english]
task = "translate"
[steps.topic]
task = "classify"
[steps.vector]
task = "embed"
input = "topic"
[steps.own]
task = "classify"
input = "input"
labels = ["a", "b"]
"""


@pytest.fixture
def add(registry: FakeRegistry, tmp_path: Path) -> Any:
    def add(text: str) -> None:
        (tmp_path / "workflows").mkdir()
        (tmp_path / "workflows" / "flow.toml").write_text(text, encoding="utf-8")
        registry.workflow_files |= read_workflows(tmp_path)
        assert isinstance(registry.workflow_files["flow"], Workflow)

    return add


def found(monkeypatch: pytest.MonkeyPatch, *objects: tuple[str, tuple[float, ...]]) -> None:
    """Have the detector find these."""
    answer = fakes._answer

    def with_objects(item: Any) -> Any:
        if not isinstance(item, DetectItem):
            return answer(item)
        size = fakes._size(item.image)
        boxes = (DetectedObject(label, 0.9, box) for label, box in objects)  # type: ignore[arg-type]
        return Detections(tuple(boxes), *size)

    monkeypatch.setattr(fakes, "_answer", with_objects)


async def run(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(URL, json=body)
    assert response.status_code == 200, response.text
    RunResponse.model_validate_json(response.content)
    (result,) = response.json()["results"]
    assert isinstance(result, dict)
    return result


async def test_each_crop_has_results_and_the_failed_ones_say_why(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(CROPS)
    found(
        monkeypatch,
        ("ace", (1.2, 2.0, 9.5, 14.0)),
        ("king", (0.0, 0.0, 9.0, 9.0)),
        ("ace", (40.0, 40.0, 44.0, 50.0)),
        ("ace", (0.0, 0.0, 5.0, 5.0)),
    )
    image = base64.b64encode(encoded(size=(16, 20))).decode()
    result = await run(client, image=image)
    first, king, outside, last = result["steps"]["found"]["objects"]
    assert first["steps"] == {
        "label": {"labels": [{"label": "business", "score": 0.75}]},
        "vector": {"embedding": [0.5] * DIMENSIONS},
    }
    assert (first["label"], first["box"]) == ("ace", [1.2, 2.0, 9.5, 14.0])
    assert king["steps"] == {}
    assert outside["steps"]["cut"]["error"]["code"] == "invalid_input"
    assert last["steps"]["cut"]["error"]["code"] == "limit_exceeded"
    assert result["failed"] == 2
    (item, _), *_ = registry.pipelines["classify", "image"].asked  # type: ignore[index]
    assert isinstance(item, ClassifyItem)
    assert isinstance(item.content, Frame)
    assert item.content.pixels.shape == (12, 9, 3)
    assert REGISTRY.get_sample_value(
        "workflow_inputs_total", {"workflow": "flow", "outcome": "partial"}
    )


async def test_a_step_of_crops_that_fails_does_not_lose_the_boxes(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(CROPS)
    answer = fakes._answer

    def failing(item: Any) -> Any:
        if isinstance(item, EmbedItem):
            raise RuntimeError("/secret/path")  # noqa: TRY004
        return answer(item)

    monkeypatch.setattr(fakes, "_answer", failing)
    result = await run(client, image=base64.b64encode(encoded(size=(16, 20))).decode())
    (one,) = result["steps"]["found"]["objects"]
    assert one["steps"]["label"]["labels"]
    assert one["steps"]["vector"]["error"]["code"] == "internal_error"
    assert "secret" not in str(result)
    assert result["failed"] == 1


async def test_texts_pass_from_step_to_step(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any
) -> None:
    add(TEXTS)
    result = await run(client, text="茶")
    steps = result["steps"]
    assert list(steps) == ["english", "topic", "vector", "own"]
    assert steps["english"]["translation"] == "[茶]"
    topics = registry.pipelines["classify", "text"].asked  # type: ignore[index]
    assert [item.content for item, _ in topics] == [Text("[茶]")]  # type: ignore[union-attr]
    vectors = registry.pipelines["embed", "text"].asked  # type: ignore[index]
    asked = {item.content.text for item, _ in vectors}  # type: ignore[union-attr]
    assert asked == {"a", "b", "茶", "business"}
    assert {each["label"] for each in steps["own"]["labels"]} == {"a", "b"}


async def test_what_takes_a_failed_step_is_absent(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any
) -> None:
    add(TEXTS)
    del registry.pipelines["classify", "text"].asked  # type: ignore[index]
    result = await run(client, text="茶")
    assert (set(result["steps"]), result["failed"]) == ({"english", "topic", "own"}, 1)
    assert result["steps"]["topic"]["error"]["code"] == "internal_error"


async def test_an_input_of_which_nothing_came_back_fails_alone(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any
) -> None:
    add(TEXTS)
    response = await client.post(URL, json={"text": ["inference", "茶", ""]})
    body = response.json()
    assert [fault["index"] for fault in body["errors"]] == [0, 2]
    assert body["errors"][0]["detail"].startswith("english: ")
    assert body["results"][1]["failed"] == 0
    ProblemBody.model_validate(body)
    assert set(body) <= set(ProblemBody.model_fields)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"image": base64.b64encode(PNG).decode()}, 422, "workflow 'flow' takes text"),
        ({}, 422, "give either text or image"),
        ({"text": []}, 422, "no items"),
        ({"text": "a", "model": "x"}, 422, "model"),
        ({"text": ["a"] * 9}, 413, "9 items"),
    ],
)
async def test_what_a_workflow_does_not_take_is_refused(
    client: httpx.AsyncClient, add: Any, body: Any, status: int, detail: str
) -> None:
    add(TEXTS)
    response = await client.post(URL, json=body)
    assert (response.status_code, detail in response.json()["detail"]) == (status, True)


async def test_forms_and_raw_bodies_are_read(client: httpx.AsyncClient, add: Any) -> None:
    add(CROPS)
    image = encoded(size=(16, 20))
    for body in (
        {"files": {"image": image}},
        {"content": image, "headers": {"content-type": "image/png"}},
    ):
        response = await client.post(URL, **body)  # type: ignore[arg-type]
        assert response.status_code == 200, response.text
        assert response.headers["x-cache"] in ("miss", "hit")


async def test_a_workflow_that_cannot_run_is_listed_and_refused_with_the_reason(
    client: httpx.AsyncClient, registry: FakeRegistry, add: Any
) -> None:
    add(CROPS.replace('task = "embed"', 'task = "embed"\nmodel = "nobody"'))
    registry.workflow_files["broken"] = "workflows/broken.toml: there are no steps"
    response = await client.get("/v1/workflows")
    WorkflowsResponse.model_validate_json(response.content)
    listed = {each["workflow"]: each for each in response.json()["workflows"]}
    assert listed["cards"]["state"] == listed["zh-news"]["state"] == "ready"
    assert (listed["broken"]["state"], listed["flow"]["state"]) == ("failed", "failed")
    assert listed["flow"]["reason"].startswith("vector: there is no model 'nobody'")
    for path, status in (("flow", 404), ("broken", 503), ("card", 404)):
        response = await client.post(f"/v1/run/{path}", json={"image": "AAAA"})
        assert response.status_code == status, response.text
    assert "did you mean cards?" in response.json()["detail"]
