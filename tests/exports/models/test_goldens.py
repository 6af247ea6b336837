"""The companion files of graphs are those that the service reads."""

import json
import tomllib

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from models.version_files import (  # noqa: E402
    Goldens,
    label_scores,
    replace_table,
    unit_embedding,
    write_card,
    write_manifest,
)
from service.repository.goldens import read_goldens  # noqa: E402
from service.repository.manifest import read_manifest  # noqa: E402
from service.tasks import Classification, Embedding, Task  # noqa: E402
from tests.sentences import sentence  # noqa: E402

MANIFEST = {
    "task": "classify",
    "family": "text_classifier",
    "description": 'with "quotes", a \\ and 汉字',
    "graphs": {"fp32": {"model": "model.onnx"}, "int8": {"model": "model_int8.onnx"}},
    "default_precision": {"cpu": "int8"},
    "tolerance": {"fp32": 0.001},
    "parameters": {"labels": ["a", "b"], "pad_id": 0, "mean": [0.5, 0.25], "lower": True},
}


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    assert tomllib.loads((tmp_path / "model.toml").read_text("utf-8")) == MANIFEST
    assert read_manifest(tmp_path / "model.toml").parameters["labels"] == ["a", "b"]


def test_text_goldens_are_read_by_the_service(tmp_path):
    goldens = Goldens(tmp_path)
    logits = torch.tensor([0.0, 2.0])
    goldens.add_text("Größe 汉字\n", label_scores(["small", "large"], logits))
    goldens.write()
    (golden,) = read_goldens(tmp_path, Task.CLASSIFY)
    assert golden.item.content.text == "Größe 汉字\n"
    assert isinstance(golden.answer, Classification)
    assert [label.name for label in golden.answer.labels] == ["large", "small"]
    assert golden.answer.labels[0].score == pytest.approx(0.8807971, abs=1e-7)


def test_image_goldens_keep_every_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    goldens = Goldens(tmp_path)
    goldens.add_image(Image.fromarray(pixels, "RGBA"), unit_embedding(np.array([3.0, 4.0])))
    (tmp_path / "photo.jpg").write_bytes(b"any bytes")
    goldens.add_image_file(tmp_path / "photo.jpg", unit_embedding(np.array([0.0, 0.0])))
    goldens.write()
    first, second = read_goldens(tmp_path, Task.EMBED)
    assert isinstance(first.answer, Embedding)
    np.testing.assert_allclose(first.answer.vector, [0.6, 0.8])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "goldens" / "0.png")), pixels)
    assert second.item.content.data == b"any bytes"


def test_options_of_an_item_are_recorded_with_it(tmp_path):
    goldens = Goldens(tmp_path)
    goldens.add_text("你好", {"translation": "Hello."}, num_beams=4)
    goldens.write()
    content = json.loads((tmp_path / "goldens.json").read_text("utf-8"))
    assert content["items"][0]["item"] == {"text": "你好", "num_beams": 4}
    assert content["created_with"].startswith("torch ")


def test_only_what_stands_between_the_markers_of_a_card_is_replaced(tmp_path):
    card = "# name\n<!-- evaluation -->\nold\n<!-- /evaluation -->\nend\n"
    write_card(tmp_path, card)
    once = replace_table((tmp_path / "README.md").read_text(), "| new |\n")
    assert once == "# name\n<!-- evaluation -->\n| new |\n<!-- /evaluation -->\nend\n"
    assert replace_table(once, "| new |") == once


@pytest.mark.parametrize("card", ["# no markers", "<!-- evaluation --> only the first"])
def test_a_card_without_a_place_for_the_table_is_refused(card, tmp_path):
    with pytest.raises(ValueError, check=sentence):
        write_card(tmp_path, card)
    with pytest.raises(ValueError, check=sentence):
        replace_table(card, "| new |")
