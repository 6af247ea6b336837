"""Requests generated from the OpenAPI description: no 5xx, and answers as they are described."""

import asyncio
import itertools
import time
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from drills.plan import Plan
from drills.report import Report
from drills.service import Service, serving

_EXAMPLES = 25
"""Requests for each operation and mode, before the next takes its turn."""
_TIMEOUT = 60

NO_5XX = "no 5xx"
STATUSES = "every status is described"
TYPES = "every content type is described"
SCHEMAS = "every body is as described"
ANSWERED = "every request is answered"
AFTERWARDS = "a good request is answered afterwards"
_CHECKS = {
    STATUSES: status_code_conformance,
    TYPES: content_type_conformance,
    SCHEMAS: response_schema_conformance,
}


async def run(plan: Plan, report: Report) -> None:
    """Send generated requests until the time is over."""
    async with serving(plan.folder / "generated.log") as service:
        await asyncio.to_thread(_generate, service, plan, report)
        if wrong := await service.answers():
            report.broken(AFTERWARDS, wrong)
    for name, count in sorted(report.counts.items()):
        report.figure(name, count)
    for promise in (NO_5XX, *_CHECKS, ANSWERED, AFTERWARDS):
        report.judge(promise)


def _generate(service: Service, plan: Plan, report: Report) -> None:
    """Give every operation its turn, with valid and with invalid requests, again and again.

    Models are not loaded and unloaded: the administrator's token is not sent to those paths.
    """
    url, session = service.running.url, requests.Session()
    described = session.get(f"{url}/openapi.json", timeout=_TIMEOUT).json()
    listed = session.get(f"{url}/v1/models", timeout=_TIMEOUT).json()["models"]
    flows = session.get(f"{url}/v1/workflows", timeout=_TIMEOUT).json()["workflows"]
    names = sorted(one["workflow"] for one in flows)
    aimed = _aimed(described, sorted({one["model"] for one in listed}), names)
    operations = [*_operations(described, url), *_operations(aimed, url)]
    report.figure("operations", len(operations) // 2)
    deadline = plan.deadline()
    for number in itertools.count():
        plan.draw(f"generated {number}").shuffle(operations)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for operation in operations:
                if time.monotonic() > deadline:
                    return
                _try(operation, mode, plan.seed + number, session, report)


def _operations(description: dict[str, Any], url: str) -> list[schemathesis.APIOperation]:
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=url)
    return [result.ok() for result in schema.get_all_operations()]


def _aimed(node: Any, models: list[str], workflows: list[str]) -> Any:
    """Return the description with names that exist: without, nearly all is a 404."""
    if isinstance(node, list):
        return [_aimed(one, models, workflows) for one in node]
    if not isinstance(node, dict):
        return node
    aimed = {name: _aimed(value, models, workflows) for name, value in node.items()}
    if "model" in (properties := aimed.get("properties", {})):
        may_be_null = {"type": "null"} in properties["model"].get("anyOf", ())
        properties["model"] = {"enum": [*models, None] if may_be_null else models}
        properties.get("version") and properties.update(version={"enum": [1]})
    if aimed.get("in") == "path" and aimed.get("name") == "model":
        aimed["schema"] = {"enum": models}
    if aimed.get("in") == "path" and aimed.get("name") == "workflow":
        aimed["schema"] = {"enum": workflows}
    return aimed


def _try(
    operation: schemathesis.APIOperation,
    mode: GenerationMode,
    number: int,
    session: requests.Session,
    report: Report,
) -> None:
    @seed(number)
    @settings(
        max_examples=_EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        _ask(case, session, report)

    try:
        ask()
    except Unsatisfiable:
        report.counts["operations without an invalid request"] += 1
    except Exception as error:
        report.counts["not generated"] += 1
        report.say(f"{operation.label}, {mode.value}: {type(error).__name__} {str(error)[:200]}")


def _ask(case: schemathesis.Case, session: requests.Session, report: Report) -> None:
    report.counts["requests"] += 1
    report.progress()
    try:
        response = case.call(session=session, timeout=_TIMEOUT)
    except requests.RequestException as error:
        report.broken(ANSWERED, f"{type(error).__name__} {error}: {case.as_curl_command()}")
        return
    report.counts[f"{response.status_code // 100}xx answers"] += 1
    if response.status_code == 504 and "X-Request-Timeout-Ms" in case.headers:
        report.counts["answers after the deadline that they asked for"] += 1
    elif response.status_code >= 500:
        report.broken(NO_5XX, f"{response.status_code}: {case.as_curl_command()}")
        return
    for promise, check in _CHECKS.items():
        try:
            case.validate_response(response, checks=[check])
        except (Failure, FailureGroup) as failure:
            report.broken(promise, f"{_lines(failure)}: {case.as_curl_command()}")


def _lines(failure: Exception) -> str:
    return " ".join(str(failure).split())[:300]
