"""A translator of a real one's size whose weights are random, but whose lengths are not.

A random network never ends a sentence, or always does. To have the same lengths on every side
without a word to any decoder, 192 of the 512 dimensions are set apart: every source token says
how many tokens are wanted, the first decoder step reads that by cross attention, and the last
feed-forward layer counts down to the end token. All else is random, and costs what it always costs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel

EOS, UNKNOWN = 0, 1
MOST = 60
"""Tokens that a translation may be asked to have."""

_CLASSES = 64
_COUNT = slice(0, _CLASSES)
_WANTED = slice(_CLASSES, 2 * _CLASSES)
_NOTHING = slice(2 * _CLASSES, 3 * _CLASSES)
"""Dimensions that say how many tokens are left, how many are wanted, and nothing: what a layer norm
subtracts from all alike can be read there."""

_AMPLITUDE = 32.0
"""Of those dimensions, after the embedding's scale; the others together have about 16."""


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a Marian network."""

    width: int = 512
    feed_forward: int = 2048
    heads: int = 8
    layers: int = 6
    vocabulary: int = 65_001


OPUS_MT = Size()


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is asked, and how many tokens the answer has; the ends of both are not counted."""

    source: Sequence[int]
    target_length: int

    @property
    def text(self) -> str:
        """Return the question as a text."""
        return text_of(self.source)

    @property
    def answer(self) -> str:
        """Return the only right answer as a text."""
        return text_of([_counter(left) for left in range(self.target_length, 0, -1)])


def sentences(count: int, seed: int, size: Size = OPUS_MT) -> Sequence[Sentence]:
    """Return sentences of 5 to 60 target tokens, all as often, with about as long sources."""
    draw = random.Random(seed)
    lengths = [5 + index % (MOST - 4) for index in range(count)]
    draw.shuffle(lengths)
    return [_sentence(length, draw, size) for length in lengths]


def _sentence(target_length: int, draw: random.Random, size: Size) -> Sentence:
    """Every source token is of the class that asks for this length."""
    rows = (size.vocabulary - 2) // _CLASSES
    length = max(4, round(target_length * draw.uniform(0.7, 1.1)))
    source = [_CLASSES * draw.randrange(2, rows) + target_length for _ in range(length - 1)]
    return Sentence(source, target_length)


def words(size: Size = OPUS_MT) -> Sequence[str]:
    """Return what each token is called."""
    between = [f"w{token}" for token in range(2, size.vocabulary - 1)]
    return ["</s>", "<unk>", *between, "<pad>"]


def text_of(tokens: Sequence[int]) -> str:
    """Return tokens, the end and the padding not among them, as a text."""
    return " ".join(f"w{token}" for token in tokens)


def _counter(left: int) -> int:
    """Return the token that says how many are left, itself counted."""
    return EOS if left == 0 else UNKNOWN + left


@torch.no_grad()
def network(size: Size = OPUS_MT, seed: int = 7) -> MarianMTModel:
    """Return the network. The last token is the padding, and begins a translation."""
    torch.manual_seed(seed)
    pad = size.vocabulary - 1
    model = MarianMTModel(
        MarianConfig(
            vocab_size=size.vocabulary,
            d_model=size.width,
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            encoder_attention_heads=size.heads,
            decoder_attention_heads=size.heads,
            encoder_ffn_dim=size.feed_forward,
            decoder_ffn_dim=size.feed_forward,
            max_position_embeddings=512,
            activation_function="swish",
            scale_embedding=True,
            pad_token_id=pad,
            eos_token_id=EOS,
            decoder_start_token_id=pad,
            forced_eos_token_id=None,
        )
    ).eval()
    model.generation_config.bad_words_ids = [[pad]]
    model.final_logits_bias.normal_(std=0.01)
    _keep_apart(model)
    _embed(model.model.shared.weight, size)
    last = model.model.decoder.layers[-1]
    _read_what_is_wanted(last.encoder_attn, size.width // size.heads)
    _count_down(last)
    return model


def _keep_apart(model: Any) -> None:
    """Let no part write to the dimensions that count."""
    apart = slice(0, _NOTHING.stop)
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions.weight[:, apart] = 0
        for layer in stack.layers:
            attentions = [layer.self_attn, getattr(layer, "encoder_attn", None)]
            outputs = [a.out_proj for a in attentions if a is not None]
            for part in (*outputs, layer.fc2):
                part.weight[apart] = 0
                part.bias[apart] = 0


def _embed(table: torch.Tensor, size: Size) -> None:
    amplitude = _AMPLITUDE / size.width**0.5
    table[:, : _NOTHING.stop] = 0
    table[-1] = 0  # Marian begins with nothing
    for left in range(MOST + 1):
        table[_counter(left), left] = amplitude
    for token in range(2 * _CLASSES, size.vocabulary - 1):
        table[token, _WANTED.start + token % _CLASSES] = amplitude


def _read_what_is_wanted(attention: Any, head_width: int) -> None:
    """Copy it from the source: whatever the attention looks at, its weights add up to one."""
    if head_width < _CLASSES:
        raise ValueError(f"a head must be at least {_CLASSES} wide")
    attention.v_proj.weight[:_CLASSES] = 0
    attention.v_proj.weight[:_CLASSES, _WANTED] = 0.5 * torch.eye(_CLASSES)
    attention.v_proj.bias[:_CLASSES] = 0
    attention.out_proj.weight[:, :_CLASSES] = 0
    attention.out_proj.weight[_WANTED, :_CLASSES] = torch.eye(_CLASSES)


def _count_down(layer: Any) -> None:
    """One less than there was; or what is wanted, where nothing was there."""
    each = torch.eye(_CLASSES)
    less, begin = slice(0, _CLASSES), slice(_CLASSES, 2 * _CLASSES)
    expand, contract = layer.fc1, layer.fc2
    for units in (less, begin):
        expand.weight[units] = 0
        expand.bias[units] = -6.0
        contract.weight[:, units] = 0
    expand.weight[less, _COUNT] = each
    contract.weight[_COUNT, less] = 3 * (torch.roll(each, -1, dims=0) - each)
    contract.weight[0, 0] = 0  # nothing is less than the end
    contract.weight[_CLASSES - 1, 0] = 0
    expand.weight[begin, _WANTED] = 2 * each
    expand.weight[begin, _COUNT] = -4.0
    expand.weight[begin, _NOTHING] = 4.0
    contract.weight[_COUNT, begin] = 3 * each
