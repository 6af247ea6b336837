"""Every error crosses to another process and back as plain data."""

import importlib
import pkgutil
from collections.abc import Iterator
from itertools import product

import pytest

import service
from service.errors import OverloadedError, ServiceError, error_from, fields_of
from tests.contracts.wire import decode_reply, encode_reply


def every_kind(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every_kind(child)


def test_an_error_arrives_as_it_was_sent() -> None:
    for module in pkgutil.walk_packages(service.__path__, "service."):
        if not module.name.endswith(("__main__", "tracing")):  # starts the service; is an extra
            importlib.import_module(module.name)
    for kind, retry_after in product(every_kind(), (None, 2.5)):
        error = kind.__new__(kind, "what ‘happened’")
        if retry_after is not None:
            error.retry_after = retry_after
        found = decode_reply(encode_reply(error))
        assert isinstance(found, ServiceError)
        assert isinstance(error, type(found))
        assert (found.code, str(found)) == (error.code, str(error))
        assert found.retry_after == error.retry_after


def test_a_known_delay_arrives_too() -> None:
    found = error_from(fields_of(OverloadedError("full", 3.25)))
    assert isinstance(found, OverloadedError)
    assert (str(found), found.retry_after) == ("full", 3.25)


def test_an_unknown_code_is_an_error() -> None:
    with pytest.raises(KeyError):
        error_from({"code": "no_such_code", "message": ""})
