"""The weights of an encoder-decoder translator, whichever library they were trained with.

Plain arrays, so that graphs can be built and tested where no training framework is installed.
Matrices multiply from the right: a linear layer computes ``x @ weight + bias``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Activation: TypeAlias = Literal["relu", "swish", "gelu", "gelu_tanh"]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``weight`` is [inputs, outputs]."""

    weight: Floats
    bias: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer normalisation; root mean square only where there is no bias."""

    weight: Floats
    bias: Floats | None
    epsilon: float = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """The four projections of an attention."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear


@dataclass(frozen=True, slots=True, eq=False)
class FeedForward:
    """``contract(activation(expand(x)))``, times ``gate(x)`` in between where there is one."""

    expand: Linear
    contract: Linear
    activation: Activation
    gate: Linear | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EncoderLayer:
    """Each part with the norm that stands before or after it."""

    attention: Attention
    attention_norm: Norm
    feed_forward: FeedForward
    feed_forward_norm: Norm


@dataclass(frozen=True, slots=True, eq=False)
class DecoderLayer:
    """Each part with the norm that stands before or after it."""

    attention: Attention
    attention_norm: Norm
    cross: Attention
    cross_norm: Norm
    feed_forward: FeedForward
    feed_forward_norm: Norm


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Tokens to vectors."""

    table: Floats
    """[vocabulary, embedding]"""
    scale: float = 1.0
    projection: Linear | None = None
    positions: Floats | None = None
    """[longest, width], added; None where attention knows the distance instead."""
    norm: Norm | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """What an encoder and a decoder have alike."""

    embedding: Embedding
    final_norm: Norm | None
    distances: Floats | None = None
    """Added to attention's scores: [2 * longest - 1, heads] for key place minus query place
    from -(longest - 1) on in an encoder; [longest, heads] for how far back in a decoder.
    What is further away counts as the furthest."""


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Hidden states to scores over the vocabulary."""

    table: Floats
    """[vocabulary, embedding]; the target embedding's own table where both are tied."""
    bias: Floats | None = None
    """[vocabulary]; minus infinity for a token that is never written."""
    projection: Linear | None = None
    scale: float = 1.0
    forbidden: Sequence[int] = ()
    """Tokens that are never chosen."""
    renormalizes: bool = False
    """Whether the probabilities of the other tokens sum to 1, or else those of all tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class TranslatorWeights:
    """All that fixes the answers of a translator."""

    heads: int
    """Of the decoder."""
    head_width: int
    norm_first: bool
    """Norms stand before the parts (and one at the end), or after each."""
    attention_scale: float
    """What the products of queries and keys are multiplied by in the decoder."""
    encoder: Stack
    encoder_layers: Sequence[EncoderLayer]
    decoder: Stack
    decoder_layers: Sequence[DecoderLayer]
    output: Output
    encoder_heads: int | None = None
    """None means as many as in the decoder, and scaled alike."""

    @property
    def encoder_attention(self) -> tuple[int, float]:
        """Return the number of the encoder's heads, and the scale of their products."""
        if self.encoder_heads in (None, self.heads):
            return self.heads, self.attention_scale
        width = self.heads * self.head_width // self.encoder_heads
        return self.encoder_heads, width**-0.5
