"""All routes of the API."""

from collections.abc import Sequence
from functools import cache

from pydantic import BaseModel

from service.api import aliases, openapi, parameters
from service.api.classify import ClassifyRequest, ClassifyResponse, classify
from service.api.detect import DetectRequest, DetectResponse, detect
from service.api.embed import EmbedRequest, EmbedResponse, embed
from service.api.generate import GENERATION_EVENTS, GenerateRequest, GenerateResponse, generate
from service.api.health import HealthResponse, live, metrics, ready
from service.api.models import (
    LoadRequest,
    ModelResponse,
    ModelsResponse,
    ParityResponse,
    list_models,
    load_model,
    show_model,
    show_parity,
    unload_model,
)
from service.api.openapi import sample
from service.api.route import DirectRoute, get, post, route
from service.api.run import RunRequest, RunResponse, WorkflowsResponse, list_workflows, run
from service.api.similarity import SimilarityRequest, SimilarityResponse, compare
from service.api.stream_events import STREAM_EVENTS
from service.api.streams import StreamRequest
from service.api.translate import TRANSLATION_EVENTS, TranslateRequest, TranslateResponse, translate
from service.api.video import UPLOAD, VideoRequest, analyse_video
from service.api.video_stream import VIDEO_EVENTS
from service.registry.status import VersionStatus

REQUESTS: Sequence[type[BaseModel]] = (
    ClassifyRequest,
    TranslateRequest,
    GenerateRequest,
    DetectRequest,
    EmbedRequest,
    SimilarityRequest,
    RunRequest,
    LoadRequest,
    aliases.AliasRequest,
    *TRANSLATION_EVENTS,
    *GENERATION_EVENTS,
    VideoRequest,
    *VIDEO_EVENTS,
    StreamRequest,
    *STREAM_EVENTS,
)


@cache
def task_routes() -> Sequence[DirectRoute]:
    """Return the routes of the tasks."""
    video = post(
        "/v1/video",
        analyse_video,
        **openapi.upload_documentation(
            VideoRequest,
            UPLOAD.field,
            ("video/*", "application/octet-stream"),
            VIDEO_EVENTS,
            {
                "Objects with ids, in five frames of a second": {"track": True, "fps": 5},
                "Time spans of your own labels": {
                    "task": "classify",
                    "labels": ["playing card", "dog face"],
                    "segments": True,
                    "every": 10,
                },
                "A workflow, on two frames of a second": {"workflow": "cards", "fps": 2},
            },
        ),
    )
    video.is_upload = True
    return [
        video,
        post(
            "/v1/classify",
            classify,
            **openapi.task_documentation(
                ClassifyRequest,
                ClassifyResponse,
                {
                    "A headline": {"text": "Central bank raises interest rates again", "top_k": 3},
                    "Two headlines": {
                        "text": ["New phone has a folding screen", "Measles vaccine works, study"]
                    },
                    "A handwritten digit": {"image": sample("digit.png"), "top_k": 1},
                    "A drawing, by labels of your own": {
                        "image": sample("emoji.png"),
                        "labels": ["dog", "cat", "rocket", "pizza"],
                    },
                    "Names in a text, by a token classifier": {
                        "text": "Ann moved to New York.",
                        "aggregate": "first",
                    },
                },
            ),
        ),
        post(
            "/v1/translate",
            translate,
            **openapi.task_documentation(
                TranslateRequest,
                TranslateResponse,
                {
                    "A sentence": {"text": "我喜欢喝茶。"},
                    "Two, with a wider search": {
                        "text": ["今天天气很好。", "她在图书馆工作。"],
                        "num_beams": 4,
                    },
                    "The three best translations, with scores": {
                        "text": "她在图书馆工作。",
                        "alternatives": 3,
                        "max_length": 40,
                    },
                    "A name, an address and a number that must not change": {
                        "text": ["张伟给王芳写了一封信。", "请看https://example.org/42。"],
                        "glossary": {"张伟": "Zhang Wei", "王芳": "Wang Fang"},
                        "protect": ["urls", "numbers"],
                    },
                    "A text of several lines, streamed as it is translated": {
                        "text": "今天天气很好。\n\n我喜欢喝茶。\n  - 她在图书馆工作。\n",
                        "split": "sentences",
                        "stream": "segments",
                    },
                },
                TRANSLATION_EVENTS,
            ),
        ),
        post(
            "/v1/generate",
            generate,
            **openapi.task_documentation(
                GenerateRequest,
                GenerateResponse,
                {
                    "A summary": {
                        "text": "The council met on Tuesday. After a long debate it agreed to "
                        "build the bridge, which will cost two million and open in May.",
                        "max_length": 40,
                    },
                },
                GENERATION_EVENTS,
            ),
        ),
        post(
            "/v1/detect",
            detect,
            **openapi.task_documentation(
                DetectRequest,
                DetectResponse,
                {"Two playing cards": {"image": sample("cards.jpg"), "threshold": 0.3}},
            ),
        ),
        post(
            "/v1/embed",
            embed,
            **openapi.task_documentation(
                EmbedRequest,
                EmbedResponse,
                {
                    "Phrases in two languages": {"text": ["dog face", "狗脸"]},
                    "A phrase and an emoji": {
                        "text": "dog face",
                        "image": f"data:image/png;base64,{sample('emoji.png')}",
                    },
                },
            ),
        ),
        post(
            "/v1/similarity",
            compare,
            **openapi.task_documentation(
                SimilarityRequest,
                SimilarityResponse,
                {
                    "Phrases": {"source_text": "dog face", "text": ["puppy", "rocket", "狗脸"]},
                    "Phrases and an emoji": {
                        "source_image": sample("emoji.png"),
                        "text": ["dog face", "rocket"],
                    },
                },
            ),
        ),
        post(
            "/v1/run/{workflow}",
            run,
            **openapi.task_documentation(
                RunRequest,
                RunResponse,
                {"Two playing cards": {"image": sample("cards.jpg")}},
                path=[parameters.WORKFLOW],
            ),
        ),
    ]


