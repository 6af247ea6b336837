"""The Grafana dashboards, as code. Grafana reads the JSON in `deploy/grafana/dashboards`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.generate.model import model
from deploy.grafana.generate.overview import overview
from deploy.grafana.generate.resources import resources

FOLDER = Path(__file__).parents[1] / "dashboards"

# File name without extension -> builder.
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "overview": overview,
    "model": model,
    "resources": resources,
}


def as_json(dashboard: Dashboard) -> str:
    """Return a dashboard as the JSON that Grafana reads."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return str(JSONEncoder(sort_keys=True, indent=2).encode(built)) + "\n"
