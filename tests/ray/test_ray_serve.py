"""Quartet on a real cluster of Ray with two nodes: failures, updates and scaling under load.

`make test-ray` runs it, in an environment with Ray. Both nodes are on this machine.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from loadtest.service_process import free_port

os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"
ray = pytest.importorskip("ray", reason="`make test-ray` installs Ray")

from ray import serve  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from service import ray_app  # noqa: E402

ROOT = Path(__file__).parents[2]
DIGIT = (ROOT / "loadtest" / "data" / "digits" / "0.png").read_bytes()
MARK = f"quartet-{uuid4()}"
"""In the environment of the processes that this test has started."""
CLIENTS, PATIENCE = 4, 180
CLASSIFY = {"url": "/v1/classify", "content": DIGIT, "headers": {"Content-Type": "image/png"}}
TEXT = "\n".join(f"我们昨天在图书馆看见了{number}只猫。" for number in range(20))
TRANSLATE = {"url": "/v1/translate", "json": {"text": TEXT}}
OPTIONS = {
    "models.only": "digits",
    "models.repository": str(ROOT / "models" / "repository"),
    "cache.enabled": False,
    "logs.requests_per_second": 0,
}
pytestmark = pytest.mark.looptime(False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield two nodes with two processors each, and the second as `cluster.second`."""
    node = {"num_cpus": 2, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.second = made.add_node(num_cpus=2)
    variables = {"PYTHONPATH": str(ROOT), "RAY_TEST_MARK": MARK}
    ray.init(address=made.address, runtime_env={"env_vars": variables}, log_to_driver=False)
    try:
        yield made
    finally:
        serve.shutdown()
        ray.shutdown()
        made.shutdown()


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> str:
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
    return f"http://127.0.0.1:{port}"


def replicas() -> list[psutil.Process]:
    """Return the processes of this run's replicas."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[:1] == ["ray::ServeReplica:default:Quartet"]:
                found += [process] if process.environ().get("RAY_TEST_MARK") == MARK else []
        except (psutil.Error, OSError):
            continue
    return found


def running() -> int:
    """Return how many replicas Ray counts as running."""
    deployments = serve.status().applications["default"].deployments
    return sum(
        count
        for state, count in deployments["Quartet"].replica_states.items()
        if state == "RUNNING"
    )


def until(condition: Callable[[], Any]) -> None:
    patience = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < patience, serve.status()
        time.sleep(0.2)


@contextmanager
def load(
    url: str, clients: int = CLIENTS, request: dict[str, Any] = CLASSIFY, pause: float = 0.0
) -> Iterator[Counter[object]]:
    """Send requests from several clients until the block ends; yield what they get."""
    answers, stop = Counter[object](), threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.wait(pause):
                try:
                    answers[client.post(**request).status_code] += 1
                except httpx.HTTPError as error:
                    answers[repr(error)] += 1

    with ThreadPoolExecutor(clients) as threads:
        try:
            for _ in range(clients):
                threads.submit(send)
            until(lambda: answers[200] > 20)
            yield answers
            sent = answers[200]
            until(lambda: answers[200] > sent + 20)
        finally:
            stop.set()


def lost(answers: Counter[object]) -> int:
    return answers.total() - answers[200]


def test_replicas_follow_the_load(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = {"upscale_delay_s": 1, "downscale_delay_s": 5}
    monkeypatch.setattr(ray_app, "_AUTOSCALING", {**ray_app._AUTOSCALING, **fast})
    options = {**OPTIONS, "models.only": "zh-en", "ray.min_replicas": 1, "ray.max_replicas": 3}
    serve.run(ray_app.build(options))
    assert running() == 1
    with load(url, 12, TRANSLATE) as answers:
        until(lambda: running() == 3)
    with load(url, 1, TRANSLATE, pause=2) as few_answers:
        until(lambda: running() == 1)
    assert set(answers) == set(few_answers) == {200}, (answers, few_answers)


def test_an_update_loses_no_request(url: str) -> None:
    serve.run(ray_app.build({**OPTIONS, "ray.min_replicas": 2}))
    before = {process.pid for process in replicas()}
    assert len(before) == running() == 2
    assert httpx.get(f"{url}/health/ready").json() == {"status": "ready"}
    with load(url) as answers:
        serve.run(ray_app.build({**OPTIONS, "ray.min_replicas": 2, "limits.max_items": 100}))
        until(lambda: not before & {process.pid for process in replicas()})
    assert set(answers) == {200}, answers


def test_a_killed_replica_costs_what_it_was_answering(url: str) -> None:
    with load(url) as answers:
        replicas()[0].kill()
        until(lambda: running() < 2)
        until(lambda: running() == 2)
    assert lost(answers) <= CLIENTS, answers


def test_a_killed_node_costs_what_it_was_answering(url: str, cluster: Cluster) -> None:
    with load(url) as answers:
        cluster.remove_node(cluster.second, allow_graceful=False)
        until(
            lambda: running() == 2 and len(ray.nodes()) - sum(n["Alive"] for n in ray.nodes()) == 1
        )
        time.sleep(3)
        until(lambda: running() == 2)
    assert lost(answers) <= CLIENTS, answers
