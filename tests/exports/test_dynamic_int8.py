"""Exports quantised as `quantize_dynamic` does are batched, by rows, and no worse for it."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import quantize_dynamic

from service.tasks import Classification, ClassifyItem, Text
from tests.exports.serving import answers, serving
from tests.exports.test_text_classifiers import exported
from tests.exports.text_files import CORPUS, LABELS, TEXTS

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore"),
]

WORDS = " ".join(CORPUS).split()
RANDOM = random.Random(1)
# Many, for a mean: the file's own error on nine texts may be anything.
MADE = [" ".join(RANDOM.choices(WORDS, k=RANDOM.randint(2, 40))) for _ in range(60)]
ITEMS = [ClassifyItem(Text(text)) for text in (*TEXTS, *MADE)]


def scores(found: Sequence[Classification]) -> NDArray[np.float64]:
    by_name = [{label.name: label.score for label in one.labels} for one in found]
    return np.array([[one[name] for name in LABELS] for one in by_name])


def with_batch_variance(folder: Path, wanted: str) -> Path:
    (folder / "model.toml").write_text(f'batch_variance = "{wanted}"\n', encoding="utf-8")
    return folder


async def batched(folder: Path) -> bool:
    async with serving(folder) as loaded:
        return loaded.pipeline.engines["default"].statistics().ceiling > 1


@pytest.mark.parametrize("name", ["DistilBert", "Roberta", "DebertaV2", "ModernBert"])
def test_it_is_batched_by_default_and_as_near_to_fp32_as_the_file(
    name: str, tmp_path: Path
) -> None:
    folder, _, _ = exported(name, tmp_path)
    right = scores(asyncio.run(answers(folder, ITEMS))[0])
    (fp32,) = folder.rglob("model.onnx")
    quantize_dynamic(fp32, fp32.with_name("model_quantized.onnx"), per_channel=True)
    fp32.unlink()

    assert asyncio.run(batched(folder))
    alone, together = map(scores, asyncio.run(answers(folder, ITEMS)))
    np.testing.assert_allclose(together, alone, atol=1e-5)

    with_batch_variance(folder, "isolate")
    assert not asyncio.run(batched(folder))
    as_written = scores(asyncio.run(answers(folder, ITEMS))[0])
    assert np.abs(alone - right).mean() <= 1.3 * np.abs(as_written - right).mean()
    assert np.abs(alone - as_written).max() > 0  # it is another arithmetic
