"""What came back, judged: an answer, a refusal as it should be, or a failure and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import orjson

from loadtest.kinds import Kind

_OK = 200
_REFUSALS = {429, 503}
_LONGEST_REASON = 120
_REUSED = {"hit", "shared"}

_PROMISED: Mapping[Kind, str] = {
    Kind.CLASSIFY_TEXT: "labels",
    Kind.CLASSIFY_IMAGE: "labels",
    Kind.TRANSLATE: "translation",
    Kind.DETECT: "objects",
    Kind.EMBED_TEXT: "embedding",
    Kind.EMBED_IMAGE: "embedding",
}
"""What the result of each kind must hold."""


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
        (result,) = orjson.loads(body)["results"]
        answer = result[_PROMISED[kind]]
    except (ValueError, KeyError, TypeError):
        return "200 without the promised result"
    # No object in a photo is an answer; no label, no words and no vector are not.
    return "" if answer or kind is Kind.DETECT else "200 with an empty result"


def _code(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["code"])[:_LONGEST_REASON]
    except (ValueError, KeyError, TypeError):
        return ""
