"""The Helm chart, rendered by Helm's engine and held against the schemas of Kubernetes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import read_settings
from tests.integration.real_service import ROOT

CHART = ROOT / "deploy" / "helm" / "quartet"
RULES = ROOT / "deploy" / "prometheus" / "rules"
OPERATORS = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
HOSTILE = "a\"b'c\n- d: {{ .Values }} `$(id)` \u2028 é 🦆 # \\ %s &<>\t"

CASES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "everything": {
        "replicas": 1000,
        "models": {
            "pull": {"minilm": "hf://a/b@main", "x.y": "s3://bucket/c"},
            "tokenSecret": "hub",
        },
        "settings": {
            "models.only": "minilm",
            "limits.max_items": 100_000_000,
            "cache.enabled": False,
        },
        "secretSettings": {"admin.token": {"name": "quartet", "key": "token"}},
        "access": {"secret": "keys"},
        "service": {
            "type": "LoadBalancer",
            "port": 80,
            "grpcPort": 81,
            "annotations": {"a/b": HOSTILE},
        },
        "graceSeconds": 120,
        "image": {
            "repository": "registry.example:5000/a/quartet",
            "tag": "gpu",
            "pullSecrets": ["r"],
        },
        "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
        "networkPolicy": {
            "from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}],
            "egress": [{"ports": [{"port": 443}]}],
        },
        "podLabels": {"team": "search"},
        "podAnnotations": {"note": HOSTILE},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
    },
    "claim": {
        "models": {"claim": "models"},
        "autoscaling": {"kind": "hpa", "backlogSeconds": 0.25},
    },
    "keda": {"autoscaling": {"kind": "keda", "maxReplicas": 1000}},
    "volume of an image": {"models": {"image": "registry.example/models@sha256:00"}},
    "hostile settings": {"settings": {"models.only": HOSTILE, "cache.ttl_seconds": 1e300}},
    "nothing extra": {
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}
REFUSED: Mapping[str, Mapping[str, Any]] = {
    "an unknown key": {"replica": 2},
    "a huge number": {"replicas": 10**30},
    "a fraction of a replica": {"replicas": 1.5},
    "text for a number": {"graceSeconds": "40"},
    "too little grace": {"graceSeconds": 5},
    "a tag of two lines": {"image": {"tag": "cpu\nprivileged: true"}},
    "a name with quotes": {"models": {"claim": 'a"b'}},
    "a source that is an option": {"models": {"pull": {"a": "--export"}}},
    "a model that is a path": {"models": {"pull": {"../a": "hf://a/b"}}},
    "two sources": {"models": {"claim": "a", "image": "b"}},
    "a setting that the chart sets": {"settings": {"server.port": 1}},
    "a setting given twice": {
        "settings": {"admin.token": "x"},
        "secretSettings": {"admin.token": {"name": "a", "key": "b"}},
    },
    "a table for a setting": {"settings": {"models.only": {"a": 1}}},
    "a label of the chart": {"podLabels": {"app.kubernetes.io/name": "other"}},
    "a label of two lines": {"podLabels": {"a": "b\nc: d"}},
    "a port that does not exist": {"service": {"port": 65536}},
    "fewer at most than at least": {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}},
}


@cache
def outcome() -> tuple[Mapping[str, Any], Any]:
    """Return what every case renders to, and what lint says."""
    python = Path(sys.prefix) / "charts" / "bin" / "python"
    if not python.exists():
        reason = "the chart cannot be rendered: `make test-integration` installs Helm's engine"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    wanted = {**CASES, **REFUSED}
    done = subprocess.run(
        [str(python), str(Path(__file__).parent / "charts" / "render.py")],
        input=json.dumps([[values, "name-space"] for values in wanted.values()]),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return dict(zip(wanted, found["cases"], strict=True)), found["lint"]


def manifests(name: str) -> Mapping[str, Any]:
    """Return the manifests of a case by kind."""
    case = outcome()[0][name]
    assert "error" not in case, case["error"]
    return {manifest["kind"]: manifest for manifest in case["manifests"]}


def container(name: str) -> Mapping[str, Any]:
    return manifests(name)["Deployment"]["spec"]["template"]["spec"]["containers"][0]


def environment(name: str) -> Mapping[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container(name)["env"]}


def test_lint_finds_nothing_but_a_missing_icon() -> None:
    assert [message["error"] for message in outcome()[1]["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", CASES)
def test_what_is_rendered_satisfies_kubernetes(name: str) -> None:
    known = {f"{kind}: no schema" for kind in OPERATORS}
    # The schema of 1.30 has no volumes from images.
    allowed = known | {
        line
        for line in outcome()[0][name]["problems"]
        if "'image'" in line and line.startswith("1.30")
    }
    assert manifests(name)["Deployment"]
    assert set(outcome()[0][name]["problems"]) <= (allowed if "image" in name else known)


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_cannot_be_meant_are_refused(name: str) -> None:
    assert set(outcome()[0][name]) == {"error"}


@pytest.mark.parametrize("name", CASES)
def test_every_pod_is_shut_in_and_has_time_to_stop(name: str) -> None:
    pod = manifests(name)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert pod["terminationGracePeriodSeconds"] >= 40
    grace = int(environment(name)["QUARTET_SERVER__GRACE_SECONDS"])
    waits = container(name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + grace + 2
    for one in [*pod["containers"], *pod.get("initContainers", ())]:
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        names = [entry["name"] for entry in one["env"]]
        assert len(names) == len(set(names))
    probes = {
        key: container(name)[key]["httpGet"]["path"] for key in ("startupProbe", "livenessProbe")
    }
    assert probes == {"startupProbe": "/health/ready", "livenessProbe": "/health/live"}


def test_settings_reach_the_service_as_they_were_written() -> None:
    assert environment("hostile settings")["QUARTET_MODELS__ONLY"] == HOSTILE
    given = {key: value for key, value in environment("everything").items() if value is not None}
    settings = read_settings(given)
    assert settings.limits.max_items == 100_000_000
    assert settings.server.grace_seconds == 120
    assert not settings.cache.enabled
    annotations = manifests("everything")["Deployment"]["spec"]["template"]["metadata"][
        "annotations"
    ]
    assert annotations["note"] == HOSTILE


def test_models_are_pulled_before_the_start() -> None:
    pod = manifests("everything")["Deployment"]["spec"]["template"]["spec"]
    assert [one["args"] for one in pod["initContainers"]] == [
        ["models", "pull", "hf://a/b@main", "--as=minilm"],
        ["models", "pull", "s3://bucket/c", "--as=x.y"],
    ]
    (volume,) = [
        v
        for v in manifests("claim")["Deployment"]["spec"]["template"]["spec"]["volumes"]
        if v["name"] == "models"
    ]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}


def test_prometheus_gets_the_rules_as_they_are_under_the_job_that_they_ask_for() -> None:
    files = [yaml.safe_load((RULES / name).read_text()) for name in ("recording.yml", "alerts.yml")]
    rule = manifests("everything")["PrometheusRule"]
    assert rule["spec"] == {"groups": [group for file in files for group in file["groups"]]}
    monitor, service = manifests("everything")["ServiceMonitor"], manifests("everything")["Service"]
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "quartet"
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s"}]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    dashboards = {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / "deploy" / "grafana" / "dashboards").iterdir()
    }
    assert manifests("everything")["ConfigMap"]["data"] == dashboards


def test_replicas_follow_the_backlog() -> None:
    assert "replicas" not in manifests("keda")["Deployment"]["spec"]
    assert manifests("everything")["Deployment"]["spec"]["replicas"] == 1000
    triggers = manifests("keda")["ScaledObject"]["spec"]["triggers"]
    where = 'namespace="name-space", service="rel-quartet"'
    assert [trigger["metadata"]["query"] for trigger in triggers] == [
        f"sum(inference_backlog_seconds{{{where}}})",
        f"sum(rate(device_busy_seconds_total{{{where}}}[1m]) / device_slots{{{where}}})",
    ]
    assert [trigger["metadata"]["threshold"] for trigger in triggers] == ["0.2", "0.7"]
    metrics = manifests("claim")["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert [one["pods"]["target"]["averageValue"] for one in metrics] == ["250m", "700m"]


def test_the_chart_has_files_and_no_copies() -> None:
    assert all(path.is_symlink() for path in (CHART / "files").iterdir())
