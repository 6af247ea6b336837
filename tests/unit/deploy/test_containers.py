"""The Dockerfile and the compose files: what they start is pinned, shut in, and documented."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import settings_table

ROOT = Path(__file__).parents[3]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: Mapping[str, Any] = yaml.safe_load(COMPOSE_TEXT)["services"]
GPU_TEXT = (ROOT / "deploy" / "compose.gpu.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

OFFERED = dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.M))
"""What `.env.example` lists, with the value it shows."""

DEFAULT = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
EXACT = re.compile(r"\d+\.\d+")


@pytest.mark.parametrize(
    "name", ["docker-compose.yml", "deploy/compose.gpu.yml", ".env.example", "tests/e2e/e2e.env"]
)
def test_every_setting_that_a_file_names_is_one_of_the_service(name: str) -> None:
    named = set(re.findall(r"\bQUARTET_\w+", (ROOT / name).read_text(encoding="utf-8")))
    assert named <= {row.environment for row in settings_table()}
    assert named


def test_the_example_lists_what_compose_reads_and_nothing_else() -> None:
    read = {name for name, _ in DEFAULT.findall(COMPOSE_TEXT + GPU_TEXT)}
    read |= {name for name in SERVICES["quartet"]["environment"] if name.startswith("QUARTET_")}
    assert set(OFFERED) == read


def test_the_example_shows_the_defaults() -> None:
    used = {name: value for name, value in DEFAULT.findall(COMPOSE_TEXT) if value}
    assert {name: OFFERED[name] for name in used} == used
    shown = {row.environment: row.default for row in settings_table()}
    for name in ("QUARTET_CACHE__MEMORY_BYTES", "QUARTET_CACHE__TTL_SECONDS"):
        assert float(OFFERED[name]) == float(shown[name])


def test_no_secret_has_a_value_in_any_file() -> None:
    for name in ("QUARTET_ADMIN__TOKEN", "QUARTET_CACHE__REDIS_SECRET"):
        assert OFFERED[name] == ""
        assert SERVICES["quartet"]["environment"][name] is None
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_published_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:")
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_pinned_and_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")
    tag = service["image"].rpartition(":")[2]
    assert EXACT.search(tag) or service["image"] == "${IMAGE:-quartet:cpu}"


def test_each_waits_until_the_one_it_needs_is_healthy() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy" or (name, needed) == (
                *("prometheus", "quartet"),
            )
            assert "healthcheck" in SERVICES[needed] or "build" in SERVICES[needed]


def test_compose_waits_longer_than_the_service_takes_to_stop() -> None:
    grace = next(
        row.default
        for row in settings_table()
        if row.environment == "QUARTET_SERVER__GRACE_SECONDS"
    )
    assert float(SERVICES["quartet"]["stop_grace_period"].removesuffix("s")) > float(grace)


def test_every_stage_stands_on_an_exact_base_or_on_an_earlier_stage() -> None:
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", DOCKERFILE, re.M))
    stages: set[str] = set()
    for base, stage in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M):
        image = DEFAULT.sub(lambda found: arguments[found[1]], base)
        name, _, tag = image.partition(":")
        assert base in stages or (EXACT.match(tag) and name), base
        stages.add(stage)
    assert {"cpu", "gpu", "tools"} <= stages
    assert len(stages) == len(re.findall(r"^FROM ", DOCKERFILE, re.M))


@pytest.mark.parametrize("target", ["cpu", "gpu", "tools"])
def test_an_image_is_not_root(target: str) -> None:
    stage = target
    users: list[str] = []
    while not users:
        body = re.search(rf"^FROM (\S+) AS {stage}\n((?:(?!FROM ).*\n)*)", DOCKERFILE, re.M)
        assert body
        users = re.findall(r"^USER (\S+)$", body[2], re.M)
        stage = body[1]
    assert users[-1] == "10001:10001"
