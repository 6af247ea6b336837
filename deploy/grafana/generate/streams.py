"""Panels of the overview: live streams."""

from deploy.grafana.generate.frame import JOB, RATE
from deploy.grafana.generate.panels import AnyPanel, lines, quantiles


def live_streams() -> list[AnyPanel]:
    """Return the panels."""
    seen = f"rate(stream_frames_seen_total{{{JOB}}}{RATE})"
    dropped = f'sum by (slot) (rate(stream_frames_total{{{JOB}, result="dropped"}}{RATE}))'
    ages = f"rate(stream_frame_seconds_bucket{{{JOB}}}{RATE})"
    return [
        lines(
            "Live streams",
            "Live streams by state at each scrape.",
            "none",
            {"{{state}}": f"sum by (state) (streams{{{JOB}}})"},
        ),
        lines(
            "Frames of live streams",
            "Frames per second; dropped ones came while the model was busy.",
            "none",
            {
                "seen": f"sum (rate(stream_frames_seen_total{{{JOB}}}{RATE}))",
                "{{result}}": f"sum by (result) (rate(stream_frames_total{{{JOB}}}{RATE}))",
            },
        ),
        lines(
            "Dropped by stream",
            "Share of the frames seen that were dropped; a stream's slot is in /v1/streams.",
            "percentunit",
            {"slot {{slot}}": f"{dropped} / (sum by (slot) ({seen}) > 0)"},
        ),
        lines(
            "Age of live frames",
            "Time from the reception of a frame to its result.",
            "s",
            quantiles(ages),
        ),
        lines(
            "Age by stream",
            "95th percentile of the time from the reception of a frame to its result.",
            "s",
            {"slot {{slot}}": f"histogram_quantile(0.95, sum by (slot, le) ({ages}))"},
        ),
    ]
