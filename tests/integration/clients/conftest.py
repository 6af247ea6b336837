"""One service for the clients of other services, and their environment."""

from collections.abc import Iterator

import pytest

from tests.integration.clients.environment import python_of_clients
from tests.integration.real_service import RealService, real_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield the service on the starter models; skip if the clients are not installed."""
    python_of_clients()
    with real_service(tmp_path_factory.mktemp("clients")) as running:
        yield running
