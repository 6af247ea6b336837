"""A session of OpenVINO: what it takes, what it refuses, and how its runs are stopped."""

import importlib
import importlib.util
import os
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import DeviceUnavailableError, InferenceError, ModelLoadError
from service.runtime import providers
from service.runtime.openvino_session import OpenVinoSession
from service.runtime.providers import Device, resolve
from service.runtime.session import OrtSession
from service.runtime.stopping import RunStoppedError, StopSignal, obey
from service.runtime.threads import ComputeClock
from service.types import Span
from tests.sentences import sentence

ONE = Device("openvino")
FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info


def saved(path: Path, nodes: list, inputs: list, outputs: list, *weights: onnx.TensorProto) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def product(path: Path, side: int) -> Path:
    """x [n, side] -> y [n, side] after 64 products, between which a run can be stopped."""
    names = ["x", *(f"x{index}" for index in range(63)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    weight = onnx.numpy_helper.from_array(np.eye(side, dtype=np.float32), "w")
    one = [value(name, FLOAT, ["n", side]) for name in ("x", "y")]
    return saved(path, nodes, one[:1], one[1:], weight)


def test_names_are_those_of_the_file_where_the_reader_drops_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a_before"]),
        helper.make_node("Identity", ["a_before"], ["logits"]),
        helper.make_node("Neg", ["x"], ["b_other"]),
    ]
    outputs = [value("logits", FLOAT, ["n", 2]), value("b_other", FLOAT, ["n", 2])]
    path = saved(tmp_path / "names.onnx", nodes, [value("x", FLOAT, ["n", 2])], outputs)
    one, other = OpenVinoSession(path, ONE, 1), OrtSession(path, Device("cpu"), 1)
    assert list(one.outputs.items()) == list(other.outputs.items())
    assert one.inputs == other.inputs
    x = np.array([[-1, 2]], np.float32)
    assert {name: found.tolist() for name, found in one.run({"x": x}).items()} == {
        "logits": [[0, 2]],
        "b_other": [[1, -2]],
    }


def test_an_input_is_fed_by_the_name_of_the_family(graphs: ModuleType, tmp_path: Path) -> None:
    path = graphs.matmul(tmp_path / "m.onnx")
    session = OpenVinoSession(path, ONE, 1, input_names={"pixels": "x", "ids": "no input"})
    assert set(session.inputs) == {"pixels"}
    assert session.run({"pixels": np.ones((1, 256), np.float32)})["y"].sum() == 256


def test_a_result_is_not_overwritten_by_the_next_run(graphs: ModuleType, tmp_path: Path) -> None:
    session = OpenVinoSession(graphs.matmul(tmp_path / "m.onnx"), ONE, 1)
    fed = np.ones((1, 256), np.float32)
    fed.flags.writeable = False
    first = session.run({"x": fed})["y"]
    session.run({"x": np.zeros((1, 256), np.float32)})
    assert first.sum() == 256


def test_what_one_session_keeps_another_one_takes(graphs: ModuleType, tmp_path: Path) -> None:
    path = graphs.accumulator(tmp_path / "a.onnx")
    one, other = OpenVinoSession(path, ONE, 1), OrtSession(path, Device("cpu"), 1)
    x = np.ones((1, 1), np.float32)
    _, kept = one.run_kept({"past": x, "x": x}, [])
    _, kept = other.run_kept({"past": kept["present"], "x": x}, [])
    assert one.run({"past": kept["present"], "x": x})["total"].tolist() == [4]
    total = np.zeros(1, np.float32)
    present = np.zeros((1, 4), np.float32)
    outputs = {"present": Span.of(present), "total": Span.of(total)}
    _, kept = one.run_kept({"past": np.ones((1, 2), np.float32), "x": x}, [])
    other.bind({"past": kept["present"], "x": Span.of(x)}, outputs)()
    assert total.tolist() == [4]


def test_a_run_is_stopped_and_the_next_one_works(tmp_path: Path) -> None:
    session = OpenVinoSession(product(tmp_path / "p.onnx", 256), ONE, 1)
    stop, x = StopSignal(), np.ones((200_000, 256), np.float32)  # tens of seconds
    timer = threading.Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(RunStoppedError, check=sentence):
        obey(stop, session.run, {"x": x})
    timer.join()
    assert session.run({"x": x[:1]})["y"].sum() == 256


def test_the_clock_of_a_run_counts_the_thread_that_computes_it(tmp_path: Path) -> None:
    session = OpenVinoSession(product(tmp_path / "p.onnx", 256), ONE, 1)
    feeds = {"x": np.ones((64, 256), np.float32)}
    session.run(feeds)
    clock = ComputeClock()
    here, run = time.thread_time(), clock()
    for _ in range(20):
        session.run(feeds)
    assert clock() - run > 2 * (time.thread_time() - here)


def test_what_was_stopped_before_it_began_does_not_begin(
    graphs: ModuleType, tmp_path: Path
) -> None:
    session = OpenVinoSession(graphs.matmul(tmp_path / "m.onnx"), ONE, 1)
    stop = StopSignal()
    stop.set()
    with pytest.raises(RunStoppedError):
        obey(stop, session.run, {"x": np.ones((1, 256), np.float32)})


def test_runs_at_the_same_time_have_threads_of_low_priority(
    graphs: ModuleType, tmp_path: Path
) -> None:
    def niceness() -> dict[str, int]:
        tasks = [path.name for path in Path("/proc/self/task").iterdir()]
        return {task: os.getpriority(os.PRIO_PROCESS, int(task)) for task in tasks}

    importlib.import_module("openvino")  # starts a thread that computes nothing
    before = niceness()
    session = OpenVinoSession(graphs.matmul(tmp_path / "m.onnx"), Device("openvino", cores=2), 1)
    session.run({"x": np.ones((1, 256), np.float32)})
    new = {task: nice for task, nice in niceness().items() if task not in before}
    assert len(new) >= 2
    assert all(nice >= 5 for nice in new.values())


def test_memory_of_large_runs_is_given_back(graphs: ModuleType, tmp_path: Path) -> None:
    session = OpenVinoSession(graphs.matmul(tmp_path / "m.onnx"), ONE, 1)
    x = np.ones((64, 256), np.float32)
    session.run({"x": x})
    session.give_back_next()
    assert session.run({"x": x[:1]})["y"].sum() == 256
    assert session.run({"x": x})["y"].sum() == x.sum()


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"x": np.ones((1, 255), np.float32)},
        {"x": np.ones((1, 256), np.float64)},
    ],
)
def test_wrong_feeds_are_refused_with_the_input_and_the_reason(
    graphs: ModuleType, tmp_path: Path, feeds: dict
) -> None:
    session = OpenVinoSession(graphs.matmul(tmp_path / "m.onnx"), ONE, 1)
    with pytest.raises(InferenceError, check=sentence):
        session.run(feeds)


