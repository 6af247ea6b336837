"""The part of each process in what the settings give to all of them together."""

import os

from service.memory import default_memory_limit
from service.processes.worker import Worker
from service.settings import Settings, SettingsError


def part(whole: int, processes: int, number: int = 0) -> int:
    """Return the part of a process, at least 1; the first ones get what is left over."""
    return max(1, whole // processes + (number < whole % processes))


def settings_of(settings: Settings, worker: Worker, cores: int, is_on_host: bool) -> Settings:
    """Return the settings of one of `server.processes` processes.

    Args:
        settings: of the whole service.
        worker: the process.
        cores: that the whole service may use.
        is_on_host: whether models run on the CPU.
    """
    count, number = settings.server.processes, worker.number
    server, models, cache = settings.server, settings.models, settings.cache
    limits, logs, batching = settings.limits, settings.logs, settings.batching
    memory = server.memory_bytes
    if memory is None and is_on_host:
        memory = default_memory_limit()
    bodies = max(limits.max_body_bytes, part(limits.max_bodies_bytes, count))
    queue = batching.max_queue_size
    return settings.model_copy(
        update={
            "server": server.model_copy(
                update={"memory_bytes": part(memory, count) if memory else memory}
            ),
            "models": models.model_copy(
                update={
                    "threads": part(models.threads or cores, count, number),
                    "max_decoding_pixels": part(models.max_decoding_pixels, count),
                    "aliases": worker.state["aliases"] if worker.state else models.aliases,
                }
            ),
            "batching": batching.model_copy(
                update={"max_queue_size": queue and -(-queue // count)}
            ),
            "cache": cache.model_copy(
                update={
                    "memory_bytes": part(cache.memory_bytes, count),
                    "memory_entries": part(cache.memory_entries, count),
                }
            ),
            "limits": limits.model_copy(
                update={"max_bodies_bytes": bodies, "max_videos": -(-limits.max_videos // count)}
            ),
            "logs": logs.model_copy(
                update={
                    "requests_per_second": -(-logs.requests_per_second // count),
                    "failures_per_second": -(-logs.failures_per_second // count),
                }
            ),
        }
    )


def check(settings: Settings) -> None:
    """Raise SettingsError for what several processes cannot do."""
    if not hasattr(os, "fork"):
        raise SettingsError("server.processes above 1 needs a system that can fork a process")
    if settings.streams.sources:
        raise SettingsError(
            "streams.sources needs server.processes = 1: a live stream belongs to one process"
        )
    if settings.server.grpc_port == 0:
        raise SettingsError("server.grpc_port = 0 needs server.processes = 1: name a port")
