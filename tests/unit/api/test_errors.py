from http import HTTPStatus

import pytest
from starlette.exceptions import HTTPException

from service.api.errors import STATUS, Problem
from service.errors import (
    InvalidInputError,
    OverloadedError,
    ServiceError,
    UnauthorizedError,
)
from service.requests.answer import as_service_error

BORDER = "service.api.errors"


def all_errors() -> set[type[ServiceError]]:
    """Return every error class of the service, however deep, that is loaded."""
    found, fresh = set[type[ServiceError]](), {ServiceError}
    while fresh:
        found |= fresh
        fresh = {kind for parent in fresh for kind in parent.__subclasses__()} - found
    return {kind for kind in found if kind.__module__.startswith("service.")}


def test_every_error_has_a_status_and_a_code_of_its_own() -> None:
    public = {error for error in all_errors() if error.__module__ in ("service.errors", BORDER)}
    assert set(STATUS) == public
    assert len({error.code for error in public}) == len(public)


def test_no_layer_invents_a_code_that_clients_have_not_been_told() -> None:
    assert {error.code for error in all_errors()} == {error.code for error in STATUS}


def test_an_error_of_a_class_made_elsewhere_gets_its_parents_status() -> None:
    class OddInputError(InvalidInputError):
        pass

    assert Problem.of(OddInputError("odd")).status == HTTPStatus.UNPROCESSABLE_ENTITY


def test_a_problem_has_every_member() -> None:
    assert Problem.of(InvalidInputError("the text is empty")).members("id-1") == {
        "type": "urn:quartet:problem:invalid_input",
        "title": "Invalid input",
        "status": 422,
        "detail": "the text is empty",
        "code": "invalid_input",
        "request_id": "id-1",
    }


def test_an_unexpected_error_keeps_its_message_to_itself() -> None:
    problem = Problem.of(as_service_error(RuntimeError("/secret/path"), "id-1"))
    assert (problem.status, problem.code) == (500, "internal_error")
    assert "secret" not in problem.detail


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.2, b"2"), (59.01, b"60")],
)
def test_retry_after_is_rounded_up_to_whole_seconds(seconds: float, header: bytes) -> None:
    problem = Problem.of(OverloadedError("the queue is full", seconds))
    assert dict(problem.headers)[b"retry-after"] == header


def test_who_is_not_authorised_is_told_how_to_be() -> None:
    assert Problem.of(UnauthorizedError("wrong")).headers == (
        (b"www-authenticate", b'Bearer realm="quartet"'),
    )


def test_an_error_of_the_framework_keeps_its_status_and_headers() -> None:
    problem = Problem.of(HTTPException(405, headers={"Allow": "POST"}))
    assert (problem.status, problem.code) == (405, "method_not_allowed")
    assert problem.headers == [(b"allow", b"POST")]
    assert Problem.of(HTTPException(418)).code == "http_error"
