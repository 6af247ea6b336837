"""A repository of one tiny real model, and the real service in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = Path(__file__).parents[1]

MANIFEST = """
task = "classify"
family = "image_classifier"
[graphs.fp32]
model = "model.onnx"
[graphs.int8]
model = "model_int8.onnx"
[batching]
max_batch_size = 4
[tolerance]
fp32 = 1e-4
int8 = 1e-4
[parameters]
labels = ["dark", "light"]
image_size = [2, 2]
mode = "L"
mean = [0.0]
std = [1.0]
"""

WEIGHTS = np.array([[-1.0, 1.0]] * 4, np.float32)


def classifier(bias: float) -> onnx.ModelProto:
    """Logits: the sum of the four pixels, plus a bias, for light; minus the sum for dark."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(np.array([0.0, bias], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def golden(folder: Path, value: int) -> dict[str, object]:
    (folder / "goldens").mkdir(exist_ok=True)
    name = f"goldens/{value}.png"
    Image.new("L", (2, 2), value).save(folder / name)
    light = 1 / (1 + np.exp(-8 * value / 255))
    scores = sorted([("light", light), ("dark", 1 - light)], key=lambda pair: -pair[1])
    labels = [{"label": label, "score": float(score)} for label, score in scores]
    return {"item": {"image": name}, "answer": {"labels": labels}}


def make_repository(root: Path) -> None:
    """Write `lamps`, an image classifier whose int8 graph answers wrongly."""
    folder = root / "lamps" / "1"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST)
    onnx.save(classifier(bias=0.0), folder / "model.onnx")
    onnx.save(classifier(bias=0.1), folder / "model_int8.onnx")
    items = [golden(folder, value) for value in (0, 60, 255)]
    (folder / "goldens.json").write_text(json.dumps({"created_with": "numpy", "items": items}))


@dataclass
class Service:
    """`python -m service serve`, ready."""

    process: subprocess.Popen[str]
    port: int

    def stop(self) -> list[dict[str, object]]:
        """Send SIGTERM, wait for the end, and return the events it logged."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> list[dict[str, object]]:
        _, logged = self.process.communicate(timeout=120)
        return [json.loads(line) for line in logged.splitlines()]


@contextmanager
def serving(repository: Path, *options: str) -> Iterator[Service]:
    """Serve a repository on a free port; the process is gone in the end, whatever happens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "QUARTET_MODELS__REPOSITORY": str(repository),
        "QUARTET_MODELS__WARM_UP_SECONDS": "0.05",
        "QUARTET_LOGS__FORMAT": "json",
        "QUARTET_SERVER__PORT": str(port),
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", *options],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=inherited | settings,
    )
    try:
        until = time.monotonic() + 240
        while not _is_ready(port):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield Service(process, port)
    finally:
        process.kill()
        process.communicate()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except URLError:
        return False
