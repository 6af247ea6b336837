"""The images and the compose file, for real: `make e2e`.

Not found by pytest on its own, because it takes Docker and some minutes. The tests share one
project and stand in the order in which they use it up; the last ones stop it.
"""

import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.composed import IMAGE, ROOT, SERVICES, Composed, Load, run, until

pytestmark = [pytest.mark.looptime(False), pytest.mark.timeout(600)]

REPLICAS = 2
LOOKUPS = "response_cache_lookups_total"
ADDED_BYTES = 500_000_000  # of these, 105 MB are FFmpeg, and 100 MB ONNX Runtime
TOKEN = {"Authorization": "Bearer only-for-this-test"}
SAMPLES = ROOT / "service" / "page" / "samples"
CARDS = (SAMPLES / "cards.jpg").read_bytes()
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOGS = ROOT / "build" / "e2e.log"


@pytest.fixture(scope="module")
def stack() -> Iterator[Composed]:
    compose = Composed()
    compose("down", "--volumes", "--remove-orphans")
    compose("build", "quartet", seconds=900)
    try:
        compose("up", "-d", "--scale", f"quartet={REPLICAS}", *SERVICES)
        compose.wait_until_healthy(SERVICES, 120)
        yield compose
    finally:
        LOGS.parent.mkdir(exist_ok=True)
        LOGS.write_text(compose("logs", "--no-color"), encoding="utf-8")
        compose("down", "--volumes", "--remove-orphans")


