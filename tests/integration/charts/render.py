"""Renders the Helm chart with Helm's own engine; a program for `.venv/charts`, not for pytest.

Standard input is a list of `[values, namespace]`. For each, standard output has either `error`, or
`manifests` and `problems`: where they break the schemas of a Kubernetes version.
"""

import json
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from helm_python import Chart, errors
from helm_python.chart import lint

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "quartet"
VERSIONS = ("1.30", "1.37")


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return what the schemas refuse; kinds of operators have none here."""
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{manifest['kind']}: no schema")
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version} {manifest['kind']} {list(error.path)}: {error.message}")
    return found


def rendered(chart: Chart, values: dict[str, Any], namespace: str) -> dict[str, Any]:
    try:
        chart.validate_schema(values)
        texts = chart.render(values, name="rel", namespace=namespace)
    except errors.HelmError as error:
        return {"error": str(error)}
    notes = texts.pop("quartet/templates/NOTES.txt")
    manifests = [m for text in texts.values() for m in yaml.safe_load_all(text) if m]
    return {
        "manifests": manifests,
        "problems": [line for manifest in manifests for line in problems(manifest)],
        "notes": notes,
    }


def main() -> None:
    chart = Chart.load(CHART)
    cases = [rendered(chart, *case) for case in json.load(sys.stdin)]
    json.dump({"cases": cases, "lint": lint(CHART, strict=True)}, sys.stdout)


main()
