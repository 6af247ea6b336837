"""The comparison on Ray: answers are compared first, and medians are shown."""

from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from benchmarks.ray import Contestant, Reading, _check, _table
from benchmarks.servers import Server
from benchmarks.subjects import Subject
from tests.sentences import sentence


class Answering:
    """A server that has one answer for every request; its first request fails."""

    log = Path("log")

    def __init__(self, label: str) -> None:
        self._label, self.paths = label, list[str]()

    def post(self, path: str, body: bytes, headers: Any) -> Any:
        self.paths.append(path)
        if len(self.paths) == 1:
            raise OSError
        return {"labels": [{"label": self._label, "score": 0.5}]}


class Texts:
    """A subject of two texts."""

    route, content_type = "/v1/classify", "application/json"
    bodies = (b"a", b"b")


SUBJECT = cast(Subject, Texts())
EXPECTED = [{"labels": [{"label": "business", "score": 0.5}]}] * 2


def test_a_server_that_begins_late_is_asked_again_below_its_path() -> None:
    server = Answering("business")
    _check(Contestant("plain", cast(Server, server), "/plain-8"), SUBJECT, EXPECTED)
    assert server.paths == ["/plain-8/v1/classify"] * 3


def test_a_server_with_other_answers_is_refused() -> None:
    server = cast(Server, Answering("sports"))
    with pytest.raises(RuntimeError, check=sentence):
        _check(Contestant("plain", server), SUBJECT, EXPECTED)


def test_the_table_has_medians() -> None:
    readings = [Reading(100, 0.001), Reading(300, 0.003), Reading(101, 0.002)]
    shown = StringIO()
    console = Console(width=100, file=shown)
    console.print(_table("title", {("plain", 8): readings, ("plain", 1): readings[:1]}))
    text = shown.getvalue()
    assert "101 / 2.00" in text
    assert text.index("c=1 ") < text.index("c=8")
