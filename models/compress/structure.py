"""Where a transformers model keeps its layers, and in them heads and feed-forward networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import nn

from models.convert.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class _Place:
    layers: str
    """From the bare model."""
    up: str
    down: str
    """From a layer: the two products of its feed-forward network."""
    width: str
    """The key of the configuration that says how wide it is, in all layers alike."""
    heads: str | None = None
    """From a layer: the product that reads what the heads wrote, where heads can be taken away."""


_ENCODER = _Place(
    "encoder.layer",
    "intermediate.dense",
    "output.dense",
    "intermediate_size",
    "attention.output.dense",
)
_DISTILLED = _Place("transformer.layer", "ffn.lin1", "ffn.lin2", "hidden_dim", "attention.out_lin")
# Their configurations have no place for heads that one layer lacks.
_SIDES = tuple(
    _Place(f"{side}.layers", "fc1", "fc2", f"{side}_ffn_dim") for side in ("encoder", "decoder")
)
_PLACES: Final[Mapping[str, Sequence[_Place]]] = {
    **dict.fromkeys(
        ("bert", "camembert", "electra", "roberta", "xlm-roberta", "deit", "vit", "yolos"),
        (_ENCODER,),
    ),
    "distilbert": (_DISTILLED,),
    **dict.fromkeys(("marian", "bart", "mbart", "m2m_100"), _SIDES),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers of one shape, one after the other."""

    layers: Sequence[Any]
    place: _Place

    @property
    def width_key(self) -> str:
        """Return the key of the configuration that says how wide the layers are inside."""
        return self.place.width

    def readers_of_heads(self) -> list[nn.Linear]:
        """Return of each layer the product that reads what its heads wrote; none if they stay."""
        name = self.place.heads
        return [] if name is None else [layer.get_submodule(name) for layer in self.layers]

    def ups(self) -> list[nn.Linear]:
        """Return of each layer the product into its feed-forward network."""
        return [layer.get_submodule(self.place.up) for layer in self.layers]

    def downs(self) -> list[nn.Linear]:
        """Return of each layer the product out of its feed-forward network."""
        return [layer.get_submodule(self.place.down) for layer in self.layers]


def stacks_of(model: Any) -> list[Stack]:
    """Return the stacks of layers of a model: one, or an encoder's and a decoder's.

    Raises:
        CheckpointError: its architecture is not one of those of this module.
    """
    kind = model.config.model_type
    if kind not in _PLACES:
        raise CheckpointError(f"{kind} cannot be pruned here; known are {', '.join(_PLACES)}")
    base = model.base_model
    return [Stack(list(base.get_submodule(place.layers)), place) for place in _PLACES[kind]]


def head_width(model: Any) -> int:
    """Return how many numbers one head writes."""
    config = model.config
    return int(config.hidden_size // config.num_attention_heads)
