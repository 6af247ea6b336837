"""Documents over a real socket, translated by the starter zh-en."""

import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.real_service import RealService, real_service

pytestmark = [pytest.mark.looptime(False)]

WHO = ["我", "你", "他", "她", "汤姆", "玛丽", "老师", "我们", "他们", "我妈妈"]
DOES = ["喜欢", "想要", "看见了", "买了", "不喜欢", "有"]
WHAT = ["一本书", "新房子", "苹果", "那只猫", "咖啡", "自行车", "这张照片", "电影", "一只狗"]
GREEDY = {"num_beams": 1}
SEGMENT_ROWS = 32
"""The starter's window: half of two instances of 32, of one row each."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    folder = tmp_path_factory.mktemp("documents")
    with real_service(
        folder, "--models.only", "zh-en", "--models.warm-up-seconds", "0.5"
    ) as running:
        yield running


def document(lines: int, seed: int) -> str:
    """Lines of a sentence each, some of them empty, indented or a rule."""
    draw = random.Random(seed)
    written = []
    for _ in range(lines):
        sentence = f"{draw.choice(WHO)}{draw.choice(DOES)}{draw.choice(WHAT)}。"
        written.append(draw.choice([sentence] * 8 + ["", "  " + sentence, "----"]))
    return "\r\n".join(written) + "\n"


def streamed(service: RealService, body: Any, **headers: str) -> Iterator[dict[str, Any]]:
    """Yield the events; closing the iterator closes the connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"stream": "segments", **GREEDY, **body}
    url = f"{service.url}/v1/translate"
    with httpx.stream("POST", url, json=body, headers=named, timeout=60) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            yield json.loads(line)


def metric(service: RealService, name: str) -> float:
    found = re.findall(
        rf"^{name}(?:{{.*}})? (\S+)$", httpx.get(f"{service.url}/metrics").text, re.M
    )
    return sum(map(float, found))


