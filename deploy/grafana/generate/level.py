"""The service level, as the alerts in `deploy/prometheus/rules` judge it."""

from http import HTTPStatus

from service.api.errors import INTERNAL_ERROR, STATUS

AVAILABILITY = 0.999
"""Share of the items that do not fail."""

LATENCY = 0.99
"""Share of the items that take at most `SECONDS`, an upper bound of the histogram's."""

SECONDS = 0.5

SLOW_BURN, FAST_BURN = 6.0, 14.4
"""How many times faster than allowed before a warning, and before somebody is woken."""

_OF_CONNECTIONS = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
"""What is refused before there is a request for a model."""

FAILURES = "|".join(
    sorted(
        {INTERNAL_ERROR}
        | {
            error.code
            for error, status in STATUS.items()
            if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            if status not in _OF_CONNECTIONS
        }
    )
)
"""The outcomes that are the service's fault, as a regular expression."""
