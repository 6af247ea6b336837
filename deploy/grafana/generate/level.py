"""The service level objective that the alerts in `deploy/prometheus/rules` evaluate."""

from http import HTTPStatus

from service.api.errors import STATUS, HttpVersionError, NotImplementedHereError
from service.errors import RateLimitedError, ServiceError

# Share of the items that do not fail.
AVAILABILITY = 0.999

# Share of the items that take at most SECONDS, which must be a bucket bound of the histogram.
LATENCY = 0.99
SECONDS = 0.5

# Burn rates that raise a warning and a critical alert.
SLOW_BURN, FAST_BURN = 6.0, 14.4

# Errors that are the caller's fault: a method, transfer coding or HTTP version that the server does
# not implement, and more requests than the caller's key may send.
_CALLER_FAULTS = (NotImplementedHereError, HttpVersionError, RateLimitedError)


def _is_failure(error: type[ServiceError], status: HTTPStatus) -> bool:
    if issubclass(error, _CALLER_FAULTS):
        return False
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


# Outcomes that count against the service level, as a regular expression.
FAILURES = "|".join(
    sorted({error.code for error, status in STATUS.items() if _is_failure(error, status)})
)

# Outcomes of an overload: a full queue, or a deadline missed.
OVERLOADS = "deadline_exceeded|overloaded"
