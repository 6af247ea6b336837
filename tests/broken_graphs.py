"""More versions that are broken in one way each: their graphs and tokenizers."""

import json

from onnx import TensorProto

from tests.broken_artefacts import POINTER, Case
from tests.lamps import classifier
from tests.spoiling import (
    both,
    cut,
    dims,
    edit,
    fill,
    folder_at,
    graph,
    input_of,
    only_pickles,
    remove,
    save,
    scores_of_three_axes,
    tokenizer_with,
    write,
)
from tests.words import reader

BROKEN_GRAPHS = [
    Case("no tokenizer", "words", remove("tokenizer.json"), "tokenizer.json does not exist"),
    Case(
        "a folder for a tokenizer",
        "words",
        folder_at("tokenizer.json"),
        "tokenizer.json is a folder",
    ),
    Case("a config of 0 bytes", "exported", cut("config.json", 0), "config.json is empty"),
    Case("a config cut short", "exported", cut("config.json", 0.5), "config.json is not JSON"),
    Case(
        "a pointer for a config",
        "exported",
        write("config.json", POINTER),
        "config.json is a Git LFS pointer",
    ),
    Case(
        "a list for a config",
        "exported",
        write("config.json", "[1]"),
        "config.json must hold a JSON object",
    ),
    Case(
        "a deeply nested config",
        "exported",
        write("config.json", "[" * 200_000),
        "config.json is not JSON",
    ),
    Case("a folder for a config", "exported", folder_at("config.json"), "config.json"),
    Case("only pickles", "lamps", only_pickles, r"pytorch_model\.bin.*export"),
    Case("a manifest of 0 bytes", "lamps", cut("model.toml", 0), "model.toml is empty"),
    Case("broken TOML", "lamps", write("model.toml", "task = "), "model.toml cannot be read"),
    Case(
        "a manifest in Latin-1",
        "lamps",
        write("model.toml", b'task = "\xe9"'),
        "model.toml cannot be read",
    ),
    Case("a folder for a manifest", "lamps", folder_at("model.toml"), "model.toml"),
    Case("a graph that is missing", "lamps", remove("model.onnx"), "model.onnx does not exist"),
    Case("a folder for a graph", "lamps", folder_at("model.onnx"), "model.onnx is a folder"),
    Case(
        "too few labels",
        "words",
        edit("model.toml", '["low", "high"]', '["low"]'),
        "2 scores for 1 label",
    ),
    Case(
        "too many labels",
        "words",
        edit("model.toml", '"high"]', '"high", "top"]'),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels of a head whose size the graph does not tell",
        "words",
        both(save(reader(fixed_head=False)), edit("model.toml", '"high"]', '"high", "top"]')),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels in config.json",
        "exported",
        edit("config.json", '"high"', '"high", "2": "top"'),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels of images",
        "lamps",
        edit("model.toml", '"light"]', '"light", "off"]'),
        "2 scores for 3 labels",
    ),
    Case(
        "a tokenizer with more words than the embedding",
        "words",
        tokenizer_with(5),
        "ids up to 8, and model.onnx knows 4 tokens",
    ),
    Case(
        "an embedding that is too small",
        "words",
        save(reader(rows=2)),
        "ids up to 3, and model.onnx knows 2 tokens",
    ),
    Case(
        "a padding id beyond the embedding",
        "words",
        edit("model.toml", "pad_id = 0", "pad_id = 9"),
        "pad_id give ids up to 9, and model.onnx knows 4",
    ),
    Case(
        "a graph of another kind of input",
        "words",
        save(classifier(0.0)),
        "wants 'pixel_values', which this family does not feed",
    ),
    Case(
        "a graph that reads texts for images",
        "lamps",
        save(reader()),
        "which this family does not feed|image",
    ),
    Case(
        "an image size that the graph does not take",
        "lamps",
        edit("model.toml", "image_size = [2, 2]", "image_size = [4, 4]"),
        "model.onnx takes 2 along axis 2 of pixel_values, and is fed 4",
    ),
    Case(
        "ids in a type that numpy has not",
        "words",
        graph(input_of(TensorProto.BFLOAT16)),
        "'input_ids' as bfloat16",
    ),
    Case("ids as texts", "words", graph(input_of(TensorProto.STRING)), "'input_ids' as string"),
    Case("scores of three axes", "words", graph(scores_of_three_axes), "scores of 3 axes"),
    Case(
        "texts longer than memory",
        "words",
        edit("model.toml", "max_length = 16", "max_length = 1000000000000"),
        "words/2: max_length is 1000000000000",
    ),
    Case(
        "images larger than memory",
        "lamps",
        edit("model.toml", "[2, 2]", "[1000000, 1000000]"),
        "lamps/2",
    ),
    Case("an image size below zero", "lamps", edit("model.toml", "[2, 2]", "[-2, 2]"), "lamps/2"),
    Case(
        "an axis with a name that is no text",
        "lamps",
        lambda folder: (folder / "model.onnx").write_bytes(
            (folder / "model.onnx").read_bytes().replace(b"batch", b"bat\xffh")
        ),
        "model.onnx names something in bytes that are no text",
    ),
    Case("a tensor of endless axes", "lamps", graph(dims(*[1] * 5000)), "says it has 5000 axes"),
    Case(
        "goldens of another task",
        "lamps",
        write(
            "goldens.json",
            json.dumps(
                {
                    "created_with": "x",
                    "items": [{"item": {"text": "a"}, "answer": {"translation": "b"}}],
                }
            ),
        ),
        "goldens.json.*translation",
    ),
    Case("goldens that are no JSON", "lamps", write("goldens.json", "{"), "goldens.json"),
    Case("goldens of 0 bytes", "lamps", write("goldens.json", ""), "goldens.json is empty"),
    Case(
        "a golden image that is missing",
        "lamps",
        remove("goldens/60.png"),
        "goldens/60.png does not exist",
    ),
    Case(
        "a golden image that is none",
        "lamps",
        write("goldens/60.png", POINTER),
        "goldens/60.png is a Git LFS pointer",
    ),
    Case(
        "a tensor that says it is huge",
        "lamps",
        graph(dims(1 << 40, 1 << 20)),
        "model.onnx.*weights",
    ),
    Case(
        "a tensor whose size overflows",
        "lamps",
        graph(dims(1 << 62, 1 << 62)),
        "model.onnx.*weights",
    ),
    Case("a tensor of a negative size", "lamps", graph(dims(-1, 4)), "model.onnx.*weights"),
    Case("a constant of terabytes", "lamps", graph(fill), "model.onnx"),
]
