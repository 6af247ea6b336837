"""Write every dashboard as JSON: `python -m deploy.grafana.generate`."""

from deploy.grafana.generate import DASHBOARDS, FOLDER, as_json

for name, build in DASHBOARDS.items():
    (FOLDER / f"{name}.json").write_text(as_json(build()), encoding="utf-8")