def test_a_loop_is_refused(graphs: ModuleType, tmp_path: Path) -> None:
    path = graphs.counting(tmp_path / "counting.onnx")
    with pytest.raises(ModelLoadError, check=sentence):
        OpenVinoSession(path, ONE, 1)


def test_float64_is_refused(tmp_path: Path) -> None:
    one = [value(name, TensorProto.DOUBLE, [2]) for name in "xy"]
    node = helper.make_node("Sqrt", ["x"], ["y"])
    path = saved(tmp_path / "wide.onnx", [node], one[:1], one[1:])
    with pytest.raises(ModelLoadError, check=sentence):
        OpenVinoSession(path, ONE, 1)


def test_an_operator_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    one = [value(name, FLOAT, [2]) for name in "xy"]
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="org.example")
    path = saved(tmp_path / "own.onnx", [node], one[:1], one[1:])
    with pytest.raises(ModelLoadError, check=sentence) as refused:
        OpenVinoSession(path, ONE, 1)
    assert str(tmp_path) not in str(refused.value)


def test_sessions_of_a_file_share_what_was_read_while_one_is_open(
    graphs: ModuleType, tmp_path: Path
) -> None:
    path = graphs.matmul(tmp_path / "m.onnx")
    one, other = OpenVinoSession(path, ONE, 1), OpenVinoSession(path, ONE, 1)
    assert one._model is other._model
    del one, other
    graphs.accumulator(path)  # another graph of the same name
    assert OpenVinoSession(path, ONE, 1).inputs == OrtSession(path, Device("cpu"), 1).inputs


def test_without_the_package_it_is_refused_and_nothing_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(providers, "find_spec", lambda name: None)
    with pytest.raises(DeviceUnavailableError, check=sentence):
        resolve("openvino")
    with pytest.raises(DeviceUnavailableError):
        ONE.provider.opens(tmp_path / "any.onnx", ONE, 1)


def test_it_is_a_device_by_name_and_never_the_automatic_one() -> None:
    assert importlib.util.find_spec("openvino") is not None  # the tests are meant to have it
    assert resolve("openvino").kind == "openvino"
    assert resolve("auto").kind != "openvino"
