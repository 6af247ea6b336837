"""Clients of Triton and KServe, on graphs that are served as they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from tests.integration.clients.environment import python_of_clients, run
from tests.integration.real_service import TOKEN, RealService, real_service
from tests.redis_server import free_port

pytestmark = [pytest.mark.looptime(False)]

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)
X = np.arange(8, dtype=np.float32).reshape(2, 4)
Y = (X @ WEIGHTS).tolist()


def save(root: Path, name: str, nodes: Any, inputs: Any, outputs: Any, **metadata: str) -> None:
    graph = helper.make_graph(
        [helper.make_node(op, i, o, **more) for op, i, o, more in nodes],
        name,
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata)
    folder = root / name
    folder.mkdir()
    onnx.save(model, folder / f"{name}.onnx")
    (folder / "model.toml").write_text('family = "tensors"\n')


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield a service with three graphs that run in microseconds."""
    python_of_clients()
    root, port = tmp_path_factory.mktemp("graphs"), str(free_port())
    linear = [("MatMul", ["x", "w"], ["y"], {})]
    save(root, "linear", linear, [("x", T.FLOAT, ["n", 4])], [("y", T.FLOAT, ["n", 3])], task="fit")
    save(
        root,
        "kinds",
        [
            ("Identity", ["s"], ["t"], {}),
            ("Cast", ["b"], ["i"], {"to": T.INT64}),
            ("Add", ["h", "h"], ["hh"], {}),
        ],
        [("s", T.STRING, ["n"]), ("b", T.BOOL, ["n", 2]), ("h", T.FLOAT16, ["n", 1])],
        [("t", T.STRING, ["n"]), ("i", T.INT64, ["n", 2]), ("hh", T.FLOAT16, ["n", 1])],
    )
    centred = [
        ("ReduceMean", ["x"], ["m"], {"axes": [0], "keepdims": 1}),
        ("Sub", ["x", "m"], ["y"], {}),
    ]
    save(root, "centred", centred, [("x", T.FLOAT, ["n", 2])], [("y", T.FLOAT, ["n", 2])])
    options = ("--models.repository", str(root), "--server.grpc-port", port)
    with real_service(tmp_path_factory.mktemp("log"), *options) as running:
        running.grpc_address = f"127.0.0.1:{port}"
        yield running


BOTH = pytest.mark.parametrize(
    ("package", "address"), [("http", "127.0.0.1:8000"), ("grpc", "127.0.0.1:8001")]
)


def client(package: str, address: str) -> str:
    return f"""
import numpy as np
import tritonclient.{package} as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
client = triton.InferenceServerClient("{address}")

def infer(model, tensors, outputs=None, **more):
    inputs = []
    for name, array in tensors.items():
        tensor = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return client.infer(model, inputs, outputs=outputs, **more)

def refusal(act, *arguments, **more):
    try:
        act(*arguments, **more)
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
"""


@BOTH
def test_tensors_of_every_kind(service: RealService, package: str, address: str) -> None:
    code = f"""{client(package, address)}
found = infer("kinds", {{
    "s": np.array(["a", "你好"], dtype=object),
    "b": np.array([[True, False], [False, False]]),
    "h": np.array([[1.5], [2]], np.float16),
}})
linear = infer("linear", {{"x": np.array({X.tolist()}, np.float32)}}, request_id="7",
               timeout=60_000_000, priority=1)
centred = infer("centred", {{"x": np.array([[0, 0], [2, 4]], np.float32)}}).as_numpy("y")
best = infer("linear", {{"x": np.array({X.tolist()}, np.float32)}},
             [triton.InferRequestedOutput("y", class_count=1)]).as_numpy("y")
"""
    found = run(
        service,
        code,
        '[[one.decode() for one in found.as_numpy("t")], found.as_numpy("i").tolist(), '
        'found.as_numpy("hh").tolist(), linear.as_numpy("y").tolist(), centred.tolist(), '
        "[one.decode() for one in best[:, 0]]]",
    )
    strings, numbers, halves, y, rows, best = found
    assert strings == ["a", "你好"]
    assert numbers == [[1, 0], [0, 0]]
    assert halves == [[3], [4]]
    assert y == Y
    assert rows == [[-1, -2], [1, 2]]
    assert best == [f"{row[2]:f}:2" for row in Y]