@cache
def model_routes() -> Sequence[DirectRoute]:
    """Return the routes that show, load and unload models."""
    return [
        get(
            "/v1/workflows", list_workflows, **openapi.model_documentation(WorkflowsResponse, False)
        ),
        get("/v1/models", list_models, **openapi.model_documentation(ModelsResponse, False)),
        get(
            "/v1/models/{model:path}/parity",
            show_parity,
            **openapi.model_documentation(ParityResponse, True),
        ),
        get(
            "/v1/models/{model:path}/aliases",
            aliases.show_aliases,
            **openapi.model_documentation(aliases.AliasesResponse, True),
        ),
        get(
            "/v1/models/{model:path}",
            show_model,
            **openapi.model_documentation(ModelResponse, True),
        ),
        post(
            "/v1/models/{model:path}/load",
            load_model,
            **openapi.administration_documentation(
                LoadRequest,
                {200: {"model": VersionStatus}},
                {"The newest version": {}, "A certain one": {"version": 1}},
            ),
        ),
        route(
            "/v1/models/{model:path}/aliases/{alias}",
            "PUT",
            aliases.put_alias,
            openapi.administration_documentation(
                aliases.AliasRequest,
                {200: {"model": aliases.AliasResponse}},
                {"One version": {"version": 1}, "A share": {"weights": {"1": 95, "2": 5}}},
                [parameters.ALIAS],
            ),
        ),
        route(
            "/v1/models/{model:path}/aliases/{alias}",
            "DELETE",
            aliases.delete_alias,
            {
                "status_code": 204,
                **openapi.administration_documentation(
                    None, {204: {"description": "It is gone."}}, {}, [parameters.ALIAS]
                ),
            },
        ),
        post(
            "/v1/models/{model:path}/unload",
            unload_model,
            status_code=204,
            **openapi.administration_documentation(
                None, {204: {"description": "It is out of service."}}, {}
            ),
        ),
    ]


@cache
def operation_routes() -> Sequence[DirectRoute]:
    """Return the routes for monitoring."""
    health = openapi.operations_documentation({200: {"model": HealthResponse}})
    exposition = openapi.operations_documentation(
        {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
    )
    return [
        get("/health/live", live, key_place="none", **health),
        get("/health/ready", ready, key_place="none", **health),
        get("/metrics", metrics, key_place="none", **exposition),
    ]