def translate(service: RealService, **body: Any) -> dict[str, Any]:
    response = httpx.post(f"{service.url}/v1/translate", json={**GREEDY, **body}, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()["results"][0]


def wait_until(service: RealService, name: str, value: float) -> None:
    patience = time.monotonic() + 60
    while metric(service, name) != value:
        assert time.monotonic() < patience
        time.sleep(0.02)


def test_what_is_not_to_be_translated_comes_back_and_spoils_nothing(service: RealService) -> None:
    for text in ("2026-11-29", "¥1,299.00", "1234567890\n", "。", "😆", "\n", " ", "\ufeff"):
        for split in ("auto", "sentences", "none"):
            answer = translate(service, text=text, split=split)
            assert (answer["translation"], answer["finish_reason"]) == (text, "stop")
        start, segment, end = streamed(service, {"text": text})
        assert (segment["translation"], start["total"], end["failed"]) == (text, 1, 0)
    plain = translate(service, text="我喜欢喝茶。")["translation"]
    for text in ("我喜\u200b欢喝茶。", "\ufeff我喜欢喝茶。", "我喜欢\u2060喝茶。"):
        assert translate(service, text=text)["translation"] == plain
    assert translate(service, text="😀我喜欢喝茶。")["translation"] == f"😀 {plain}"
    assert translate(service, text="我喜欢喝茶😀。")["translation"] == f"{plain[:-1]} 😀."
    told = list(streamed(service, {"text": "我喜欢喝茶。😀\n2026-11-29\n我喜欢喝茶。"}))
    joined = "".join(e["before"] + e["translation"] + e["after"] for e in told[1:-1])
    assert joined == f"{plain} 😀\n2026-11-29\n{plain}"


def test_a_thousand_lines_are_told_in_order_with_their_progress(service: RealService) -> None:
    text = document(1000, seed=1)
    told = list(streamed(service, {"text": text}))
    start, *segments, end = told
    assert {e["event"] for e in segments} == {"segment"}
    assert [e["index"] for e in segments] == list(range(start["total"]))
    assert [e["done"] for e in segments] == list(range(1, start["total"] + 1))
    assert (end["event"], end["failed"], end["truncated"]) == ("end", 0, 0)
    assert end["cache"]["miss"] + end["cache"].get("hit", 0) + end["cache"].get("shared", 0) > 700
    joined = "".join(e["before"] + e["translation"] + e["after"] for e in segments)
    assert blank(joined) == blank(text)
    lines = joined.split("\r\n")
    assert "I like coffee." in {line.strip() for line in lines}
    for event in segments[:: len(segments) // 5]:
        alone = translate(service, text=text[event["start"] : event["end"]])
        assert event["translation"] == alone["translation"]


def blank(text: str) -> list[str]:
    """The structure of a text: of each line, its indentation, and whether anything is in it."""
    return [
        line if not line.strip(" -") else line[: len(line) - len(line.lstrip())]
        for line in text.split("\r\n")
    ]


def test_what_was_translated_is_not_translated_again(service: RealService) -> None:
    text = document(60, seed=2)
    first = list(streamed(service, {"text": text}))
    second = list(streamed(service, {"text": text}))
    assert set(second[-1]["cache"]) == {"hit"}
    assert [e.get("translation") for e in first] == [e.get("translation") for e in second]
    steps = metric(service, "inflight_steps_total")
    list(streamed(service, {"text": text}))
    assert metric(service, "inflight_steps_total") == steps


def test_who_leaves_frees_the_rows_within_a_step(service: RealService) -> None:
    wait_until(service, "inflight_rows", 0)
    left = metric(service, "http_disconnects_total")
    events = streamed(service, {"text": document(1000, seed=3)}, cache_control="no-store")
    for event in events:
        if event.get("done") == 40:
            break
    wasted, asked = (
        metric(service, n) for n in ("inflight_wasted_rows_total", "inflight_tokens_total")
    )
    events.close()
    wait_until(service, "http_disconnects_total", left + 1)
    wait_until(service, "inflight_rows", 0)
    assert metric(service, "inference_pending_requests") == 0
    assert metric(service, "http_streams") == 0
    assert metric(service, "inflight_wasted_rows_total") - wasted <= SEGMENT_ROWS
    assert metric(service, "inflight_tokens_total") >= asked
    steps = metric(service, "inflight_steps_total")
    time.sleep(0.2)
    assert metric(service, "inflight_steps_total") == steps


def test_others_are_answered_beside_a_document(service: RealService) -> None:
    events = streamed(service, {"text": document(1000, seed=4)}, cache_control="no-store")
    for _ in range(20):
        next(events)
    spent = []
    for number in range(3):
        started = time.monotonic()
        translate(service, text=f"她在图书馆工作{number}。")
        spent.append(time.monotonic() - started)
    done = next(events)["done"]
    events.close()
    assert done < 900
    assert min(spent) < 1


def test_tokens_come_as_they_are_written(service: RealService) -> None:
    body = {"text": "我喜欢你的新房子。\n\n昨天汤姆没有去学校。", "stream": "tokens"}
    told = list(streamed(service, body, cache_control="no-store"))
    for index in (0, 1):
        grown = [e["text"] for e in told if e["event"] == "tokens" and e["index"] == index]
        (whole,) = [
            e["translation"] for e in told if e["event"] == "segment" and e["index"] == index
        ]
        assert grown == sorted(grown, key=len)
        assert all(whole.startswith(part) for part in grown)
        # The second may be done before its turn comes; then there is no growth to tell of.
        assert grown or index == 1


def test_a_deadline_ends_a_stream_with_an_event(service: RealService) -> None:
    body = {"text": document(1000, seed=5), "num_beams": 4}
    told = list(streamed(service, body, cache_control="no-store", x_request_timeout_ms="400"))
    assert [e["event"] for e in told[-2:]] == ["error", "end"]
    assert told[-2]["code"] == "deadline_exceeded"
    assert told[-1]["done"] < told[-1]["total"]
    wait_until(service, "inflight_rows", 0)


def test_a_line_longer_than_the_model_reads_is_cut_into_sentences(service: RealService) -> None:
    text = "我喜欢喝茶。今天天气很好。" * 60
    whole = translate(service, text=text, split="none")
    assert whole["truncated"]
    parts = translate(service, text=text)
    assert not parts["truncated"]
    alone = [
        translate(service, text=one)["translation"] for one in ("我喜欢喝茶。", "今天天气很好。")
    ]
    assert parts["translation"] == " ".join(alone * 60)