@BOTH
def test_what_the_server_tells(service: RealService, package: str, address: str) -> None:
    as_json = ", as_json=True" if package == "grpc" else ""
    code = f"""{client(package, address)}
infer("linear", {{"x": np.ones((3, 4), np.float32)}})
plain = {{"as_json": True}} if {bool(as_json)} else {{}}
found = [
    client.is_server_live(), client.is_server_ready(), client.is_model_ready("linear"),
    client.is_model_ready("linear", "1"), client.is_model_ready("linear", "2"),
    client.is_model_ready("absent"),
    client.get_server_metadata(**plain)["name"],
    client.get_model_metadata("linear", **plain)["inputs"],
    client.get_model_config("linear", **plain),
    client.get_inference_statistics("linear", **plain)["model_stats"][0],
    client.get_model_repository_index(**plain),
]
"""
    found = run(service, code, "found")
    assert found[:7] == [True, True, True, True, False, False, "quartet"]
    (tensor,) = found[7]
    assert (tensor["name"], tensor["datatype"]) == ("x", "FP32")
    assert [int(size) for size in tensor["shape"]] == [-1, 4]
    config = found[8].get("config", found[8])
    assert config["max_batch_size"] > 1
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["parameters"]["metadata"]["string_value"] == "{'task': 'fit'}"
    assert int(found[9]["inference_count"]) >= 3
    index = found[10] if isinstance(found[10], list) else found[10]["models"]
    assert [one["name"] for one in index] == ["centred", "kinds", "linear"]


@BOTH
def test_refusals_name_the_input(service: RealService, package: str, address: str) -> None:
    code = f"""{client(package, address)}
wrong = [
    refusal(infer, "absent", {{"x": np.ones((1, 4), np.float32)}}),
    refusal(infer, "linear", {{"x": np.ones((1, 5), np.float32)}}),
    refusal(infer, "linear", {{"x": np.ones((1, 4))}}),
    refusal(infer, "linear", {{"z": np.ones((1, 4), np.float32)}}),
    refusal(infer, "linear", {{"x": np.ones((1, 4), np.float32)}},
            [triton.InferRequestedOutput("q")]),
    refusal(infer, "linear", {{"x": np.ones((500, 4), np.float32)}}),
    refusal(client.load_model, "linear"),
]
"""
    absent, shape, dtype, name, output, large, load = run(service, code, "wrong")
    invalid = "400" if package == "http" else "StatusCode.INVALID_ARGUMENT"
    assert absent[0] == ("404" if package == "http" else "StatusCode.NOT_FOUND")
    assert [one[0] for one in (shape, dtype, name, output)] == [invalid] * 4
    assert "'x'" in shape[1]
    assert "'x'" in dtype[1]
    assert "'z'" in name[1]
    assert "'q'" in output[1]
    assert large[0] == ("413" if package == "http" else invalid)
    assert "401" in load[0] or "UNAUTHENTICATED" in load[0]


@BOTH
def test_an_administrator_unloads_and_loads(
    service: RealService, package: str, address: str
) -> None:
    code = f"""{client(package, address)}
headers = {{"authorization": "Bearer {TOKEN}"}}
client.unload_model("centred", headers=headers)
before = client.is_model_ready("centred")
client.load_model("centred", headers=headers)
after = client.is_model_ready("centred")
"""
    assert run(service, code, "[before, after]") == [False, True]


def test_compression_in_both_directions(service: RealService) -> None:
    code = f"""{client("http", "127.0.0.1:8000")}
x = np.arange(60 * 4, dtype=np.float32).reshape(60, 4)
found = []
for coding in ("gzip", "deflate", None):
    for binary in (True, False):
        tensor = triton.InferInput("x", x.shape, "FP32").set_data_from_numpy(x, binary_data=binary)
        output = triton.InferRequestedOutput("y", binary_data=binary)
        answer = client.infer("linear", [tensor], outputs=[output],
            request_compression_algorithm=coding, response_compression_algorithm=coding)
        found.append(bool(np.array_equal(answer.as_numpy("y"), x @ np.array({WEIGHTS.tolist()}))))
"""
    assert run(service, code, "found") == [True] * 6


def test_kserve_reads_health_and_errors(service: RealService) -> None:
    code = f"""
import asyncio
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
base = "http://127.0.0.1:8000"

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    found = [await client.is_server_ready(base), await client.is_server_live(base),
             await client.is_model_ready(base, "linear")]
    for binary in (True, False):
        tensor = InferInput("x", [2, 4], "FP32")
        tensor.set_data_from_numpy(np.array({X.tolist()}, np.float32), binary_data=binary)
        request = InferRequest("linear", [tensor])
        answer = await client.infer(base, request, model_name="linear")
        found.append(answer.outputs[0].as_numpy().tolist())
    try:
        await client.infer(base, InferRequest("absent", [tensor]), model_name="absent")
    except Exception as error:
        found.append(str(error))
    return found
"""
    *health, binary, plain, absent = run(service, code, "asyncio.run(main())")
    assert health == [True, True, True]
    assert binary == plain == Y
    assert "there is no model 'absent'" in absent
