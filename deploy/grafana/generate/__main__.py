"""Write every dashboard as JSON: `python -m deploy.grafana.generate`."""

from pathlib import Path

from deploy.grafana.generate import DASHBOARDS, as_json

FOLDER = Path(__file__).parents[1] / "dashboards"

for name, build in DASHBOARDS.items():
    (FOLDER / f"{name}.json").write_text(as_json(build()), encoding="utf-8")
