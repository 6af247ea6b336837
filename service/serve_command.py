"""The command `serve`: one process that serves, or several under a supervisor."""

import gc
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.api import Lifecycle
from service.api.around import surrounded
from service.api.certificate import Certificate
from service.api.connection import Protocol
from service.api.listening import bind
from service.api.server import (
    ServerOptions,
    end_within,
    leave_threads_behind,
    run_server,
    stopping_signals,
)
from service.api.unix_socket import UnixListener, remove_socket_files
from service.app import build_app
from service.memory import default_memory_limit, limit_memory, map_large_blocks
from service.runtime.providers import resolve
from service.runtime.threads import available_cores
from service.settings import ServerSettings, Settings
from service.telemetry.logs import configure_logs, written_if_read, written_in_background

if TYPE_CHECKING:
    from service.processes.worker import Worker

# Of the garbage collector, which has little to find: requests leave no cycles. See decision 30.
_COLLECTOR_THRESHOLDS = (10_000, 20, 50)

_STOP_SECONDS = 1.8
"""How long, after the grace, a stop may take; then the process ends whatever it still does."""

_LAST_WORDS_SECONDS = 1.0
"""For a process that ends in this way to log it."""


def serve(settings: Settings, guarded: Callable[[Callable[[], int]], int]) -> int:
    """Serve until a signal, and return the exit status.

    Args:
        settings: of the service.
        guarded: runs a function in another process; prints an error that it raises and returns
            the exit status.

    Raises:
        SettingsError: the settings cannot be obeyed.
        CertificateError: the certificate cannot be used.
        ServiceError: the device cannot be had.
        AddressError: an address cannot be listened on.
    """
    if settings.server.processes == 1:
        return _serve(settings)
    from service.processes import parts  # noqa: PLC0415 - one process needs none of it
    from service.processes.supervisor import Supervisor, SupervisorOptions  # noqa: PLC0415

    parts.check(settings)
    server, is_on_host = settings.server, resolve(settings.models.device).provider.is_on_host
    for one in bind(server.host, server.grpc_port) if server.grpc_port else ():
        one.close()  # workers share the port, so they would not notice who else has it
    listeners = _listeners(server)
    _import_all()
    _tune_collector()

    def work(worker: "Worker") -> int:
        configure_logs(settings.logs.level, settings.logs.format, levels=settings.logs.levels)
        own = parts.settings_of(settings, worker, available_cores(), is_on_host)
        worker.room.left = own.limits.max_bodies_bytes
        return guarded(lambda: _serve(own, worker))

    stop_seconds = server.grace_seconds + _STOP_SECONDS + _LAST_WORDS_SECONDS
    options = SupervisorOptions(
        server.processes,
        server.backlog,
        stop_seconds,
        keeps_connections=server.tls_cert is None,  # no other worker has the keys of a connection
    )
    with written_if_read():
        return Supervisor(listeners, options, work, stopping_signals()).run()


def _serve(settings: Settings, worker: "Worker | None" = None) -> int:
    map_large_blocks()
    _limit_memory(settings)
    lifecycle = Lifecycle()
    server = settings.server
    options = ServerOptions(
        *(server.backlog, server.keep_alive_seconds, server.grace_seconds),
        _certificate(server),
        Protocol if worker is None else worker.make_protocol,
    )

    def refuse_new_work() -> None:
        lifecycle.shutting_down = True

    def begin_stop() -> None:
        end_within(options.grace + _STOP_SECONDS)
        remove_socket_files(listeners)
        if worker is not None:
            worker.send("leaving")

    async def stop_beside(seconds: float) -> None:
        if lifecycle.stop_beside is not None:
            await lifecycle.stop_beside(seconds)

    app = surrounded(
        build_app(settings, lifecycle, options.certificate, worker),
        server.cors_origins,
        server.forwarded_allow_ips,
    )
    listeners = _listeners(server) if worker is None else worker.listeners()
    try:
        with written_in_background():
            _tune_collector()
            run_server(app, listeners, options, refuse_new_work, begin_stop, stop_beside)
    finally:
        leave_threads_behind()
    return 0


def _certificate(settings: ServerSettings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def _listeners(settings: ServerSettings) -> list[socket.socket]:
    """Return the sockets to listen on. Raises AddressError."""
    listeners = bind(settings.host, settings.port) if settings.tcp else []
    if settings.unix_socket is not None:
        listeners.append(UnixListener(settings.unix_socket, int(settings.unix_socket_mode, 8)))
    return listeners


def _tune_collector() -> None:
    gc.freeze()  # what was imported stays; looking through it would hold up every request
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def _import_all() -> None:
    """Import what every worker needs, once for all of them."""
    import service.page.page  # noqa: PLC0415
    import service.processes.registry  # noqa: PLC0415
    import service.protocols.routes  # noqa: F401, PLC0415


def _limit_memory(settings: Settings) -> None:
    most = settings.server.memory_bytes
    if most is None and resolve(settings.models.device).provider.is_on_host:
        most = default_memory_limit()  # a GPU's driver reserves addresses that are no memory
    if most:
        limit_memory(most)
