"""One graph in OpenVINO, which reads the same ONNX files. Imports its package as one opens."""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import DeviceMemoryError, InferenceError, ModelLoadError
from service.memory import return_free_memory
from service.runtime.buffers import OnDevice, SessionDevice
from service.runtime.graphs import Graph, opened
from service.runtime.session import ArenaWatch, KeepsMemory
from service.runtime.stopping import RunStoppedError, current_stop
from service.runtime.threads import lower_priority
from service.types import DeviceValue, Feed, Feeds, TensorSpec, renamed

# What these operators do cannot be stopped (a loop ends when its content says so).
_ENDLESS: Final = frozenset({"Loop"})

# It computes float64 in float32, and has no kernels for texts.
_REFUSED_TYPES: Final = frozenset({"float64", "string"})

_SINK = re.compile(r"/sink_port_\d+$")
_OWN_SOURCE = re.compile(r"(Exception from |Check '.*?' failed at )\S+:\d+:\s*")
_UNKNOWN = re.compile(r"No conversion rule found for operations: ([^\n]+)")
_NO_MEMORY = ("bad_alloc", "Cannot allocate memory", "out of memory")
_CANCELLED = "was cancel"
_LONGEST = 200

_models: WeakValueDictionary[tuple[Path, int, int], Any] = WeakValueDictionary()


class OpenVinoDevice(SessionDevice, Protocol):
    """What a session uses of a `service.runtime.providers.Device`."""

    @property
    def options(self) -> Mapping[str, str | int]:
        """Return the properties with which graphs are compiled."""
        ...

    @property
    def cores(self) -> int:
        """Return the threads of all runs at the same time."""
        ...


@dataclass(frozen=True, slots=True)
class OnHost(OnDevice):
    """A kept tensor of this session, which other sessions of the host can take, too."""

    array: NDArray[Any]

    def numpy(self) -> NDArray[Any]:
        """Return it, without copying it."""
        return self.array


