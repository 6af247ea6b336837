"""A named device is the device, or a refusal."""

from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest

from service.errors import DeviceUnavailableError
from service.runtime.providers import PROVIDERS, Device, alternatives, resolve
from service.runtime.threads import _cpu_quota, available_cores
from tests.sentences import sentence


@pytest.mark.parametrize(
    ("text", "device"),
    [("cpu", Device("cpu")), ("cuda", Device("cuda", 0)), ("cuda:3", Device("cuda", 3))],
)
def test_a_device_is_read_from_its_name(text: str, device: Device) -> None:
    assert Device.parse(text) == device


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "CPU"])
def test_an_unknown_device_is_refused_by_name(text: str) -> None:
    with pytest.raises(DeviceUnavailableError, check=sentence):
        resolve(text)


def test_a_build_without_the_provider_is_refused_and_never_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailableError, match="CUDAExecutionProvider"):
        resolve("cuda")
    assert resolve("auto") == Device("cpu")


def test_cuda_sessions_get_bounded_memory_and_no_exhaustive_search() -> None:
    device = Device("cuda", 1, memory_limit_bytes=2**30)
    assert device.provider.name == "CUDAExecutionProvider"
    assert device.options == {
        "device_id": 1,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": 2**30,
    }


def test_auto_takes_what_works_here() -> None:
    best = resolve("auto")
    assert best.provider.problem(best) is None
    cuda = Device("cuda")
    assert best.kind == ("cpu" if cuda.provider.problem(cuda) else "cuda")


def test_a_device_prints_as_it_is_written() -> None:
    assert [str(Device("cpu")), str(Device("cuda", 2))] == ["cpu", "cuda:2"]


def test_a_container_quota_cuts_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert _cpu_quota(tmp_path / "cpu.max") == 1.5


@pytest.mark.parametrize("content", ["max 100000\n", "nonsense"])
def test_without_a_quota_all_cores_count(tmp_path: Path, content: str) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert _cpu_quota(tmp_path / "cpu.max") == float("inf")
    assert _cpu_quota(tmp_path / "absent") == float("inf")
    assert available_cores() >= 1


@pytest.mark.gpu
def test_cuda_is_really_used_when_named() -> None:
    cuda = Device("cuda")
    if reason := cuda.provider.problem(cuda):
        pytest.skip(reason)
    assert resolve("cuda:0") == cuda


def test_tensorrt_keeps_its_engines_and_leaves_to_cuda_what_it_cannot_run(tmp_path: Path) -> None:
    device = Device("tensorrt", 1, 2**30, inference_precision="f16", cache_folder=tmp_path)
    (name, options), (fallback, _) = device.providers
    assert (name, fallback) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["device_id"] == 1
    assert options["trt_fp16_enable"] == 1
    assert options["trt_engine_cache_path"] == str(tmp_path / "tensorrt")
    assert options["trt_max_workspace_size"] == 2**30
    assert replace(device, inference_precision="f32").options["trt_fp16_enable"] == 0
    assert "trt_engine_cache_path" not in Device("tensorrt").options


def test_loads_do_not_try_tensorrt_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = {kind: replace(row, problem=lambda _: None) for kind, row in PROVIDERS.items()}
    monkeypatch.setattr("service.runtime.providers.PROVIDERS", usable)
    assert alternatives(Device("cuda")) == []
    assert [device.kind for device in alternatives(Device("cpu"))] == ["openvino"]


def test_a_session_of_onnxruntime_takes_what_its_device_prefers() -> None:
    assert Device("cpu").providers == [("CPUExecutionProvider", {})]
