"""From a PyTorch module to an ONNX graph on disk, small and with the very same answers.

The usual order, which keeps the fp32 graph and PyTorch bit for bit on the same weights:

    fold_batch_norms(module)              # convolutional networks only
    round_to_fp16(module)                 # before goldens and before any measurement
    graph = export_graph(module, {"images": example}, outputs={"output0": {0: "batch"}}, ...)
    save_graph(store_weights_as_fp16(graph), folder / "model.onnx")
    small = store_weights_as_fp16(quantise_weights(graph), exact=False)
    save_graph(small, folder / "model_int8.onnx")
"""

import inspect
import itertools
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

OPSET = 20
SMALLEST_STORED_AS_FP16 = 256  # elements; below, the Cast node costs more than it saves

DynamicAxes = Mapping[int, str]


def fold_batch_norms(module: nn.Module) -> None:
    """Merge, in place, every batch norm into the convolution right before it.

    It looks at neighbours in registration order inside each submodule, so a convolution and
    its norm must be declared next to each other and called one after the other.
    """
    children = list(module.named_children())
    for (name, child), (next_name, following) in itertools.pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child.eval(), following.eval()))
            setattr(module, next_name, nn.Identity())
    for _, child in children:
        fold_batch_norms(child)


@torch.no_grad()
def round_to_fp16(module: nn.Module) -> None:
    """Round all weights, in place, to values that fp16 can hold; they stay fp32 tensors.

    Raises:
        ValueError: if a weight is too large for fp16.
    """
    for name, weight in [*module.named_parameters(), *module.named_buffers()]:
        if not weight.is_floating_point():
            continue
        rounded = weight.to(torch.float16).to(weight.dtype)
        if not torch.isfinite(rounded).all():
            raise ValueError(f"{name} has values outside the range of fp16")
        weight.copy_(rounded)


def export_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, DynamicAxes],
) -> onnx.ModelProto:
    """Export a module called with the inputs by position, in the order given.

    Args:
        module: put into evaluation mode.
        inputs: name and an example of each input; give a dynamic axis at least 2 entries,
            since sizes 0 and 1 are taken for constants.
        outputs: names of the outputs, in order.
        dynamic_axes: input name -> {axis: name of the axis}; the axes of outputs follow.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for chatty in ("torch.onnx", "onnx_ir", "onnxscript"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            # The exporter takes one tensor given twice for a single input.
            tuple(example.clone() for example in inputs.values()),
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=_shapes_by_parameter(module, [dynamic_axes.get(n, {}) for n in inputs]),
            opset_version=OPSET,
        )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    graph = program.model_proto
    for node in graph.graph.node:  # file and line of the recipe: noise, and not reproducible
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.graph.ClearField("value_info")
    _transpose_weights(graph.graph)
    return graph


def _transpose_weights(graph: onnx.GraphProto) -> None:
    """Transpose constant weights once and for all; the exporter leaves that to every run.

    It does so where a weight is used several times, as in layers that are gone through twice.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    stays, replaced = [], {}
    for node in graph.node:
        if node.op_type != "Transpose" or node.input[0] not in weights:
            stays.append(node)
            continue
        order = next((list(item.ints) for item in node.attribute if item.name == "perm"), None)
        name = f"{node.input[0]}.transposed.{order}"
        if name not in weights:
            values = numpy_helper.to_array(weights[node.input[0]]).transpose(order)
            weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        replaced[node.output[0]] = name
    for node in stays:
        for at, name in enumerate(node.input):
            node.input[at] = replaced.get(name, name)
    kept = {name for node in stays for name in node.input} | {o.name for o in graph.output}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(stays)
    graph.initializer.extend(weight for name, weight in weights.items() if name in kept)


def _shapes_by_parameter(module: nn.Module, axes: Sequence[DynamicAxes]) -> tuple[object, ...]:
    """Return one entry a parameter of `forward`: those behind `*name` share an entry."""
    shapes = tuple(dict(each) for each in axes)
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters)
    return shapes if named == len(parameters) else (*shapes[:named], shapes[named:])


def store_weights_as_fp16(model: onnx.ModelProto, *, exact: bool = True) -> onnx.ModelProto:
    """Return a copy with fp32 weights stored as fp16, each followed by a Cast back to fp32.

    onnxruntime folds the Cast when it loads, so it computes in fp32 on the same values.

    Args:
        model: left as it is.
        exact: whether a weight that fp16 cannot hold is an error; else it stays fp32, as the
            scales of quantised weights must.

    Raises:
        ValueError: if `exact` and a weight would change; call `round_to_fp16` before exporting.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for weight in stored.graph.initializer:
        count = int(np.prod(weight.dims))
        if weight.data_type != TensorProto.FLOAT or count < SMALLEST_STORED_AS_FP16:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if not np.array_equal(halved.astype(np.float32), values):
            if not exact:
                continue
            raise ValueError(f"{weight.name} cannot be stored as fp16 without changing it")
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(halved, f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it as one file.

    Raises:
        onnx.checker.ValidationError: if the graph is not valid ONNX.
    """
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
