"""Several processes behind one port: they share connections, changes and metrics, and may end."""

import http.client
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import onnx
import psutil
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.real_service import TOKEN, RealService, real_service
from tests.lamps import classifier, golden, make_repository

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

OPTIONS = (
    "--server.processes=2",
    "--server.grace-seconds=5",
    "--models.threads=2",
    "--models.warm-up-seconds=0.05",
    "--cache.enabled=false",
    "--logs.format=json",
)
CLIENTS = 8
KILLS = 2
LONGEST = 60.0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write `lamps` in two versions."""
    folder = tmp_path_factory.mktemp("processes") / "repository"
    make_repository(folder)
    return folder


@pytest.fixture(scope="module")
def service(repository: Path) -> Iterator[RealService]:
    options = ("--models.repository", str(repository), *OPTIONS)
    with real_service(repository.parent, *options) as service:
        yield service


def workers(service: RealService) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def connection(service: RealService) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=LONGEST)


def ask(
    one: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    kind = "image/png" if path == "/v1/classify" else "application/json"
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
    one.request(method, path, body, headers)
    with one.getresponse() as response:
        return response.status, response.read()


@contextmanager
def connections(service: RealService, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    opened = [connection(service) for _ in range(count)]
    try:
        for one in opened:
            assert ask(one, "GET", "/health/live")[0] == 200
        yield opened
    finally:
        for one in opened:
            one.close()


def spread(service: RealService, opened: Sequence[http.client.HTTPConnection]) -> Counter[int]:
    """Return how many of the connections each worker has."""
    ours = {one.sock.getsockname()[1] for one in opened}
    return Counter(
        {
            worker.pid: sum(
                bool(one.raddr) and one.raddr.port in ours for one in worker.net_connections("tcp")
            )
            for worker in workers(service)
        }
    )


def until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.02)


def metrics(service: RealService) -> dict[str, float]:
    one = connection(service)
    text = ask(one, "GET", "/metrics")[1].decode()
    one.close()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def lamp() -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), 200).save(file, "PNG")
    return file.getvalue()


OF_LAMPS = "inference_requests_total[('model', 'lamps'), ('outcome', 'ok'), ('version', '1')]"


def test_eight_connections_are_spread_evenly_also_after_others_have_closed(
    service: RealService,
) -> None:
    with connections(service, CLIENTS) as opened:
        assert sorted(spread(service, opened).values()) == [4, 4]
        most = spread(service, opened)
        left = [one for one in opened if one.sock.getsockname()[1] % 2]
        for one in opened:
            if one not in left:
                one.close()
        with connections(service, CLIENTS - len(left)) as later:
            found = spread(service, [*left, *later])
            assert found.keys() == most.keys()
            assert max(found.values()) - min(found.values()) <= 1


def test_metrics_are_those_of_all_processes_whichever_answers(service: RealService) -> None:
    before = metrics(service).get(OF_LAMPS, 0.0)
    with connections(service, CLIENTS) as opened:
        for one in opened:
            assert ask(one, "POST", "/v1/classify", lamp())[0] == 200
        for _ in range(4):
            found = metrics(service)
            assert found[OF_LAMPS] == before + CLIENTS
            assert found["processes[]"] == 2
            assert found["model_ready[('model', 'lamps')]"] == 1
            assert found["model_queue_limit[('model', 'lamps'), ('version', '1')]"] == 256


def test_a_change_reaches_all_processes_and_those_that_start_later(
    service: RealService, repository: Path
) -> None:
    second = repository / "lamps" / "2"
    second.mkdir()
    (second / "model.toml").write_text((repository / "lamps" / "1" / "model.toml").read_text())
    onnx.save(classifier(bias=0.0), second / "model.onnx")
    onnx.save(classifier(bias=0.0), second / "model_int8.onnx")
    items = [golden(second, 60)]
    (second / "goldens.json").write_text(json.dumps({"created_with": "numpy", "items": items}))

    def versions() -> set[str]:
        with connections(service, 4) as opened:
            answers = [ask(one, "GET", "/v1/models/lamps")[1] for one in opened]
        return {
            f"{one['version']} {sorted(one['aliases'])}"
            for answer in answers
            for one in json.loads(answer)["versions"]
            if one["state"] == "ready"
        }

    with connections(service, 4) as opened:
        alias = json.dumps({"version": 1}).encode()
        assert ask(opened[0], "PUT", "/v1/models/lamps/aliases/old", alias)[0] == 200
        assert ask(opened[1], "POST", "/v1/models/lamps/load")[0] == 200
        assert versions() == {"1 ['old']", "2 []"}
        assert ask(opened[2], "DELETE", "/v1/models/lamps/aliases/old")[0] == 204
        until(lambda: versions() == {"2 []"})
        assert ask(opened[3], "POST", "/v1/models/lamps/load", b'{"version": 1}')[0] == 200
        until(lambda: versions() == {"1 []"})
    kill(service, workers(service)[0])
    assert versions() == {"1 []"}  # not the newest: that of the other process


def kill(service: RealService, worker: psutil.Process) -> None:
    """Kill a worker and wait until the one that takes its place serves."""
    others = {one.pid for one in workers(service)}
    worker.kill()
    until(lambda: len({one.pid for one in workers(service)} - others) == 1)
    (new,) = {one.pid for one in workers(service)} - others

    def serves() -> bool:
        with connections(service, 2) as opened:
            return spread(service, opened)[new] > 0

    until(serves)


def test_a_killed_process_loses_only_what_it_was_reading(service: RealService) -> None:
    """Bytes that were read and not yet recorded are gone: of one connection at each kill."""
    before = metrics(service)
    outcomes: Counter[str] = Counter()
    ended = threading.Event()

    def client() -> None:
        one = connection(service)
        while not ended.is_set():
            try:
                outcomes[str(ask(one, "POST", "/v1/classify", lamp())[0])] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[repr(error)] += 1
                one.close()
        one.close()

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    until(lambda: outcomes["200"] > 10 * CLIENTS)
    between = metrics(service)
    for _ in range(KILLS):
        kill(service, workers(service)[0])
    ended.set()
    for one in clients:
        one.join()
    after = metrics(service)
    lost = after["process_requests_lost_total[]"] - before["process_requests_lost_total[]"]
    assert lost <= KILLS
    assert outcomes.total() - outcomes["200"] == lost, outcomes
    assert after["process_restarts_total[]"] == before["process_restarts_total[]"] + KILLS
    lower = {name for name in between if "_total" in name and after[name] < between[name]}
    assert lower == set()


def test_a_killed_supervisor_leaves_no_process(tmp_path: Path, repository: Path) -> None:
    with real_service(tmp_path, "--models.repository", str(repository), *OPTIONS) as service:
        left = workers(service)
        assert len(left) == 2
        service.process.kill()
        _, alive = psutil.wait_procs(left, timeout=LONGEST)
        assert alive == []
        assert "the supervisor is gone" in service.log


def test_an_error_of_the_settings_is_said_once(tmp_path: Path) -> None:
    service = RealService(tmp_path, "--models.device=tpu", *OPTIONS)
    try:
        assert service.process.wait(timeout=LONGEST) == 1
    finally:
        service.end()
    assert service.log.count("quartet: unknown device 'tpu'") == 1
