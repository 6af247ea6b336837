"""Attention heads that are taken out, and stay out wherever the checkpoint is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from models.compress.importance import Scores
from models.convert.errors import CheckpointError


def prune_heads(model: Any, scores: Sequence[Scores], share: float) -> Mapping[int, list[int]]:
    """Take the least important heads out of a model, in place; return which, by layer.

    Layers are compared after their scores are scaled to length 1, as Michel et al. do; each layer
    keeps one head at least. transformers notes them as `pruned_heads` in the configuration, and
    takes them out again when the checkpoint is loaded.

    Raises:
        CheckpointError: heads of this architecture cannot be taken out.
    """
    layers = [layer for one in scores for layer in one.heads]
    if not layers:
        raise CheckpointError(
            f"heads of {model.config.model_type} stay: its configuration has no place for layers "
            "with fewer; prune its feed-forward width"
        )
    chosen = least_heads(layers, share)
    if model.config.pruned_heads:
        raise CheckpointError("some of its heads were pruned before: start from the whole model")
    model.prune_heads(chosen)
    return chosen


def least_heads(layers: Sequence[Tensor], share: float) -> dict[int, list[int]]:
    """Return the heads of least importance over all layers, by layer; one a layer stays."""
    scaled = [layer / layer.norm().clamp(min=1e-12) for layer in layers]
    best = [int(layer.argmax()) for layer in scaled]
    ranked = sorted(
        (float(score), at, head)
        for at, layer in enumerate(scaled)
        for head, score in enumerate(layer)
        if head != best[at]
    )
    wanted = round(share * sum(len(layer) for layer in layers))
    chosen: dict[int, list[int]] = {}
    for _, at, head in ranked[:wanted]:
        chosen.setdefault(at, []).append(head)
    return {at: sorted(heads) for at, heads in sorted(chosen.items())}


def heads_left(model: Any) -> int:
    """Return how many heads a model has in all its layers."""
    config = model.config
    gone = sum(len(heads) for heads in config.pruned_heads.values())
    return int(config.num_hidden_layers * config.num_attention_heads - gone)
