"""Panels of the overview: the processes of each replica."""

from deploy.grafana.generate.frame import JOB
from deploy.grafana.generate.panels import WARN, AnyPanel, lines


def processes() -> list[AnyPanel]:
    """Return the panels."""
    return [
        lines(
            "Processes",
            "Processes that serve, of each replica.",
            "none",
            {"{{instance}}": f"processes{{{JOB}}} or up{{{JOB}}}"},
        ),
        lines(
            "Restarts",
            "Starts in the last half hour of a replica, and of its processes in place of one that "
            "had ended; `QuartetRestarts` fires above two.",
            "none",
            {
                "{{instance}}": f"changes(process_restarts_total{{{JOB}}}[30m]) "
                f"or changes(process_start_time_seconds{{{JOB}}}[30m])"
            },
            limits=((2, WARN),),
        ),
    ]
