"""Looks into the service while it is under load."""

from benchmarks.results import Inside
from benchmarks.samples import Load, counter_delta
from benchmarks.servers import Server


class Watch:
    """What the service's own metrics and its processor time say of a load."""

    def __init__(self, server: Server, model: str) -> None:
        """Begin."""
        self._server, self._labels = server, {"model": model}
        self._metrics = server.get("/metrics")
        self._cpu, self._loop = server.cpu_seconds(), server.loop_seconds()

    def stop(self, load: Load) -> Inside:
        """Return what happened since the beginning, which was this load."""
        cpu = self._server.cpu_seconds() - self._cpu
        loop = self._server.loop_seconds() - self._loop
        metrics = self._server.get("/metrics")

        def grown(name: str) -> float:
            return counter_delta(self._metrics, metrics, name, self._labels)

        def mean(name: str) -> float:
            count = grown(f"{name}_count")
            return grown(f"{name}_sum") / count if count else 0.0

        return Inside(
            mean("inference_batch_size"),
            mean("inference_padding_ratio"),
            mean("inference_queue_seconds"),
            mean("inference_compute_seconds"),
            grown("inference_compute_seconds_sum") / load.seconds,
            cpu / load.seconds,
            loop / load.answered.count if load.answered.count else 0.0,
        )
