"""The starter translator's weights, as the graph writers take them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.graphs import translator_weights as plain
from models.graphs.translator_weights import Floats
from models.starters.zh_en.model import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Translator,
    sinusoids,
)


def weights_of(
    model: Translator, source_length: int, target_length: int
) -> plain.TranslatorWeights:
    """Return the weights, and the encodings of this many positions."""
    sizes = model.sizes
    target = _embedding(model.target_table, model.target_projection, target_length)
    return plain.TranslatorWeights(
        heads=sizes.heads,
        head_width=sizes.head_width,
        norm_first=True,
        attention_scale=sizes.head_width**-0.5,
        encoder=plain.Stack(
            _embedding(model.source_table, model.source_projection, source_length),
            _norm(model.encoder_norm),
        ),
        encoder_layers=[_encoder_layer(e) for e in model.encoder if isinstance(e, EncoderLayer)],
        decoder=plain.Stack(target, _norm(model.decoder_norm)),
        decoder_layers=[_decoder_layer(d) for d in model.decoder if isinstance(d, DecoderLayer)],
        output=plain.Output(
            target.table, _floats(model.output_bias), _linear(model.output_projection)
        ),
    )


def _embedding(table: nn.Embedding, projection: nn.Linear, length: int) -> plain.Embedding:
    places = torch.arange(length, dtype=torch.float32)
    positions = _floats(sinusoids(places, projection.out_features))
    scale = math.sqrt(table.embedding_dim)
    return plain.Embedding(_floats(table.weight), scale, _linear(projection), positions)


def _encoder_layer(layer: EncoderLayer) -> plain.EncoderLayer:
    return plain.EncoderLayer(
        _attention(layer.attention),
        _norm(layer.attention_norm),
        _feed_forward(layer.feed_forward),
        _norm(layer.feed_forward_norm),
    )


def _decoder_layer(layer: DecoderLayer) -> plain.DecoderLayer:
    return plain.DecoderLayer(
        _attention(layer.attention),
        _norm(layer.attention_norm),
        _attention(layer.cross),
        _norm(layer.cross_norm),
        _feed_forward(layer.feed_forward),
        _norm(layer.feed_forward_norm),
    )


def _attention(attention: Attention) -> plain.Attention:
    weights = np.split(_linear(attention.key_value).weight, 2, axis=1)
    biases = np.split(_floats(attention.key_value.bias), 2)
    key, value = map(plain.Linear, map(np.ascontiguousarray, weights), biases)
    return plain.Attention(_linear(attention.query), key, value, _linear(attention.output))


def _feed_forward(layer: FeedForward) -> plain.FeedForward:
    return plain.FeedForward(_linear(layer.expand), _linear(layer.contract), "relu")


def _linear(layer: nn.Linear) -> plain.Linear:
    return plain.Linear(np.ascontiguousarray(_floats(layer.weight).T), _floats(layer.bias))


def _norm(layer: nn.LayerNorm) -> plain.Norm:
    return plain.Norm(_floats(layer.weight), _floats(layer.bias), layer.eps)


def _floats(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().numpy()
    return array
