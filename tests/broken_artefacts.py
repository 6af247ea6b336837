"""Versions that are broken in one way each, and what their refusal must say."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.spoiling import (
    HTML,
    both,
    cut,
    data_at,
    dims,
    graph,
    link,
    node,
    opset,
    write,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 437985387\n"


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    spoil: Callable[[Path], object]
    """Breaks the folder of version 2, a copy of version 1."""
    said: str
    """What the refusal must match."""


CASES = [
    Case("data at an absolute path", "lamps", data_at("/etc/passwd"), "not the name of a file"),
    Case("data above the folder", "lamps", data_at("../2.weights"), "not the name of a file"),
    Case(
        "data through a link out",
        "lamps",
        data_at("weights.data", link("weights.data")),
        "weights.data is a link out of the repository",
    ),
    Case(
        "data that is missing", "lamps", data_at("gone.data"), "the file gone.data does not exist"
    ),
    Case(
        "data that is cut short",
        "lamps",
        data_at("weights.data", cut("weights.data", 0.5)),
        r"model.onnx.*weights.data.*(16|32).*bytes",
    ),
    Case(
        "data of 0 bytes",
        "lamps",
        data_at("weights.data", cut("weights.data", 0)),
        "weights.data is empty",
    ),
    Case(
        "data with a huge length",
        "lamps",
        data_at("weights.data", length=str(1 << 50)),
        "another number of bytes in weights.data than its 32",
    ),
    Case(
        "data with a huge offset",
        "lamps",
        data_at("weights.data", offset=str(1 << 62)),
        "weights.data.*bytes",
    ),
    Case(
        "data with a negative offset",
        "lamps",
        data_at("weights.data", offset="-8"),
        "weights.data.*offset",
    ),
    Case(
        "data that is a Git LFS pointer",
        "lamps",
        data_at("weights.data", write("weights.data", POINTER)),
        "weights.data is a Git LFS pointer, not the file itself",
    ),
    Case(
        "a tensor of another size than its data",
        "lamps",
        both(data_at("weights.data"), graph(dims(1 << 20, 1 << 20))),
        "model.onnx.*weights",
    ),
    Case(
        "a graph linked from outside",
        "lamps",
        link("model.onnx"),
        "model.onnx is a link out of the repository",
    ),
    Case(
        "a manifest linked from outside",
        "lamps",
        link("model.toml"),
        "model.toml is a link out of the repository",
    ),
    Case(
        "goldens linked from outside",
        "lamps",
        link("goldens.json"),
        "goldens.json is a link out of the repository",
    ),
    Case(
        "a golden image linked from outside",
        "lamps",
        link("goldens/60.png"),
        "goldens/60.png is a link out of the repository",
    ),
    Case(
        "a tokenizer linked from outside",
        "words",
        link("tokenizer.json"),
        "tokenizer.json is a link out of the repository",
    ),
    Case(
        "a config linked from outside",
        "exported",
        link("config.json"),
        "config.json is a link out of the repository",
    ),
    Case("a link to nothing", "lamps", link("model.onnx", "nowhere"), "model.onnx does not exist"),
    Case("a link to itself", "lamps", link("model.onnx", "model.onnx"), "model.onnx"),
    Case(
        "an operator of an unknown domain",
        "lamps",
        graph(lambda model: node(model, "Shiny", "com.example", 1)),
        r"model.onnx.*com\.example.*Shiny.*custom operators",
    ),
    Case(
        "an operator that ONNX has not",
        "lamps",
        graph(lambda model: node(model, "Shiny")),
        "model.onnx.*Shiny",
    ),
    Case("an opset too new", "lamps", graph(opset(99)), "model.onnx.*opset 99.*(26|27|28)"),
    Case(
        "an IR version too new",
        "lamps",
        graph(lambda m: setattr(m, "ir_version", 99)),
        "IR version 99",
    ),
    Case("no opset", "lamps", graph(lambda m: m.ClearField("opset_import")), "model.onnx.*opset"),
    Case(
        "a picture for a graph",
        "lamps",
        write("model.onnx", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(99)),
        "model.onnx is a JPEG",
    ),
    Case("a page for a graph", "lamps", write("model.onnx", HTML), "model.onnx is an HTML page"),
    Case(
        "a pointer for a graph",
        "lamps",
        write("model.onnx", POINTER),
        "model.onnx is a Git LFS pointer, not the file itself",
    ),
    Case(
        "a zip for a graph",
        "lamps",
        write("model.onnx", b"PK\x03\x04" + bytes(99)),
        "model.onnx is a (zip|ZIP)",
    ),
    Case(
        "a pickle for a graph",
        "lamps",
        write("model.onnx", pickle.dumps({"a": [1] * 99})),
        "model.onnx is a pickle",
    ),
    Case(
        "noise for a graph",
        "lamps",
        write("model.onnx", np.random.default_rng(0).bytes(500)),
        "model.onnx is not an ONNX graph",
    ),
    Case(
        "zeroes for a graph",
        "lamps",
        write("model.onnx", bytes(500)),
        "model.onnx is not an ONNX graph",
    ),
    *(
        Case(
            f"a graph cut to {share:.0%}",
            "lamps",
            cut("model.onnx", share),
            "model.onnx is not an ONNX graph.*cut short",
        )
        for share in (0.2, 0.5, 0.9)
    ),
    Case("a graph of 0 bytes", "lamps", cut("model.onnx", 0), "model.onnx is empty"),
    Case(
        "a graph with an empty graph",
        "lamps",
        write("model.onnx", b"\x08\x08\x3a\x00\x42\x02\x10\x11"),
        "model.onnx",
    ),
    Case("a tokenizer of 0 bytes", "words", cut("tokenizer.json", 0), "tokenizer.json is empty"),
    Case("a tokenizer cut short", "words", cut("tokenizer.json", 0.7), "tokenizer.json"),
    Case(
        "a pointer for a tokenizer",
        "words",
        write("tokenizer.json", POINTER),
        "tokenizer.json is a Git LFS pointer",
    ),
    Case(
        "a page for a tokenizer",
        "words",
        write("tokenizer.json", HTML),
        "tokenizer.json is an HTML page",
    ),
    Case(
        "another JSON for a tokenizer",
        "words",
        write("tokenizer.json", "{}"),
        "tokenizer.json is no tokenizer",
    ),
]
