"""What may happen to a request, a client and a model: a row each, for tests of what it leaves."""

import base64
from collections.abc import Mapping
from functools import partial

from service.errors import DeviceMemoryError, InferenceError
from tests.integration.garbage.bench import Visit, json_of
from tests.integration.garbage.rounds import (
    _CARDS,
    _DIGIT,
    _FRESH,
    _LINES,
    _TEXT,
    _ZH,
    Round,
    admin,
    classify,
    drained,
    during,
    failing,
    form,
    full,
    get,
    hurried,
    is_answered,
    leaves,
    raw,
    together,
    unload_and_load,
    without_room,
)

translate = partial(json_of, "/v1/translate")
embed = partial(json_of, "/v1/embed")


NOT_A_PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 50_000
_BASE64 = base64.b64encode(_DIGIT).decode()
_LONG = "a" * 50_000

_TENSORS = b"""{"inputs": [
    {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Comet seen from orbit"]}
]}"""

ANSWERS: Mapping[str, Round] = {
    "classify a text": is_answered(200, lambda: classify({"text": _TEXT}, _FRESH)),
    "classify texts": is_answered(200, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    "classify texts of several at once": together(4, lambda: classify({"text": _TEXT}, _FRESH)),
    "classify by given labels": is_answered(
        200, lambda: classify({"text": _TEXT, "labels": ["news", "sports"]}, _FRESH)
    ),
    "classify by given labels of the cache": is_answered(
        200, lambda: classify({"text": _TEXT, "labels": ["news", "sports"]})
    ),
    "classify an image in JSON": is_answered(200, lambda: classify({"image": _BASE64}, _FRESH)),
    "classify an image in a form": is_answered(
        200, lambda: form("/v1/classify", {"image": _DIGIT, "top_k": "2"})
    ),
    "classify an image as the body": is_answered(
        200, lambda: raw("/v1/classify", _DIGIT, b"image/png", query=b"top_k=2")
    ),
    "translate": is_answered(200, lambda: translate({"text": _ZH}, _FRESH)),
    "translate with beams": is_answered(
        200, lambda: translate({"text": _ZH, "num_beams": 4, "alternatives": 2}, _FRESH)
    ),
    "translate with a glossary": is_answered(
        200, lambda: translate({"text": _ZH, "glossary": {"汤姆": "Thomas"}}, _FRESH)
    ),
    "translate a blank text": is_answered(200, lambda: translate({"text": " \n "}, _FRESH)),
    "translate a long text": is_answered(200, lambda: translate({"text": _LINES * 3}, _FRESH)),
    "stream segments": is_answered(
        200, lambda: translate({"text": _LINES, "stream": "segments"}, _FRESH)
    ),
    "stream tokens": is_answered(
        200, lambda: translate({"text": _LINES, "stream": "tokens"}, _FRESH)
    ),
    "stream server-sent events": is_answered(
        200,
        lambda: translate({"text": _LINES}, _FRESH, (b"accept", b"text/event-stream")),
    ),
    "detect": is_answered(200, lambda: raw("/v1/detect", _CARDS, b"image/jpeg")),
    "embed a text and an image": is_answered(
        200, lambda: embed({"text": "dog face", "image": _BASE64}, _FRESH)
    ),
    "classify by the Open Inference Protocol": is_answered(
        200, lambda: raw("/v2/models/news-topics/infer", _TENSORS, b"application/json")
    ),
    "a cached text": is_answered(200, lambda: classify({"text": _TEXT})),
    "a cached translation": is_answered(200, lambda: translate({"text": _ZH})),
    "no-cache": is_answered(
        200, lambda: classify({"text": _TEXT}, (b"cache-control", b"no-cache"))
    ),
    "the models": is_answered(200, lambda: get("/v1/models")),
    "one model": is_answered(200, lambda: get("/v1/models/digits")),
    "parity": is_answered(200, lambda: get("/v1/models/digits/parity")),
    "readiness": is_answered(200, lambda: get("/health/ready")),
    "liveness": is_answered(200, lambda: get("/health/live")),
    "metrics": is_answered(200, lambda: get("/metrics")),
    "the documentation": is_answered(200, lambda: get("/openapi.json")),
    "the page": is_answered(200, lambda: get("/")),
}


def _too_many() -> Visit:
    return classify({"text": ["a"] * 300})


REFUSALS: Mapping[str, Round] = {
    "400 no JSON": is_answered(400, lambda: raw("/v1/classify", b"{" * 9, b"application/json")),
    "400 a key twice": is_answered(
        400, lambda: raw("/v1/classify", b'{"text":"a","text":"b"}', b"application/json")
    ),
    "400 nested": is_answered(400, lambda: raw("/v1/classify", b"[" * 9999, b"application/json")),
    "400 a header": is_answered(
        400, lambda: classify({"text": "a"}, (b"x-request-priority", b"soon"))
    ),
    "400 a tensor of another shape": is_answered(
        400,
        lambda: raw(
            "/v2/models/news-topics/infer", _TENSORS.replace(b"[1]", b"[2]"), b"application/json"
        ),
    ),
    "400 a form without end": is_answered(
        400, lambda: form("/v1/classify", {"image": _DIGIT * 9}, end=b"")
    ),
    "400 a form that is none": is_answered(
        400,
        lambda: raw("/v1/classify", b"x" * 50_000, b"multipart/form-data; boundary=b"),
    ),
    "400 a form with a field twice": is_answered(
        400,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n' * 2 + b"--b--\r\n",
            b"multipart/form-data; boundary=b",
        ),
    ),
    "400 a form with text that is no UTF-8": is_answered(
        400,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\r\n--b--\r\n',
            b"multipart/form-data; boundary=b",
        ),
    ),
    "400 a query": is_answered(
        400, lambda: raw("/v1/classify", _DIGIT, b"image/png", query=b"image=1")
    ),
    "401": is_answered(401, lambda: Visit("POST", "/v1/models/digits/load", b"{}")),
    "404 a path": is_answered(404, lambda: get("/nothing")),
    "404 a model": is_answered(404, lambda: classify({"text": "a", "model": "nobody"})),
    "404 a model to show": is_answered(404, lambda: get("/v1/models/nobody")),
    "405": is_answered(405, lambda: get("/v1/classify")),
    "408": is_answered(408, lambda: hurried(classify({"text": _LONG}, never_ends=True))),
    "413 announced": is_answered(
        413, lambda: classify({"text": "a"}, (b"content-length", b"300000"))
    ),
    "413 chunked": is_answered(
        413, lambda: raw("/v1/classify", b"x" * 300_000, b"application/json")
    ),
    "413 too many items": is_answered(413, _too_many),
    "413 form of too many parts": is_answered(
        413,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n1\r\n' * 99
            + b"--b--\r\n",
            b"multipart/form-data; boundary=b",
        ),
    ),
    "415": is_answered(415, lambda: raw("/v1/classify", _DIGIT, b"text/plain")),
    "415 in an item": is_answered(
        415, lambda: classify({"image": "data:text/plain;base64," + _BASE64})
    ),
    "422 a key": is_answered(422, lambda: classify({"text": "a", "key": _LONG})),
    "422 a type": is_answered(422, lambda: classify({"text": _LONG, "top_k": _LONG})),
    "422 labels": is_answered(422, lambda: classify({"text": "a", "labels": ["a", "a"]})),
    "422 a label that cannot be embedded": is_answered(
        422, lambda: classify({"text": "a", "labels": ["a", "\u200b"]}, _FRESH)
    ),
    "422 no items": is_answered(422, lambda: classify({"text": []})),
    "422 a blank text": is_answered(422, lambda: classify({"text": " "}, _FRESH)),
    "422 a blank text among texts": is_answered(
        422, lambda: classify({"text": [" ", _TEXT]}, _FRESH)
    ),
    "422 a piece of a long translation": is_answered(
        422, lambda: translate({"text": _LINES, "num_beams": 1, "alternatives": 2}, _FRESH)
    ),
    "422 an item": is_answered(422, lambda: classify({"text": ["", _LONG[:9]]})),
    "413 an item": is_answered(413, lambda: classify({"text": [_LONG]})),
    "422 a form": is_answered(
        422, lambda: form("/v1/classify", {"image": NOT_A_PICTURE, "top_k": "x"})
    ),
    "422 no image": is_answered(422, lambda: raw("/v1/detect", NOT_A_PICTURE, b"image/png")),
    "422 no image among images": is_answered(
        422, lambda: classify({"image": [_BASE64, base64.b64encode(NOT_A_PICTURE).decode()]})
    ),
    "422 no base64": is_answered(422, lambda: classify({"image": "!" * 50_000})),
    "422 one of two translations": is_answered(422, lambda: translate({"text": ["", _ZH]})),
    "422 a language": is_answered(422, lambda: translate({"text": _ZH, "source": "xx"})),
    "422 a stream of nothing": is_answered(
        422, lambda: translate({"text": "", "stream": "segments"})
    ),
    "200 a stream with a text that is none": is_answered(
        200, lambda: translate({"text": ["", _ZH], "stream": "segments"}, _FRESH)
    ),
    "429 a full queue": full(
        "news-topics",
        lambda: classify({"text": _TEXT}, _FRESH),
        is_answered(429, lambda: classify({"text": _TEXT}, _FRESH)),
    ),
    "429 a full queue of translations": full(
        "zh-en",
        lambda: translate({"text": _ZH}, _FRESH),
        is_answered(429, lambda: translate({"text": _ZH}, _FRESH)),
    ),
    "429 a full queue, a stream": full(
        "zh-en",
        lambda: translate({"text": _ZH}, _FRESH),
        is_answered(429, lambda: translate({"text": _ZH, "stream": "tokens"}, _FRESH)),
    ),
    "429 a full queue, several items": full(
        "news-topics",
        lambda: classify({"text": _TEXT}, _FRESH),
        is_answered(429, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    ),
    "429 room for bodies": without_room(
        is_answered(429, lambda: raw("/v1/detect", b"x" * 190_000, b"image/png"))
    ),
    "500 the model fails": failing(
        "news-topics",
        InferenceError("no"),
        is_answered(500, lambda: classify({"text": _TEXT}, _FRESH)),
    ),
    "500 the model fails on a batch": failing(
        "news-topics",
        InferenceError("no"),
        is_answered(500, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    ),
    "500 the model fails on identical requests": failing(
        "news-topics",
        InferenceError("no"),
        together(4, lambda: classify({"text": _TEXT + "!"})),
    ),
    "500 the translator fails": failing(
        "zh-en",
        InferenceError("no"),
        is_answered(500, lambda: translate({"text": _ZH}, _FRESH)),
    ),
    "503 memory": failing(
        "digits",
        DeviceMemoryError("no"),
        is_answered(503, lambda: classify({"image": [_BASE64] * 3}, _FRESH)),
    ),
    "503 a model that is not loaded": is_answered(
        503, lambda: classify({"text": "a", "model": "broken"})
    ),
    "504 queued": during(
        "no_slot", is_answered(504, lambda: hurried(classify({"text": _TEXT}, _FRESH)))
    ),
    "504 queued translation": during(
        "no_slot", is_answered(504, lambda: hurried(translate({"text": _ZH}, _FRESH)))
    ),
    "504 one of several": during(
        "no_slot", is_answered(504, lambda: hurried(classify({"text": [_TEXT] * 3}, _FRESH)))
    ),
    "504 preprocessed": during(
        "no_preprocessing",
        is_answered(504, lambda: hurried(raw("/v1/detect", _CARDS, b"image/jpeg"))),
    ),
    "504 computed": during(
        "no_compute", is_answered(504, lambda: hurried(raw("/v1/detect", _CARDS, b"image/jpeg")))
    ),
    "504 in a stream": during(
        "no_slot",
        is_answered(200, lambda: hurried(translate({"text": _LINES, "stream": "tokens"}, _FRESH))),
    ),
    "504 identical in flight": during(
        "no_slot", together(3, lambda: hurried(classify({"text": _TEXT + "?"})))
    ),
}

DISCONNECTS: Mapping[str, Round] = {
    "left while it sent": leaves(lambda: classify({"text": _LONG}, never_ends=True)),
    "left in the queue": during("no_slot", leaves(lambda: classify({"text": _TEXT}, _FRESH))),
    "left with several in the queue": during(
        "no_slot", leaves(lambda: classify({"text": [_TEXT] * 3}, _FRESH))
    ),
    "left in the queue of translations": during(
        "no_slot", leaves(lambda: translate({"text": _ZH}, _FRESH))
    ),
    "left before preprocessing": during(
        "no_preprocessing", leaves(lambda: raw("/v1/detect", _CARDS, b"image/jpeg"))
    ),
    "left a stream before its first piece": during(
        "no_slot", leaves(lambda: translate({"text": _LINES, "stream": "tokens"}, _FRESH))
    ),
    "left a stream after its first piece": leaves(
        lambda: translate({"text": _LINES * 9, "stream": "tokens"}, _FRESH), first=True
    ),
    "left a long translation": leaves(lambda: translate({"text": _LINES * 9}, _FRESH)),
}

VERSIONS: Mapping[str, Round] = {
    "reload": is_answered(200, lambda: admin("digits", "load")),
    "reload of a translator": is_answered(200, lambda: admin("zh-en", "load")),
    "reload while it answers": drained,
    "unload and load": unload_and_load,
    "a load of a broken manifest": is_answered(500, lambda: admin("broken", "load")),
    "a load that fails its goldens": is_answered(500, lambda: admin("misled", "load")),
    "a load of what is not there": is_answered(404, lambda: admin("nobody", "load")),
}
