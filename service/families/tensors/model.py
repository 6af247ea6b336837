"""Runs a graph on tensors as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.family import LANE, SESSION
from service.families.tensors.processor import TensorsProcessor, shown
from service.tasks import InferItem
from service.transforms.strings import pack, unpack
from service.types import (
    Feeds,
    Lane,
    Model,
    PreparedItem,
    Sessions,
    Tensors,
    TensorSignature,
    TensorSpec,
)


@dataclass(frozen=True, slots=True, eq=False)
class TensorsModel(Model):
    """Graph `model`, fed and read by the names that it declares."""

    signature: TensorSignature
    example: Mapping[str, Sequence[int]]
    size: int
    """Of the axes that vary, in probes."""
    processor: TensorsProcessor

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(LANE, [self.synthetic(0).length], [SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        feeds = [self._feeds(item) for item in batch]
        if not self.signature.is_batched:
            return [self._packed(session.run(one)) for one in feeds]
        outputs = session.run({name: np.stack([one[name] for one in feeds]) for name in feeds[0]})
        for name in self.signature.outputs:
            shape = outputs[name].shape
            if not shape or shape[0] != len(batch):
                raise InferenceError(
                    f"output {name!r} has shape {shown(shape)} for a batch of {len(batch)}: its "
                    "first axis is not the batch; set batched = false in [parameters]"
                )
        rows = range(len(batch))
        return [self._packed({name: value[row] for name, value in outputs.items()}) for row in rows]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.synthetic(0)

    def synthetic(self, seed: int) -> PreparedItem:
        """Return an item of synthetic tensors; seeds 0 and 1 give different ones."""
        tensors = {name: self._tensor(name, seed) for name in self.signature.inputs}
        return self.processor.preprocess(InferItem(tensors))

    def _feeds(self, item: PreparedItem) -> dict[str, NDArray[Any]]:
        return {
            name: _texts(unpack(name, item.tensors)) if spec.dtype == "string" else tensor
            for name, spec in self.signature.inputs.items()
            for tensor in [item.tensors[name]]
        }

    def _packed(self, outputs: Feeds) -> Tensors:
        packed: dict[str, NDArray[Any]] = {}
        for name, spec in self.signature.outputs.items():
            value = np.asarray(outputs[name])
            packed.update(pack(name, _encoded(value) if spec.dtype == "string" else value))
        return packed

    def _tensor(self, name: str, seed: int) -> NDArray[Any]:
        spec, is_batched = self.signature.inputs[name], self.signature.is_batched
        if name in self.example:
            batch = () if is_batched or not _starts_open(spec) else (1,)
            shape = [*batch, *self.example[name]]
        else:
            shape = [size or self.size for size in spec.shape]
            if is_batched:
                del shape[0]
            elif _starts_open(spec):
                shape[0] = 1
        count = prod(shape)
        if spec.dtype == "string":
            return np.array([b"ab"[seed : seed + 1]] * count, object).reshape(shape)
        if spec.dtype.startswith("float"):
            values = np.random.default_rng(seed).standard_normal(count)
        else:  # the first is never zero: a mask that hides everything gives no answer
            values = np.ones(count)
            values[1::2] = 1 - seed
        tensor: NDArray[Any] = values.astype(spec.dtype).reshape(shape)
        return tensor


def _starts_open(spec: TensorSpec) -> bool:
    """Return whether the first axis varies."""
    return bool(spec.shape) and spec.shape[0] is None


def _texts(strings: NDArray[Any]) -> NDArray[Any]:
    texts = [string.decode() for string in strings.ravel().tolist()]
    return np.array(texts, object).reshape(strings.shape)


def _encoded(texts: NDArray[Any]) -> NDArray[Any]:
    strings = [text.encode() for text in texts.ravel().tolist()]
    return np.array(strings, object).reshape(texts.shape)
