"""One service for the clients of other services, and their environment."""

from collections.abc import Iterator

import pytest

from tests.integration.clients.environment import python_of_clients
from tests.integration.real_service import RealService, real_service
from tests.redis_server import free_port


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield the service on the starter models; skip if the clients are not installed."""
    python_of_clients()
    port = str(free_port())
    folder = tmp_path_factory.mktemp("clients")
    with real_service(folder, "--server.grpc-port", port) as running:
        running.grpc_address = f"127.0.0.1:{port}"
        yield running
