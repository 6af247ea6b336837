"""Real sessions on tiny graphs."""

import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import psutil
import pytest

from service.errors import DeviceMemoryError, InferenceError, ModelLoadError
from service.runtime.graphs import _PRODUCT, fast_products_are_exact
from service.runtime.ort_errors import PoisonedSessionError, translated
from service.runtime.providers import Device
from service.runtime.session import OnDevice, OrtSession
from service.types import Session

CPU = Device("cpu")


@pytest.fixture(params=["cpu", "openvino"])
def accumulator(graphs, tmp_path: Path, request: pytest.FixtureRequest) -> Session:
    """Return a session of each provider that this machine has."""
    device = Device(request.param, cores=2)
    path = graphs.accumulator(tmp_path / "accumulator.onnx")
    return device.provider.opens(path, device, 1)


@pytest.mark.parametrize("operator", ["MatMulInteger", "MatMulIntegerToFloat"])
def test_int8_products_are_exact_on_every_processor(graphs, tmp_path: Path, operator: str) -> None:
    # Products this large saturate in the fast kernels of processors without VNNI instructions.
    session = OrtSession(graphs.int8_product(tmp_path / "product.onnx", operator), CPU, threads=1)
    (product,) = session.run({"left": np.full((2, 64), 255, np.uint8)}).values()
    assert product.tolist() == [[255 * 127 * 64] * 3] * 2


def test_the_product_that_asks_the_processor_is_what_it_says() -> None:
    model = onnx.load_from_string(_PRODUCT)
    onnx.checker.check_model(model)
    (node,), (weights,) = model.graph.node, model.graph.initializer
    assert node.op_type == "MatMulInteger"
    assert (onnx.numpy_helper.to_array(weights) == np.full((64, 3), 127, np.int8)).all()


