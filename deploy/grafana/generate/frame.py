"""Shared parts of the dashboards: variables, links between them, and annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana.generate.panels import SOURCE, AnyPanel

JOB = 'job="quartet"'
# Label matchers of metrics by model and version.
OF_MODEL = f'{JOB}, model=~"$model", version=~"$version"'

RATE = "[$__rate_interval]"

_KNOWN = f"inference_request_seconds_count{{{JOB}}}"
_KNOWN_OF_MODEL = f'inference_request_seconds_count{{{JOB}, model=~"$model"}}'


@dataclass(frozen=True, slots=True)
class Marks(Builder[schema.AnnotationQuery]):
    """An annotation in every graph, at the times at which a query returns a value."""

    name: str
    expr: str
    colour: str
    title: str

    def build(self) -> schema.AnnotationQuery:
        """Return the annotation query."""
        return _PrometheusAnnotation(self)


class _PrometheusAnnotation(schema.AnnotationQuery):
    """Adds the fields of the Prometheus query editor, which the schema lacks."""

    def __init__(self, marks: Marks) -> None:
        super().__init__(marks.name, SOURCE, True, False, marks.colour, expr=marks.expr)
        self._title = marks.title

    def to_json(self) -> dict[str, object]:
        # The step and the range are both one minute, so no moment is counted twice.
        return {**super().to_json(), "step": "60s", "titleFormat": self._title, "textFormat": ""}


_LOADS = f"model_loads_total{{{JOB}}}"

# The second half covers a counter that did not exist before the first load.
LOADS = Marks(
    "Loads",
    f"sum by (instance, model, result) (changes({_LOADS}[1m])) > 0 or "
    f"sum by (instance, model, result) ({_LOADS} unless {_LOADS} offset 1m) > 0",
    "blue",
    "load of {{model}} on {{instance}}: {{result}}",
)
STARTS = Marks(
    "Starts",
    f"process_start_time_seconds{{{JOB}}} "
    f"unless process_start_time_seconds{{{JOB}}} offset 1m == process_start_time_seconds{{{JOB}}}",
    "purple",
    "start of {{instance}}",
)


def frame(title: str, name: str, description: str) -> Dashboard:
    """Return an empty dashboard with links, annotations and a refresh every 30 seconds."""
    links = (
        DashboardLink("Quartet")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["quartet"])
        .include_vars(True)
        .keep_time(True)
    )
    return (
        Dashboard(f"Quartet: {title}")
        .uid(f"quartet-{name}")
        .description(description)
        .tags(["quartet"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(links)
        .annotation(LOADS)
        .annotation(STARTS)
    )


def fill(dashboard: Dashboard, rows: Mapping[str, Sequence[AnyPanel]]) -> Dashboard:
    """Add a row for each title, with its panels in order."""
    for title, panels in rows.items():
        dashboard.with_row(Row(title))
        for panel in panels:
            dashboard.with_panel(panel)
    return dashboard


def models(*, several: bool) -> tuple[QueryVariable, QueryVariable]:
    """Return the variables `model` and `version`; with `several`, all are selected initially."""
    return (
        _choice("model", "Model", f"label_values({_KNOWN}, model)", several=several),
        _choice("version", "Version", f"label_values({_KNOWN_OF_MODEL}, version)", several=several),
    )


def replicas() -> QueryVariable:
    """Return the variable `instance`, initially all replicas."""
    return _choice("instance", "Replica", f"label_values(up{{{JOB}}}, instance)", several=True)


def _choice(name: str, label: str, query: str, *, several: bool) -> QueryVariable:
    versions = name == "version"
    variable = (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NUMERICAL_DESC if versions else VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        variable.all_value(".*")
        variable.current(VariableOption(selected=True, text="All", value="$__all"))
    return variable
