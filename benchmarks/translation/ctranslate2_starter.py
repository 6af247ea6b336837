"""The starter translator for CTranslate2, which has no converter for a network of our own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec

from models.graphs.translator_weights import (
    Attention,
    Embedding,
    FeedForward,
    Linear,
    Norm,
    TranslatorWeights,
)

_BEGIN, _END, _PAD = "<s>", "</s>", "<pad>"


def write_ctranslate2(
    weights: TranslatorWeights,
    vocabularies: tuple[Sequence[str], Sequence[str]],
    folder: Path,
    quantization: str | None = "int8",
) -> None:
    """Write a model for CTranslate2.

    Args:
        weights: of the starter.
        vocabularies: of source and target, in the order of their ids.
        folder: is made.
        quantization: of the stored weights; None keeps them in fp32.
    """
    source, target = vocabularies
    spec: Any = _spec(weights, len(target))
    spec.register_source_vocabulary(list(source))
    spec.register_target_vocabulary(list(target))
    spec.config.bos_token = spec.config.decoder_start_token = _BEGIN
    spec.config.eos_token = _END
    spec.config.unk_token = _PAD  # the tokenizers know every byte, and need none
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def _spec(weights: TranslatorWeights, vocabulary: int) -> Any:
    """Return the network. The decoder's two factors stay apart: CTranslate2 knows such decoders."""
    encoder: Any = transformer_spec.TransformerEncoderSpec(
        len(weights.encoder_layers), weights.heads
    )
    decoder: Any = transformer_spec.TransformerDecoderSpec(
        len(weights.decoder_layers), weights.heads, project_in_out=True
    )
    _set_embedding(encoder, encoder.embeddings[0], _merged(weights.encoder.embedding))
    _set_norm(encoder.layer_norm, weights.encoder.final_norm)
    for layer, one in zip(encoder.layer, weights.encoder_layers, strict=True):
        _set_attention(layer.self_attention, one.attention, one.attention_norm)
        _set_feed_forward(layer.ffn, one.feed_forward, one.feed_forward_norm)
    embedding, output = weights.decoder.embedding, weights.output
    _set_embedding(decoder, decoder.embeddings, embedding)
    decoder.embeddings.weight = embedding.table[:vocabulary]
    _set_linear(decoder.project_in, _scaled(embedding))
    _set_norm(decoder.layer_norm, weights.decoder.final_norm)
    for layer, two in zip(decoder.layer, weights.decoder_layers, strict=True):
        _set_attention(layer.self_attention, two.attention, two.attention_norm)
        _set_attention(layer.attention, two.cross, two.cross_norm, is_cross=True)
        _set_feed_forward(layer.ffn, two.feed_forward, two.feed_forward_norm)
    _set_linear(decoder.project_out, output.projection)
    bias = None if output.bias is None else output.bias[:vocabulary]
    _set_linear(decoder.projection, Linear(output.table[:vocabulary].T, bias))
    return transformer_spec.TransformerSpec(encoder, decoder)


def _scaled(embedding: Embedding) -> Linear:
    """Return the projection with the embedding's scale in it."""
    if embedding.projection is None:
        raise ValueError("the starter's embeddings have two factors")
    return Linear(
        embedding.projection.weight * np.float32(embedding.scale), embedding.projection.bias
    )


def _merged(embedding: Embedding) -> Embedding:
    """Return the same embedding as one table: CTranslate2's encoders project nothing."""
    layer = _scaled(embedding)
    table = embedding.table @ layer.weight
    return Embedding(
        table if layer.bias is None else table + layer.bias, 1.0, None, embedding.positions
    )


def _set_embedding(stack: Any, spec: Any, embedding: Embedding) -> None:
    spec.weight = embedding.table
    stack.scale_embeddings = False
    stack.position_encodings.encodings = embedding.positions


def _set_attention(spec: Any, attention: Attention, norm: Norm, is_cross: bool = False) -> None:
    parts = []
    for layer in (attention.query, attention.key, attention.value):
        parts.append(common_spec.LinearSpec())
        _set_linear(parts[-1], layer)
    if is_cross:
        utils.fuse_linear(spec.linear[0], parts[:1])
        utils.fuse_linear(spec.linear[1], parts[1:])
    else:
        utils.fuse_linear(spec.linear[0], parts)
    _set_linear(spec.linear[-1], attention.output)
    _set_norm(spec.layer_norm, norm)


def _set_feed_forward(spec: Any, layer: FeedForward, norm: Norm) -> None:
    _set_linear(spec.linear_0, layer.expand)
    _set_linear(spec.linear_1, layer.contract)
    _set_norm(spec.layer_norm, norm)


def _set_linear(spec: Any, layer: Linear | None) -> None:
    if layer is None:
        raise ValueError("the starter's output has two factors")
    spec.weight = np.ascontiguousarray(layer.weight.T)
    if layer.bias is not None:
        spec.bias = layer.bias


def _set_norm(spec: Any, norm: Norm | None) -> None:
    if norm is None or not math.isclose(norm.epsilon, 1e-5, rel_tol=1e-6):
        raise ValueError("every norm of the starter is as CTranslate2 takes it to be")
    spec.gamma, spec.beta = norm.weight, norm.bias
