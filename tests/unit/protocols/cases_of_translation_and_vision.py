"""Cases of LibreTranslate, the Inference API and DeepStack."""

import base64
from collections.abc import Mapping
from typing import Any

from service.api.openapi import sample
from service.protocols.deepstack import DEEPSTACK
from service.protocols.huggingface import HUGGINGFACE
from service.protocols.libretranslate import LIBRETRANSLATE
from tests.unit.api.fakes import MARK
from tests.unit.protocols.case import Case

TEXTS = ["dog face", "狗脸"]
CARDS = sample("cards.jpg")
DIGIT = sample("digit.png")


def marked(text: str) -> str:
    """An image that the fake models take for a text."""
    return base64.b64encode(base64.b64decode(CARDS) + MARK + text.encode()).decode()


def libretranslate(q: Any, **more: Any) -> Mapping[str, Any]:
    return {"q": q, "source": "zh", "target": "en", **more}


def labels(answer: Any) -> Any:
    return [one["labels"] for one in answer["results"]]


def vectors(answer: Any) -> Any:
    return [one["embedding"] for one in answer["results"]]


def translations(answer: Any) -> Any:
    return [one["translation"] for one in answer["results"]]


def boxes(answer: Any) -> Any:
    """Boxes in whole pixels."""
    return [
        (one["label"], one["score"], [int(at + 0.5) for at in one["box"]])
        for one in answer["results"][0]["objects"]
    ]


def deepstack_boxes(answer: Any) -> Any:
    edges = ("x_min", "y_min", "x_max", "y_max")
    return [
        (one["label"], one["confidence"], [one[edge] for edge in edges])
        for one in answer["predictions"]
    ]


def huggingface_boxes(answer: Any) -> Any:
    return [(one["label"], one["score"], list(one["box"].values())) for one in answer]


LIBRETRANSLATE_HOSTILE = (
    b'{"source": "zh", "target": "en"}',
    b'{"q": "a", "target": "en"}',
    b'{"q": "a", "source": "zh"}',
    b'{"q": "", "source": "zh", "target": "en"}',
    b'{"q": [], "source": "zh", "target": "en"}',
    b'{"q": 5, "source": "zh", "target": "en"}',
    b'{"q": {"a": 1}, "source": "zh", "target": "en"}',
    b'{"q": ["a", 5], "source": "zh", "target": "en"}',
    b'{"q": ["a", null], "source": "zh", "target": "en"}',
    b'{"q": ["a", ["b"]], "source": "zh", "target": "en"}',
    b'{"q": "a\\u0000b", "source": "zh", "target": "en"}',
    b'{"q": "a", "source": 5, "target": "en"}',
    b'{"q": "a", "source": ["zh"], "target": "en"}',
    b'{"q": "a", "source": "zh", "target": {}}',
    b'{"q": "a", "source": "zh", "target": "en", "format": "pdf"}',
    b'{"q": "a", "source": "zh", "target": "en", "alternatives": 10000}',
    b'{"q": "a", "source": "zh", "target": "en", "alternatives": -1}',
    b'{"q": "a", "source": "zh", "target": "en", "alternatives": "many"}',
    b'{"q": [' + b",".join([b'"a"'] * 500) + b'], "source": "zh", "target": "en"}',
    b"q=a&q=b&source=zh&target=en",
)
HUGGINGFACE_HOSTILE = (
    b'{"inputs": null}',
    b'{"inputs": ""}',
    b'{"inputs": 5}',
    b'{"inputs": true}',
    b'{"inputs": [5]}',
    b'{"inputs": [null]}',
    b'{"inputs": [[["a"]]]}',
    b'{"inputs": []}',
    b'{"inputs": ["a", ""]}',
    b'{"inputs": {}}',
    b'{"inputs": {"source_sentence": "a"}}',
    b'{"inputs": {"source_sentence": 5, "sentences": ["a"]}}',
    b'{"inputs": {"source_sentence": "a", "sentences": "a"}}',
    b'{"inputs": {"source_sentence": "a", "sentences": []}}',
    b'{"inputs": {"source_sentence": "a", "sentences": [5]}}',
    b'{"inputs": {"text": "a"}}',
    b'{"inputs": "a\\u0000"}',
    b'{"inputs": "a", "parameters": []}',
    b'{"inputs": "a", "parameters": {"top_k": -1}}',
    b'{"inputs": "a", "parameters": {"top_k": 1e30}}',
    b'{"inputs": "a", "parameters": {"function_to_apply": "relu"}}',
    b'{"inputs": "a", "parameters": {"threshold": 2}}',
    b'{"inputs": "a", "parameters": {"src_lang": 5}}',
    b'{"inputs": "a", "parameters": {"generate_parameters": []}}',
    b'{"inputs": "a", "parameters": {"dimensions": 0}}',
    b'{"inputs": "a", "normalize": "maybe"}',
    b'{"inputs": "a", "parameters": {"candidate_labels": "a,b"}}',
    b'{"inputs": "a", "parameters": {"candidate_labels": ["a"]}}',
    b'{"inputs": "a", "parameters": {"candidate_labels": ["a", ""]}}',
    b'{"inputs": "a", "parameters": {"candidate_labels": ["a", "a"]}}',
    b'{"inputs": {"image": 5}, "parameters": {"candidate_labels": ["a", "b"]}}',
    b'{"inputs": "a", "parameters": {"candidate_labels": ["a", "b"], "hypothesis_template": "x"}}',
)
DEEPSTACK_HOSTILE = (
    b'{"image": null}',
    b'{"image": 5}',
    b'{"image": {}}',
    b'{"image": []}',
    b'{"image": "AAAA"}',
    b'{"image": "====" }',
    b'{"image": "data:text/plain;base64,AAAA"}',
    b'{"image": "http://127.0.0.1/a.jpg"}',
    b'{"min_confidence": 0.5}',
    b'{"image": "AAAA", "min_confidence": 2}',
    b'{"image": "AAAA", "min_confidence": -1}',
    b'{"image": "AAAA", "min_confidence": "high"}',
    b'{"image": "AAAA", "min_confidence": [0.5]}',
    b'{"image": "AAAA", "min_confidence": NaN}',
    b"image=AAAA&min_confidence=high",
    b"min_confidence=0.5",
    *(
        b"--x\r\nContent-Disposition: form-data; name="
        + name
        + b"\r\n\r\n"
        + data
        + b"\r\n--x--\r\n"
        for name, data in [
            (b'"image"; filename="a"', b"no image"),
            (b'"image"; filename="a"', b""),
            (b'"min_confidence"', b"1"),
        ]
    ),
    b"\xff\xd8\xff\xe0",
    b"RIFF0000WEBP",
)

