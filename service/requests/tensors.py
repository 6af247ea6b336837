"""A request of tensors as items, and the outputs of its items as one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError, LimitExceededError
from service.families.tensors.processor import check_output_size
from service.tasks import Inference, InferItem
from service.types import Tensors, TensorSignature


def items_of(tensors: Tensors, signature: TensorSignature, most_items: int) -> Sequence[InferItem]:
    """Return one item for each row of the batch; for a model that is not batched, one item.

    Args:
        tensors: as the client sent them. An array of strings holds `bytes`.
        signature: of the model. Names, types and shapes are checked later, item by item.
        most_items: most rows of a request.

    Raises:
        InvalidInputError: the inputs have different numbers of rows, or none.
        LimitExceededError: there are too many rows.
    """
    if not signature.is_batched:
        return [InferItem(tensors)]
    counts = {name: tensor.shape[0] if tensor.ndim else None for name, tensor in tensors.items()}
    rows = next(iter(counts.values()), None)
    if any(count is None or count != rows for count in counts.values()):
        found = ", ".join(f"{name[:100]} {count}" for name, count in counts.items())
        raise InvalidInputError(f"the inputs differ in their first axis, the batch: {found}")
    if not rows:
        raise InvalidInputError("the batch is empty")
    if rows > most_items:
        raise LimitExceededError(f"a batch of {rows} is over the limit of {most_items}")
    return [
        # A slice, because an index would give a number in place of an array without axes.
        InferItem({k: v[row : row + 1].reshape(v.shape[1:]) for k, v in tensors.items()})
        for row in range(rows)
    ]


def joined(answers: Sequence[Inference], signature: TensorSignature) -> Mapping[str, NDArray[Any]]:
    """Return the outputs of a request from those of its items.

    Raises:
        LimitExceededError: together they have more bytes than the model allows.
        InferenceError: the rows of an output differ in shape.
    """
    if not signature.is_batched:
        return answers[0].outputs
    size = sum(tensor.nbytes for answer in answers for tensor in answer.outputs.values())
    check_output_size(size, signature.max_output_bytes)
    return {name: _stacked(name, answers) for name in signature.outputs}


def _stacked(name: str, answers: Sequence[Inference]) -> NDArray[Any]:
    rows = [answer.outputs[name] for answer in answers]
    if len({row.shape for row in rows}) > 1:
        raise InferenceError(f"the rows of output {name!r} differ in shape: send them one by one")
    return np.stack(rows)
