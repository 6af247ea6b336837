"""More versions that are broken in one way each: values that cannot be, files that are no files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.broken_artefacts import Case
from tests.spoiling import both, data_at, graph, node, write

NESTED = "[" * 200_000 + "]" * 200_000


def said(name: str, **values: Any) -> Callable[[Path], object]:
    """Put these values into a file of JSON."""

    def spoil(folder: Path) -> None:
        path = folder / name
        table = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**table, **values}))

    return spoil


def pipe(name: str) -> Callable[[Path], object]:
    """A named pipe: opening it blocks forever."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def twice(model: onnx.ModelProto) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[0])


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def calls_itself(model: onnx.ModelProto) -> None:
    again = helper.make_node("Again", ["x"], ["y"], domain="local")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", "Again", ["x"], ["y"], [again], opsets))
    node(model, "Again", "local", 1)


def no_numbers(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.raw_data = np.full(len(weights.raw_data) // 4, np.nan, np.float32).tobytes()


def reads_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def gives_a_ghost(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "ghost"


def loops_back(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "outer").symlink_to(folder)


def nested_toml(folder: Path) -> None:
    path = folder / "model.toml"
    path.write_text(f"{path.read_text()}\n[deep]\nvalue = {NESTED}")


MORE_CASES = [
    Case("a value computed twice", "lamps", graph(twice), "model.onnx cannot be loaded"),
    Case("a graph that goes in circles", "lamps", graph(circle), "model.onnx.*not acyclic"),
    Case("a function that calls itself", "lamps", graph(calls_itself), "model.onnx"),
    Case("a node that reads nothing", "lamps", graph(reads_nothing), "model.onnx.*nowhere"),
    Case("an output that nothing computes", "lamps", graph(gives_a_ghost), "model.onnx.*ghost"),
    Case("weights that are no numbers", "lamps", graph(no_numbers), "not a finite number"),
    Case("data in a folder", "lamps", both(data_at("inner"), loops_back), "inner is a folder"),
    Case("data without a name", "lamps", data_at(""), "'' is not the name of a file"),
    Case("data of a name with a null", "lamps", data_at("a\0b"), "is not the name of a file"),
    *(
        Case(f"a pipe for {name}", model, pipe(name), f"{name}.*does not exist|no {name}")
        for model, name in (
            ("lamps", "model.onnx"),
            ("lamps", "model.toml"),
            ("lamps", "goldens.json"),
            ("words", "tokenizer.json"),
            ("exported", "config.json"),
        )
    ),
    Case("a folder in a circle", "lamps", loops_back, "outer is a link to a folder"),
    Case("goldens nested without end", "lamps", write("goldens.json", NESTED), "goldens.json"),
    Case("a manifest nested without end", "lamps", nested_toml, "model.toml cannot be read"),
    Case(
        "a tokenizer nested without end",
        "words",
        write("tokenizer.json", NESTED),
        "tokenizer.json is no tokenizer",
    ),
    Case(
        "a config of megabytes",
        "exported",
        write("config.json", " " * (17 << 20)),
        "config.json is larger than 16 MiB",
    ),
    Case("labels in a list", "exported", said("config.json", id2label=["low", "high"]), "id2label"),
    Case(
        "labels with a gap",
        "exported",
        said("config.json", id2label={"0": "low", "7": "high"}),
        "does not name the outputs from 0 on",
    ),
    Case(
        "labels that are no texts",
        "exported",
        said("config.json", id2label={"0": None, "1": {"a": 1}}),
        "a name in id2label in config.json is no text",
    ),
    *(
        Case(
            f"a padding id of {number}",
            "exported",
            said("config.json", pad_token_id=number),
            f"pad_id is {number}, which no token can have",
        )
        for number in (-3, 1 << 70)
    ),
    Case(
        "a padding id in words",
        "exported",
        said("config.json", pad_token_id="last"),
        "add parameters.pad_id to model.toml",
    ),
    Case(
        "special tokens in a list",
        "exported",
        write("special_tokens_map.json", "[]"),
        "special_tokens_map.json must hold a JSON object",
    ),
    Case(
        "a step above the folder",
        "exported",
        write(
            "modules.json",
            json.dumps(
                [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "../../etc"}]
            ),
        ),
        "does not name one way of pooling",
    ),
]
