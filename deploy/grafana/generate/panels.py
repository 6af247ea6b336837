"""The panel types: each has a title, a description, a unit, legends and thresholds."""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.common import (
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# Legend -> PromQL; a legend may contain labels, as in "{{model}}".
Queries: TypeAlias = Mapping[str, str]

# Thresholds: lower bound and colour; values below the first are green.
Limits: TypeAlias = tuple[tuple[float, str], ...]

AnyPanel: TypeAlias = Builder[Panel]

_Described = TypeVar("_Described", timeseries.Panel, stat.Panel, table.Panel, statetimeline.Panel)

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

GOOD, WARN, BAD = "green", "orange", "red"
_WIDTH = 24


def lines(  # noqa: PLR0913 - the parts of a graph
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    limits: Limits = (),
    width: int = 8,
    stacked: bool = False,
    share: bool = False,
) -> timeseries.Panel:
    """Return a time series panel; `share` fixes the axis to 0..1, limits are dashed lines."""
    style = GraphTresholdsStyleMode.DASHED if limits else GraphTresholdsStyleMode.OFF
    legend = (
        options.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["mean", "max", "lastNotNull"])
    )
    panel = (
        _described(timeseries.Panel(), title, description, unit, limits)
        .span(width)
        .height(8)
        .min(0)
        .fill_opacity(25 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .thresholds_style(options.GraphThresholdsStyleConfig().mode(style))
        .tooltip(options.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(legend)
    )
    if stacked:
        panel.stacking(options.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if share:
        panel.max(1)
    return panel.targets(_ranges(queries))


def number(  # noqa: PLR0913 - the parts of a number
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    limits: Limits = (),
    base: str = GOOD,
    width: int = 4,
) -> stat.Panel:
    """Return a stat panel with a sparkline; `base` colours values below all limits."""
    newest = options.ReduceDataOptions().calcs(["lastNotNull"])
    return (
        _described(stat.Panel(), title, description, unit, limits, base)
        .span(width)
        .height(4)
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(newest)
        .color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .targets(_ranges(queries))
    )


def spread(title: str, description: str, unit: str, buckets: str, width: int = 12) -> heatmap.Panel:
    """Return a heat map of a histogram; `buckets` is a query that keeps the label `le`."""
    query = _query(buckets, "{{le}}", "A").range().format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(width)
        .height(8)
        .calculate(False)
        .unit(unit)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges"))
        .y_axis(heatmap.YAxisConfig().unit(unit).decimals(0))
        .cell_values(heatmap.CellValues().unit("ops"))
        .show_legend()
        .targets([query])
    )


def rows(
    title: str, description: str, query: str, columns: Mapping[str, str], width: int
) -> table.Panel:
    """Return a table of the labels of a query's latest samples: label -> heading in `columns`."""
    instant = _query(query, "", "A").instant().format(PromQueryFormat.TABLE)
    keep = {"include": {"names": list(columns)}}
    arrange = {
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    return (
        _described(table.Panel(), title, description, "none", ())
        .span(width)
        .height(4)
        .with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=keep))
        .with_transformation(DataTransformerConfig(id_val="organize", options=arrange))
        .targets([instant])
    )


def states(title: str, description: str, queries: Queries, width: int) -> statetimeline.Panel:
    """Return a state timeline: a line per series, coloured while its value is 1."""
    names = {
        "0": ValueMappingResult(text=" ", color="transparent", index=0),
        "1": ValueMappingResult(text="yes", color=GOOD, index=1),
    }
    legend = options.VizLegendOptions().show_legend(False)
    legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).calcs([])
    return (
        _described(statetimeline.Panel(), title, description, "none", ())
        .span(width)
        .height(8)
        .mappings([ValueMap(options=names)])
        .merge_values(True)
        .show_value(VisibilityMode.NEVER)
        .legend(legend)
        .targets(_ranges(queries))
    )


def _described(
    panel: _Described, title: str, description: str, unit: str, limits: Limits, base: str = GOOD
) -> _Described:
    steps = [Threshold(value=None, color=base)]
    steps += [Threshold(value=value, color=colour) for value, colour in limits]
    thresholds = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    described = panel.title(title).description(description).datasource(SOURCE)
    return described.unit(unit).thresholds(thresholds)


def _ranges(queries: Queries) -> list[Builder[variants.Dataquery]]:
    return [
        _query(expr, legend, chr(ord("A") + number)).range()
        for number, (legend, expr) in enumerate(queries.items())
    ]


def _query(expr: str, legend: str, reference: str) -> Dataquery:
    return Dataquery().expr(expr).legend_format(legend).ref_id(reference).datasource(SOURCE)


def quantiles(buckets: str) -> dict[str, str]:
    """Return the percentiles of a histogram's rates."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    summed = f"sum by (le) ({buckets})"
    return {name: f"histogram_quantile({q}, {summed})" for name, q in shares.items()}
