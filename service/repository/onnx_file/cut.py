"""The part of an ONNX graph that one of its outputs needs, cut out of the file without loading it.

ONNX Runtime computes every node of a graph at every run, whichever outputs are requested.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.repository.onnx_file.reader import GRAPH, INPUT, OUTPUT, mapped, read_mapped
from service.repository.onnx_file.records import GraphEntry, Node, OnnxFile, StoredTensor
from service.transforms.protobuf import field_header


@dataclass(frozen=True, slots=True)
class GraphPart:
    """What one output of a graph needs: fewer nodes and weights, and perhaps fewer inputs."""

    file: Path
    output: str

    def content(self) -> bytes:
        """Return an ONNX model of it. External data stay in their files.

        Raises:
            ModelLoadError: the file cannot be read, or is no ONNX graph.
        """
        with mapped(self.file) as data:
            onnx = read_mapped(data)
            before, after = onnx.around
            kept = [entry.span for entry in _needed(onnx, self.output)]
            header = field_header(GRAPH, sum(end - start for start, end in kept))
            with memoryview(data) as view:
                pieces = [view[start:end] for start, end in (*before, *kept, *after)]
                made = b"".join([*pieces[: len(before)], header, *pieces[len(before) :]])
                for piece in pieces:  # a file cannot be closed while a view of it is open
                    piece.release()
            return made


def disjoint_parts(
    file: Path, onnx: OnnxFile, outputs: Mapping[str, str]
) -> Mapping[str, GraphPart]:
    """Return the parts of a graph that outputs need, by the same keys as the outputs.

    None of them where cutting would not help: an output is not there, or two parts share an input.

    Args:
        file: an ONNX file.
        onnx: its content.
        outputs: names of outputs.
    """
    seen: set[bytes] = set()
    for output in outputs.values():
        needed = _needed(onnx, output)
        constants = {entry.name for entry in needed if isinstance(entry.item, StoredTensor)}
        inputs = {entry.name for entry in needed if entry.number == INPUT} - constants
        if output.encode() not in onnx.names(OUTPUT) or inputs & seen:
            return {}
        seen |= inputs
    return {key: GraphPart(file, output) for key, output in outputs.items()}


def _needed(onnx: OnnxFile, output: str) -> list[GraphEntry]:
    """Return the fields of the graph that an output needs."""
    wanted = output.encode()
    nodes, names = _reached(onnx, wanted)
    return [entry for entry in onnx.entries if _is_needed(entry, wanted, nodes, names)]


def _is_needed(entry: GraphEntry, wanted: bytes, nodes: set[Node], names: set[bytes]) -> bool:
    if isinstance(entry.item, Node):
        return entry.item in nodes
    if entry.number == OUTPUT:
        return entry.name == wanted
    return not entry.name or entry.name in names


def _reached(onnx: OnnxFile, wanted: bytes) -> tuple[set[Node], set[bytes]]:
    """Return the nodes that a value is made by, however indirectly, and the names around them."""
    makers = {name: node for node in onnx.nodes for name in node.outputs if name}
    kept, names, waiting = set[Node](), {wanted}, [wanted]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node not in kept:
            takes = [*node.inputs, *node.captured]
            kept.add(node)
            names.update(takes, node.outputs)
            waiting += takes
    return kept, names
