"""Step graphs of any size and kind give PyTorch's probabilities, of every token, in every row."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
tf = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("onnx")

from models.convert.inflight import STEP_RECIPES, write_precision  # noqa: E402
from models.graphs.pretrained_weights import weights_of  # noqa: E402
from models.graphs.translator_weights import TranslatorWeights  # noqa: E402
from service.families.translation.kv_cache import KVCache  # noqa: E402
from service.runtime.providers import Device  # noqa: E402
from service.runtime.session import OrtSession  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = pytest.mark.looptime(False)

VOCABULARY, STEPS = 60, 7
BART = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40, "max_position_embeddings": 64, "pad_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2,
    "num_decoder_layers": 3, "num_heads": 2, "pad_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 5,  # which the sentences here are longer than
}  # fmt: skip
SEVERAL_VOCABULARIES = {
    "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 50,
    "tie_word_embeddings": False, "scale_embedding": True,
}  # fmt: skip
CONFIGS: Mapping[str, tuple[str, Any]] = {
    "Marian, three heads": ("MarianMTModel", tf.MarianConfig(
        **{**BART, "d_model": 48, "encoder_attention_heads": 3, "decoder_attention_heads": 3})),
    "Marian, other heads in the encoder": ("MarianMTModel", tf.MarianConfig(
        **{**BART, "encoder_attention_heads": 4}, scale_embedding=True,
        activation_function="swish")),
    "Marian, two vocabularies": ("MarianMTModel", tf.MarianConfig(
        **BART, **SEVERAL_VOCABULARIES, activation_function="relu")),
    "mBART, nothing tied or scaled": ("MBartForConditionalGeneration", tf.MBartConfig(
        **BART, tie_word_embeddings=False, scale_embedding=False)),
    "mBART, one head": ("MBartForConditionalGeneration", tf.MBartConfig(
        **{**BART, "encoder_attention_heads": 1, "decoder_attention_heads": 1},
        scale_embedding=True, activation_function="gelu_new")),
    "M2M-100, not scaled": ("M2M100ForConditionalGeneration", tf.M2M100Config(
        **BART, scale_embedding=False)),
    "M2M-100, nothing tied": ("M2M100ForConditionalGeneration", tf.M2M100Config(
        **BART, tie_word_embeddings=False)),
    "T5, heads wider than the model": ("T5ForConditionalGeneration", tf.T5Config(
        **{**T5, "d_kv": 24, "num_heads": 3})),
    "T5 v1.1": ("T5ForConditionalGeneration", tf.T5Config(
        **{**T5, "d_kv": 8}, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "mT5": ("MT5ForConditionalGeneration", tf.MT5Config(
        **{**T5, "num_heads": 5, "d_kv": 8}, feed_forward_proj="gated-silu")),
}  # fmt: skip


def made(name: str, seed: int = 3) -> Any:
    kind, config = CONFIGS[name]
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = getattr(tf, kind)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model


def read(model: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Sentences of different lengths, and what is written so far; each a row."""
    rng = np.random.default_rng(4)
    lengths = np.array([9, 1, 14, 4])
    ids = rng.integers(3, 50, (4, 14))
    mask = (np.arange(14) < lengths[:, None]).astype(np.int64)
    written = rng.integers(3, 50, (4, STEPS))
    written[:, 0] = model.config.decoder_start_token_id
    return {"input_ids": np.where(mask, ids, 1), "attention_mask": mask}, written


def wanted(model: Any) -> np.ndarray:
    feeds, written = read(model)
    inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
    with torch.inference_mode():
        logits = model(**inputs, decoder_input_ids=torch.from_numpy(written)).logits
    return logits.log_softmax(-1).numpy()


def given(model: Any, weights: TranslatorWeights, folder: Path, precision: str) -> np.ndarray:
    """The log-probabilities of all tokens, [rows, steps, vocabulary]."""
    graphs = write_precision(weights, STEP_RECIPES[precision], folder)
    sessions = {name: OrtSession(path, Device("cpu"), 1) for name, path in graphs.items()}
    feeds, written = read(model)
    count, vocabulary = len(written), len(weights.output.table)
    caches = KVCache()
    caches.reserve(sessions, count, STEPS, 14)
    _, cross = sessions["encoder"].run_kept(feeds, host=())
    caches.join(sessions, cross, np.arange(count))
    caches.source_lengths[:count] = feeds["attention_mask"].sum(axis=1)
    found = np.full((count, STEPS, vocabulary), np.nan, np.float32)
    for step in range(STEPS):
        caches.tokens[:count], caches.positions[:count] = written[:, step], step
        chosen = caches.step(sessions, count, vocabulary)
        np.put_along_axis(found[:, step], chosen.ids, chosen.logprobs, axis=1)
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_every_token_is_as_probable_as_in_pytorch(name: str, tmp_path: Path) -> None:
    model = made(name)
    found = given(model, weights_of(model), tmp_path, "fp32")
    np.testing.assert_allclose(found, wanted(model), rtol=3e-6, atol=2e-5)


@pytest.mark.parametrize("name", ["Marian, other heads in the encoder", "T5 v1.1"])
@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-weights", "int4"])
def test_other_precisions_are_near(name: str, precision: str, tmp_path: Path) -> None:
    model = made(name)
    exact = wanted(model)
    loss = np.abs(given(model, weights_of(model), tmp_path, precision) - exact).max()
    most = {"fp16": 0.01, "int8": 0.1, "int8-weights": 0.1, "int4": 0.5}[precision]
    assert 0 < loss < most * np.abs(exact).max()


@pytest.mark.parametrize("name", ["Marian, two vocabularies", "T5 v1.1"])
def test_a_forbidden_token_counts_among_the_others_and_is_never_the_best(
    name: str, tmp_path: Path
) -> None:
    model, forbidden = made(name), [7, 30, 41]
    found = given(model, weights_of(model, forbidden), tmp_path, "fp32")
    allowed = np.setdiff1d(np.arange(found.shape[2]), forbidden)
    np.testing.assert_allclose(
        found[:, :, allowed], wanted(model)[:, :, allowed], rtol=3e-6, atol=2e-5
    )
    assert not (found[:, :, forbidden] > -np.inf).any()


def test_what_has_no_step_graphs_is_refused_by_name() -> None:
    config = tf.BlenderbotSmallConfig(**BART)
    with pytest.raises(ValueError, check=sentence):
        weights_of(tf.BlenderbotSmallForConditionalGeneration(config))
    config = tf.MarianConfig(**BART, activation_function="tanh")
    with pytest.raises(ValueError, check=sentence):
        weights_of(tf.MarianMTModel(config))
