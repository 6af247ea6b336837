"""The execution providers: one record each, and the choice of a device among them.

To add a provider, add one row to `PROVIDERS`. A device chosen by name is used or refused; the
service never falls back to another one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import onnxruntime as ort
from onnxruntime.datasets import get_example

from service.errors import DeviceUnavailableError
from service.runtime.graphs import Graph
from service.runtime.session import OrtSession
from service.types import Session

ProviderOptions: TypeAlias = Mapping[str, str | int]
InferencePrecision: TypeAlias = Literal["f32", "bf16", "f16"]


class OpenSession(Protocol):
    """Opens a graph on a device; see `OrtSession` for the arguments."""

    def __call__(
        self,
        graph: Graph,
        device: "Device",
        threads: int,
        *,
        keeps_patterns: bool = True,
        is_bounded: bool = True,
        input_names: Mapping[str, str] | None = None,
    ) -> Session:
        """Open a session. Raises ModelLoadError or DeviceUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """A device that sessions run on: "cpu", "cuda:0"."""

    kind: str
    """Key of its provider in `PROVIDERS`."""
    index: int = 0
    memory_limit_bytes: int | None = None
    """Largest arena of one session; None sets no limit."""
    cores: int = 1
    """Threads of all runs at the same time, where a session must know them."""
    inference_precision: InferencePrecision = "f32"
    """What float32 is computed in."""
    cache_folder: Path | None = None
    """Where compiled graphs are kept; None keeps none."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.provider.is_numbered else self.kind

    @property
    def provider(self) -> "Provider":
        """Return the record of its execution provider."""
        return PROVIDERS[self.kind]

    @property
    def options(self) -> ProviderOptions:
        """Return the provider's options for this device."""
        return self.provider.options(self)

    @property
    def providers(self) -> Sequence[tuple[str, ProviderOptions]]:
        """Return names and options for ONNX Runtime: the provider, and who has what it has not."""
        own, beside = (self.provider.name, self.options), self.provider.beside
        return [own] if beside is None else [own, *replace(self, kind=beside).providers]

    @classmethod
    def parse(cls, text: str, memory_limit_bytes: int | None = None) -> "Device":
        """Read "cpu", "cuda" or "cuda:N". Raises DeviceUnavailableError on anything else."""
        kind, colon, index = text.partition(":")
        if kind not in PROVIDERS or (colon and not index.isdecimal()):
            known = ", ".join(
                f"{name}:N" if provider.is_numbered else name
                for name, provider in PROVIDERS.items()
            )
            raise DeviceUnavailableError(f"unknown device {text!r}; known are auto, {known}")
        return cls(kind, int(index or 0), memory_limit_bytes)


def _absence(device: Device) -> str | None:
    """Return why this build of ONNX Runtime cannot use the provider; None if it has it."""
    name, present = device.provider.name, ort.get_available_providers()
    if name in present:
        return None
    return (
        f"{device} needs {name}, which this onnxruntime build does not have "
        f"(it has {', '.join(present)}); install {device.provider.package} "
        "or choose another device"
    )


def _start_failure(device: Device) -> str | None:
    """Return why the provider does not start; None if it does.

    A GPU build lists its provider on machines without a GPU too, so this opens the small
    example graph that ships with onnxruntime.
    """
    if absence := _absence(device):
        return absence
    ort.preload_dlls()  # CUDA and cuDNN may come from pip packages rather than the system
    options = ort.SessionOptions()
    options.log_severity_level = 4
    provider = device.provider
    device = replace(device, cache_folder=None)
    try:
        session = ort.InferenceSession(
            get_example("mul_1.onnx"),
            options,
            providers=[(provider.name, device.options)],
        )
    except Exception as error:  # onnxruntime raises several types of its own
        return f"{device} cannot be used: {error}"
    if session.get_providers()[0] != provider.name:
        return f"{device} cannot be used: onnxruntime could not start {provider.name} here"
    return None


def _no_options(device: Device) -> ProviderOptions:
    return {}


def _cuda_options(device: Device) -> ProviderOptions:
    options: dict[str, str | int] = {
        "device_id": device.index,
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive one runs for every new shape
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles and never shrinks
    }
    if device.memory_limit_bytes is not None:
        options["gpu_mem_limit"] = device.memory_limit_bytes
    return options


def _openvino_absence(device: Device) -> str | None:
    """Return why OpenVINO cannot be used; does not import it."""
    if find_spec("openvino") is not None:
        return None
    return (
        f"{device} needs the package openvino, which is not installed; "
        "it comes with the extra openvino: pip install 'quartet[openvino]'"
    )


def _openvino_options(device: Device) -> ProviderOptions:
    return {"INFERENCE_PRECISION_HINT": device.inference_precision}


def _openvino_precisions() -> Sequence[InferencePrecision]:
    can = import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("f32", "bf16") if "BF16" in can else ("f32",)


