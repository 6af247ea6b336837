"""Students of transformers checkpoints: the same architecture, narrower or of fewer layers."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from models.compress.learning import Lesson
from models.compress.teaching import Reading, teachers_of
from models.convert.checkpoint import Checkpoint
from models.convert.errors import CheckpointError

_INNER: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("bert", "camembert", "electra", "roberta", "xlm-roberta", "deit", "vit"),
        "intermediate_size",
    ),
    "distilbert": "hidden_dim",
}
"""By model type, the key of the configuration that holds the feed-forward width."""

_LAYER = re.compile(r"(?<=\.layer\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class Size:
    """What a student should be; None is as its teacher."""

    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    """None: of the teacher's width each."""
    inner: int | None = None
    """Feed-forward width; None: in the teacher's proportion."""


def student_of(teacher: Checkpoint, size: Size) -> Any:
    """Return a student, in evaluation mode, with what it can take over from its teacher.

    Whatever has the teacher's shape starts as the teacher's: of its layers those that are evenly
    spread over the depth, the last one included (Sanh et al., "DistilBERT", 2019). Where it is
    narrower, embeddings of tokens start as the teacher's in the directions they vary most.

    Raises:
        CheckpointError: the teacher is no classifier of a known architecture, or the sizes do not
            fit each other.
    """
    model, config = teacher.model, teacher.model.config
    if config.model_type not in _INNER or not _classifies(model):
        raise CheckpointError(
            f"{type(model).__name__} cannot be distilled here: known are classifiers of "
            f"{', '.join(_INNER)}"
        )
    if config.pruned_heads:
        raise CheckpointError("its heads were pruned: distil from the whole model")
    own = _config(config, size)
    try:
        student = type(model)(own)
    except ValueError as error:
        raise CheckpointError(f"there is no such student: {error}") from None
    _take_over(student, model, own.num_hidden_layers, config.num_hidden_layers)
    return student.eval()


def read(model: Any, lesson: Lesson) -> Reading:
    """Return what a transformers classifier makes of a lesson."""
    outputs = model(**lesson.inputs, output_hidden_states=True)
    states = outputs.hidden_states
    mask = lesson.inputs.get("attention_mask")
    return Reading(
        outputs.logits, states, torch.ones(states[0].shape[:2]) if mask is None else mask
    )


def _classifies(model: Any) -> bool:
    return type(model).__name__.endswith(("ForSequenceClassification", "ForImageClassification"))


def _config(config: Any, size: Size) -> Any:
    own, inner = copy.deepcopy(config), _INNER[config.model_type]
    width = size.width or config.hidden_size
    share = width / config.hidden_size
    own.hidden_size = width
    own.num_hidden_layers = size.layers or config.num_hidden_layers
    own.num_attention_heads = size.heads or max(1, round(config.num_attention_heads * share))
    setattr(own, inner, size.inner or round(getattr(config, inner) * share))
    if width % own.num_attention_heads:
        raise CheckpointError(f"width {width} is no multiple of {own.num_attention_heads} heads")
    return own


@torch.no_grad()
def _take_over(student: Any, teacher: Any, layers: int, of: int) -> None:
    chosen = [at - 1 for at in teachers_of(layers + 1, of + 1)[1:]]
    known = teacher.state_dict()
    words = teacher.get_input_embeddings()
    own_words = student.get_input_embeddings()
    for name, weight in student.state_dict().items():
        source = known[_LAYER.sub(lambda found: str(chosen[int(found[0])]), name)]
        if source.shape == weight.shape:
            weight.copy_(source)
    if words.weight.ndim == 2 and words.weight.shape != own_words.weight.shape:
        own_words.weight.copy_(_narrowed(words.weight, own_words.weight.shape[1]))


def _narrowed(table: Tensor, width: int) -> Tensor:
    """Return rows in the directions that hold most of them, as large as they were."""
    if width > table.shape[1]:
        return torch.nn.functional.pad(table, (0, width - table.shape[1]))
    _, vectors = torch.linalg.eigh(table.T @ table)  # ascending
    return table @ vectors[:, -width:].flip(1)
