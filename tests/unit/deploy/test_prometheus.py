"""Alerting and recording rules: promtool checks and tests them, and each alert has a runbook."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.generate.level import (
    AVAILABILITY,
    FAILURES,
    FAST_BURN,
    LATENCY,
    OVERLOADS,
    SECONDS,
    SLOW_BURN,
)
from tests.prometheus_server import FOLDER, prometheus_program
from tests.unit.declared_metrics import declared_metrics

pytestmark = pytest.mark.looptime(False)

ROOT = FOLDER.parents[1]
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
ALERTS = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def promtool(*arguments: str | Path) -> None:
    command = [prometheus_program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.prometheus
def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", *RULES)


@pytest.mark.prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.prometheus
def test_an_alert_that_does_not_wait_is_found_out(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules" / "alerts.yml"
    hasty = re.sub(r"^ +for: .*\n", "", rules.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rules.write_text(hasty, encoding="utf-8")
    with pytest.raises(AssertionError) as failure:
        promtool("test", "rules", *sorted((tmp_path / "prometheus" / "tests").glob("*.yml")))
    found = set(re.findall(r"alertname: (\w+)", str(failure.value)))
    assert found == {name for name, rule in ALERTS.items() if "for" in rule}


def test_every_alert_is_tested_both_ways() -> None:
    tested: dict[str, set[bool]] = defaultdict(set)
    for path in TESTS:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for check in case["alert_rule_test"]:
                tested[check["alertname"]].add(bool(check["exp_alerts"]))
    assert tested == {alert: {True, False} for alert in ALERTS}


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_how_bad_it_is_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
    address, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    base, _, document = address.rpartition("/")
    assert base == "{{ $externalLabels.docs }}"
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    assert anchor == slug(rule["alert"])
    assert anchor in {slug(heading) for heading in headings}


def test_every_section_of_an_alert_has_its_alert() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (Quartet\w+)$", text, re.MULTILINE)) == set(ALERTS)


def test_the_rules_judge_by_the_level_that_the_dashboards_show() -> None:
    recorded = (FOLDER / "rules" / "recording.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'outcome=~"([^"]+)"', recorded)) == {FAILURES, OVERLOADS}
    assert set(OVERLOADS.split("|")) < set(FAILURES.split("|"))
    assert set(re.findall(r'le="([^"]+)"', recorded)) == {str(SECONDS)}
    alerts = (FOLDER / "rules" / "alerts.yml").read_text(encoding="utf-8")
    levels = {"failures": 1 - AVAILABILITY, "slow": 1 - LATENCY}
    found = re.findall(r"inference_(\w+):ratio_rate(\w+) > ([\d.]+) \* ([\d.]+)", alerts)
    assert len(found) == 8
    for kind, window, burn, allowance in found:
        assert float(allowance) == pytest.approx(levels[kind])
        assert float(burn) == (FAST_BURN if window in ("1h", "5m") else SLOW_BURN)


def test_rules_only_ask_for_metrics_that_exist() -> None:
    own = {metric.name for metric in declared_metrics()}
    known = own | {f"{name}_{part}" for name in own for part in ("bucket", "count", "sum")}
    known |= {"up", "process_start_time_seconds"}
    known |= {"process_restarts_total"}  # of the supervisor, with several processes
    text = "".join(path.read_text(encoding="utf-8") for path in RULES)
    asked = set(re.findall(r'(\w+)\{job="quartet"', text))
    assert asked <= known
    assert len(asked) > 8


def test_the_base_url_of_runbooks_is_an_absolute_one() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert config["global"]["external_labels"] == {"docs": "${DOCS_URL}"}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    prometheus = compose["services"]["prometheus"]
    # Prometheus serves the folder at /user, so the default works without a host for documents.
    assert prometheus["environment"]["DOCS_URL"] == "${DOCS_URL:-http://127.0.0.1:9090/user}"
    assert "--web.user-assets=/docs" in prometheus["command"]
    assert "./docs:/docs:ro" in prometheus["volumes"]
