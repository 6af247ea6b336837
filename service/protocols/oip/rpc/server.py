"""The gRPC server: listens, tells its health, and stops without losing a call."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service.api.certificate import Certificate, CertificatePair
from service.api.context import ApiContext
from service.api.listening import AddressError
from service.protocols.oip.rpc.calls import SERVICE, Serving
from service.protocols.oip.rpc.service import handlers, is_model_ready, is_ready

_MOST_CALLS = 1_024
"""Calls at once; more are refused with RESOURCE_EXHAUSTED."""
_WATCH_SECONDS = 1.0
_QUIET_SECONDS, _LONGEST_LINGER = 0.25, 5.0
"""Time without a new call after which none is on its way; and the longest time to wait for that."""
_POLL_SECONDS = 0.02
_NAMES: Final = frozenset({"", SERVICE})

_log = logging.getLogger(__name__)


class Health(health_pb2_grpc.HealthServicer):
    """`grpc.health.v1.Health`: of the server, of the service, or of a model by its name."""

    def __init__(self, serving: Serving) -> None:
        self._context, self._ended = serving.context, serving.ended

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the health of the server or a model."""
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service or model")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Yield the health whenever it changes."""
        last = None
        while not self._ended.is_set():
            status = self._status(request.service)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            try:
                async with asyncio.timeout(_WATCH_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                continue

    def _status(self, name: str) -> Any:
        answer = health_pb2.HealthCheckResponse
        if name in _NAMES:
            serves = is_ready(self._context) and not self._ended.is_set()
            return answer.SERVING if serves else answer.NOT_SERVING
        known = {status.model for status in self._context.registry.statuses()}
        if name not in known:
            return answer.SERVICE_UNKNOWN
        serves = is_model_ready(self._context, name, "")
        return answer.SERVING if serves else answer.NOT_SERVING


class GrpcServer:
    """Serves the protocol over gRPC on one port."""

    def __init__(
        self, context: ApiContext, host: str, port: int, certificate: Certificate | None = None
    ) -> None:
        self._context, self._host, self.port = context, host, port
        self._certificate = certificate
        self.shares_port = False
        """Whether other processes of the service listen on the port, too."""
        self._server: Any = None
        self._serving: Serving | None = None

    async def start(self) -> None:
        """Begin to listen. Raises AddressError."""
        limits = self._context.limits
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=_MOST_CALLS,
            options=[
                ("grpc.max_receive_message_length", limits.max_body_bytes),
                ("grpc.max_send_message_length", -1),  # models bound their own outputs
                ("grpc.so_reuseport", int(self.shares_port)),  # else one in use is an error
            ],
        )
        self._serving = Serving(self._context)
        self._server.add_generic_rpc_handlers((handlers(self._serving),))
        health_pb2_grpc.add_HealthServicer_to_server(Health(self._serving), self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self.port = self._listen(f"{host}:{self.port}")
        except RuntimeError:
            raise AddressError(
                f"cannot listen on {host}:{self.port} for gRPC: is it in use?"
            ) from None
        await self._server.start()
        _log.info("listening", extra={"host": self._host, "port": self.port, "protocol": "grpc"})

    def _listen(self, address: str) -> int:
        """Return the port. Raises RuntimeError."""
        if (certificate := self._certificate) is None:
            return int(self._server.add_insecure_port(address))
        in_use = certificate.current

        def changed() -> Any:
            # gRPC asks on a thread of its own, for each connection; None keeps what is in use.
            nonlocal in_use
            latest = certificate.current
            if latest is in_use:
                return None
            in_use = latest
            return _configuration(latest)

        credentials = grpc.dynamic_ssl_server_credentials(_configuration(in_use), changed)
        return int(self._server.add_secure_port(address, credentials))

    async def stop(self, grace: float) -> None:
        """Answer the calls that are on their way within `grace` seconds, and refuse later ones.

        gRPC's own stop cancels calls that the event loop has not taken up yet. So calls are
        accepted until none has arrived for a moment, then refused as UNAVAILABLE until all are
        answered, and only then the port is closed.
        """
        serving = self._serving
        if self._server is None or serving is None:
            return
        now = asyncio.get_running_loop().time
        until = now() + grace
        serving.ended.set()
        await _quiet(serving, min(until, now() + _LONGEST_LINGER))
        serving.is_ending = True
        while serving.active and now() < until:  # noqa: ASYNC110 - calls end without an event
            await asyncio.sleep(_POLL_SECONDS)
        await _quiet(serving, until)
        await self._server.stop(max(0.0, until - now()))


def _configuration(pair: CertificatePair) -> Any:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.chain)])


async def _quiet(serving: Serving, until: float) -> None:
    """Wait until no call has arrived for a moment, or until a loop time."""
    arrived = -1
    while arrived != serving.arrived and asyncio.get_running_loop().time() < until:
        arrived = serving.arrived
        await asyncio.sleep(_QUIET_SECONDS)