def _open_openvino(graph: Graph, device: Device, threads: int, **options: Any) -> Session:
    from service.runtime.openvino_session import OpenVinoSession  # noqa: PLC0415 - an extra

    if problem := device.provider.problem(device):
        raise DeviceUnavailableError(problem)
    return OpenVinoSession(graph, device, threads, **options)


def _open_tensorrt(graph: Graph, device: Device, threads: int, **options: Any) -> Session:
    if device.cache_folder is not None:
        try:
            device.cache_folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # ONNX Runtime would fail
            device = replace(device, cache_folder=None)
    return OrtSession(graph, device, threads, **options)


def _tensorrt_options(device: Device) -> ProviderOptions:
    options: dict[str, str | int] = {
        "device_id": device.index,
        "trt_fp16_enable": int(device.inference_precision == "f16"),
    }
    if device.memory_limit_bytes is not None:
        options["trt_max_workspace_size"] = device.memory_limit_bytes
    if device.cache_folder is not None:  # else an engine is built for minutes at every start
        folder = str(device.cache_folder / "tensorrt")
        options |= {
            "trt_engine_cache_enable": 1,
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": 1,
            "trt_timing_cache_path": folder,
        }
    return options


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything that differs between execution providers."""

    name: str
    """As its library calls it; a label of the metric `device_info`."""
    opens: OpenSession = OrtSession
    """Opens a session."""
    options: Callable[[Device], ProviderOptions] = _no_options
    """Returns the provider's own options."""
    problem: Callable[[Device], str | None] = _absence
    """Returns why it cannot be used here, as a sentence for operators; None if it can."""
    package: str = "another build of onnxruntime"
    """Package that contains it."""
    memory: str = "cpu"
    """ONNX Runtime's name of the memory that its tensors live in; "cpu" is the host's."""
    our_threads: bool = True
    """Whether it computes on the threads of the process that its sessions are given."""
    most_batches: int = 8
    """Batches computed at once; with `our_threads`, never more than there are cores."""
    precisions_of: Literal["cpu", "cuda"] = "cpu"
    """Whose `default_precision` in a model.toml applies."""
    is_numbered: bool = False
    """Whether a machine may have several of its devices."""
    has_nvml: bool = False
    """Whether NVML reads its memory and utilisation."""
    beside: str | None = None
    """Key of the provider of the same device that it is an alternative to; "auto" passes it."""
    is_tried: bool = True
    """Whether loads compare it with its alternative where no provider is named."""
    inference_precisions: Callable[[], Sequence[InferencePrecision]] = lambda: ("f32",)
    """Returns what it can compute float32 in on this machine; may import its library."""
    on_caller: bool = True
    """Whether a run with one thread computes on the thread that calls it."""

    @property
    def is_on_host(self) -> bool:
        """Return whether its tensors live in the host's memory."""
        return self.memory == "cpu"


# "auto" takes the first that works. The CPU always does, so a row after it is used by name only.
PROVIDERS: Mapping[str, Provider] = {
    "cuda": Provider(
        "CUDAExecutionProvider",
        options=_cuda_options,
        problem=_start_failure,
        package="onnxruntime-gpu",
        memory="cuda",
        our_threads=False,
        most_batches=2,  # one computes while the other is collated and copied
        precisions_of="cuda",
        is_numbered=True,
        has_nvml=True,
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        opens=_open_tensorrt,
        options=_tensorrt_options,
        problem=_start_failure,
        package="onnxruntime-gpu",
        memory="cuda",
        our_threads=False,
        most_batches=2,
        precisions_of="cuda",
        is_numbered=True,
        has_nvml=True,
        beside="cuda",
        is_tried=False,  # it builds engines for minutes, and again for shapes out of their range
        inference_precisions=lambda: ("f32", "f16"),
    ),
    "cpu": Provider("CPUExecutionProvider"),
    "openvino": Provider(
        "OpenVINO",
        opens=_open_openvino,
        options=_openvino_options,
        problem=_openvino_absence,
        package="openvino",
        beside="cpu",
        inference_precisions=_openvino_precisions,
        on_caller=False,
    ),
}


def resolve(wanted: str, memory_limit_bytes: int | None = None) -> Device:
    """Return the device to use: the one named, or for "auto" the best that works here.

    Raises:
        DeviceUnavailableError: the named device is unknown or cannot be used.
    """
    first = [name for name, provider in PROVIDERS.items() if provider.beside is None]
    names = first if wanted == "auto" else [wanted]
    problems = []
    for name in names:
        device = Device.parse(name, memory_limit_bytes)
        problem = device.provider.problem(device)
        if problem is None:
            return device
        problems.append(problem)
    raise DeviceUnavailableError("; ".join(problems))


def alternatives(device: Device) -> Sequence[Device]:
    """Return the same device with each other provider that loads try; imports none of them."""
    found = [
        replace(device, kind=kind)
        for kind, provider in PROVIDERS.items()
        if provider.beside == device.kind and provider.is_tried
    ]
    return [one for one in found if one.provider.problem(one) is None]
