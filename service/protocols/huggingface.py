"""Hugging Face's Inference API: POST /hf/{model}, for every task of the model."""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, RootModel

from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.protocols.bodies import Body
from service.protocols.huggingface_bodies import (
    Asked,
    AskedByLabels,
    HuggingFaceBody,
    parse,
)
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolRoute,
    answer_items,
    complete,
    error_reply,
    get,
    post,
    rendered,
)
from service.requests.answer import Answers, NotResidentError, found
from service.requests.documents import Documents
from service.requests.pipeline import Pipeline
from service.requests.request import Selection
from service.requests.segment_stream import DocumentLimits
from service.requests.zero_shot import classify_by_labels
from service.tasks import Classification, Detections, Tagging, Task
from service.transforms.vision.boxes import whole_pixels


class HuggingFaceError(BaseModel):
    """An error in the Inference API's shape."""

    error: str


def render_error(problem: Problem) -> Reply:
    """Return `{"error": ...}`."""
    return error_reply(problem, {"error": problem.detail})


HUGGINGFACE = Protocol("huggingface", HuggingFaceError, render_error)
_LABEL = ("label", "score")
_OLD_HUB = re.compile(rb"\bhf_hub/(?:0|1\.0)\.")
"""User-Agent of huggingface_hub before 1.1, which reads the labels of a text from `labels` and
`scores`, two lists; later ones and the documentation of the API have a list of objects."""


class HuggingFaceAnswer(RootModel[list[Any]]):
    """What the task of the model returns.

    Labels with scores, objects with boxes, translations, vectors, or cosines.
    """


class HuggingFaceHealth(BaseModel):
    """Whether the model can answer."""

    status: str


class HuggingFaceInfo(BaseModel):
    """The model."""

    model_id: str
    model_sha: str
    model_type: str
    pipeline_tag: str
    version: int


async def infer(request: HttpRequest, body: Body) -> Reply:
    """Run the model's task, as `InferenceClient(model="http://.../hf/NAME")` asks for it.

    The task is that of the model: text-classification, token-classification, image-classification,
    object-detection, translation, feature-extraction. An embedder also answers
    sentence-similarity, and with `candidate_labels` it, or a classifier of pairs, answers the two
    zero-shot tasks.
    """
    pipeline = await _pipeline(request)
    asked = parse(body, pipeline, request.context.limits)
    limits = request.context.limits
    model = Selection(request.path_params["model"])
    if isinstance(asked, AskedByLabels):
        work = classify_by_labels(
            request.context.registry,
            request.without_transport(),
            model,
            asked.items,
            asked.labels,
        )
        answers = complete(await request.while_connected(work), "inputs")
        found: list[Any] = [_scored(outcome.answer)[: asked.top_k] for outcome in answers.outcomes]
        if asked.is_text and _OLD_HUB.search(request.given.get(b"user-agent", b"")):
            found = [{f"{key}s": [one[key] for one in each] for key in _LABEL} for each in found]
        return rendered(found if asked.is_list else found[0], answers)
    ask = {}
    if asked.task is Task.TRANSLATE:
        within = DocumentLimits(limits.max_segments, limits.request_timeout_seconds)
        ask = {"ask": Documents(within).answer}
    answers = await answer_items(request, asked.task, model, asked.items, noun="inputs", **ask)
    return rendered(_rendered(asked, answers), answers)


async def health(request: HttpRequest) -> Reply:
    """Tell whether the model can answer."""
    with suppress(NotResidentError):  # a request loads it
        request.context.registry.named(request.path_params["model"])
    return Reply(orjson.dumps({"status": "ok"}))


async def info(request: HttpRequest) -> Reply:
    """Describe the model."""
    pipeline = await _pipeline(request)
    about = {
        "model_id": pipeline.model.name,
        "model_sha": pipeline.model.digest,
        "model_type": pipeline.task.value,
        "pipeline_tag": _tag(pipeline),
        "version": pipeline.model.version,
    }
    return Reply(orjson.dumps(about))


