"""The HTTP border: the only code that knows FastAPI. `build_api` is its one way in."""

from service.api.application import build_api
from service.api.context import ApiContext, Lifecycle
from service.requests.admission import ApiLimits

__all__ = ["ApiContext", "ApiLimits", "Lifecycle", "build_api"]
