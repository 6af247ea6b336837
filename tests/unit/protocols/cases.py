"""One case for each operation of a protocol; the tests of this folder run over all of them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from service.protocols.oip.rest import OIP
from service.protocols.openai import OPENAI
from tests.unit.protocols.case import HOSTILE, Case
from tests.unit.protocols.cases_of_others import OTHER_CASES
from tests.unit.protocols.cases_of_rerank import RERANK_CASES
from tests.unit.protocols.cases_of_tei import TEI_CASES
from tests.unit.protocols.cases_of_translation_and_vision import MORE_CASES

__all__ = ["CASES", "HOSTILE", "Case"]


def _vectors(answer: Any) -> Any:
    return [result["embedding"] for result in answer["results"]]


def _openai_vectors(answer: Any) -> Any:
    return [
        np.frombuffer(base64.b64decode(one["embedding"]), "<f4").tolist()
        if isinstance(one["embedding"], str)
        else one["embedding"]
        for one in answer["data"]
    ]


def _oip(name: str, values: Sequence[str], **more: Any) -> Mapping[str, Any]:
    given = {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": list(values)}
    return {"inputs": [given], **more}


def _oip_outputs(answer: Any) -> Any:
    return {
        one["name"]: np.array(one["data"], object).reshape(one["shape"]).tolist()
        for one in answer["outputs"]
    }


def _oip_labels(answer: Any) -> Any:
    found = _oip_outputs(answer)
    return [
        [{"label": label, "score": score} for label, score in zip(*row, strict=True)]
        for row in zip(found["label"], found["score"], strict=True)
    ]


_OIP_HOSTILE = tuple(
    orjson.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", **wrong}]})
    for wrong in (
        {},
        {"data": []},
        {"data": ["a", "b"]},
        {"data": [1]},
        {"data": ["a"], "shape": [-1]},
        {"data": ["a"], "shape": [2**62, 2**62, 0.5]},
        {"data": ["a"], "shape": [10**9, 10**9]},
        {"data": ["a"], "shape": [1] * 40},
        {"data": [["a"], ["b", "c"]], "shape": [2, 1]},
        {"data": ["a"], "datatype": "FP99"},
        {"data": ["a"], "datatype": "FP32"},
        {"data": [1.5], "datatype": "INT8"},
        {"data": [300], "datatype": "UINT8"},
        {"data": [True], "datatype": "INT32"},
        {"data": ["a"], "name": "image2"},
        {"data": ["a"], "parameters": {"binary_data_size": 5}},
        {"parameters": {"binary_data_size": 5}},
        {"parameters": {"binary_data_size": -5}},
        {"parameters": {"binary_data_size": "5"}},
        {"data": [""]},
        {"data": ["\0"]},
        {"data": None},
        {"data": {}},
    )
)

_TEXTS = ["dog face", "狗脸"]

CASES = [
    Case(
        OPENAI,
        "/v1/embeddings",
        {"input": _TEXTS, "encoding_format": encoding},
        lambda text: {"input": text},
        "/v1/embed",
        {"text": _TEXTS},
        _openai_vectors,
        _vectors,
        (
            b'{"input": [[1, 2]]}',
            b'{"input": [1, 2, 3]}',
            b'{"input": "a", "encoding_format": "gzip"}',
            b'{"input": {"text": "a"}}',
            b'{"input": [true]}',
            b'{"input": ["a", null]}',
            b'{"input": "data:image/png;base64,AAAA"}',
            b'{"input": "data:image/png,AAAA"}',
            b'{"input": "a", "model": 5}',
        ),
    )
    for encoding in ("float", "base64")
]
CASES += [
    Case(
        OIP,
        f"/v2/models/{model}/infer",
        _oip(kind, values),
        lambda text: _oip("text", [text]),
        native,
        {"text": values},
        read,
        read_native,
        _OIP_HOSTILE,
    )
    for kind, model, values, native, read, read_native in [
        (
            "text",
            "emoji",
            _TEXTS,
            "/v1/embed",
            lambda answer: _oip_outputs(answer)["embedding"],
            _vectors,
        ),
        (
            "text",
            "news-topics",
            _TEXTS,
            "/v1/classify",
            _oip_labels,
            lambda answer: [one["labels"] for one in answer["results"]],
        ),
        (
            "input_text",
            "zh-en",
            _TEXTS,
            "/v1/translate",
            lambda answer: _oip_outputs(answer)["translation"],
            lambda answer: [one["translation"] for one in answer["results"]],
        ),
    ]
]
CASES += [*RERANK_CASES, *TEI_CASES, *OTHER_CASES, *MORE_CASES]
