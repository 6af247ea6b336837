"""Bodies of the Open Inference Protocol that no client sends: binary data, codings, raw bodies."""

import base64
import gzip
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from PIL import Image

from service.errors import InferenceError, InvalidInputError
from service.protocols.oip.tensors import DATATYPES, from_raw, from_values, to_raw, to_values
from tests.unit.api.conftest import TOKEN
from tests.unit.transforms.images import encoded

IMAGE = encoded(Image.new("RGB", (8, 8), "#ff0000"))
URL = "/v2/models/news-topics/infer"
LENGTH = "inference-header-content-length"


def strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def body(raw: bytes, size: Any = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose text follows the JSON object, and its header."""
    given = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw) if size is None else size},
        **more,
    }
    header = orjson.dumps({"id": "7", "inputs": [given]})
    return header + raw, {LENGTH: str(len(header))}


def read(response: httpx.Response) -> Mapping[str, Any]:
    """The outputs of a response, its raw tensors included."""
    length = int(response.headers.get(LENGTH, len(response.content)))
    said, raw = orjson.loads(response.content[:length]), response.content[length:]
    outputs = {}
    for one in said["outputs"]:
        if "data" in one:
            outputs[one["name"]] = one["data"]
            continue
        size = one["parameters"]["binary_data_size"]
        array = from_raw(one["name"], one["datatype"], one["shape"], raw[:size]).array
        outputs[one["name"]], raw = array.ravel().tolist(), raw[size:]
    assert raw == b""
    return outputs


async def plain(client: httpx.AsyncClient) -> Mapping[str, Any]:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    return read(await client.post(URL, json={"inputs": [given]}))


async def test_binary_inputs_and_outputs(client: httpx.AsyncClient) -> None:
    content, headers = body(strings(b"a"))
    response = await client.post(URL, content=content, headers=headers)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["id"] == "7"
    assert read(response) == await plain(client)

    header = orjson.loads(content[: int(headers[LENGTH])])
    header["parameters"] = {"binary_data_output": True}
    header["outputs"] = [
        {"name": "score"},
        {"name": "label", "parameters": {"binary_data": False}},
    ]
    again = orjson.dumps(header)
    response = await client.post(
        URL, content=again + strings(b"a"), headers={LENGTH: str(len(again))}
    )
    assert response.headers["content-type"] == "application/octet-stream"
    assert read(response) == await plain(client)


@pytest.mark.parametrize("form", ["base64", "binary", "raw"])
async def test_images_get_the_answers_of_the_native_routes(
    client: httpx.AsyncClient, form: str
) -> None:
    async def infer(model: str) -> Mapping[str, Any]:
        url = f"/v2/models/{model}/infer"
        if form == "raw":
            return read(await client.post(url, content=IMAGE, headers={LENGTH: "0"}))
        if form == "binary":
            content, headers = body(strings(IMAGE), name="image")
            return read(await client.post(url, content=content, headers=headers))
        data = [base64.b64encode(IMAGE).decode()]
        given = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": data}
        return read(await client.post(url, json={"inputs": [given]}))

    async def native(path: str) -> Any:
        response = await client.post(path, content=IMAGE, headers={"content-type": "image/png"})
        return response.json()["results"][0]

    found, (expected,) = await infer("cards"), (await native("/v1/detect"))["objects"]
    label = found["label"][0]
    assert (label.decode() if isinstance(label, bytes) else label) == expected["label"]
    assert found["score"] == [pytest.approx(expected["score"])]
    assert found["boxes"] == expected["box"]
    assert found["count"] == [1]
    labels = (await native("/v1/classify"))["labels"]
    assert (await infer("digits"))["score"] == [one["score"] for one in labels]
    if form != "raw":  # nothing in it says which input it is
        vector = (await native("/v1/embed"))["embedding"]
        assert (await infer("emoji"))["embedding"] == vector


async def test_what_a_body_inflates_to_is_counted(client: httpx.AsyncClient, context: Any) -> None:
    content = gzip.compress(orjson.dumps({"id": "a" * 90_000, "inputs": []}))
    context.bodies.held = context.limits.max_bodies_bytes - 50_000
    response = await client.post(URL, content=content, headers={"content-encoding": "gzip"})
    assert response.status_code == 429, response.text
    assert context.bodies.held == context.limits.max_bodies_bytes - 50_000


async def test_a_raw_body_is_one_input(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, content=b"a", headers={LENGTH: "0"})
    expected = await plain(client)
    labels = [label.encode() for label in expected["label"]]
    assert read(response) == {**expected, "label": labels}
    both = await client.post("/v2/models/emoji/infer", content=b"a", headers={LENGTH: "0"})
    assert both.status_code == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
async def test_a_compressed_body_is_read(client: httpx.AsyncClient, coding: str) -> None:
    content, headers = body(strings(b"a" * 900))
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding)
    packed = zlib.compress(content, wbits=-15) if pack is None else pack(content)
    headers |= {"content-encoding": coding.rsplit(maxsplit=1)[-1], "accept-encoding": "identity"}
    response = await client.post(URL, content=packed, headers=headers)
    assert response.status_code == 200, response.text
    assert "content-encoding" not in response.headers


async def test_a_long_answer_is_compressed_if_the_client_accepts_it(
    client: httpx.AsyncClient,
) -> None:
    given = {"name": "text", "shape": [8], "datatype": "BYTES", "data": ["你" * 90] * 8}
    for accepted, coding in [("deflate, gzip;q=0", "deflate"), ("gzip", "gzip"), ("br", None)]:
        headers = {"accept-encoding": accepted}
        response = await client.post(
            "/v2/models/zh-en/infer", json={"inputs": [given]}, headers=headers
        )
        assert response.headers.get("content-encoding") == coding
        assert response.json()["outputs"][0]["shape"][0] == 8


def bomb(size: int) -> bytes:
    return gzip.compress(b'{"inputs": [' + b" " * size + b"]}", 9)


RAW = strings(b"a")
HOSTILE: Sequence[tuple[bytes, Mapping[str, str]]] = [
    body(RAW, 4),
    body(RAW, 10**18),
    body(RAW, -1),
    body(RAW, "5"),
    body(RAW, 5.0),
    body(RAW, None, data=["a"]),
    body(RAW + b"more", len(RAW)),
    body(struct.pack("<I", 2**32 - 1) + b"a"),
    body(struct.pack("<I", 0)),
    body(struct.pack("<I", 9) + b"a"),
    body(b"\x01"),
    body(b""),
    body(strings(b"\xff\xfe")),
    body(strings(b"")),
    body(RAW, None, shape=[-1]),
    body(RAW, None, shape=[2**63, 2**63]),
    body(RAW, None, shape=[10**6, 10**6, 10**6]),
    body(RAW, None, shape=[1] * 33),
    body(RAW, None, shape=[2]),
    body(RAW, None, shape=[0]),
    body(RAW, None, shape=[1, 1, 1]),
    body(RAW, None, datatype="FP32"),
    body(RAW, None, datatype="BF16"),
    body(RAW, None, datatype="bytes"),
    (b"{}", {LENGTH: "3"}),
    (b"{}", {LENGTH: "-1"}),
    (b"{}", {LENGTH: "9" * 40}),
    (b"{}", {LENGTH: "1e3"}),
    (b"{}", {LENGTH: "2"}),
    (b"[1]", {LENGTH: "3"}),
    (b'{"inputs": []}', {}),
    (b'{"inputs": {"name": "text"}}', {}),
    (orjson.dumps({"inputs": [{"name": "text"}]}), {}),
    (orjson.dumps({"inputs": [{"name": "", "shape": [], "datatype": "", "data": []}]}), {}),
    (b'{"inputs": ' + b"[" * 5_000, {}),
    (bomb(50_000_000), {"content-encoding": "gzip"}),
    (zlib.compress(b" " * 50_000_000), {"content-encoding": "deflate"}),
    (gzip.compress(b"{}")[:-5], {"content-encoding": "gzip"}),
    (gzip.compress(b"{}") * 2, {"content-encoding": "gzip"}),
    (b"not gzip", {"content-encoding": "gzip"}),
    (b"", {"content-encoding": "deflate"}),
    (gzip.compress(b"{}"), {"content-encoding": "gzip, gzip"}),
    (b"{}", {"content-encoding": "zstd"}),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_a_hostile_body_is_refused_with_a_sentence(
    client: httpx.AsyncClient, number: int
) -> None:
    content, headers = HOSTILE[number]
    response = await client.post(URL, content=content, headers=headers)
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert len(response.content) < 1_000


@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": -1},
        {"timeout": "soon"},
        {"priority": -1},
        {"priority": 1.5},
        {"top_k": 0},
        {"top_k": "many"},
        {"embedding_type": "int8"},
        {"dimensions": 8},
    ],
)
async def test_parameters_that_cannot_be_kept_are_refused(
    client: httpx.AsyncClient, parameters: Mapping[str, Any]
) -> None:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    response = await client.post(URL, json={"inputs": [given], "parameters": parameters})
    assert response.status_code == 400, response.text


async def test_the_timeout_of_a_request_is_its_deadline(client: httpx.AsyncClient) -> None:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["wait"]}
    request = {"inputs": [given], "parameters": {"timeout": 10_000}}
    assert (await client.post(URL, json=request)).status_code == 504


async def test_priorities_are_those_of_the_service(
    client: httpx.AsyncClient, registry: Any
) -> None:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    for priority in (0, 1, 2, 30):
        request = {"inputs": [given], "parameters": {"priority": priority}}
        await client.post(URL, json=request)
    asked = registry.named("news-topics").asked
    assert [request.priority for _, request in asked] == [0, 10, 9, -10]


async def test_administration_needs_the_token(client: httpx.AsyncClient, registry: Any) -> None:
    unload = "/v2/repository/models/digits/unload"
    refused = await client.post(unload)
    assert refused.status_code == 401
    assert set(refused.json()) == {"error"}
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert (await client.post(unload, headers=headers)).status_code == 200
    assert registry.unloaded == ["digits"]
    load = "/v2/repository/models/digits/load"
    assert (await client.post(load, headers=headers)).status_code == 200
    files = {"parameters": {"file:1/model.onnx": "AAAA"}}
    assert (await client.post(load, json=files, headers=headers)).status_code == 400


@pytest.mark.parametrize("datatype", DATATYPES)
def test_tensors_survive_both_forms(datatype: str) -> None:
    dtype = DATATYPES[datatype]
    array = (
        np.array([[b"a", b""], ["你".encode(), b"\0"]], object)
        if datatype == "BYTES"
        else np.array([[0, 1], [1, 0]], dtype)
    )
    shape = list(array.shape)
    raw = from_raw("x", datatype, shape, to_raw(array)).array
    values = orjson.loads(orjson.dumps(to_values("x", array), option=orjson.OPT_SERIALIZE_NUMPY))
    for found in (raw, from_values("x", datatype, shape, values).array):
        assert found.dtype == array.dtype
        assert found.tolist() == array.tolist()


def test_json_cannot_express_everything() -> None:
    for array in (np.array([np.nan]), np.array([np.inf], np.float16), np.array([b"\xff"], object)):
        with pytest.raises(InferenceError, match="binary"):
            to_values("y", array)


@pytest.mark.parametrize(
    ("datatype", "shape", "values"),
    [
        ("INT8", [2], [1, 200]),
        ("INT64", [1], [2**63]),
        ("UINT8", [1], [-1]),
        ("INT32", [1], [1.0]),
        ("INT32", [1], [None]),
        ("FP32", [1], ["1"]),
        ("BOOL", [1], [1]),
        ("FP32", [2, 2], [[1, 2], [3]]),
        ("FP32", [2, 2], [[1, 2], 3, 4]),
        ("FP32", [2, 2], [1, 2, 3]),
        ("FP32", [0], [1]),
    ],
)
def test_json_values_of_another_type_or_shape_are_refused(
    datatype: str, shape: Sequence[int], values: Sequence[Any]
) -> None:
    with pytest.raises(InvalidInputError, match="'x'"):
        from_values("x", datatype, shape, values)