@pytest.mark.parametrize("product", [255 * 127 * 64, 32767 * 32])
def test_the_slow_kernel_computes_where_the_fast_one_is_not_exact(
    graphs, tmp_path: Path, product: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = ort.InferenceSession, []

    class Saturating:
        def run(self, *_: object) -> list:
            return [np.full((2, 3), product, np.int32)]

    def opened(model: object, options: ort.SessionOptions, providers: list) -> object:
        if model == _PRODUCT:
            return Saturating()
        with suppress(RuntimeError):  # it has no such entry
            asked.append(options.get_session_config_entry("session.x64quantprecision"))
        return real(model, options, providers=providers)

    monkeypatch.setattr(ort, "InferenceSession", opened)
    asks = fast_products_are_exact.__wrapped__  # not the kept answer
    monkeypatch.setattr("service.runtime.graphs.fast_products_are_exact", asks)
    OrtSession(graphs.int8_product(tmp_path / "product.onnx", "MatMulInteger"), CPU, threads=1)
    assert asked == ([] if product == 255 * 127 * 64 else ["1"])


@pytest.mark.parametrize(
    "said",
    [
        "AddInitializedOrtValue Attempt to replace the existing tensor",
        "Failed to find kernel for com.microsoft.QLinearConv(1)",
    ],
)
def test_a_graph_that_has_no_exact_kernel_is_opened_with_a_warning(
    graphs,
    tmp_path: Path,
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only processors without VNNI refuse such a graph, so the refusal is simulated.
    real, asked = ort.InferenceSession, []

    def refuse_exact(model: object, options: ort.SessionOptions, providers: list) -> object:
        asked.append(options.get_session_config_entry("session.x64quantprecision"))
        if asked[-1] == "1":
            raise RuntimeError(said)
        return real(model, options, providers=providers)

    monkeypatch.setattr(ort, "InferenceSession", refuse_exact)
    monkeypatch.setattr("service.runtime.graphs.fast_products_are_exact", lambda: False)
    caplog.set_level("WARNING", "service.runtime.graphs")  # other tests configure logs
    OrtSession(graphs.int8_product(tmp_path / "product.onnx", "MatMulInteger"), CPU, threads=1)
    assert asked == ["1", "0"]
    assert "may saturate" in caplog.text


def test_a_session_takes_and_returns_named_arrays(accumulator: Session) -> None:
    feeds = {"past": np.ones((2, 3), np.float32), "x": np.full((2, 1), 2, np.float32)}
    answer = accumulator.run(feeds)
    assert set(answer) == {"present", "total"}
    assert answer["total"].tolist() == [5, 5]


def test_what_a_loop_feeds_back_stays_on_the_device(accumulator: Session) -> None:
    past = np.zeros((1, 0), np.float32)  # an empty cache is a valid one
    for step in range(1, 5):
        host, kept = accumulator.run_kept(
            {"past": past, "x": np.full((1, 1), step, np.float32)}, host=["total"]
        )
        past = kept["present"]
        assert isinstance(past, OnDevice)
        assert set(host) == {"total"}
    assert host["total"].tolist() == [10]
    assert past.numpy().tolist() == [[1, 2, 3, 4]]


def test_a_kept_value_may_be_fed_to_a_plain_run(accumulator: Session) -> None:
    one = np.ones((1, 1), np.float32)
    _, kept = accumulator.run_kept({"past": one, "x": one}, host=[])
    assert accumulator.run({"past": kept["present"], "x": one})["total"].tolist() == [3]


def test_feeds_need_not_be_contiguous(accumulator: Session) -> None:
    past = np.arange(6, dtype=np.float32).reshape(3, 2).T
    host, _ = accumulator.run_kept({"past": past, "x": np.zeros((2, 1), np.float32)}, ["total"])
    assert host["total"].tolist() == [6, 9]


def test_one_session_serves_several_threads_at_once(accumulator: Session) -> None:
    wrong = []

    def use(value: int) -> None:
        feeds = {
            "past": np.full((1, 8), value, np.float32),
            "x": np.full((1, 1), value, np.float32),
        }
        wrong.extend(t for _ in range(50) if (t := accumulator.run(feeds)["total"][0]) != 9 * value)

    threads = [threading.Thread(target=use, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_wrong_feeds_are_an_inference_error_that_names_the_graph(accumulator: Session) -> None:
    with pytest.raises(InferenceError, match=r"accumulator\.onnx"):
        accumulator.run({"past": np.zeros((1, 1), np.int64), "x": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_broken_file_is_a_load_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"broken\.onnx"):
        OrtSession(tmp_path / "broken.onnx", CPU, threads=1)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (
            "bfc_arena.cc Failed to allocate memory for requested buffer of size 1",
            DeviceMemoryError,
        ),
        ("CUDA failure 2: out of memory", DeviceMemoryError),
        ("CUDA failure 700: an illegal memory access was encountered", PoisonedSessionError),
        ("Non-zero status code returned while running Gather node", InferenceError),
    ],
)
def test_errors_are_told_apart(message: str, kind: type[Exception]) -> None:
    assert type(translated(RuntimeError(message), "x.onnx")) is kind


@pytest.mark.gpu
def test_the_same_loop_runs_on_cuda(graphs, tmp_path: Path) -> None:
    cuda = Device("cuda")
    if reason := cuda.provider.problem(cuda):
        pytest.skip(reason)
    session = OrtSession(graphs.accumulator(tmp_path / "a.onnx"), cuda, threads=1)
    past = np.zeros((1, 0), np.float32)
    for step in range(1, 5):
        host, kept = session.run_kept(
            {"past": past, "x": np.full((1, 1), step, np.float32)}, host=["total"]
        )
        past = kept["present"]
    assert host["total"].tolist() == [10]


def test_a_run_after_many_smaller_ones_gives_memory_back(graphs, tmp_path: Path) -> None:
    session = OrtSession(graphs.matmul(tmp_path / "matmul.onnx"), CPU, threads=1)
    large = np.ones((16_384, 256), np.float32)
    session.run({"x": large[:1]})  # the memory that an arena got first, it keeps
    session.run({"x": large})
    before = psutil.Process().memory_info().rss
    for _ in range(100):
        answer = session.run({"x": large[:1]})
    assert answer["y"].tolist() == large[:1].tolist()
    assert before - psutil.Process().memory_info().rss > 10 * 2**20


@pytest.fixture
def bindable(graphs, tmp_path: Path) -> OrtSession:
    return OrtSession(graphs.accumulator(tmp_path / "accumulator.onnx"), CPU, threads=1)


def test_a_buffer_takes_no_memory_until_it_is_written_to(bindable: OrtSession) -> None:
    before = psutil.Process().memory_info().rss
    buffer = bindable.allocate("float32", (4, 2**26))
    assert buffer.first(2).shape == (2, 2**26)
    assert psutil.Process().memory_info().rss - before < 2**26


def test_a_buffer_that_cannot_be_had_is_a_lack_of_memory(bindable: OrtSession) -> None:
    with pytest.raises(DeviceMemoryError, match=r"accumulator\.onnx"):
        bindable.allocate("float32", (2**46,))
