"""A Hugging Face Hub on this machine: its HTTP API, and its CDN on another port."""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGE = (".onnx", ".bin", "_data", ".safetensors")
"""Endings of what the Hub keeps as LFS objects, on the CDN."""


def image_graph(bias: float = 0.0) -> onnx.ModelProto:
    """Logits of dark and light for images of 3 x 2 x 2."""
    weights = np.array([[-1.0, 1.0]] * 12, np.float32)
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Flatten", ["pixel_values"], ["flat"]),
                helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
            ],
            "classifier",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, 2, 2])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
            [
                numpy_helper.from_array(weights, "weights"),
                numpy_helper.from_array(np.array([0.0, bias], np.float32), "bias"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def with_external_data(model: onnx.ModelProto, location: str) -> tuple[bytes, bytes]:
    """Return a graph whose constants are in another file, and that file."""
    data = b""
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, location, len(data), len(tensor.raw_data)
        )
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    return model.SerializeToString(), data


def image_classifier(bias: float = 0.0) -> dict[str, bytes]:
    """Return the files of an image classifier as Optimum and its authors publish it."""
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": 2,
        "id2label": {"0": "dark", "1": "light"},
    }
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 2, "width": 2},
        "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1],
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "resample": 2,
    }
    graph, data = with_external_data(image_graph(bias), "model.onnx_data")
    return {
        ".gitattributes": b"*.onnx filter=lfs\n",
        "README.md": b"---\npipeline_tag: image-classification\n---\n",
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(processor).encode(),
        "trainer_state.json": b"{}",
        "model.safetensors": b"weights" * 1000,
        "pytorch_model.bin": b"weights" * 1000,
        "onnx/model.onnx": graph,
        "onnx/model.onnx_data": data,
        "onnx/model_fp16.onnx": image_graph(bias).SerializeToString(),
        "onnx/model_quantized.onnx": image_graph(bias + 0.5).SerializeToString(),
        "openvino/openvino_model.bin": b"other weights",
    }


@dataclass
class FakeRepo:
    """One model of the Hub, as its commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    readers: frozenset[str] = frozenset()
    """Tokens that may read it, if it is gated or private."""

    def commit(self, files: dict[str, bytes], *refs: str) -> str:
        """Add a commit, which these branches or tags name from now on."""
        sha = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[sha] = files
        self.refs.update(dict.fromkeys(refs or ("main",), sha))
        return sha


class FakeHub:
    """The Hub; `faults` are answered in order to requests whose path contains the key."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.tokens = frozenset({"hf_reader", "hf_stranger"})
        self.faults: dict[str, deque[Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, n)) for n in (0, 1)]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)

    def fail(self, part: str, *faults: Any) -> None:
        """Answer the next requests whose path contains `part` with these faults.

        A fault is a status, `("cut", n)` for a body of n bytes of which more were announced,
        ("wait", event) to answer after an event, or None for no fault.
        """
        self.faults[part] = deque(faults)

    def paths(self, method: str = "GET") -> list[str]:
        """Return what was asked for until now."""
        return [path for one, path, _ in self.requests if one == method]

    def fault_of(self, path: str) -> Any:
        with self.lock:
            for part, faults in self.faults.items():
                if part in path and faults:
                    return faults.popleft()
        return None

    @contextmanager
    def running(self) -> Iterator["FakeHub"]:
        """Answer requests until the block ends."""
        threads = [threading.Thread(target=s.serve_forever, args=(0.02,)) for s in self._servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in self._servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()


def _handler(hub: FakeHub, which: int) -> type[BaseHTTPRequestHandler]:
    class Handler(_Answers):
        pass

    Handler.hub, Handler.is_cdn = hub, which == 1
    return Handler


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    is_cdn: bool

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, self.path, dict(self.headers)))
        fault = None if self.command == "HEAD" and self.is_cdn else self.hub.fault_of(path)
        if isinstance(fault, tuple) and fault[0] == "wait":
            fault[1].wait(60)
            fault = None
        if isinstance(fault, int):
            wait = {"Retry-After": "2"} if fault == 429 else {}
            self.answer(fault, b"", wait)
        elif self.is_cdn:
            self.blob(path, fault)
        elif path.startswith("/api/models/"):
            self.info(*path.removeprefix("/api/models/").partition("/revision/")[::2])
        else:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self.file(name, revision, file, fault)

    def info(self, name: str, revision: str) -> None:
        if (repo := self.readable(name, is_listing=True)) is None:
            return
        sha = repo.refs.get(unquote(revision), unquote(revision))
        if sha not in repo.commits:
            self.refuse(404, "RevisionNotFound")
            return
        with_blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = [
            _sibling(*one) if with_blobs else {"rfilename": one[0]}
            for one in repo.commits[sha].items()
        ]
        facts = {
            "id": name,
            "modelId": name,
            "sha": sha,
            "siblings": siblings,
            "tags": [],
            "gated": repo.gated and "manual",
            "private": repo.private,
        }
        self.answer(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def file(self, name: str, revision: str, file: str, fault: Any) -> None:
        if (repo := self.readable(name, is_listing=False)) is None:
            return
        sha = repo.refs.get(revision, revision)
        content = repo.commits.get(sha, {}).get(file)
        if content is None:
            self.refuse(404, "EntryNotFound" if sha in repo.commits else "RevisionNotFound")
            return
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if not file.endswith(LARGE):
            etag = _git_blob(content)
            self.content(content, {**headers, "ETag": f'"{etag}"'}, fault)
            return
        digest = hashlib.sha256(content).hexdigest()
        self.hub.blobs[digest] = content
        location = f"{self.hub.cdn}/blobs/{digest}?Signature=secret-signature"
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'}
        self.answer(302, b"", {**headers, **linked, "Location": location})

    def blob(self, path: str, fault: Any) -> None:
        content = self.hub.blobs.get(path.rpartition("/")[2])
        if content is None or "Signature=secret-signature" not in self.path:
            self.answer(403, b"<Error/>", {})
        else:
            self.content(content, {"ETag": '"cdn"', "Accept-Ranges": "bytes"}, fault)

    def content(self, content: bytes, headers: dict[str, str], fault: Any) -> None:
        begin, status = 0, 200
        if wanted := self.headers.get("Range"):
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers |= {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        body = content[begin:]
        if isinstance(fault, tuple) and fault[0] == "cut":
            self.answer(status, body[: fault[1]], headers, announced=len(body))
            self.close_connection = True
        elif isinstance(fault, tuple) and fault[0] == "change":
            self.answer(status, bytes(len(body)), headers)
        else:
            self.answer(status, body, headers)

    def readable(self, name: str, is_listing: bool) -> FakeRepo | None:
        """Return a repository if the token of the request may read it, else answer why not."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        repo = self.hub.repos.get(name)
        if token and token not in self.hub.tokens:
            self.answer(
                401,
                b'{"error":"Invalid credentials"}',
                {"X-Error-Message": "Invalid credentials in Authorization header"},
            )
            return None
        if repo is None or (repo.private and token not in repo.readers):
            self.refuse(404 if token else 401, "RepoNotFound")
            return None
        if repo.gated and token not in repo.readers and not is_listing:
            self.refuse(403 if token else 401, "GatedRepo")
            return None
        return repo

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str], announced: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _git_blob(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
        found["blobId"] = _git_blob(b"pointer")
    return found


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
