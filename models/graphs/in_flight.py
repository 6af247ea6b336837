"""A translator as the four graphs that are batched in flight, from its weights."""

import onnx

from models.graphs.caches import join_graph, move_graph
from models.graphs.encoder import encoder_graph
from models.graphs.step import step_graph
from models.graphs.translator_weights import TranslatorWeights
from models.graphs.writer import Arithmetic


def step_graphs(weights: TranslatorWeights, arithmetic: Arithmetic) -> dict[str, onnx.ModelProto]:
    """Return the graphs by session name."""
    sizes = len(weights.decoder_layers), weights.heads, weights.head_width
    return {
        "encoder": encoder_graph(weights, arithmetic),
        "join": join_graph(*sizes, arithmetic),
        "step": step_graph(weights, arithmetic),
        "move": move_graph(*sizes, arithmetic),
    }
