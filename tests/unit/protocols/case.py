"""A request of a protocol, and bodies that are hostile to all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.protocols.protocol import Protocol


@dataclass(frozen=True)
class Case:
    """A body for a protocol's route, and the same request for the native route."""

    protocol: Protocol
    path: str
    body: Mapping[str, Any]
    with_text: Callable[[str], Mapping[str, Any]]
    """Returns a body with one text, as the fake models know it ("overloaded", "wait")."""
    native: str
    native_body: Mapping[str, Any]
    read: Callable[[Any], Any]
    """Returns what has to be equal, from the protocol's answer."""
    read_native: Callable[[Any], Any]
    hostile: Sequence[bytes] = field(default=())
    """Bodies in which only this operation's own keys are wrong."""

    def __str__(self) -> str:
        return f"{self.protocol.name} {self.path}"


HOSTILE: Sequence[bytes] = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b"{}",
    b"\xff\xfe\x00",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0" + bytes(100),
    b"GIF89a",
    b"--x\r\n\r\n",
    b"--x\r\nContent-Disposition: form-data; name=input\r\n\r\na\r\n",
    b"a=b&a=c&c=%ff",
    b"&" * 10_000 + b"=",
    b'{"input": "\\ud800"}',
    b'{"input": "\\u0000", "inputs": "\\u0000", "query": "\\u0000"}',
    b'{"input": "", "inputs": "", "query": "", "texts": [], "documents": []}',
    b'{"input": [], "inputs": [], "query": "a", "texts": [], "documents": []}',
    b'{"input": {}, "inputs": {}, "query": {}, "texts": {}, "documents": {}}',
    b'{"input": 1e999, "inputs": 1e999, "query": 1e999}',
    b'{"input": NaN}',
    b'{"input": [' + b",".join([b'"a"'] * 3_000) + b'], "inputs": 1}',
    b'{"input": [' + b",".join([b"1"] * 40_000) + b'], "inputs": 1}',
    b'{"input": "' + b"a" * 50_000 + b'", "inputs": 1}',
    b'{"model": "../../etc/passwd", "input": "a", "inputs": "a", "query": "a"}',
    b'{"model": "' + b"m" * 10_000 + b'", "input": "a", "inputs": "a", "query": "a"}',
)
"""Bodies that no operation may answer with 5xx, or in another protocol's shape."""
