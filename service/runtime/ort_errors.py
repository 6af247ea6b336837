"""Turns ONNX Runtime's errors into ours, with sentences that say what to do.

Its own messages contain local paths, lines of its source code and function signatures.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from service.errors import DeviceMemoryError, InferenceError
from service.runtime.stopping import RunStoppedError

_Sentence: TypeAlias = Callable[[re.Match[str]], str]

_LONGEST = 200

# The first pattern that matches decides.
_LOADING: Final[tuple[tuple[re.Pattern[str], _Sentence], ...]] = (
    (
        re.compile(
            r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)", re.DOTALL
        ),
        lambda m: (
            f"is written in opset {m[1]} of {m[2]}, and this onnxruntime reads none after "
            f"{m[3]}: export it with an earlier opset, or update onnxruntime"
        ),
    ),
    (
        re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)"),
        lambda m: (
            f"is of IR version {m[1]}, and this onnxruntime reads none after {m[2]}: "
            "export it with an earlier one, or update onnxruntime"
        ),
    ),
    (
        re.compile(r"Missing opset in the model"),
        lambda _: "does not say in which opset it is written: export it again",
    ),
    (
        re.compile(r"Fatal error: (\S+?):(\w+)\(-?\d+\) is not a registered function/op"),
        lambda m: (
            f"uses {m[1]}.{m[2]}, an operator that onnxruntime does not have: custom "
            "operators are not loaded; export it without them"
        ),
    ),
    (
        re.compile(r"In Node, \(.*?, (\w+), \"([^\"]+)\".*No opset import for domain", re.DOTALL),
        lambda m: (
            f"uses {m[2]}.{m[1]}, an operator that onnxruntime does not have: custom "
            "operators are not loaded; export it without them"
        ),
    ),
    (
        re.compile(r"No Op registered for (\w+) with domain_version of (\d+)"),
        lambda m: (
            f"uses {m[1]}, an operator that opset {m[2]} does not have: custom "
            "operators are not loaded; export it without them"
        ),
    ),
    (
        re.compile(r"Could not find an implementation for (\w+)\((\d+)\)"),
        lambda m: (
            f"uses {m[1]} (of opset {m[2]}) on a type that onnxruntime does not compute it "
            "in on this device: export it in another precision"
        ),
    ),
    (
        re.compile(r"\[ShapeInferenceError\]\s*(.*)", re.DOTALL),
        lambda m: f"has shapes that do not fit together ({_short(m[1])}): export it again",
    ),
    (
        re.compile(r"Type Error: (.*)", re.DOTALL),
        lambda m: f"has types that do not fit together ({_short(m[1])}): export it again",
    ),
    (
        re.compile(r"codec can't decode"),
        lambda _: "names something in bytes that are no text: copy or export it again",
    ),
    (
        re.compile(r"bad_alloc|Failed to allocate memory|out of memory"),
        lambda _: "needs more memory than there is",
    ),
)

_LOOKED_UP = re.compile(r"idx=(-?\d+) must be within the inclusive range \[-?\d+,(-?\d+)\]")

_RESIZED = re.compile(
    r"Got invalid dimensions for input: (\S+) .*?index: (\d+) Got: (\d+) Expected: (\d+)", re.DOTALL
)
_TYPED = re.compile(r"Unexpected input data type\. Actual: \((.+?)\) , expected: \((.+?\))\)")

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_LOAD = re.compile(r"^Load model from .*? failed: ?", re.DOTALL)
_SOURCE = re.compile(r"/onnxruntime_src/\S+:\d+ ")

_OUT_OF_MEMORY = (
    "out of memory",
    "Failed to allocate memory",
    "Cannot allocate memory",
    "Available memory of",
    "bad_alloc",
)
_STOPPED = "terminate flag"
_POISONED = ("CUDA failure 7", "CUBLAS_STATUS", "illegal memory access", "device-side assert")


class PoisonedSessionError(InferenceError):
    """The session's device context is broken; only a new session will work again."""


def refusal(error: Exception, path: Path) -> str:
    """Return why a graph cannot be loaded: a sentence that begins with the file's name."""
    text = str(error)
    for pattern, sentence in _LOADING:
        if found := pattern.search(text):
            return f"{path.name} {sentence(found)}"
    return f"{path.name} cannot be loaded: {_plain(text, path)}"


def failure(error: Exception, name: str) -> str:
    """Return why a run of a graph failed: a sentence that begins with the file's name."""
    text = str(error)
    if found := _LOOKED_UP.search(text):
        return (
            f"{name} looks up number {found[1]} in a table of {int(found[2]) + 1}: its tokenizer, "
            "padding id or max_length is another model's"
        )
    if found := _RESIZED.search(text):
        return (
            f"{name} takes {found[4]} along axis {found[2]} of {found[1]}, and is fed {found[3]}: "
            "set the size that the graph has, or export it with a dynamic one"
        )
    if found := _TYPED.search(text):
        return f"{name} takes {found[2]}, and is fed {found[1]}"
    return f"{name}: {text}"


def translated(error: Exception, name: str) -> InferenceError | DeviceMemoryError:
    """Return our error for one of onnxruntime's, which differ by their message only."""
    if isinstance(error, RunStoppedError):
        return error
    message = str(error)
    if _STOPPED in message:
        return RunStoppedError(f"the run of {name} was stopped")
    if any(mark in message for mark in _OUT_OF_MEMORY):
        return DeviceMemoryError(f"no memory left to run {name}")
    if any(mark in message for mark in _POISONED):
        return PoisonedSessionError(f"{name}: {message}")
    return InferenceError(failure(error, name))


def _plain(text: str, path: Path) -> str:
    for pattern in (_CODE, _LOAD, _SOURCE):
        text = pattern.sub("", text)
    return _short(text.replace(f"{path.parent}/", ""))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
