"""One graph in ONNX Runtime."""

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import DeviceMemoryError, DeviceUnavailableError, ModelLoadError
from service.memory import return_free_memory
from service.runtime.buffers import DeviceBuffer, OnDevice, SessionDevice
from service.runtime.graphs import Graph, open_exact, opened
from service.runtime.ort_errors import refusal, translated
from service.runtime.stopping import StopSignal, current_stop
from service.types import DeviceValue, Feed, Feeds, Span, TensorSpec, renamed

T = TypeVar("T")

_EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"
"""Where they are for a graph that is loaded from memory, which has no folder."""

_SAYS_NOTHING = 4
"""Severity of ONNX Runtime's own log: why a run failed is in what it raises."""

# Consecutive runs, each with less than half of the largest input, after which the arena shrinks.
# Growing again costs a few milliseconds, so it does not shrink after every burst.
_SMALLER_RUNS = 32


class ArenaWatch:
    """Decides when a session's arena shrinks. A race between threads delays it by one run."""

    def __init__(self, device: SessionDevice, *, has_arena: bool = True) -> None:
        """Watch a session.

        Args:
            device: where it runs; only arenas in the host's memory shrink.
            has_arena: whether the session has one.
        """
        self._gives_back = has_arena and device.provider.is_on_host
        self._largest = self._largest_since = self._smaller = 0

    def options(self, size: int) -> ort.RunOptions | None:
        """Return the options of a run with `size` input values; None for the default ones."""
        if 2 * size >= self._largest:
            self._largest = max(size, self._largest)
            self._largest_since = self._smaller = 0
            return None
        self._smaller += 1
        self._largest_since = max(size, self._largest_since)
        if self._smaller < _SMALLER_RUNS:
            return None
        self._largest = self._largest_since
        self._largest_since = self._smaller = 0
        return _giving_back() if self._gives_back else None

    def give_back_next(self) -> None:
        """Shrink the arena after the next run."""
        self._largest, self._smaller = sys.maxsize, _SMALLER_RUNS


def _giving_back() -> ort.RunOptions:
    # New options for each run: setting `terminate` on shared options would stop all of them.
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class KeepsMemory:
    """A session that keeps the memory of its runs for later ones."""

    _arena: ArenaWatch

    def give_back_next(self) -> None:
        """Give the memory that earlier runs needed back after the next run."""
        self._arena.give_back_next()


