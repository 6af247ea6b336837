"""The most used model of each task in its real size, with random weights, against transformers.

Minutes and gigabytes, so no part of `make test`: `make test-large` runs it and shows what took how
long. It is named, not found by pytest.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402

from service import tasks  # noqa: E402
from service.tasks import ClassifyItem, DetectItem, EmbedItem, Text, TranslateItem  # noqa: E402
from tests.exports import test_set_detectors as detectors  # noqa: E402
from tests.exports import translators  # noqa: E402
from tests.exports.exporting import export_directory, seeded  # noqa: E402
from tests.exports.pictures import picture  # noqa: E402
from tests.exports.serving import answers, serving  # noqa: E402
from tests.exports.test_embedders import tokenizer as word_tokenizer  # noqa: E402
from tests.exports.text_files import TEXTS, tokenizer_for  # noqa: E402
from tests.unit.transforms.images import encoded  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
]

PHOTOS = [picture((640, 480), 1), picture((427, 640), 2)]
FILES = [encoded(photo) for photo in PHOTOS]


@contextmanager
def timed(step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"\n{step}: {time.perf_counter() - started:.1f} s", end="")  # noqa: T201 - what -s is for


async def test_distilbert_base_classifies_as_transformers(tmp_path: Path) -> None:
    words = tokenizer_for("distilbert", tmp_path / "vocabulary")
    config = tf.DistilBertConfig(id2label={0: "negative", 1: "positive"})
    model = tf.DistilBertForSequenceClassification(config).eval()
    with timed("export"):
        folder = export_directory(model, words, tmp_path / "m", "text-classification")
    texts = [text for text in TEXTS if text.isprintable() and "\ud800" not in text]
    with timed("serve"):
        found, together = await answers(folder, [ClassifyItem(Text(text)) for text in texts])
    for answer, other, text in zip(found, together, texts, strict=True):
        inputs = words(text, return_tensors="pt", truncation=True, max_length=64)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            wanted = model(**inputs).logits.softmax(-1)[0].tolist()
        for one in (answer, other):
            given = {label.name: label.score for label in one.labels}
            np.testing.assert_allclose([given["negative"], given["positive"]], wanted, atol=1e-4)


async def test_yolos_small_detects_as_transformers(tmp_path: Path) -> None:
    config = tf.YolosConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=91,
        image_size=[512, 864], use_mid_position_embeddings=False,
    )  # fmt: skip
    model = seeded(tf.YolosForObjectDetection, config)
    with torch.no_grad():  # they begin as zeros, so that every query would answer the same
        model.vit.embeddings.detection_tokens.normal_(0, 1)
    processor = tf.YolosImageProcessor(size={"shortest_edge": 512, "longest_edge": 1333})
    with timed("export"):
        folder = export_directory(model, processor, tmp_path / "m", "object-detection")
    wanted = [detectors.expected(model, processor, photo) for photo in PHOTOS]
    items = [
        DetectItem(tasks.Image(file), threshold=threshold)
        for file, (threshold, _) in zip(FILES, wanted, strict=True)
    ]
    with timed("serve"):
        found, together = await answers(folder, items)
    for answered in (found, together):
        for answer, (_, objects) in zip(answered, wanted, strict=True):
            assert len(answer.objects) > 2
            detectors.compare(answer, objects, model.config.id2label)


async def test_a_marian_of_opus_size_translates_as_transformers(tmp_path: Path) -> None:
    sizes = {
        "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
        "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
        "max_position_embeddings": 512,
    }  # fmt: skip
    translator = translators.marian(tmp_path / "tokenizer", **sizes)
    model = copy.deepcopy(translator.model)
    with timed("export"):
        folder = export_directory(
            model, translator.tokenizer, tmp_path / "m", "text2text-generation-with-past"
        )
    translators.let_loops_be(folder)
    texts = translators.TEXTS[:3]
    async with serving(folder) as loaded:
        family: Any = loaded.pipeline.family
        for num_beams in (1, 4):
            works = [
                family.processor.preprocess(TranslateItem(t, num_beams=num_beams)) for t in texts
            ]
            with timed(f"num_beams {num_beams}"):
                results = loaded.instances.infer(family.model.infer, works, exclusive=False)
            assert [result["ids"].tolist() for result in results] == [
                translator.generated(text, num_beams=num_beams) for text in texts
            ]


async def test_clip_vit_b_32_embeds_as_transformers(tmp_path: Path) -> None:
    words = word_tokenizer()
    words.model_max_length = 77
    model = tf.CLIPModel(tf.CLIPConfig()).eval()
    pictures = tf.CLIPImageProcessor()
    with timed("export"):
        folder = export_directory(model, words, tmp_path / "m", "feature-extraction")
    pictures.save_pretrained(folder)
    texts = ["one", "two three four one", "one two " * 50]
    items = [EmbedItem(Text(text)) for text in texts]
    items += [EmbedItem(tasks.Image(file)) for file in FILES]
    with timed("serve"):
        found, together = await answers(folder, items)
    wanted = []
    with torch.no_grad():
        for text in texts:
            inputs = words(text, truncation=True, return_tensors="pt")
            inputs.pop("token_type_ids", None)
            wanted.append(model.get_text_features(**inputs)[0])
        wanted += [
            model.get_image_features(**pictures(photo, return_tensors="pt"))[0] for photo in PHOTOS
        ]
    for answered in (found, together):
        for answer, vector in zip(answered, wanted, strict=True):
            unit = (vector / vector.norm()).numpy()
            np.testing.assert_allclose(answer.vector, unit, atol=1e-4)
