"""Weights as transformers loads them: Marian, mBART, M2M-100 (NLLB), BART, Pegasus and T5."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from models.graphs.translator_weights import (
    Activation,
    Attention,
    DecoderLayer,
    Embedding,
    EncoderLayer,
    FeedForward,
    Floats,
    Linear,
    Norm,
    Output,
    Stack,
    TranslatorWeights,
)

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "swish": "swish",
    "silu": "swish",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
}


def weights_of(
    model: PreTrainedModel, forbidden: Sequence[int] = (), renormalizes: bool = False
) -> TranslatorWeights:
    """Return the weights of an encoder-decoder model that is never to write some tokens.

    Args:
        model: of transformers.
        forbidden: those tokens.
        renormalizes: whether the probabilities of the others sum to 1.

    Raises:
        ValueError: its architecture, or its activation, is not one of those of this module.
    """
    kind = model.config.model_type
    if kind not in _READERS:
        raise ValueError(f"{kind} cannot be exported; known are {', '.join(_READERS)}")
    weights = _READERS[kind](model)
    output = replace(weights.output, forbidden=tuple(forbidden), renormalizes=renormalizes)
    return replace(weights, output=output)


def _bart_like(model: Any) -> TranslatorWeights:
    """Marian and BART normalise after each part, the others before."""
    config, inner = model.config, model.model
    norm_first = config.model_type not in ("marian", "bart")
    table = _floats(model.lm_head.weight)
    bias = getattr(model, "final_logits_bias", None)
    output = Output(table, None if bias is None else _floats(bias)[0])
    return TranslatorWeights(
        heads=config.decoder_attention_heads,
        head_width=config.d_model // config.decoder_attention_heads,
        norm_first=norm_first,
        attention_scale=(config.d_model // config.decoder_attention_heads) ** -0.5,
        encoder=_bart_stack(inner.encoder, config, _floats(inner.encoder.embed_tokens.weight)),
        encoder_layers=[
            EncoderLayer(
                _bart_attention(layer.self_attn),
                _norm(layer.self_attn_layer_norm),
                _bart_feed_forward(layer, config),
                _norm(layer.final_layer_norm),
            )
            for layer in inner.encoder.layers
        ],
        decoder=_bart_stack(inner.decoder, config, _same(table, inner.decoder.embed_tokens)),
        decoder_layers=[
            DecoderLayer(
                _bart_attention(layer.self_attn),
                _norm(layer.self_attn_layer_norm),
                _bart_attention(layer.encoder_attn),
                _norm(layer.encoder_attn_layer_norm),
                _bart_feed_forward(layer, config),
                _norm(layer.final_layer_norm),
            )
            for layer in inner.decoder.layers
        ],
        output=output,
        encoder_heads=config.encoder_attention_heads,
    )


def _bart_stack(stack: Any, config: Any, table: Floats) -> Stack:
    scale = config.d_model**0.5 if config.scale_embedding else 1.0
    length = config.max_position_embeddings
    places: Any = stack.embed_positions
    match config.model_type:
        case "marian" | "pegasus":
            positions = _floats(places.weight)
        case "mbart" | "bart":
            positions = _floats(places.weight)[places.offset :]
        case _:  # M2M-100 counts from the padding token's id on
            positions = _floats(places.weights)[places.padding_idx + 1 :][:length]
    before = getattr(stack, "layernorm_embedding", None)
    after = getattr(stack, "layer_norm", None)
    embedding = Embedding(table, scale, None, positions, None if before is None else _norm(before))
    return Stack(embedding, None if after is None else _norm(after))


def _bart_attention(attention: Any) -> Attention:
    return Attention(
        _linear(attention.q_proj),
        _linear(attention.k_proj),
        _linear(attention.v_proj),
        _linear(attention.out_proj),
    )


def _bart_feed_forward(layer: Any, config: Any) -> FeedForward:
    activation = _activation(config.activation_function)
    return FeedForward(_linear(layer.fc1), _linear(layer.fc2), activation)


def _t5(model: Any) -> TranslatorWeights:
    config = model.config
    table = _floats(model.lm_head.weight)
    scale = config.d_model**-0.5 if config.tie_word_embeddings else 1.0
    return TranslatorWeights(
        heads=config.num_heads,
        head_width=config.d_kv,
        norm_first=True,
        attention_scale=1.0,
        encoder=_t5_stack(model.encoder, config, _floats(model.encoder.embed_tokens.weight)),
        encoder_layers=[
            EncoderLayer(
                _t5_attention(block.layer[0].SelfAttention),
                _norm(block.layer[0].layer_norm),
                _t5_feed_forward(block.layer[1].DenseReluDense, config),
                _norm(block.layer[1].layer_norm),
            )
            for block in model.encoder.block
        ],
        decoder=_t5_stack(model.decoder, config, _same(table, model.decoder.embed_tokens)),
        decoder_layers=[
            DecoderLayer(
                _t5_attention(block.layer[0].SelfAttention),
                _norm(block.layer[0].layer_norm),
                _t5_attention(block.layer[1].EncDecAttention),
                _norm(block.layer[1].layer_norm),
                _t5_feed_forward(block.layer[2].DenseReluDense, config),
                _norm(block.layer[2].layer_norm),
            )
            for block in model.decoder.block
        ],
        output=Output(table, scale=scale),
    )


def _t5_stack(stack: Any, config: Any, table: Floats) -> Stack:
    attention = stack.block[0].layer[0].SelfAttention
    longest = attention.relative_attention_max_distance + 1  # from there on all is alike
    first = 0 if stack.is_decoder else -(longest - 1)
    apart = torch.arange(first, longest)
    buckets = attention._relative_position_bucket(
        -apart if stack.is_decoder else apart,
        bidirectional=not stack.is_decoder,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    distances = _floats(attention.relative_attention_bias.weight[buckets])
    return Stack(Embedding(table), _norm(stack.final_layer_norm), distances)


def _t5_attention(attention: Any) -> Attention:
    return Attention(
        _linear(attention.q), _linear(attention.k), _linear(attention.v), _linear(attention.o)
    )


def _t5_feed_forward(layer: Any, config: Any) -> FeedForward:
    activation = _activation(config.dense_act_fn)
    if config.is_gated_act:
        return FeedForward(_linear(layer.wi_0), _linear(layer.wo), activation, _linear(layer.wi_1))
    return FeedForward(_linear(layer.wi), _linear(layer.wo), activation)


_READERS: dict[str, Callable[[Any], TranslatorWeights]] = {
    "marian": _bart_like,
    "mbart": _bart_like,
    "m2m_100": _bart_like,
    "bart": _bart_like,
    "pegasus": _bart_like,
    "t5": _t5,
    "mt5": _t5,
}
MODEL_TYPES: Sequence[str] = tuple(_READERS)
"""What transformers calls the architectures that are known here."""


def _same(table: Floats, tokens: Any) -> Floats:
    """Return the very table where the embedding holds the same numbers: then it is tied."""
    own = _floats(tokens.weight)
    return table if np.array_equal(own, table) else own


def _activation(name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _linear(layer: nn.Linear) -> Linear:
    weight = np.ascontiguousarray(_floats(layer.weight).T)
    return Linear(weight, None if layer.bias is None else _floats(layer.bias))


def _norm(layer: Any) -> Norm:
    bias = getattr(layer, "bias", None)
    epsilon = layer.eps if hasattr(layer, "eps") else layer.variance_epsilon
    return Norm(_floats(layer.weight), None if bias is None else _floats(bias), epsilon)


def _floats(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().float().numpy()
    return array
