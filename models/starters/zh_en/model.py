"""The network of the starter translator: a small pre-norm Transformer.

Embeddings are factorised (narrow table, then a projection to the model's width) and the target
table is tied with the output projection: the vocabulary would otherwise be half of the weights.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

PAD_ID = 0
BOS_ID = 1
EOS_ID = 2


@dataclass(frozen=True, slots=True)
class TranslatorSizes:
    """Every number that fixes the shapes of the weights."""

    source_vocabulary: int
    target_vocabulary: int
    embedding: int = 128
    width: int = 256
    heads: int = 4
    encoder_layers: int = 3
    encoder_hidden: int = 640
    decoder_layers: int = 2
    decoder_hidden: int = 512

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class KeysAndValues(NamedTuple):
    """What attention looks at, per head: both [batch, heads, length, head width]."""

    keys: Tensor
    values: Tensor


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal codes [T, width] of positions [T]; they are computed, so they add no weights."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = positions[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention whose keys and values are made apart from the queries.

    They are made apart because a decoder keeps them between steps.
    """

    def __init__(self, sizes: TranslatorSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key_value = nn.Linear(sizes.width, 2 * sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)

    def look_at(self, states: Tensor) -> KeysAndValues:
        """Keys and values of ``states`` [B, T, width]."""
        keys, values = self.key_value(states).chunk(2, dim=-1)
        return KeysAndValues(self._split(keys), self._split(values))

    def forward(self, states: Tensor, memory: KeysAndValues, bias: Tensor | None) -> Tensor:
        """Attend from ``states`` [B, T, width] to ``memory``; ``bias`` is added to the scores."""
        query = self._split(self.query(states))
        scores = query @ memory.keys.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        mixed = scores.softmax(dim=-1).to(memory.values.dtype) @ memory.values
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Dropout(nn.Module):
    """Dropout whose random bytes come from NumPy; torch's took a fifth of a training step."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.kept = 256 - round(256 * share)
        self.random = np.random.Generator(np.random.SFC64(int(torch.randint(2**31, ()))))

    def forward(self, states: Tensor) -> Tensor:
        """Zero a share of the elements and scale the others up, while training only."""
        if not self.training or self.kept == 256:
            return states
        noise = np.frombuffer(self.random.bytes(states.numel()), dtype=np.uint8)
        mask = torch.from_numpy(noise < self.kept).view(states.shape)
        return states * (mask.to(states.dtype) * (256 / self.kept))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Transform each position alone."""
        return self.contract(self.dropout(F.relu(self.expand(states))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normalised before and added after."""

    def __init__(self, sizes: TranslatorSizes, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.attention = Attention(sizes)
        self.feed_forward_norm = nn.LayerNorm(sizes.width)
        self.feed_forward = FeedForward(sizes.width, sizes.encoder_hidden, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Refine ``states`` [B, S, width]."""
        normed = self.attention_norm(states)
        attended = self.attention(normed, self.attention.look_at(normed), bias)
        states = states + self.dropout(attended)
        return states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))


class DecoderLayer(nn.Module):
    """Self-attention over the past, cross-attention over the source, feed-forward."""

    def __init__(self, sizes: TranslatorSizes, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.attention = Attention(sizes)
        self.cross_norm = nn.LayerNorm(sizes.width)
        self.cross = Attention(sizes)
        self.feed_forward_norm = nn.LayerNorm(sizes.width)
        self.feed_forward = FeedForward(sizes.width, sizes.decoder_hidden, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        states: Tensor,
        past: KeysAndValues | None,
        bias: Tensor | None,
        source: KeysAndValues,
        source_bias: Tensor,
    ) -> tuple[Tensor, KeysAndValues]:
        """Refine ``states`` [N, T, width]; returns them and the past grown by T positions."""
        normed = self.attention_norm(states)
        present = self.attention.look_at(normed)
        if past is not None:
            present = KeysAndValues(
                torch.cat([past.keys, present.keys], dim=2),
                torch.cat([past.values, present.values], dim=2),
            )
        states = states + self.dropout(self.attention(normed, present, bias))
        states = states + self.dropout(self.cross(self.cross_norm(states), source, source_bias))
        states = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states, present


class Translator(nn.Module):
    """Source tokens in, log-probabilities of the next target token out."""

    def __init__(self, sizes: TranslatorSizes, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = sizes
        narrow, wide = sizes.embedding, sizes.width
        self.source_table = nn.Embedding(sizes.source_vocabulary, narrow)
        self.source_projection = nn.Linear(narrow, wide)
        self.encoder = nn.ModuleList(
            EncoderLayer(sizes, dropout) for _ in range(sizes.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(wide)
        self.target_table = nn.Embedding(sizes.target_vocabulary, narrow)
        self.target_projection = nn.Linear(narrow, wide)
        self.decoder = nn.ModuleList(
            DecoderLayer(sizes, dropout) for _ in range(sizes.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(wide)
        self.output_projection = nn.Linear(wide, narrow)
        self.output_bias = nn.Parameter(torch.zeros(sizes.target_vocabulary))
        self.dropout = Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for table in (self.source_table, self.target_table):
            nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)

    def encode(self, source_ids: Tensor, source_mask: Tensor) -> list[KeysAndValues]:
        """Cross keys and values of each decoder layer for ``source_ids`` [B, S].

        ``source_mask`` [B, S] is 1 for tokens and 0 for padding.
        """
        states = self._embed(self.source_table, self.source_projection, source_ids, 0)
        bias = padding_bias(source_mask)
        for layer in self.encoder:
            states = layer(states, bias)
        states = self.encoder_norm(states)
        return [layer.cross.look_at(states) for layer in self._decoder_layers()]

    def decode(
        self,
        target_ids: Tensor,
        source: list[KeysAndValues],
        source_mask: Tensor,
        past: list[KeysAndValues] | None = None,
    ) -> tuple[Tensor, list[KeysAndValues]]:
        """Hidden states of ``target_ids`` [N, T] after the past, and the past grown by them.

        With a past, T must be 1 (no causal mask is applied).
        """
        start = 0 if past is None else past[0].keys.shape[2]
        states = self._embed(self.target_table, self.target_projection, target_ids, start)
        length = target_ids.shape[1]
        bias = causal_bias(length) if past is None and length > 1 else None
        source_bias = padding_bias(source_mask)
        presents = []
        for index, layer in enumerate(self._decoder_layers()):
            before = None if past is None else past[index]
            states, present = layer(states, before, bias, source[index], source_bias)
            presents.append(present)
        return self.decoder_norm(states), presents

    def logits(self, states: Tensor) -> Tensor:
        """Scores over the target vocabulary of hidden states [..., width]."""
        return F.linear(self.output_projection(states), self.target_table.weight, self.output_bias)

    def _embed(self, table: nn.Embedding, projection: nn.Linear, ids: Tensor, start: int) -> Tensor:
        states = projection(table(ids) * math.sqrt(table.embedding_dim))
        positions = torch.arange(start, start + ids.shape[1], dtype=torch.float32)
        return self.dropout(states + sinusoids(positions, self.sizes.width))

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]


def padding_bias(mask: Tensor) -> Tensor:
    """Additive attention bias [B, 1, 1, S] that hides the padding of ``mask`` [B, S]."""
    return (1.0 - mask[:, None, None, :].float()) * -10_000.0


def causal_bias(length: int) -> Tensor:
    """Additive attention bias [length, length] that hides later positions."""
    return torch.full((length, length), -10_000.0).triu(1)


def load_translator(checkpoint: Path) -> Translator:
    """The network of a checkpoint that the recipe wrote, ready to answer."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Translator(TranslatorSizes(**state["sizes"]))
    model.load_state_dict(state["weights"])
    return model.eval()