async def _pipeline(request: HttpRequest) -> Pipeline[Any, Any]:
    find = partial(request.context.registry.named, request.path_params["model"])
    return await found(find, request.without_transport())


def _tag(pipeline: Pipeline[Any, Any]) -> str:  # noqa: PLR0911 - one for each task
    """Return what the Hub calls the model's task."""
    match pipeline.task:
        case Task.CLASSIFY:
            kind = "text" if "text" in pipeline.modalities else "image"
            return f"{kind}-classification"
        case Task.TAG:
            return "token-classification"
        case Task.TRANSLATE:
            return "translation"
        case Task.GENERATE:
            return "text2text-generation"
        case Task.DETECT:
            has_masks = "masks" in pipeline.family.traits.finds
            return "image-segmentation" if has_masks else "object-detection"
        case Task.EMBED:
            return "feature-extraction"
        case task:
            return task.value


def _rendered(asked: Asked, answers: Answers) -> Any:  # noqa: PLR0911 - one for each task
    found = [outcome.answer for outcome in answers.outcomes]
    match asked.task:
        case Task.CLASSIFY:
            labels = [_labels(answer, asked) for answer in found]
            # Clients take the first element of what a text gets, and all of what an image gets.
            return labels[0] if asked.is_image and not asked.is_list else labels
        case Task.TAG:
            spans = [_spans(answer, asked) for answer in found]
            return spans if asked.is_list else spans[0]
        case Task.TRANSLATE:
            return [{"translation_text": answer.text} for answer in found]
        case Task.GENERATE:  # clients of summarization read the first, of text2text the second
            return [{"summary_text": one.text, "generated_text": one.text} for one in found]
        case Task.DETECT:
            return _objects(found[0])
        case _ if asked.is_similarity:
            return _cosines([answer.vector for answer in found])
        case _:
            return [answer.vector for answer in found]


def _labels(answer: Classification, asked: Asked) -> Sequence[dict[str, Any]]:
    scores = np.array([label.score for label in answer.labels], np.float64)
    if asked.activation == "softmax":
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    elif asked.activation == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    named = zip(answer.labels, scores.tolist(), strict=True)
    return [{"label": label.name, "score": score} for label, score in named][: asked.top_k]


def _spans(answer: Tagging, asked: Asked) -> Sequence[dict[str, Any]]:
    key = "entity" if asked.is_by_token else "entity_group"
    return [
        {
            key: span.label,
            "score": span.score,
            "word": span.text,
            "start": span.start,
            "end": span.end,
        }
        for span in answer.spans
    ]


def _scored(answer: Classification) -> Sequence[dict[str, Any]]:
    return [{"label": label.name, "score": label.score} for label in answer.labels]


def _objects(found: Detections) -> Sequence[dict[str, Any]]:
    edges = ("xmin", "ymin", "xmax", "ymax")
    return [
        {
            "label": one.label,
            "score": one.score,
            "box": dict(zip(edges, whole_pixels(one.box, found.width, found.height), strict=True)),
            **({} if one.mask is None else {"mask": one.mask.png}),
        }
        for one in found.objects
    ]


def _cosines(vectors: Sequence[Any]) -> Sequence[float]:
    source, *others = [vector.astype(np.float64) for vector in vectors]
    return [
        float(source @ other / max(np.linalg.norm(source) * np.linalg.norm(other), 1e-12))
        for other in others
    ]


INFER = Operation(
    HUGGINGFACE,
    infer,
    HuggingFaceBody,
    HuggingFaceAnswer,
    {"inputs": "Stocks fall as oil prices slide", "parameters": {"top_k": 1}},
    path_example={"model": "news-topics"},
)


def huggingface_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    example = {"model": "news-topics"}
    return [
        get(
            "/hf/{model:path}/health",
            HUGGINGFACE,
            health,
            HuggingFaceHealth,
            example,
            key_place="none",
        ),
        get("/hf/{model:path}/info", HUGGINGFACE, info, HuggingFaceInfo, example),
        post("/hf/{model:path}", INFER),
    ]
