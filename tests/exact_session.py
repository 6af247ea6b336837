from pathlib import Path

import onnxruntime as ort

from service.runtime.graphs import open_exact


def exact_session(graph: Path | bytes) -> ort.InferenceSession:
    """Open a graph as the service does: integer products are exact on every processor."""
    model = graph if isinstance(graph, bytes) else str(graph)
    return open_exact(model, ort.SessionOptions(), ["CPUExecutionProvider"])