class OpenVinoSession(KeepsMemory):
    """A graph compiled by OpenVINO for the CPU. Satisfies `service.types.Session`.

    `run` and `run_kept` may be called from several threads at once: as many as compute at the same
    time have a stream each, and all streams share the weights. Streams compute on threads of
    OpenVINO's, which have the priority of compute threads; none spins or is pinned to a core.
    """

    def __init__(
        self,
        graph: Graph,
        device: OpenVinoDevice,
        threads: int,
        *,
        keeps_patterns: bool = True,
        is_bounded: bool = True,
        input_names: Mapping[str, str] | None = None,
    ) -> None:
        """Compile a graph; see `OrtSession` for the arguments.

        Raises:
            ModelLoadError: OpenVINO cannot take the graph.
        """
        path, content, _ = opened(graph)
        streams = max(1, device.cores // threads)
        properties = {
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else products may be rounded to int8
            **device.options,
        }
        library = import_module("openvino")
        core = library.Core()
        model = _read(core, path, content)
        inputs, self.outputs = _specs(model.inputs), _specs(model.outputs)
        if problem := _problem(model, [*inputs.values(), *self.outputs.values()]):
            raise ModelLoadError(f"{path.name} {problem}")
        with ThreadPoolExecutor(1, initializer=lower_priority) as thread:  # streams inherit it
            compiling = thread.submit(core.compile_model, model, "CPU", properties)
            compiled = _guarded(path, compiling.result)
        names = {fed: name for fed, name in (input_names or {}).items() if name in inputs}
        self.inputs: Mapping[str, TensorSpec] = renamed(inputs, names)
        self._compiled, self._path = compiled, path
        self._model = model  # sessions opened later share its weights
        self._types = [np.dtype(spec.dtype) for spec in inputs.values()]
        self._idle: deque[Any] = deque()
        self._tensor = library.Tensor
        self._arena = ArenaWatch(device)

    def __repr__(self) -> str:
        return f"<OpenVinoSession {self._path.name}>"

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Run the graph once.

        Raises:
            DeviceMemoryError: there is no memory for these feeds.
            RunStoppedError: the run was stopped.
            InferenceError: the graph failed.
        """
        arrays = self._arrays(feeds)
        request = self._request()
        self._compute(request, arrays)
        # Copied: the next run of this request overwrites its tensors.
        found = {
            name: np.array(request.get_output_tensor(index).data)
            for index, name in enumerate(self.outputs)
        }
        self._idle.append(request)
        if self._arena.options(sum(array.size for array in arrays)) is not None:
            self._give_back()
        return found

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Run once; the outputs that are not named in `host` can be fed to any session of the host.

        Raises:
            DeviceMemoryError: there is no memory for these feeds.
            RunStoppedError: the run was stopped.
            InferenceError: the graph failed.
        """
        found = self.run(feeds)
        copied = {name: found[name] for name in host}
        return copied, {
            name: OnHost(ort.OrtValue.ortvalue_from_numpy(array), array)
            for name, array in found.items()
            if name not in copied
        }

    def _request(self) -> Any:
        """Return a request that no other thread uses: an idle one, else a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def _arrays(self, feeds: Mapping[str, Feed]) -> Sequence[NDArray[Any]]:
        """Return what is fed in the graph's order. Raises InferenceError."""
        arrays = []
        for (name, spec), dtype in zip(self.inputs.items(), self._types, strict=True):
            if name not in feeds:
                raise InferenceError(f"{self._path.name} takes {name}, and is not fed it")
            feed = feeds[name]
            array = np.ascontiguousarray(feed if isinstance(feed, np.ndarray) else feed.numpy())
            if array.dtype != dtype:
                raise InferenceError(
                    f"{self._path.name} takes {dtype} as {name}, and is fed {array.dtype}"
                )
            wanted = spec.shape
            if len(array.shape) != len(wanted) or any(
                size not in (None, fed) for size, fed in zip(wanted, array.shape, strict=True)
            ):
                raise InferenceError(
                    f"{self._path.name} takes {_shown(wanted)} as {name}, and is fed "
                    f"{_shown(array.shape)}"
                )
            arrays.append(array if array.flags.writeable else array.copy())
        return arrays

    def _compute(self, request: Any, arrays: Sequence[NDArray[Any]]) -> None:
        """Run a request on arrays; the `StopSignal` of this thread can stop it."""
        stop = current_stop()
        try:
            for index, array in enumerate(arrays):
                request.set_input_tensor(index, self._tensor(array, shared_memory=True))
            # Of the ways to run, only this one can be cancelled.
            request.start_async()
            if stop is None:
                request.wait()
                return
            try:
                stop.begin(request.cancel)
                request.wait()
            except RunStoppedError:
                request.cancel()
                request.wait()
                raise
            finally:
                stop.end()
        except RunStoppedError:
            raise
        except MemoryError as error:
            raise DeviceMemoryError(f"no memory left to run {self._path.name}") from error
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> InferenceError | DeviceMemoryError:
        text = str(error)
        if _CANCELLED in text:
            return RunStoppedError(f"the run of {self._path.name} was stopped")
        if any(mark in text for mark in _NO_MEMORY):
            self._arena.give_back_next()
            return DeviceMemoryError(f"no memory left to run {self._path.name}")
        return InferenceError(f"{self._path.name}: {_reason(error, self._path)}")

    def _give_back(self) -> None:
        self._compiled.release_memory()
        self._idle.clear()
        return_free_memory()


def _read(core: Any, path: Path, content: str | bytes) -> Any:
    """Return a graph as OpenVINO reads it: the same one while a session of the file is open.

    Its weights are in memory once, however many sessions compute with it.
    """
    if isinstance(content, bytes):
        return _guarded(path, core.read_model, content)
    try:
        state = path.stat()
    except OSError as error:
        raise ModelLoadError(f"{path.name} cannot be read: {error.strerror}") from error
    key = (path, state.st_mtime_ns, state.st_size)
    model = _models.get(key)
    if model is None:
        model = _models[key] = _guarded(path, core.read_model, content)
    return model


def _guarded(path: Path, function: Callable[..., Any], *arguments: object) -> Any:
    """Call one of OpenVINO's functions. Raises ModelLoadError for whatever it raises."""
    try:
        return function(*arguments)
    except Exception as error:  # it raises RuntimeError for nearly everything
        reason = _reason(error, path)
        raise ModelLoadError(f"{path.name} cannot be run by OpenVINO: {reason}") from error


def _problem(model: Any, specs: Sequence[TensorSpec]) -> str | None:
    """Return why a graph that OpenVINO can read is not run by it; None if it is."""
    for spec in specs:
        if spec.dtype in _REFUSED_TYPES:
            return f"takes or gives {spec.dtype}, which OpenVINO does not compute"
    operators = {node.get_type_name() for node in model.get_ops()}
    if endless := sorted(operators & _ENDLESS):
        return f"has a {endless[0]}, which OpenVINO cannot stop"
    return None


def _specs(ports: Sequence[Any]) -> dict[str, TensorSpec]:
    """Return inputs or outputs by the names that they have in the ONNX file."""
    return {_name(port): TensorSpec(_dtype(port), _shape(port.partial_shape)) for port in ports}


def _name(port: Any) -> str:
    # A tensor has several names where the reader dropped an Identity.
    names = port.get_names()
    own = _SINK.sub("", port.get_node().get_friendly_name())
    return str(own if own in names or not names else min(names))


def _dtype(port: Any) -> str:
    name = port.element_type.get_type_name()
    if name == "string":
        return "string"
    return str(np.dtype(port.element_type.to_dtype()).name)


def _shape(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _shown(shape: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "a scalar"


def _reason(error: Exception, path: Path) -> str:
    """Return the part of a message that is not about OpenVINO's own source code."""
    text = str(error)
    if unknown := _UNKNOWN.search(text):
        return f"it does not have {unknown[1].strip()}"
    text = " ".join(_OWN_SOURCE.sub("", text).replace(f"{path.parent}/", "").split())
    text = text.removeprefix("Caught exception: ").rstrip(".") or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
