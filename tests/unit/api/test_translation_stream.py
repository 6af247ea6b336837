"""Translations told as they come, in front of pipelines that wait and fail for real."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.tasks import Task
from tests.unit.api.fakes import MOST_CHARACTERS, FakePipeline, FakeRegistry
from tests.unit.api.stream_clients import LINES, SERVER_SENT, Reader, ask, events


@pytest.fixture
def translator(registry: FakeRegistry) -> FakePipeline:
    return registry.pipelines[Task.TRANSLATE, "text"]


async def test_a_document_is_told_line_by_line_and_summed_up(client: httpx.AsyncClient) -> None:
    start, first, second, end = await events(client, {"text": " 一\n\n二。\n"})
    assert start == {
        "event": "start", "model": "zh-en", "version": 1, "items": 1, "done": 0, "total": 2,
    }  # fmt: skip
    assert first == {
        "event": "segment", "item": 0, "index": 0, "start": 1, "end": 2, "before": " ", "after": "",
        "translation": "[一]", "source": "zh", "target": "en", "truncated": False,
        "finish_reason": "stop", "cache": "miss", "done": 1, "total": 2,
    }  # fmt: skip
    assert (second["before"], second["translation"], second["after"]) == ("\n\n", "[二。]", "\n")
    assert (end["event"], end["done"], end["failed"], end["cache"]) == ("end", 2, 0, {"miss": 2})
    assert end["longest"]["compute_seconds"] == pytest.approx(0.004)


async def test_the_segments_put_together_are_what_is_answered_without_a_stream(
    client: httpx.AsyncClient,
) -> None:
    text = "\t一。二。\r\n\r\n---\n三" + "很长，" * MOST_CHARACTERS + "\n"
    told = [e for e in await events(client, {"text": text}) if e["event"] == "segment"]
    joined = "".join(e["before"] + e["translation"] + e["after"] for e in told)
    answered = (await ask(client, {"text": text})).json()["results"][0]
    assert answered["translation"] == joined
    assert len(told) > 3


@pytest.mark.parametrize(
    ("accept", "body", "told"),
    [
        (SERVER_SENT, {}, SERVER_SENT),
        (f"{SERVER_SENT};q=0.9, */*", {"stream": "segments"}, SERVER_SENT),
        (LINES, {}, LINES),
        (f"{LINES}, {SERVER_SENT}", {}, LINES),
        ("*/*", {"stream": "segments"}, LINES),
        ("application/json", {}, "application/json"),
    ],
)
async def test_the_form_is_the_one_that_the_client_accepts(
    client: httpx.AsyncClient, accept: str, body: dict[str, Any], told: str
) -> None:
    response = await ask(client, {"text": "一", **body}, accept=accept)
    assert response.headers["content-type"].partition(";")[0] == told


async def test_server_sent_events_are_named_and_hold_one_line_of_json(
    client: httpx.AsyncClient,
) -> None:
    response = await ask(client, {"text": "一\n二\u2028三"}, accept=SERVER_SENT)
    blocks = response.text.split("\n\n")[:-1]
    named = [block.split("\n") for block in blocks]
    assert [name for name, _ in named] == [
        "event: start", "event: segment", "event: segment", "event: segment", "event: end",
    ]  # fmt: skip
    for name, data in named:
        assert json.loads(data.removeprefix("data: "))["event"] == name.removeprefix("event: ")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [("inference", 500, "inference_failed"), ("bug", 500, "internal_error")],
)
async def test_a_line_that_fails_is_a_problem_in_its_place_and_the_others_are_told(
    client: httpx.AsyncClient, line: str, status: int, code: str
) -> None:
    told = await events(client, {"text": f"一\n{line}\n三"}, x_request_id="mine")
    assert [e["event"] for e in told] == ["start", "segment", "error", "segment", "end"]
    error = told[2]
    assert (error["index"], error["start"], error["end"]) == (1, 2, 2 + len(line))
    assert (error["status"], error["code"], error["request_id"]) == (status, code, "mine")
    assert error["type"] == f"urn:quartet:problem:{code}"
    assert "/secret" not in json.dumps(told)
    assert (told[-1]["done"], told[-1]["failed"]) == (3, 1)


async def test_a_failing_line_names_its_place_without_a_stream(client: httpx.AsyncClient) -> None:
    response = await ask(client, {"text": ["一\ninference\n三", "四\n五"]})
    body = response.json()
    assert response.status_code == 500
    assert body["errors"] == [
        {
            "index": 0,
            "code": "inference_failed",
            "detail": "characters 2 to 11: the model failed",
        }
    ]
    assert [r and r["translation"] for r in body["results"]] == [None, "[四]\n[五]"]


async def test_texts_that_are_refused_are_told_first_by_their_place(
    client: httpx.AsyncClient,
) -> None:
    told = await events(client, {"text": ["一\n二", "", 7, "\0", "三"]})
    kinds = [(e["event"], e.get("item"), e.get("code")) for e in told]
    assert kinds == [
        ("start", None, None),
        ("error", 1, "invalid_input"),
        ("error", 2, "invalid_input"),
        ("error", 3, "invalid_input"),
        ("segment", 0, None),
        ("segment", 0, None),
        ("segment", 4, None),
        ("end", None, None),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": ""}, 422),
        ({"text": ["", ""]}, 422),
        ({"text": "一", "model": "nobody"}, 404),
        ({"text": "一", "stream": "tokens"}, 422),
        ({"text": "一", "stream": "words"}, 422),
        ({"text": "一" * 2001}, 413),
        ({"text": ["一" * 1500, "一" * 1500]}, 413),
        ({"text": "一\n" * 21}, 413),
    ],
)
async def test_what_cannot_begin_is_refused_as_ever(
    context: ApiContext, body: dict[str, Any], status: int
) -> None:
    limits = ApiLimits(max_document_characters=2000, max_segments=20)
    api = build_api(ApiContext(context.registry, Lifecycle(), limits))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        response = await ask(client, {"stream": "segments", **body})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_who_comes_while_the_queue_is_full_is_told_to_come_back(
    client: httpx.AsyncClient, translator: FakePipeline
) -> None:
    translator.is_full = True
    response = await ask(client, {"text": "一\n二", "stream": "segments"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")


async def test_a_text_that_is_not_to_be_split_keeps_the_limit_of_one_text(
    client: httpx.AsyncClient, limits: ApiLimits
) -> None:
    text = "一\n" * (limits.max_characters // 2)
    whole = await ask(client, {"text": text, "split": "none"})
    assert whole.json()["results"][0]["translation"] == f"[{text}]"
    assert (await ask(client, {"text": text + "二", "split": "none"})).status_code == 413
    assert (await ask(client, {"text": text + "二"})).status_code == 200


async def test_sentences_are_split_where_they_are_wanted(client: httpx.AsyncClient) -> None:
    response = await ask(client, {"text": "一。二。", "split": "sentences"})
    assert response.json()["results"][0]["translation"] == "[一。] [二。]"


async def test_at_the_deadline_of_a_stream_its_last_events_say_so(
    client: httpx.AsyncClient, translator: FakePipeline, looptime: Any
) -> None:
    told = await events(client, {"text": "一\nhang\n三"}, x_request_timeout_ms="7000")
    assert [e["event"] for e in told] == ["start", "segment", "progress", "error", "end"]
    assert told[3]["code"] == "deadline_exceeded"
    assert "index" not in told[3]
    assert (told[-1]["done"], told[-1]["total"], told[-1]["failed"]) == (1, 3, 1)
    assert translator.cancelled.is_set()
    assert translator.holders == 0
    assert looptime == pytest.approx(7.0, abs=0.01)


async def test_a_stream_that_the_server_gives_up_at_a_stop_ends_with_the_reason(
    api: FastAPI, context: ApiContext, translator: FakePipeline
) -> None:
    reader = Reader("一\nhang\n三")
    reader.may_read.set()
    serving = reader.ask(api)
    await translator.started.wait()
    await asyncio.sleep(0.01)
    context.lifecycle.shutting_down = True
    serving.cancel()
    await serving
    assert [one["event"] for one in reader.told] == ["start", "segment", "error", "end"]
    assert reader.told[2]["code"] == "shutting_down"
    assert (reader.told[3]["done"], reader.told[3]["failed"]) == (1, 1)
    assert reader.has_ended
    assert (translator.cancelled.is_set(), translator.holders) == (True, 0)


async def test_who_does_not_read_when_the_server_gives_up_is_counted_as_one_who_left(
    api: FastAPI, context: ApiContext, translator: FakePipeline
) -> None:
    labels = {"route": "/v1/translate", "method": "POST", "status": "499", "protocol": "native"}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0.0
    reader = Reader("一\n二")
    serving = reader.ask(api)
    await asyncio.sleep(0.01)
    context.lifecycle.shutting_down = True
    serving.cancel()
    await serving
    assert [one["event"] for one in reader.told] == ["start"]
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1
    assert translator.holders == 0


async def test_a_stream_that_is_cancelled_for_another_reason_is_just_ended(
    api: FastAPI, translator: FakePipeline
) -> None:
    reader = Reader("hang")
    reader.may_read.set()
    serving = reader.ask(api)
    await translator.started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert [one["event"] for one in reader.told] == ["start"]
    assert translator.holders == 0


async def test_a_stream_may_take_longer_than_a_request(
    client: httpx.AsyncClient, translator: FakePipeline, limits: ApiLimits, looptime: Any
) -> None:
    told = await events(client, {"text": "hang"}, x_request_timeout_ms="300000")
    assert looptime == pytest.approx(300.0, abs=0.01)
    assert limits.max_timeout_seconds < 300
    assert told[1] == {"event": "progress", "done": 0, "total": 1}
    assert told[-2]["code"] == "deadline_exceeded"


async def test_every_line_is_asked_for_with_the_options_of_the_request(
    client: httpx.AsyncClient, translator: FakePipeline
) -> None:
    body = {"text": "一\n二", "num_beams": 2, "max_length": 9}
    await events(client, body, x_request_priority="3", cache_control="no-store")
    for (item, options), text in zip(translator.asked, "一二", strict=True):
        assert (item.text, item.num_beams, item.max_new_tokens) == (text, 2, 9)  # type: ignore[union-attr]
        assert (options.priority, str(options.cache)) == (3, "bypass")


async def test_a_version_is_held_from_before_a_text_is_split_until_its_stream_has_ended(
    client: httpx.AsyncClient, translator: FakePipeline
) -> None:
    for body in ({"text": "一\n二"}, {"text": "一\n二", "stream": "segments"}):
        translator.holders_at_split = 0
        assert (await ask(client, body)).status_code == 200
        assert (translator.holders_at_split, translator.holders) == (1, 0)
    refused = await ask(client, {"text": "一\n" * 10_001, "stream": "segments"})
    assert refused.status_code == 413
    assert translator.holders == 0


async def test_streams_are_counted_apart_from_requests(client: httpx.AsyncClient) -> None:
    def count(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"route": "/v1/translate"}) or 0.0

    names = ["http_request_seconds_count", "http_stream_seconds_count",
             "http_stream_first_seconds_count"]  # fmt: skip
    before = [count(name) for name in names]
    await events(client, {"text": "一\n二"})
    assert [count(name) - known for name, known in zip(names, before, strict=True)] == [0, 1, 1]
    assert count("http_streams") == 0


async def test_what_is_told_of_an_ended_stream(registry: FakeRegistry) -> None:
    ended: list[Any] = []

    class Observer:
        def ended(self, request: Any, route: str, seconds: float) -> None:
            ended.append(request)

    api: FastAPI = build_api(ApiContext(registry, Lifecycle(), observer=Observer()))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        await events(client, {"text": ["一\n一\ninference", "四"]})
        await ask(client, {"text": "一\n二\n三"})
        await ask(client, {"text": "一"})
    stream, document, plain = ended
    assert (stream.status, stream.code) == (200, "inference_failed")
    assert (stream.item_count, stream.segment_count, str(stream.cache)) == (2, 4, "miss")
    assert stream.first_seconds > 0
    assert stream.sent > 500
    assert (document.segment_count, document.first_seconds) == (3, None)
    assert plain.segment_count == 0


async def test_many_lines_are_asked_for_a_window_at_a_time(
    client: httpx.AsyncClient, translator: FakePipeline
) -> None:
    asking = asyncio.create_task(
        events(client, {"text": "\n".join(["hang"] * 100)}, x_request_timeout_ms="1000")
    )
    await translator.started.wait()
    await asyncio.sleep(0.1)
    assert len(translator.asked) == translator.window
    await asking
