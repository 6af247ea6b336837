"""Which other files an ONNX graph says its weights are in.

ONNX Runtime opens what a graph names, so the names are read before the graph is loaded.
"""

from pathlib import Path

from service.repository.graph_file import mapped
from service.repository.paths import file_inside
from service.repository.tensors import tensors

_LOCATION = b"location"


def external_files(graph: Path, folder: Path, where: str) -> list[Path]:
    """Return the files that hold a graph's external data, each once, by name.

    Args:
        graph: an ONNX file in the version's folder.
        folder: the version's folder, which the data must not leave.
        where: who names the graph, for the error.

    Raises:
        ModelLoadError: the file is no ONNX graph, or names data outside the folder.
    """
    said = f"{where}: external data of {graph.name}"
    with mapped(graph, where) as content:
        names = {
            location.decode("utf-8") for tensor in tensors(content) for location in tensor.locations
        }
    return [file_inside(name, graph.parent, folder, said) for name in sorted(names)]
