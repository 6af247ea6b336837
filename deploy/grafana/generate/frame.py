"""What the dashboards share: variables, links to one another, and the marks of reloads."""

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
OF_MODEL = f'{JOB}, model=~"$model", version=~"$version"'
"""The label matchers of whatever is counted by version."""

RATE = "[$__rate_interval]"

_KNOWN = f"inference_request_seconds_count{{{JOB}}}"
_KNOWN_OF_MODEL = f'inference_request_seconds_count{{{JOB}, model=~"$model"}}'


@dataclass(frozen=True, slots=True)
class Marks(Builder[schema.AnnotationQuery]):
    """Moments that are marked in every graph: where a query has a value above nothing."""

    name: str
    expr: str
    colour: str
    title: str

    def build(self) -> schema.AnnotationQuery:
        """Return what the dashboard holds."""
        return _PrometheusAnnotation(self)


class _PrometheusAnnotation(schema.AnnotationQuery):
    """With the fields of Prometheus' own editor, which the schema does not know."""

    def __init__(self, marks: Marks) -> None:
        super().__init__(marks.name, SOURCE, True, False, marks.colour, expr=marks.expr)
        self._title = marks.title

    def to_json(self) -> dict[str, object]:
        # A step of a minute and a window of a minute: every moment is looked at once.
        return {**super().to_json(), "step": "60s", "titleFormat": self._title, "textFormat": ""}


_LOADS = f"model_loads_total{{{JOB}}}"

# A counter that appears with its first load did not change: hence the second half.
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


def frame(title: str, name: str, tells: str) -> Dashboard:
    """Return an empty dashboard with links, marks and a refresh every half minute."""
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
        .description(tells)
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
    """Put panels under their rows' titles, in order; a line takes what fits on it."""
    for title, panels in rows.items():
        dashboard.with_row(Row(title))
        for panel in panels:
            dashboard.with_panel(panel)
    return dashboard


def models(*, several: bool) -> tuple[QueryVariable, QueryVariable]:
    """Return the variables `model` and `version`; of `several`, all are chosen at first."""
    return (
        _choice("model", "Model", f"label_values({_KNOWN}, model)", several=several),
        _choice("version", "Version", f"label_values({_KNOWN_OF_MODEL}, version)", several=several),
    )


def replicas() -> QueryVariable:
    """Return the variable `instance`: all replicas at first."""
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
