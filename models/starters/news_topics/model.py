"""The network of `news-topics`, and reading its weights out of a served version."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from models.datasets.news import LABELS
from models.starters.start import read_weights
from models.starters.text_encoder import TextEncoder, TextEncoderShape

PASSES = 2
"""How often the starter goes through its layers; its graph does not say."""

_SAME = 1e-4


class NewsTopics(nn.Module):
    """A text encoder and a linear layer: logits of the topics."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.encoder = TextEncoder(shape)
        self.topics = nn.Linear(shape.width, len(LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits [B, topics] for int64 ids and a 0/1 mask, both [B, T]."""
        logits: Tensor = self.topics(self.encoder(input_ids, attention_mask))
        return logits


def served_model(folder: Path, passes: int = PASSES, dropout: float = 0.0) -> NewsTopics:
    """Return the model that a version's fp32 graph was made of, in evaluation mode.

    Args:
        folder: of the version.
        passes: how often it goes through its layers.
        dropout: of the model returned, for further training.

    Raises:
        ValueError: what is read out of the graph does not answer as the graph does.
    """
    weights = read_weights(folder / "model.onnx")
    state = {
        name.removesuffix(".transposed.[1, 0]"): value.T if "transposed" in name else value
        for name, value in weights.items()
        if name.startswith(("encoder.", "topics."))
    }
    (vocabulary, embedding), (longest, width) = (
        state[f"encoder.{name}"].shape for name in ("tokens.weight", "positions")
    )
    layers = len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")})
    shape = TextEncoderShape(
        vocabulary, longest, embedding, width, layers, passes=passes, dropout=dropout
    )
    widen = [value for value in weights.values() if tuple(value.shape) == (embedding, width)]
    model = NewsTopics(shape)
    model.load_state_dict({**state, "encoder.widen.weight": widen[0].T})
    _prove(model.eval(), folder)
    return model


@torch.no_grad()
def _prove(model: NewsTopics, folder: Path) -> None:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    ids = torch.randint(5, model.encoder.shape.vocabulary, (4, 12))
    feeds = {"input_ids": ids.numpy(), "attention_mask": np.ones((4, 12), np.int64)}
    given = session.run(["logits"], feeds)[0]
    off = float(np.abs(model(ids, torch.ones_like(ids)).numpy() - given).max())
    if off > _SAME:
        raise ValueError(f"the weights read out of {folder.name} are off by {off:.2g}")
