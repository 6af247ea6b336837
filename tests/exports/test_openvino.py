"""OpenVINO on the starters and on exports of usual architectures, against ONNX Runtime.

That ONNX Runtime's answers to such exports are PyTorch's is what the other tests here hold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import onnx
import transformers as tf

from service.errors import ModelLoadError
from service.registry.choice import Chooser
from service.runtime.providers import Device
from tests.exports.exporting import export_directory, seeded
from tests.exports.serving import serving

pytestmark = [pytest.mark.looptime(False)]

STARTERS = Path(__file__).parents[2] / "models" / "repository"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
PICTURES = {**SMALL, "intermediate_size": 48, "image_size": 32, "patch_size": 8}
WORDS = {**SMALL, "intermediate_size": 48, "vocab_size": 60, "max_position_embeddings": 40}


def _resnet() -> Any:
    config = tf.ResNetConfig(embedding_size=8, depths=[1, 1], hidden_sizes=[8, 16])
    return seeded(tf.ResNetForImageClassification, config)


def _vit() -> Any:
    return seeded(tf.ViTForImageClassification, tf.ViTConfig(**PICTURES))


def _distilbert() -> Any:
    config = tf.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=60)
    return seeded(tf.DistilBertForSequenceClassification, config)


def _bert() -> Any:
    return seeded(tf.BertForSequenceClassification, tf.BertConfig(**WORDS))


def _clip() -> Any:
    config = tf.CLIPConfig(text_config=WORDS, vision_config=PICTURES, projection_dim=24)
    return seeded(tf.CLIPModel, config)


EXPORTS = {
    "resnet": (_resnet, "image-classification"),
    "vit": (_vit, "image-classification"),
    "distilbert": (_distilbert, "text-classification"),
    "bert": (_bert, "text-classification"),
    "clip": (_clip, "zero-shot-image-classification"),
}


def feeds_for(session: Any, rows: int, length: int) -> Mapping[str, np.ndarray]:
    """Return random images and ids; the last text has padding."""
    rng = np.random.default_rng(rows * length)
    feeds = {}
    for name, spec in session.inputs.items():
        if spec.dtype == "float32":
            feeds[name] = rng.standard_normal((rows, 3, 32, 32), np.float32)
            continue
        feeds[name] = np.ones((rows, length), spec.dtype)
        if name == "input_ids":
            feeds[name] = rng.integers(3, 59, (rows, length)).astype(spec.dtype)
        elif name == "attention_mask":
            feeds[name][-1, length // 2 :] = 0
        elif name == "token_type_ids":
            feeds[name][:] = 0
    return feeds


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gives_the_same_tensors(name: str, tmp_path: Path) -> None:
    make, task = EXPORTS[name]
    path = export_directory(make(), None, tmp_path / name, task) / "model.onnx"
    first, other = (
        device.provider.opens(path, device, 1)
        for device in (Device("cpu"), Device("openvino", cores=2))
    )
    assert list(first.inputs) == list(other.inputs)
    assert list(first.outputs) == list(other.outputs)
    for rows, length in ((1, 8), (3, 13), (2, 8)):
        feeds = feeds_for(first, rows, length)
        found = other.run(feeds)
        for output, wanted in first.run(feeds).items():
            scale = max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(found[output] / scale, wanted / scale, atol=2e-5)


@pytest.mark.parametrize("name", ["cards", "digits", "emoji", "news-topics", "zh-en"])
async def test_a_starter_repeats_its_goldens_alone_and_in_batches(name: str) -> None:
    chooser = Chooser(provider="openvino")
    async with serving(STARTERS / name, "fp32", chooser) as loaded:
        computed = {session for session, kind in loaded.providers.items() if kind == "openvino"}
        # The step graphs of `zh-en` work in place and stay with ONNX Runtime.
        assert computed == ({"encoder"} if name == "zh-en" else set(loaded.providers))
        assert loaded.parity is not None
        assert loaded.parity.deviation <= (loaded.parity.tolerance if name == "zh-en" else 1e-4)


def test_an_export_that_it_cannot_run_is_refused(tmp_path: Path) -> None:
    folder = export_directory(_distilbert(), None, tmp_path / "wide", "text-classification")
    model = onnx.load(folder / "model.onnx")
    model.graph.node[-1].domain = "org.example"
    model.opset_import.append(onnx.helper.make_opsetid("org.example", 1))
    onnx.save(model, folder / "model.onnx")
    device = Device("openvino")
    with pytest.raises(ModelLoadError, match=r"model\.onnx"):
        device.provider.opens(folder / "model.onnx", device, 1)
