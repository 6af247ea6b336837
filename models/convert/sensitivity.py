"""Which products hurt in few bits: they stay in fp32 until a budget of quality is met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from tqdm import tqdm

from models.convert.errors import CheckpointError
from models.convert.graphs import write_graph
from models.convert.optimise import Subject
from models.convert.parity import graph_outputs, largest_deviation, scale_of
from models.convert.precisions import Quantise
from models.graphs.quiet import quiet

Kept = Mapping[str, Sequence[str]]
"""By role, the names of the nodes that stay in fp32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One product with constant weights."""

    role: str
    node: str
    loss: float
    """What quantising it alone costs, in per cent."""


def keep_until(
    layers: Sequence[Layer], loss_of: Callable[[Sequence[Layer]], float], max_loss: float
) -> Sequence[Layer]:
    """Return the fewest of the layers, the most hurtful first, that must stay in fp32.

    Halving finds the number: keeping one more of them is taken not to make it worse.

    Args:
        layers: in any order.
        loss_of: measures the loss in per cent with these layers kept in fp32.
        max_loss: in per cent.
    """
    ordered = sorted(layers, key=lambda layer: -layer.loss)
    fewest, most = 0, len(ordered)
    while fewest < most:
        middle = (fewest + most) // 2
        if loss_of(ordered[:middle]) <= max_loss:
            most = middle
        else:
            fewest = middle + 1
    return ordered[:fewest]


def sensitive_nodes(subject: Subject, quantise: Quantise, max_loss: float) -> Kept:
    """Return what must stay in fp32 so that the loss stays within the budget.

    The loss is the largest |Δ| against PyTorch on the samples, in per cent of the largest value
    that PyTorch gave.

    Raises:
        CheckpointError: not even fp32 stays within it, or nothing can be quantised.
    """
    models = {role: onnx.load(str(path)) for role, path in subject.graphs.items()}
    nodes = [(role, name) for role, model in models.items() for name in products(model)]
    if not nodes:
        raise CheckpointError("no graph holds a MatMul with constant weights")
    if loss_of_graphs(subject, subject.graphs) > max_loss:
        raise CheckpointError(f"fp32 itself loses more than {max_loss} %")

    def loss_with(kept: Sequence[tuple[str, str]]) -> float:
        return _loss(subject, models, quantise, kept)

    layers = []
    for role, name in tqdm(nodes, desc="sensitivity", unit="layer"):
        layers.append(Layer(role, name, loss_with([one for one in nodes if one != (role, name)])))
    kept = keep_until(
        layers, lambda some: loss_with([(one.role, one.node) for one in some]), max_loss
    )
    return {role: [one.node for one in kept if one.role == role] for role in models}


def products(model: onnx.ModelProto) -> Sequence[str]:
    """Return the names of the MatMul nodes whose second factor is a constant matrix."""
    matrices = {weight.name for weight in model.graph.initializer if len(weight.dims) == 2}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in matrices
    ]


def quantised_but(
    model: onnx.ModelProto, quantise: Quantise, kept: Sequence[str]
) -> onnx.ModelProto:
    """Return a copy with all products but these in few bits."""
    if not set(products(model)) - set(kept):
        return model
    with quiet():
        return quantise(model, excluded=kept)


def loss_of_graphs(subject: Subject, graphs: Mapping[str, Path]) -> float:
    """Return the loss of graphs in per cent."""
    given = graph_outputs(subject.checkpoint, graphs, subject.feeds)
    return 100 * largest_deviation(subject.wanted, given) / max(scale_of(subject.wanted), 1e-12)


def _loss(
    subject: Subject,
    models: Mapping[str, onnx.ModelProto],
    quantise: Quantise,
    kept: Sequence[tuple[str, str]],
) -> float:
    trials: dict[str, Path] = {}
    try:
        for role, model in models.items():
            names = [name for of, name in kept if of == role]
            trials[role] = subject.graphs[role].with_name(f".sensitivity-{role}.onnx")
            write_graph(quantised_but(model, quantise, names), trials[role])
        return loss_of_graphs(subject, trials)
    finally:
        for path in trials.values():
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}_data").unlink(missing_ok=True)
