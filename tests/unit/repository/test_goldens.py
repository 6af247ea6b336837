import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import ModelLoadError
from service.repository.goldens import Golden, read_goldens
from service.tasks import (
    Classification,
    ClassifyItem,
    DetectedObject,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    Image,
    Label,
    Task,
    Text,
    TranslateItem,
    Translation,
)
from tests.sentences import sentence

LABELS = {"labels": [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "m" / "1"
    (path / "goldens").mkdir(parents=True)
    (path / "goldens" / "0.png").write_bytes(b"png")
    return path


def write(folder: Path, *records: tuple[dict[str, Any], dict[str, Any]]) -> None:
    items = [{"item": item, "answer": answer} for item, answer in records]
    text = json.dumps({"created_with": "torch 2.13.0", "items": items}, ensure_ascii=False)
    (folder / "goldens.json").write_text(text, encoding="utf-8")


def test_a_version_without_goldens_has_none(folder: Path) -> None:
    assert read_goldens(folder, Task.CLASSIFY) == ()


def test_classifications_of_texts_and_images_are_read(folder: Path) -> None:
    write(
        folder, ({"text": "héllo 你好"}, LABELS), ({"image": "goldens/0.png", "top_k": 1}, LABELS)
    )
    answer = Classification((Label("a", 0.75), Label("b", 0.25)))
    assert read_goldens(folder, Task.CLASSIFY) == (
        Golden(ClassifyItem(Text("héllo 你好")), answer),
        Golden(ClassifyItem(Image(b"png"), top_k=1), answer),
    )


def test_a_pair_of_texts_and_the_name_of_a_prompt_are_read(folder: Path) -> None:
    write(folder, ({"text": "it rains", "text_pair": "it is wet"}, LABELS))
    (pair,) = read_goldens(folder, Task.CLASSIFY)
    assert pair.item == ClassifyItem(Text("it rains"), None, "it is wet")
    write(folder, ({"text": "rain", "prompt_name": "query"}, {"embedding": [1]}))
    (prompted,) = read_goldens(folder, Task.EMBED)
    assert prompted.item == EmbedItem(Text("rain"), "query")


def test_an_empty_text_is_a_text(folder: Path) -> None:
    write(folder, ({"text": ""}, LABELS))
    assert read_goldens(folder, Task.CLASSIFY)[0].item == ClassifyItem(Text(""))


def test_translations_are_read_with_their_options(folder: Path) -> None:
    write(folder, ({"text": "你好", "num_beams": 4, "length_penalty": 1}, {"translation": "hi"}))
    assert read_goldens(folder, Task.TRANSLATE) == (
        Golden(
            TranslateItem("你好", num_beams=4, length_penalty=1.0),
            Translation("hi", "", "", truncated=False),
        ),
    )


def test_detections_are_read(folder: Path) -> None:
    found = {"objects": [{"label": "ace", "score": 0.9, "box": [1, 2, 3.5, 4]}]}
    write(folder, ({"image": "goldens/0.png"}, found))
    assert read_goldens(folder, Task.DETECT) == (
        Golden(
            DetectItem(Image(b"png")),
            Detections((DetectedObject("ace", 0.9, (1.0, 2.0, 3.5, 4.0)),), 0, 0),
        ),
    )


def test_embeddings_are_read_as_float32(folder: Path) -> None:
    write(
        folder,
        ({"text": "cat"}, {"embedding": [0.6, 0.8]}),
        ({"image": "goldens/0.png"}, {"embedding": [1, 0]}),
    )
    first, second = read_goldens(folder, Task.EMBED)
    assert (first.item, second.item) == (EmbedItem(Text("cat")), EmbedItem(Image(b"png")))
    assert isinstance(first.answer, Embedding)
    assert first.answer.vector.dtype == np.float32
    np.testing.assert_array_equal(first.answer.vector, np.array([0.6, 0.8], np.float32))


@pytest.mark.parametrize(
    ("task", "item", "answer"),
    [
        (Task.CLASSIFY, {}, LABELS),
        (Task.CLASSIFY, {"text": "x", "image": "goldens/0.png"}, LABELS),
        (Task.CLASSIFY, {"image": "goldens/0.png", "text_pair": "x"}, LABELS),
        (Task.CLASSIFY, {"txt": "x"}, LABELS),
        (Task.CLASSIFY, {"text": "x"}, {"labels": "a"}),
        (Task.CLASSIFY, {"text": "x"}, {"translation": "a"}),
        (Task.TRANSLATE, {"text": 1}, {"translation": ""}),
        (Task.DETECT, {"image": "goldens/1.png"}, {"objects": []}),
        (Task.DETECT, {"image": "../../secret"}, {"objects": []}),
        (
            Task.DETECT,
            {"image": "goldens/0.png"},
            {"objects": [{"label": "a", "score": 1, "box": [1, 2, 3]}]},
        ),
        (Task.EMBED, {"text": "x"}, {"embedding": []}),
        (Task.EMBED, {"text": "x"}, {"embedding": [float("nan")]}),
    ],
)
def test_wrong_goldens_are_refused_with_the_place_and_the_reason(
    folder: Path, task: Task, item: dict[str, Any], answer: dict[str, Any]
) -> None:
    write(folder, (item, answer))
    with pytest.raises(ModelLoadError) as refusal:
        read_goldens(folder, task)
    assert str(refusal.value).startswith("m/1/goldens.json: ")
    assert sentence(str(refusal.value))


def test_a_golden_image_that_is_a_link_out_of_the_version_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "goldens" / "1.png").symlink_to(tmp_path / "secret")
    write(folder, ({"image": "goldens/1.png"}, {"objects": []}))
    with pytest.raises(ModelLoadError, check=sentence):
        read_goldens(folder, Task.DETECT)


def test_what_is_no_json_is_refused(folder: Path) -> None:
    (folder / "goldens.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelLoadError, check=sentence):
        read_goldens(folder, Task.EMBED)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    (folder / "goldens.json").mkdir()
    with pytest.raises(ModelLoadError, check=sentence):
        read_goldens(folder, Task.EMBED)