def metric(url: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with the labels."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def inside(compose: Composed, service: str, script: str) -> str:
    """Return what a shell says in the first container of a service."""
    return run("docker", "exec", compose.containers(service)[0], "sh", "-c", script).strip()


def entries(compose: Composed) -> int:
    """Return how many answers Redis holds."""
    return int(inside(compose, "redis", "redis-cli dbsize"))


def agree(one: Any, other: Any) -> bool:
    """Tell whether two answers are the same, but for how floating point sums were rounded."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(agree(one[k], other[k]) for k in one)
        case list(), list():
            return len(one) == len(other) and all(map(agree, one, other))
        case float(), float():
            return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
        case _:
            return bool(one == other)


def ask_news(url: str) -> httpx.Response:
    """Classify a headline that is not cached."""
    asked = {"text": f"Stocks fall, for the {time.time_ns()}. time"}
    return httpx.post(f"{url}/v1/classify", json=asked, timeout=30)


def all_up(compose: Composed) -> bool:
    """Tell whether Prometheus can read every replica."""
    (url,) = compose.urls("prometheus")
    found = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
    states = [one["health"] for one in found if one["labels"]["job"] == "quartet"]
    return states == ["up"] * REPLICAS


# --- The image ------------------------------------------------------------------------------------


def test_the_image_adds_less_than_500_mb_to_its_base(stack: Composed) -> None:
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE)
    assert base is not None
    sizes = [
        int(run("docker", "image", "inspect", "--format", "{{.Size}}", name))
        for name in (IMAGE, base[1])
    ]
    assert 0 < sizes[0] - sizes[1] < ADDED_BYTES


def test_the_image_brings_no_training_no_compiler_and_no_package_cache(stack: Composed) -> None:
    programs = "gcc g++ cc clang ld make cargo"
    assert inside(stack, "quartet", f"for p in {programs}; do command -v $p; done; true") == ""
    packages = inside(stack, "quartet", "ls /opt/quartet/lib/python*/site-packages").split()
    assert "onnxruntime" in packages
    assert {"torch", "transformers", "onnx", "triton", "pip"}.isdisjoint(packages)
    assert inside(stack, "quartet", "find / -xdev -path '*/.cache/*' 2>/dev/null | head") == ""


def test_the_service_is_not_root_and_can_write_nowhere_but_in_tmp(stack: Composed) -> None:
    assert inside(stack, "quartet", "id -u; id -g").split() == ["10001", "10001"]
    attempts = "for f in / /srv/quartet /opt/quartet /models /tmp; do touch $f/x && echo $f; done"
    assert inside(stack, "quartet", f"{attempts} 2>/dev/null; true") == "/tmp"
    assert inside(stack, "quartet", "grep CapEff /proc/self/status").split()[1].strip("0") == ""


def test_the_image_says_what_it_is(stack: Composed) -> None:
    shown = stack.inspect(stack.containers("quartet")[0])["Config"]
    labels = {k: v for k, v in shown["Labels"].items() if k.startswith("org.opencontainers")}
    assert {name.rpartition(".")[2] for name in labels} == {
        *("title", "description", "licenses", "version", "revision")
    }
    assert shown["Healthcheck"]["Test"][-1].count("/health/ready") == 1


# --- The service ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sent", "answer"),
    [
        ("classify", {"json": {"text": "Stocks fall as oil prices slide"}}, r'"label":"business"'),
        ("translate", {"json": {"text": "汤姆昨天没有去学校。"}}, r"Tom didn't go to school"),
        ("detect", {"files": {"image": CARDS}}, r'"label":"king"'),
        ("embed", {"json": {"text": "火箭"}}, r'"embedding":\[-?\d'),
    ],
)
def test_every_task_is_answered_through_the_published_ports(
    stack: Composed, path: str, sent: dict[str, object], answer: str
) -> None:
    urls = stack.urls("quartet")
    assert len(urls) == REPLICAS
    for url in urls:
        response = httpx.post(f"{url}/v1/{path}", **sent)
        assert response.status_code == 200
        assert re.search(answer, response.text)


def test_an_answer_of_one_replica_is_a_hit_at_the_other(stack: Composed) -> None:
    first, second = stack.urls("quartet")
    hits = metric(second, LOOKUPS, level="redis", result="hit")
    kept = entries(stack)
    asked = {"json": {"text": f"Asked only here, at {time.time()}"}}
    computed = httpx.post(f"{first}/v1/classify", **asked)
    until(lambda: entries(stack) > kept, 5, "the answer in Redis")  # written after it was given
    found = httpx.post(f"{second}/v1/classify", **asked)
    assert (computed.headers["x-cache"], found.headers["x-cache"]) == ("miss", "hit")
    assert computed.content == found.content
    assert metric(second, LOOKUPS, level="redis", result="hit") == hits + 1


def test_redis_is_bounded_keeps_nothing_on_disk_and_is_out_of_reach(stack: Composed) -> None:
    said = inside(
        stack, "redis", "for k in maxmemory maxmemory-policy save; do redis-cli config get $k; done"
    )
    assert said.split() == ["maxmemory", "268435456", "maxmemory-policy", "allkeys-lru", "save"]
    assert stack.urls("redis") == []


def test_the_administrators_token_reaches_the_service_from_the_environment_file(
    stack: Composed,
) -> None:
    url = stack.urls("quartet")[0]
    load = f"{url}/v1/models/digits/load"
    assert httpx.post(load, json={"version": 1}).status_code == 401
    assert httpx.post(load, json={"version": 1}, headers=TOKEN, timeout=60).is_success


def test_prometheus_finds_and_scrapes_every_replica(stack: Composed) -> None:
    until(lambda: all_up(stack), 60, "both replicas up in Prometheus")
    (url,) = stack.urls("prometheus")
    query = 'count(sum by (instance) (inference_requests_total{outcome="ok"}) > 0)'

    def counted() -> bool:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query}).json()
        return [one["value"][1] for one in answer["data"]["result"]] == [str(REPLICAS)]

    until(counted, 40, "the requests of both replicas in Prometheus")


def test_the_service_level_is_held_under_load_through_a_published_port(
    stack: Composed, tmp_path: Path
) -> None:
    url = stack.urls("quartet")[0]
    asked = metric(url, "http_requests_total", method="POST", status="200")
    program = (sys.executable, "-m", "loadtest", "smoke", "--host", url, "--out", str(tmp_path))
    assert "The service level was held." in run(*program)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    sent = sum(row["sent"] for row in report["results"])
    assert metric(url, "http_requests_total", method="POST", status="200") >= asked + sent > 500


@pytest.mark.skipif("grafana" not in SERVICES, reason="E2E_WITHOUT leaves Grafana out")
def test_grafana_shows_its_dashboards_to_everyone_and_lets_nobody_in(stack: Composed) -> None:
    (url,) = stack.urls("grafana")
    titles = {one["title"] for one in httpx.get(f"{url}/api/search?type=dash-db").json()}
    assert len(titles) == len(list((ROOT / "deploy/grafana/dashboards").glob("*.json"))) > 0
    assert httpx.get(f"{url}/api/org", auth=("admin", "admin")).status_code == 401


# --- What goes wrong ------------------------------------------------------------------------------


def test_nothing_is_lost_when_redis_is_killed_under_load(stack: Composed) -> None:
    load = Load(12, "--cached")
    time.sleep(4)
    stack("kill", "redis")
    seen = load.result()
    assert seen["lost"] == []
    assert set(seen["statuses"]) == {"200"}
    assert seen["statuses"]["200"] > 200
    for answers in seen["answers"].values():  # alone, in any batch, from memory and from Redis
        assert all(agree(json.loads(one), json.loads(answers[0])) for one in answers), answers
    assert len(seen["answers"]) == 4
    assert not seen["refused"]


def test_redis_is_used_again_once_it_is_back(stack: Composed) -> None:
    stack("start", "redis")
    for url in stack.urls("quartet"):
        misses = metric(url, LOOKUPS, level="redis", result="miss")

        def asked(url: str = url, misses: float = misses) -> bool:
            httpx.post(f"{url}/v1/classify", json={"text": f"Asked at {time.time()}"})
            return metric(url, LOOKUPS, level="redis", result="miss") > misses

        until(asked, 30, "an answer of Redis")
    until(lambda: entries(stack) > 0, 5, "an answer in Redis")


def test_a_replica_that_crashes_is_started_again_and_the_other_goes_on(stack: Composed) -> None:
    container, other = stack.containers("quartet")
    # What Docker kills stays down; what ends by itself, as by its memory limit, is started again.
    run("docker", "exec", container, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
    (url,) = stack.urls("quartet", other)
    statuses = Counter(ask_news(url).status_code for _ in range(50))
    assert statuses == {200: 50}
    until(lambda: stack.inspect(container)["RestartCount"] == 1, 30, "started again")
    stack.wait_until_healthy(["quartet"], 120)
    assert all(ask_news(each).is_success for each in stack.urls("quartet"))


def test_without_prometheus_all_is_answered_and_what_it_had_seen_is_kept(stack: Composed) -> None:
    stack("kill", "prometheus")
    assert all(ask_news(url).is_success for url in stack.urls("quartet"))
    stack("start", "prometheus")
    stack.wait_until_healthy(["prometheus"], 60)
    until(lambda: all_up(stack), 60, "both replicas up in Prometheus")
    (url,) = stack.urls("prometheus")
    query = {"query": "max_over_time(count(up{job='quartet'})[10m:5s] offset 30s)"}
    seen = httpx.get(f"{url}/api/v1/query", params=query).json()["data"]["result"]
    assert [one["value"][1] for one in seen] == [str(REPLICAS)]


def test_nothing_is_lost_when_all_is_stopped_under_load(stack: Composed) -> None:
    load = Load(60)
    time.sleep(4)
    began = time.monotonic()
    stack("stop")
    stopped_in = time.monotonic() - began
    seen = load.result()
    assert seen["lost"] == []
    assert set(seen["statuses"]) == {"200"}
    assert seen["statuses"]["200"] > 100
    assert seen["refused"] == 12  # every client continued until no server listened
    states = [stack.inspect(one)["State"] for one in stack.containers("quartet")]
    assert [state["ExitCode"] for state in states] == [0] * REPLICAS
    assert stopped_in < 30


def test_a_service_that_is_stopped_while_it_starts_ends_at_once(stack: Composed) -> None:
    container = stack.containers("quartet")[0]
    run("docker", "start", container)
    began = time.monotonic()
    run("docker", "stop", "--time", "30", container)
    assert time.monotonic() - began < 10
