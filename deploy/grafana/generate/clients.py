"""Panels of the overview: requests by protocol and by key."""

from deploy.grafana.generate.frame import JOB, RATE
from deploy.grafana.generate.panels import AnyPanel, lines


def clients() -> list[AnyPanel]:
    """Return the panels."""
    http = f"rate(http_requests_total{{{JOB}}}{RATE})"
    items = f'rate(access_usage_total{{{JOB}, unit="items"}}{RATE})'
    return [
        lines(
            "Requests by protocol",
            "HTTP requests by the protocol of the client; `native` is the API of this service.",
            "reqps",
            {"{{protocol}}": f"sum by (protocol) ({http})"},
            stacked=True,
        ),
        lines(
            "Requests by key",
            "Requests with a known key, by its name in the keys file.",
            "reqps",
            {"{{key}}": f"sum by (key) (rate(access_requests_total{{{JOB}}}{RATE}))"},
            stacked=True,
        ),
        lines(
            "Refusals by key",
            "Requests refused because of their key or its limits; `_unknown_` counts requests "
            "without a known key.",
            "reqps",
            {
                "{{key}} {{code}}": "sum by (key, code) "
                f"(rate(access_refusals_total{{{JOB}}}{RATE}))"
            },
            stacked=True,
        ),
        lines(
            "Items by key",
            "Items that were accepted, cache hits included.",
            "cps",
            {"{{key}}": f"sum by (key) ({items})"},
            stacked=True,
        ),
    ]
