"""Small checkpoints with random weights, as `save_pretrained` leaves them.

Import it after `pytest.importorskip("optimum.exporters.onnx")`: it needs the extra "train".
"""

from pathlib import Path
from typing import Any

import torch
import transformers as tf

from tests.exports.exporting import seeded
from tests.unit.transforms.texts import WORDS, word_tokenizer

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
_VOCABULARY = {"vocab_size": 40, "max_position_embeddings": 32}


def _words(**known: str) -> Any:
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(),
        model_max_length=32,
        pad_token="[PAD]",
        eos_token="[SEP]",
        **known,
    )


def classifier(folder: Path, safe: bool = True) -> Path:
    """A BERT with three labels."""
    labels = {"id2label": {0: "low", 1: "middle", 2: "high"}}
    config = tf.BertConfig(**SMALL, **_VOCABULARY, **labels)
    seeded(tf.BertForSequenceClassification, config).save_pretrained(
        folder, safe_serialization=safe
    )
    _words().save_pretrained(folder)
    return folder


def image_classifier(folder: Path) -> Path:
    """A ViT for 32 by 32 pixels."""
    config = tf.ViTConfig(**SMALL, image_size=32, patch_size=8, num_labels=3)
    seeded(tf.ViTForImageClassification, config).save_pretrained(folder)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def translator(folder: Path) -> Path:
    """A Marian with one layer a side."""
    config = tf.MarianConfig(
        vocab_size=40, decoder_vocab_size=40, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_position_embeddings=64, pad_token_id=len(WORDS),
        eos_token_id=3, decoder_start_token_id=len(WORDS),
    )  # fmt: skip
    model = seeded(tf.MarianMTModel, config)
    model.generation_config.forced_eos_token_id = 3
    model.save_pretrained(folder)
    _words(source_lang="zh", target_lang="en").save_pretrained(folder)
    return folder


def embedder(folder: Path) -> Path:
    """A CLIP with two small towers."""
    config = tf.CLIPConfig(
        text_config={**SMALL, **_VOCABULARY, "eos_token_id": 3},
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    seeded(tf.CLIPModel, config).save_pretrained(folder)
    _words().save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    tf.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def detector(folder: Path, confidence: float = 30.0) -> Path:
    """A YOLOS; the logits of a confident one are larger by this factor."""
    config = tf.YolosConfig(
        **SMALL, image_size=[64, 96], patch_size=16, num_detection_tokens=12,
        use_mid_position_embeddings=False, num_labels=3,
    )  # fmt: skip
    model = seeded(tf.YolosForObjectDetection, config)
    with torch.no_grad():
        model.vit.embeddings.detection_tokens.normal_(0, 1)
        head = model.class_labels_classifier.layers[-1]
        head.weight.mul_(confidence)
        head.bias[-1] = -3.0 if confidence > 1 else 30.0  # of "no object"
    model.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 110}
    tf.YolosImageProcessor(size=size).save_pretrained(folder)
    return folder


def sentence_embedder(folder: Path) -> Path:
    """A BERT with mean pooling, unit length and two prompts, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds
    from sentence_transformers.sentence_transformer import modules  # noqa: PLC0415

    inner = folder.with_name(f"{folder.name}-inner")
    seeded(tf.BertModel, tf.BertConfig(**SMALL, **_VOCABULARY)).save_pretrained(inner)
    _words().save_pretrained(inner)
    steps = [
        modules.Transformer(str(inner), max_seq_length=32),
        modules.Pooling(32, "mean"),
        modules.Normalize(),
    ]
    prompts = {"query": "one two ", "passage": "four "}
    made = SentenceTransformer(
        modules=steps, prompts=prompts, default_prompt_name="passage", device="cpu"
    )
    made.save(str(folder))
    return folder


def image_embedder(folder: Path) -> Path:
    """A DINOv2 for 28 by 28 pixels."""
    config = tf.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14,
        mlp_ratio=2,
    )  # fmt: skip
    seeded(tf.Dinov2Model, config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    tf.BitImageProcessor(**size).save_pretrained(folder)
    return folder


def convolutions(folder: Path) -> Path:
    """A ResNet of two stages."""
    config = tf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    seeded(tf.ResNetForImageClassification, config).save_pretrained(folder)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