class OrtSession(KeepsMemory):
    """A graph loaded onto a device. Satisfies `service.types.Session`.

    `run` and `run_kept` may be called from several threads at once. With `threads=1` a call
    computes on the calling thread only; with more, the session owns the other threads.
    """

    def __init__(
        self,
        graph: Graph,
        device: SessionDevice,
        threads: int,
        *,
        keeps_patterns: bool = True,
        is_bounded: bool = True,
        input_names: Mapping[str, str] | None = None,
    ) -> None:
        """Load a graph, or the part of one.

        Args:
            graph: what to load.
            device: where it runs.
            threads: number of threads of a run, on a CPU.
            keeps_patterns: whether to keep a memory plan for each shape of inputs seen. Without
                it, decoding with growing caches is a seventh slower. A translator's step, which
                runs in place on any number of rows, is not slower, and saves 24 MiB on a CPU.
            is_bounded: whether the size of its input bounds the memory of a run. If not, a run on
                a CPU gives back all memory as it ends. An arena would keep it until a later run
                of this session, which may be one that a busy device uses and an idle one does not.
            input_names: the graph's name of an input, by the name under which it is fed. Names
                that the graph does not have belong to other graphs and are ignored.

        Raises:
            ModelLoadError: onnxruntime cannot load the file.
            DeviceUnavailableError: the session did not start on this device.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads spin while a run lasts (a sleeping thread takes longer to wake than an
        # operator to compute) and sleep the moment it ends: idle costs nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        provider = device.provider
        options.enable_mem_pattern = keeps_patterns or not provider.is_on_host
        options.enable_cpu_mem_arena = is_bounded or not provider.is_on_host
        path, model, self._tables = opened(graph)
        if isinstance(model, bytes):
            options.add_session_config_entry(_EXTERNAL_DATA, str(path.parent))
        for name, table in self._tables.items():  # which must live as long as the session
            options.add_initializer(name, table)
        try:
            self._session = _opened(model, options, list(device.providers))
            inputs = _specs(self._session.get_inputs())  # fails for a name that is no text
            self.outputs = _specs(self._session.get_outputs())
        except Exception as error:
            raise ModelLoadError(refusal(error, path)) from error
        if self._session.get_providers()[0] != provider.name:
            raise DeviceUnavailableError(f"{path.name} did not load on {device}")
        names = {fed: name for fed, name in (input_names or {}).items() if name in inputs}
        self.inputs: Mapping[str, TensorSpec] = renamed(inputs, names)
        self._names = names
        self._name, self._device = path.name, device
        self._memory = provider.memory
        self._output_names = list(self.outputs)
        self._arena = ArenaWatch(device, has_arena=options.enable_cpu_mem_arena)

    def __repr__(self) -> str:
        return f"<OrtSession {self._name} on {self._device}>"

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Run the graph once, all outputs to the host.

        Raises:
            DeviceMemoryError: the device has no memory for these feeds.
            RunStoppedError: the run was stopped.
            InferenceError: the graph failed.
        """
        size = 0
        for value in feeds.values():
            if isinstance(value, OnDevice):
                return self.run_kept(feeds, self.outputs)[0]
            size += math.prod(value.shape)
        run = partial(self._session.run, self._output_names, self._own(feeds))
        arrays: Sequence[NDArray[Any]] = self._computed(run, size)
        return dict(zip(self.outputs, arrays, strict=True))

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Run once by IO binding; copy outputs named in `host`, keep the others on the device.

        Raises:
            DeviceMemoryError: the device has no memory for these feeds.
            InferenceError: the graph failed.
        """
        binding = self._session.io_binding()
        for name, value in self._own(feeds).items():
            if isinstance(value, OnDevice):
                binding.bind_ortvalue_input(name, value.value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name in self.outputs:
            place = ("cpu", 0) if name in host else (self._memory, self._device.index)
            binding.bind_output(name, *place)
        self._run_binding(binding, _size(feeds))
        values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        copied = {name: values[name].numpy() for name in host}
        return copied, {name: OnDevice(v) for name, v in values.items() if name not in copied}

    def allocate(self, dtype: str, shape: Sequence[int]) -> DeviceBuffer:
        """Reserve memory on the session's device. Raises DeviceMemoryError."""
        try:
            return DeviceBuffer(self._device, dtype, shape)
        except Exception as error:
            raise translated(error, self._name) from error

    def bind(
        self, inputs: Mapping[str, Span | DeviceValue], outputs: Mapping[str, Span]
    ) -> Callable[[], None]:
        """Return a function that runs the graph on these spans.

        It raises DeviceMemoryError where the device has no memory for the run, InferenceError
        where the graph fails. Not for several threads at once.
        """
        binding = self._session.io_binding()
        changing = {}
        for name, value in self._own(inputs).items():
            if isinstance(value, OnDevice):
                binding.bind_ortvalue_input(name, value.value)
            elif isinstance(value, Span):
                if value.on_host and not self._device.provider.is_on_host:
                    changing[name] = value  # binding copies it to the device, so at every run
                else:
                    self._bind(binding.bind_input, name, value)
        for name, span in outputs.items():
            self._bind(binding.bind_output, name, span)

        spans = [*inputs.values(), *outputs.values()]  # whose memory lives as long as the function
        return partial(self._run_bound, binding, changing, spans, _size(inputs))

    def _own(self, feeds: Mapping[str, T]) -> dict[str, T]:
        """Return feeds by the graph's own names."""
        if not self._names:
            return dict(feeds)
        return {self._names.get(name, name): value for name, value in feeds.items()}

    def _run_bound(
        self, binding: ort.IOBinding, changing: Mapping[str, Span], _: Sequence[object], size: int
    ) -> None:
        try:
            for name, span in changing.items():
                self._bind(binding.bind_input, name, span)
        except Exception as error:
            raise translated(error, self._name) from error
        self._run_binding(binding, size)

    def _run_binding(self, binding: ort.IOBinding, size: int) -> None:
        self._computed(partial(self._session.run_with_iobinding, binding), size)

    def _computed(self, run: Callable[[ort.RunOptions | None], T], size: int) -> T:
        """Run so that the `StopSignal` of this thread can stop it."""
        giving_back = self._arena.options(size)
        stop = current_stop()
        try:
            result = run(giving_back) if stop is None else _stoppable(run, giving_back, stop)
        except Exception as error:
            known = translated(error, self._name)
            if isinstance(known, DeviceMemoryError):
                self._arena.give_back_next()
            raise known from error
        if giving_back is not None:
            return_free_memory()
        return result

    def _bind(self, bind: Callable[..., None], name: str, span: Span) -> None:
        kind, index = ("cpu", 0) if span.on_host else (self._memory, self._device.index)
        bind(name, kind, index, np.dtype(span.dtype).type, span.shape, span.address)


def _opened(
    model: str | bytes, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    """Open a session so that the `StopSignal` of this thread can stop it."""
    stop = current_stop()
    if stop is None:
        return open_exact(model, options, providers)
    stop.begin(partial(options.set_load_cancellation_flag, True))
    try:
        return open_exact(model, options, providers)
    finally:
        stop.end()


def _stoppable(
    run: Callable[[ort.RunOptions | None], T], options: ort.RunOptions | None, stop: StopSignal
) -> T:
    options = options or ort.RunOptions()
    options.log_severity_level = _SAYS_NOTHING
    stop.begin(partial(setattr, options, "terminate", True))
    try:
        return run(options)
    finally:
        stop.end()


def _size(inputs: Mapping[str, Feed | Span]) -> int:
    """Return about how many values a run reads."""
    return sum(math.prod(value.shape) for value in inputs.values())


def _specs(entries: Sequence[Any]) -> Mapping[str, TensorSpec]:
    return {entry.name: TensorSpec(_dtype(entry.type), _shape(entry.shape)) for entry in entries}


def _dtype(type_: str) -> str:
    inner = type_.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def _shape(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape)
