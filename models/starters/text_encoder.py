"""The small Transformer encoder that `news-topics` and the text tower of `emoji` are made of."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.datasets.files import MASK_ID


@dataclass(frozen=True, slots=True)
class TextEncoderShape:
    """Sizes of an encoder.

    The embedding table is factorised: narrower than `width`. The stack of layers is gone through
    `passes` times with the same weights: more computing, and no more to store.
    """

    vocabulary: int
    max_length: int = 64
    embedding: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    passes: int = 1
    dropout: float = 0.1

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values, for a checkpoint."""
        return asdict(self)


def mask_words(ids: Tensor, most: float) -> Tensor:
    """Hide words (ids above the special ones) in training, so that none is relied on.

    Each text of [B, T] has its own share of hidden words, 0 to `most`.
    """
    shares = torch.rand(len(ids), 1) * most
    hidden = (torch.rand(ids.shape) < shares) & (ids > MASK_ID)
    return torch.where(hidden, MASK_ID, ids)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the positions that the mask allows."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Mix [B, T, width]; `bias` [B, 1, 1, T] is added to the scores."""
        batch, length, width = hidden.shape
        split = (batch, length, self._heads, width // self._heads)
        query, key, value = (
            part.reshape(split).transpose(1, 2) for part in self.qkv(hidden).chunk(3, -1)
        )
        scores = query @ key.transpose(2, 3) * (width // self._heads) ** -0.5 + bias
        weights = functional.dropout(scores.softmax(-1), self._dropout, self.training)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, length, width))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each normalised before and added back."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Transform [B, T, width]; `bias` as in `SelfAttention`."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), bias))
        inner = functional.gelu(self.up(self.feed_forward_norm(hidden)))
        return hidden + self.dropout(self.down(inner))


class TextEncoder(nn.Module):
    """Token ids in, one vector a text out: the mean of the last layer over the real tokens."""

    def __init__(self, shape: TextEncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.embedding)
        self.widen = nn.Linear(shape.embedding, shape.width, bias=False)
        self.positions = nn.Parameter(torch.zeros(shape.max_length, shape.width))
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(shape.width, shape.heads, shape.dropout) for _ in range(shape.layers)
        )
        self.norm = nn.LayerNorm(shape.width)
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.positions, std=0.02)

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last layer, [B, T, width], for int64 ids and a 0/1 mask of [B, T]."""
        hidden = self.widen(self.tokens(input_ids)) + self.positions[: input_ids.shape[1]]
        hidden = self.dropout(hidden)
        bias = (attention_mask[:, None, None, :].to(hidden.dtype) - 1.0) * 1e4
        for layer in list(self.layers) * self.shape.passes:
            hidden = layer(hidden, bias)
        return self.norm(hidden)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [B, width]: padding changes nothing, a text without tokens gives zeros."""
        hidden = self.hidden_states(input_ids, attention_mask)
        mask = attention_mask[:, :, None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1.0)
