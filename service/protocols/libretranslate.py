"""LibreTranslate: POST /translate and /detect, GET /languages and /frontend/settings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from service.api.content import as_text
from service.api.errors import MalformedRequestError, Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply, answer_request
from service.cache.responses import together
from service.errors import InvalidInputError, ServiceError
from service.protocols.bodies import Body, Reading
from service.protocols.language_names import name_of
from service.protocols.libretranslate_bodies import (
    LibreTranslateBody,
    LibreTranslateDetectBody,
    LibreTranslateDetections,
    LibreTranslateError,
    LibreTranslateLanguages,
    LibreTranslateSettings,
    LibreTranslateTranslation,
)
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolRoute,
    error_reply,
    get,
    parsed,
    post,
    rendered,
    worst_error,
)
from service.registry.status import VersionStatus
from service.requests.answer import Answers
from service.requests.documents import Documents
from service.requests.html_loading import load_html
from service.requests.languages import AUTO, detected, detections
from service.requests.request import Selection
from service.requests.segment_stream import DocumentLimits
from service.tasks import Task, TranslateItem, Translation
from service.transforms.language.languages import language_tag, meant_by

_MOST_DETECTIONS = 5
_LEAST_CONFIDENCE = 0.01
_SHORT = 40
"""Characters of a text whose language is that of the whole list, as in LibreTranslate."""


def render_error(problem: Problem) -> Reply:
    """Return `{"error": ...}`; an invalid body has status 400."""
    status = problem.status.value
    return error_reply(
        problem, {"error": problem.detail}, status=400 if status in (415, 422) else status
    )


def _key_of(values: Mapping[str, Any]) -> str | None:
    key = values.get("api_key")
    return key if isinstance(key, str) and key else None


LIBRETRANSLATE = Protocol(
    "libretranslate", LibreTranslateError, render_error, Reading(with_query=True), _key_of
)


async def translate(request: HttpRequest, body: Body) -> Reply:
    """Translate one text or several, as clients of LibreTranslate ask for it.

    The model is the one that translates the two languages; of several, the default. The texts of a
    list may be in several languages: each goes to the model for its own.
    """
    values = {key: value for key, value in body.values.items() if value not in ("", None)}
    wanted = parsed(Body(values), LibreTranslateBody)
    limits = request.context.limits
    items = wanted.items(limits)
    target, translators = str(wanted.target), _translators(request)
    detections = None
    sources = [str(wanted.source)] * len(items)
    if wanted.source == AUTO:
        detections = await _detections(wanted, translators)
        sources = [str(one["language"]) for one in detections]
    results: list[Any] = [item if isinstance(item, ServiceError) else None for item in items]
    by_model: dict[Selection, dict[int, TranslateItem]] = {}
    for place, (item, source) in enumerate(zip(items, sources, strict=True)):
        if not _is_same(source, target):
            selection, of, to = _chosen(translators, source, target)
            if isinstance(item, TranslateItem):
                by_model.setdefault(selection, {})[place] = replace(item, source=of, target=to)
    stay = [item for item, one in zip(items, sources, strict=True) if _is_same(one, target)]
    await _spend(request, stay)
    kind = await load_html() if wanted.format == "html" else Documents
    ask = kind(DocumentLimits(limits.max_segments, limits.request_timeout_seconds)).answer
    for selection, asked in by_model.items():
        given = list(asked.values())
        answers = await answer_request(request, Task.TRANSLATE, selection, given, ask)
        for place, result in zip(asked, answers.results, strict=True):
            results[place] = result
    if any(isinstance(result, ServiceError) for result in results):
        raise worst_error(Answers(None, results, (), None), "text")
    outcomes = [result for result in results if result is not None]
    cache = together([outcome.cache for outcome in outcomes]) if outcomes else None
    found = [None if result is None else result.answer for result in results]
    return rendered(_answer(wanted, found, detections), Answers(None, results, outcomes, cache))


async def detect(request: HttpRequest, body: Body) -> Reply:
    """Return the languages that a text may be in."""
    wanted = parsed(body, LibreTranslateDetectBody)
    if not wanted.q:
        raise MalformedRequestError("Invalid request: missing q parameter")
    text = as_text(wanted.q, request.context.limits, "text", _most(request))
    await _spend(request, [text])
    found = [one for one in await detections(text.text) if one.confidence >= _LEAST_CONFIDENCE]
    return _reply(
        [
            {"confidence": round(100 * one.confidence, 1), "language": one.language}
            for one in found[:_MOST_DETECTIONS]
        ]
        or [{"confidence": 0.0, "language": "en"}]
    )


async def languages(request: HttpRequest) -> Reply:
    """List the languages that the translators translate, and to which."""
    targets: dict[str, set[str]] = {}
    for one in _translators(request):
        sources, others = ([*map(language_tag, codes)] for codes in _sides(one))
        for code in sources:
            targets.setdefault(code, {code}).update(others)
        for code in others:
            targets.setdefault(code, {code})
    return _reply(
        [
            {"code": code, "name": name_of(code), "targets": sorted(targets[code])}
            for code in sorted(targets)
        ]
    )


async def settings(request: HttpRequest) -> Reply:
    """Return the limits, and the languages that a page begins with."""
    translators = _translators(request)
    target = language_tag(translators[0].target_languages[0]) if translators else "en"
    return _reply(
        {
            "charLimit": _most(request),
            "keyRequired": request.context.access is not None,
            "apiKeys": request.context.access is not None,
            "suggestions": False,
            "filesTranslation": False,
            "supportedFilesFormat": [],
            "frontendTimeout": 500,
            "language": {
                "source": {"code": AUTO, "name": "Auto Detect"},
                "target": {"code": target, "name": name_of(target)},
            },
        }
    )


async def _spend(request: HttpRequest, items: Sequence[Any]) -> None:
    """Count items that no model has to answer for the key of the request."""
    if items and request.caller is not None:
        await request.caller.spend(Task.TRANSLATE, (), [item for item in items if item is not None])


def _reply(body: Any) -> Reply:
    return Reply(orjson.dumps(body))


def _most(request: HttpRequest) -> int:
    return request.context.limits.max_document_characters


async def _detections(
    wanted: LibreTranslateBody, translators: Sequence[VersionStatus]
) -> Sequence[Mapping[str, Any]]:
    """Return the language of each text: of a short one, that of all texts together."""
    among = [code for one in translators for code in _codes(one)]
    texts = [text if isinstance(text, str) else "" for text in wanted.texts]
    if wanted.format == "html":
        html = await load_html()
        texts = [(await html.read(text)).text for text in texts]
    of_all = await detected("\n".join(texts), among)
    found = [
        await detected(text, among) if len(text) > _SHORT and len(texts) > 1 else of_all
        for text in texts
    ]
    return [
        # A text of no language stays as it is.
        {"confidence": 0.0, "language": wanted.target}
        if one is None
        else {"confidence": round(100 * one.confidence, 1), "language": one.language}
        for one in found
    ]


def _answer(
    body: LibreTranslateBody,
    results: Sequence[Translation | None],
    detections: Sequence[Mapping[str, Any]] | None,
) -> Mapping[str, Any]:
    is_list = isinstance(body.q, list)
    texts = [
        text if result is None else result.text
        for text, result in zip(body.texts, results, strict=True)
    ]
    answer: dict[str, Any] = {"translatedText": texts if is_list else texts[0]}
    if detections is not None:
        answer["detectedLanguage"] = detections if is_list else detections[0]
    if body.alternatives:
        others = [[] if result is None else _alternatives(result) for result in results]
        answer["alternatives"] = others if is_list else others[0]
    return answer


def _alternatives(found: Translation) -> Sequence[str]:
    """Return the other translations. Hypotheses of other tokens may have the same text."""
    texts = dict.fromkeys(one.text for one in found.alternatives)
    return [text for text in texts if text != found.text]


def _translators(request: HttpRequest) -> Sequence[VersionStatus]:
    """Return the translators that serve, the default first."""
    serving = [
        status
        for status in request.context.registry.statuses()
        if status.task is Task.TRANSLATE and status.can_answer
    ]
    return sorted(serving, key=lambda status: not status.default_for)


def _sides(status: VersionStatus) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return status.source_languages, status.target_languages


def _codes(status: VersionStatus) -> Sequence[str]:
    return [*status.source_languages, *status.target_languages]


def _chosen(
    translators: Sequence[VersionStatus], source: str, target: str
) -> tuple[Selection, str, str]:
    """Return the model for two languages, and what it calls them. Raises InvalidInputError."""
    if not translators:
        return Selection(), source, target  # which says why none answers
    known = [code for one in translators for code in _codes(one)]
    for code in (source, target):
        if not meant_by(code, tuple(known)):
            raise InvalidInputError(f"{code[:35]} is not supported")
    for one in translators:
        sources, targets = _sides(one)
        if (of := meant_by(source, sources)) and (to := meant_by(target, targets)):
            return Selection(one.model), of[0], to[0]
    raise InvalidInputError(f"{source} is not translated to {target}")


def _is_same(source: str, target: str) -> bool:
    return language_tag(source) == language_tag(target)


TRANSLATE = Operation(
    LIBRETRANSLATE,
    translate,
    LibreTranslateBody,
    LibreTranslateTranslation,
    {"q": "我喜欢喝茶。", "source": "auto", "target": "en"},
)
DETECT = Operation(
    LIBRETRANSLATE,
    detect,
    LibreTranslateDetectBody,
    LibreTranslateDetections,
    {"q": "我喜欢喝茶。"},
)


def libretranslate_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    return [
        post("/translate", TRANSLATE),
        post("/detect", DETECT),
        get("/languages", LIBRETRANSLATE, languages, LibreTranslateLanguages, key_place="none"),
        get(
            "/frontend/settings",
            LIBRETRANSLATE,
            settings,
            LibreTranslateSettings,
            key_place="none",
        ),
    ]
