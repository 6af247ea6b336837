"""Exports served by OpenVINO under each exactness, against transformers on PyTorch.

The answers of PyTorch are the goldens, so what deviates from them must not be chosen, whatever
this machine computes float32 in.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

from service.registry.choice import Chooser
from service.repository.exactness import CLOSE_SCORE, Exactness
from service.runtime.providers import PROVIDERS
from service.tasks import ClassifyItem, Image, Text
from tests.exports.exporting import export_directory, settled
from tests.exports.pictures import FILES, PICTURES
from tests.exports.serving import answers, serving
from tests.exports.test_image_classifiers import LABELS, MODELS, expected, scores_of
from tests.exports.test_text_classifiers import TEXTS, exported, reference

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore")]

BOUNDS: dict[Exactness, float] = {"strict": 1e-3, "close": CLOSE_SCORE, "fast": CLOSE_SCORE}
NAMES = {number: name for number, name in LABELS["id2label"].items() if name != "crane"}


def images(name: str, folder: Path) -> tuple[Path, Sequence[Any], list[dict[str, float]]]:
    model, processor = MODELS[name]()
    model.config.id2label = {number: f"{label} {number}" for number, label in NAMES.items()}
    model.config.id2label |= {number: f"crane {number}" for number in (0, 2)}
    settled(model, processor(PICTURES, return_tensors="pt"))
    export_directory(model, processor, folder, "image-classification")
    wanted = [
        {model.config.id2label[number]: float(score) for number, score in enumerate(scores)}
        for scores in scores_of(expected(model, processor))
    ]
    (folder / "goldens").mkdir()
    for number, file in enumerate(FILES):
        (folder / f"goldens/{number}.png").write_bytes(file)
    record(folder, [{"image": f"goldens/{number}.png"} for number in range(len(FILES))], wanted)
    return folder, [ClassifyItem(Image(file)) for file in FILES], wanted


def texts(name: str, folder: Path) -> tuple[Path, Sequence[Any], list[dict[str, float]]]:
    folder, model, tokenizer = exported(name, folder)
    asked = [text for text in TEXTS if text.strip() and text.isprintable()]
    wanted = [reference(model, tokenizer, text) for text in asked]
    record(folder, [{"text": text} for text in asked], wanted)
    return folder, [ClassifyItem(Text(text)) for text in asked], wanted


def record(folder: Path, items: list[dict[str, str]], wanted: list[dict[str, float]]) -> None:
    rows = []
    for item, scores in zip(items, wanted, strict=True):
        ranked = sorted(scores.items(), key=lambda one: -one[1])
        labels = [{"label": label, "score": score} for label, score in ranked]
        rows.append({"item": item, "answer": {"labels": labels}})
    facts = {"created_with": "transformers", "items": rows}
    (folder / "goldens.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize("exactness", BOUNDS)
@pytest.mark.parametrize(
    ("make", "name", "provider"),
    [
        (images, "ResNet", "openvino"),
        (images, "ViT", "openvino"),
        (texts, "DistilBert", "openvino"),
        (texts, "DebertaV2", "auto"),  # OpenVINO cannot run it: it stays with ONNX Runtime
    ],
)
async def test_answers_are_as_near_to_pytorch_as_the_exactness_says(
    make: Any, name: str, provider: str, exactness: Exactness, tmp_path: Path
) -> None:
    folder, items, wanted = make(name, tmp_path / "m")
    chooser = Chooser(provider, exactness, seconds=0.2)
    for found in await answers(folder, items, chooser):
        for answer, scores in zip(found, wanted, strict=True):
            given = {label.name: label.score for label in answer.labels}
            assert given.keys() == scores.keys()
            assert max(given, key=given.__getitem__) == max(scores, key=scores.__getitem__)
            np.testing.assert_allclose(
                [given[label] for label in scores],
                list(scores.values()),
                atol=BOUNDS[exactness],
            )


@pytest.mark.parametrize("exactness", BOUNDS)
async def test_lower_precisions_are_tried_where_they_are_allowed(
    exactness: Exactness, tmp_path: Path
) -> None:
    folder, _, _ = texts("DistilBert", tmp_path / "m")
    chooser = Chooser("auto", exactness, seconds=0.2)
    async with serving(folder, chooser=chooser) as loaded:
        assert loaded.choice is not None
        tried = {
            row.inference_precision
            for row in loaded.choice.candidates
            if row.provider == "openvino" and row.verdict != "refused"
        }
    here = PROVIDERS["openvino"].inference_precisions()
    assert tried == set(here if exactness != "strict" else ["f32"])
