"""What came back, judged: an answer, a refusal as it should be, or a failure and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import orjson

from loadtest.kinds import STREAMED, Kind

_OK = 200
_REFUSALS = {429, 503}
_LONGEST_REASON = 120
_REUSED = {"hit", "shared"}

_PROMISED: Mapping[Kind, Sequence[str | int]] = {
    Kind.CLASSIFY_TEXT: ("results", 0, "labels"),
    Kind.CLASSIFY_IMAGE: ("results", 0, "labels"),
    Kind.CLASSIFY_LABELS: ("results", 0, "labels"),
    Kind.TRANSLATE: ("results", 0, "translation"),
    Kind.DETECT: ("results", 0, "objects"),
    Kind.EMBED_TEXT: ("results", 0, "embedding"),
    Kind.EMBED_IMAGE: ("results", 0, "embedding"),
    Kind.EMBED_OPENAI: ("data", 0, "embedding"),
    Kind.EMBED_RERANK: ("results", 2, "relevance_score"),
    Kind.CLASSIFY_OIP: ("outputs", 0, "data"),
    Kind.DETECT_WORKFLOW: ("results", 0, "steps", "cards"),
    Kind.CLASSIFY_HUGGINGFACE: (0, 0, "label"),
    Kind.TRANSLATE_LIBRETRANSLATE: ("translatedText",),
    Kind.DETECT_DEEPSTACK: ("predictions",),
    Kind.EMBED_TEI: (0, 0),
    Kind.CLASSIFY_SPANS: ("results", 0, "spans"),
    Kind.DETECT_VIDEO: ("complete",),
    Kind.TRANSLATE_GENERATE: ("results", 0, "text"),
    Kind.EMBED_SIMILARITY: ("results", 2, "score"),
}
"""Where in the body the answer of each kind is."""

_SEVERAL = frozenset(
    {
        Kind.EMBED_RERANK,
        Kind.CLASSIFY_OIP,
        Kind.CLASSIFY_HUGGINGFACE,
        Kind.TRANSLATE_LIBRETRANSLATE,
        Kind.DETECT_DEEPSTACK,
        Kind.EMBED_TEI,
        Kind.DETECT_VIDEO,
        Kind.EMBED_SIMILARITY,
    }
)
"""Kinds whose result is no list of one: scores of documents, letters, numbers of a vector."""

_MAY_BE_EMPTY = frozenset({Kind.DETECT, Kind.DETECT_DEEPSTACK, Kind.CLASSIFY_SPANS})
"""Kinds that find nothing in some items."""


class Outcome(IntEnum):
    """How a request ended."""

    ANSWERED = 0
    REFUSED = 1
    """429 or 503 that says when to come back."""
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one request."""

    outcome: Outcome
    reason: str = ""
    """Why it failed or was refused; one of few, for they are counted."""
    reused: bool = False
    """Whether the service says that it did not compute this answer for this request alone."""


def judge_response(kind: Kind, status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Return what a whole response amounts to; header names are in lower case."""
    if status == _OK:
        if problem := _wrong(kind, body):
            return Verdict(Outcome.FAILED, problem)
        return Verdict(Outcome.ANSWERED, reused=headers.get("x-cache") in _REUSED)
    reason = f"{status} {_code(body)}".strip()
    if status in _REFUSALS:
        wait = headers.get("retry-after", "")
        if wait.isdecimal() and int(wait) > 0:
            return Verdict(Outcome.REFUSED, reason)
        return Verdict(Outcome.FAILED, f"{reason} without Retry-After")
    return Verdict(Outcome.FAILED, reason)


def failure(error: BaseException) -> Verdict:
    """Return what a request without a response amounts to."""
    return Verdict(Outcome.FAILED, f"{type(error).__name__}: {error}"[:_LONGEST_REASON])


def _wrong(kind: Kind, body: bytes) -> str:
    """Return what is wrong with the body of a 200, or nothing."""
    try:
        first, *path = _PROMISED[kind]
        whole = body.rstrip().rpartition(b"\n")[2] if kind in STREAMED else body
        answer = orjson.loads(whole)[first]
        if kind not in _SEVERAL and len(answer) != 1:
            return "200 without the promised result"
        for part in path:
            answer = answer[part]
    except (ValueError, KeyError, TypeError, IndexError):
        return "200 without the promised result"
    return "" if answer or kind in _MAY_BE_EMPTY else "200 with an empty result"


def _code(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["code"])[:_LONGEST_REASON]
    except (ValueError, KeyError, TypeError):
        return ""
