import orjson
import pytest

from loadtest.answers import Outcome, Verdict, failure, judge_response
from loadtest.kinds import Kind

RESULTS = {
    Kind.CLASSIFY_TEXT: {"labels": [{"label": "a", "score": 1}]},
    Kind.CLASSIFY_IMAGE: {"labels": [{"label": "7", "score": 1}]},
    Kind.CLASSIFY_LABELS: {"labels": [{"label": "dog", "score": 1}]},
    Kind.TRANSLATE: {"translation": "hello"},
    Kind.DETECT: {"objects": []},
    Kind.CLASSIFY_SPANS: {"spans": []},
    Kind.TRANSLATE_GENERATE: {"text": "hello"},
    Kind.EMBED_TEXT: {"embedding": [0.1]},
    Kind.EMBED_IMAGE: {"embedding": [0.1]},
}


FOREIGN = {
    Kind.EMBED_OPENAI: {"data": [{"embedding": "AACAPw=="}]},
    Kind.EMBED_RERANK: {"results": [{"relevance_score": score} for score in (0.9, 0.5, 0.1)]},
    Kind.CLASSIFY_HUGGINGFACE: [[{"label": "a", "score": 1}, {"label": "b", "score": 0}]],
    Kind.TRANSLATE_LIBRETRANSLATE: {"translatedText": "hello"},
    Kind.DETECT_DEEPSTACK: {"success": True, "predictions": []},
    Kind.EMBED_TEI: [[0.5, 0.5]],
    Kind.CLASSIFY_OIP: {"outputs": [{"data": ["business"]}, {"data": [0.9]}]},
    Kind.DETECT_WORKFLOW: {"results": [{"steps": {"cards": {"objects": []}}}]},
    Kind.EMBED_SIMILARITY: {"results": [{"score": score} for score in (0.1, 0.9, 0.5)]},
    Kind.DETECT_VIDEO: {"event": "end", "complete": True},
}


def body(*results: object) -> bytes:
    return orjson.dumps({"model": "m", "results": results})


def problem(code: str) -> bytes:
    return orjson.dumps({"code": code, "detail": "why"})


@pytest.mark.parametrize("kind", Kind)
def test_a_200_with_what_was_promised_is_an_answer(kind: Kind) -> None:
    whole = orjson.dumps(FOREIGN[kind]) if kind in FOREIGN else body(RESULTS[kind])
    assert judge_response(kind, 200, {}, whole) == Verdict(Outcome.ANSWERED)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_protocol_without_its_answer_is_a_failure(kind: Kind) -> None:
    for whole in (b"{}", body(), orjson.dumps({"data": [], "results": [], "outputs": []})):
        assert judge_response(kind, 200, {}, whole).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ({"event": "end", "complete": True}, Outcome.ANSWERED),
        ({"event": "end", "complete": False}, Outcome.FAILED),
        ({"event": "frame"}, Outcome.FAILED),
    ],
)
def test_a_stream_is_judged_by_its_last_line(last: dict[str, object], outcome: Outcome) -> None:
    whole = b'{"event":"start"}\n' + orjson.dumps(last) + b"\n"
    assert judge_response(Kind.DETECT_VIDEO, 200, {}, whole).outcome is outcome


@pytest.mark.parametrize("outcome", ["hit", "shared"])
def test_the_service_says_what_it_did_not_compute(outcome: str) -> None:
    headers = {"x-cache": outcome}
    assert judge_response(Kind.TRANSLATE, 200, headers, body(RESULTS[Kind.TRANSLATE])).reused
    headers = {"x-cache": "miss"}
    assert not judge_response(Kind.TRANSLATE, 200, headers, body(RESULTS[Kind.TRANSLATE])).reused


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[]", b"{}", body(), body(None), body({"labels": [1]}), body({"translation": ""}),
     body(RESULTS[Kind.TRANSLATE], RESULTS[Kind.TRANSLATE])],
)  # fmt: skip
def test_a_200_without_the_promised_result_is_a_failure(answer: bytes) -> None:
    assert judge_response(Kind.TRANSLATE, 200, {}, answer).outcome is Outcome.FAILED


@pytest.mark.parametrize(("status", "code"), [(429, "overloaded"), (503, "shutting_down")])
def test_a_refusal_says_when_to_come_back(status: int, code: str) -> None:
    found = judge_response(Kind.DETECT, status, {"retry-after": "2"}, problem(code))
    assert found == Verdict(Outcome.REFUSED, f"{status} {code}")


@pytest.mark.parametrize("wait", [None, "", "0", "-1", "soon", "1.5"])
def test_a_refusal_that_does_not_say_when_is_a_failure(wait: str | None) -> None:
    headers = {} if wait is None else {"retry-after": wait}
    found = judge_response(Kind.DETECT, 429, headers, problem("overloaded"))
    assert found == Verdict(Outcome.FAILED, "429 overloaded without Retry-After")


@pytest.mark.parametrize("status", [400, 404, 500, 504])
def test_any_other_status_is_a_failure_even_with_retry_after(status: int) -> None:
    found = judge_response(Kind.DETECT, status, {"retry-after": "1"}, b"<html>")
    assert found == Verdict(Outcome.FAILED, str(status))


def test_a_request_without_a_response_is_a_failure_with_a_short_reason() -> None:
    found = failure(ConnectionRefusedError("x" * 1000))
    assert found.outcome is Outcome.FAILED
    assert found.reason.startswith("ConnectionRefusedError: xx")
    assert len(found.reason) <= 120
