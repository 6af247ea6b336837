"""Graphs without weights that move caches about, in place, where the caches are.

All outputs must be bound to memory that an input is bound to.
"""

import numpy as np
import onnx

from models.graphs.step import cache_names
from models.graphs.writer import Arithmetic, GraphWriter, Shape


def join_graph(
    layers: int, heads: int, head_width: int, arithmetic: Arithmetic = "fp32"
) -> onnx.ModelProto:
    """Put what the encoder made of B sentences into rows of the caches.

    Inputs: ``rows`` [B]; ``new.cross.*`` [B, H, S, D]; the caches ``cross.*`` [R, H, C, D], where
    C is at least S. Outputs: the caches, ``present.cross.*``.
    """
    writer = GraphWriter(arithmetic)
    rows = writer.input("rows", np.int64, ["batch"])
    names = cache_names("cross", layers)
    new: Shape = ["batch", heads, "source", head_width]
    cached: Shape = ["rows", heads, "longest", head_width]
    for name in names:
        writer.input(f"new.{name}", writer.float_type, new)
        writer.input(name, writer.float_type, cached)
        writer.output(f"present.{name}", writer.float_type, cached)
    shape = writer.node("Shape", [f"new.{names[0]}"], end=3)
    length = writer.node("Gather", [shape, writer.integers(2)])
    places = writer.node("Range", [writer.integers(0), length, writer.integers(1)])
    columns = [
        writer.node("Unsqueeze", [rows, writer.integers([1, 2])]),
        writer.integers(np.arange(heads).reshape(1, heads, 1)),
        writer.node("Unsqueeze", [places, writer.integers([0, 1])]),
    ]
    index = _index(writer, columns, shape)
    for name in names:
        writer.node("ScatterND", [name, index, f"new.{name}"], f"present.{name}")
    return writer.model("join")


def move_graph(
    layers: int, heads: int, head_width: int, arithmetic: Arithmetic = "fp32"
) -> onnx.ModelProto:
    """Copy single places of rows, all read before any is written.

    Inputs, for each kind of cache, self and cross: ``self_from`` and ``self_to`` [M, 2], pairs of
    row and place; ``old.self.*``, which is read, and ``self.*``, which is written and may be the
    same memory. Outputs: ``present.self.*``, ``present.cross.*``.
    """
    writer = GraphWriter(arithmetic)
    for prefix in ("self", "cross"):
        index = [_with_heads(writer, f"{prefix}_{side}", heads) for side in ("from", "to")]
        for name in cache_names(prefix, layers):
            old: Shape = ["old_rows", heads, f"old_{prefix}", head_width]
            shape: Shape = ["rows", heads, prefix, head_width]
            writer.input(f"old.{name}", writer.float_type, old)
            writer.input(name, writer.float_type, shape)
            pieces = writer.node("GatherND", [f"old.{name}", index[0]])
            present = writer.output(f"present.{name}", writer.float_type, shape)
            writer.node("ScatterND", [name, index[1], pieces], present)
    return writer.model("move")


def _with_heads(writer: GraphWriter, name: str, heads: int) -> str:
    """Turn pairs of row and place [M, 2] into triples with every head between [M, H, 3]."""
    pairs = writer.input(name, np.int64, [name, 2])
    count = writer.node("Shape", [pairs], end=1)
    shape = writer.node("Concat", [count, writer.integers([heads])], axis=0)
    row, place = (
        writer.node("Slice", [pairs, *(writer.integers([at]) for at in (start, start + 1, 1))])
        for start in (0, 1)
    )
    return _index(writer, [row, writer.integers(np.arange(heads).reshape(1, heads)), place], shape)


def _index(writer: GraphWriter, columns: list[str], shape: str) -> str:
    """Spread columns over a shape and put them side by side, as the last axis."""
    last = writer.integers([-1])
    spread = [
        writer.node("Unsqueeze", [writer.node("Expand", [column, shape]), last])
        for column in columns
    ]
    return writer.node("Concat", spread, axis=-1)