MORE_CASES = [
    Case(
        LIBRETRANSLATE,
        "/translate",
        libretranslate(q, **more),
        libretranslate,
        "/v1/translate",
        {"text": q, "source": "zh", "target": "en", **more},
        lambda answer: (
            answer["translatedText"]
            if isinstance(answer["translatedText"], list)
            else [answer["translatedText"]]
        ),
        translations,
        LIBRETRANSLATE_HOSTILE,
    )
    for q, more in [("狗脸", {}), (TEXTS, {}), ("<p>狗<b>脸</b>", {"format": "html"})]
]
MORE_CASES += [
    Case(
        HUGGINGFACE,
        f"/hf/{model}",
        body,
        with_text,
        native,
        native_body,
        read,
        read_native,
        HUGGINGFACE_HOSTILE,
    )
    for model, body, with_text, native, native_body, read, read_native in [
        (
            "news-topics",
            {"inputs": TEXTS[0], "parameters": {"top_k": 1}},
            lambda text: {"inputs": text},
            "/v1/classify",
            {"text": TEXTS[0], "top_k": 1},
            lambda answer: answer,
            labels,
        ),
        (
            "zh-en",
            {"inputs": TEXTS, "parameters": {"src_lang": "zh", "tgt_lang": "en"}},
            lambda text: {"inputs": text},
            "/v1/translate",
            {"text": TEXTS, "source": "zh", "target": "en"},
            lambda answer: [one["translation_text"] for one in answer],
            translations,
        ),
        (
            "emoji",
            {"inputs": TEXTS},
            lambda text: {"inputs": text},
            "/v1/embed",
            {"text": TEXTS},
            lambda answer: answer,
            vectors,
        ),
        (
            "emoji",
            {"inputs": "dog", "parameters": {"candidate_labels": TEXTS}},
            lambda text: {"inputs": text, "parameters": {"candidate_labels": TEXTS}},
            "/v1/classify",
            {"text": "dog", "labels": TEXTS},
            lambda answer: [answer],
            labels,
        ),
        (
            "cards",
            {"inputs": CARDS, "parameters": {"threshold": 0.3}},
            lambda text: {"inputs": marked(text)},
            "/v1/detect",
            {"image": CARDS, "threshold": 0.3},
            huggingface_boxes,
            boxes,
        ),
    ]
]
MORE_CASES += [
    Case(
        DEEPSTACK,
        path,
        {"image": CARDS, "min_confidence": "0.3"},
        lambda text: {"image": marked(text)},
        "/v1/detect",
        {"image": CARDS, "threshold": 0.3},
        deepstack_boxes,
        boxes,
        DEEPSTACK_HOSTILE,
    )
    for path in ("/v1/vision/detection", "/v1/vision/custom/cards")
]
