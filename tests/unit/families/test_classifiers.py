"""Labels from texts and from images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import tasks
from service.errors import InferenceError, InvalidInputError, ModelLoadError
from service.families.classifier import (
    ImageClassifierParameters,
    TextClassifierParameters,
    open_image_classifier,
    open_text_classifier,
    ranked,
)
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.tasks import Classification, ClassifyItem, Label, Text
from tests.sentences import sentence
from tests.unit.families.sessions import NumpySession, text_session
from tests.unit.transforms.images import encoded
from tests.unit.transforms.texts import CLS, SEP, word_tokenizer

TEXT = {"labels": ["a", "b", "c"], "max_length": 6, "pad_id": 7}
IMAGE = {"labels": ["a", "b"], "image_size": [2, 3], "mode": "L", "mean": [0.5], "std": [0.5]}


def text_classifier(folder: Path, **changes: Any) -> Opened[ClassifyItem, Classification]:
    word_tokenizer().save(str(folder / "tokenizer.json"))
    parameters = read_parameters({**TEXT, **changes}, TextClassifierParameters)
    return open_text_classifier(folder, parameters)


def image_classifier(**changes: Any) -> Opened[ClassifyItem, Classification]:
    parameters = read_parameters({**IMAGE, **changes}, ImageClassifierParameters)
    return open_image_classifier(Path(), parameters)


def giving(*logits: float) -> dict[str, NumpySession]:
    """A graph that gives every row these logits."""
    return {
        "model": NumpySession(
            lambda feeds: {
                "logits": np.tile(np.float32(logits), (len(next(iter(feeds.values()))), 1))
            }
        )
    }


def labelled(
    family: Opened[ClassifyItem, Classification],
    sessions: dict[str, NumpySession],
    top_k: int | None = None,
) -> Classification:
    item = ClassifyItem(Text("one"), top_k)
    return family.processor.postprocess(
        family.model.infer(sessions, [family.processor.preprocess(item)])[0], item
    )


def test_scores_are_a_softmax_and_best_first(tmp_path: Path) -> None:
    found = labelled(text_classifier(tmp_path), giving(np.log(2), np.log(5), np.log(3)))
    assert [label.name for label in found.labels] == ["b", "c", "a"]
    assert [label.score for label in found.labels] == pytest.approx([0.5, 0.3, 0.2])


def test_equal_scores_keep_the_order_of_the_labels(tmp_path: Path) -> None:
    family = text_classifier(tmp_path)
    assert [x.name for x in labelled(family, giving(1, 2, 1)).labels] == ["b", "a", "c"]
    assert [x.name for x in labelled(family, giving(0, 0, 0)).labels] == ["a", "b", "c"]
    assert [x.name for x in labelled(family, giving(0, 0, 0), 2).labels] == ["a", "b"]
    names = [str(n) for n in range(100)]
    many = text_classifier(tmp_path, labels=names)
    found = labelled(many, giving(*(n % 2 for n in range(100))))
    assert [x.name for x in found.labels] == names[1::2] + names[::2]


def test_labels_may_repeat_as_those_of_images_may(tmp_path: Path) -> None:
    family = text_classifier(tmp_path, labels=["a", "a", "c"])
    assert [x.name for x in labelled(family, giving(1, 2, 0)).labels] == ["a", "a", "c"]


@pytest.mark.parametrize(("top_k", "count"), [(None, 3), (1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k_labels_come_back(tmp_path: Path, top_k: int | None, count: int) -> None:
    found = labelled(text_classifier(tmp_path), giving(1, 3, 2), top_k)
    assert [label.name for label in found.labels] == ["b", "c", "a"][:count]


@pytest.mark.parametrize("top_k", [0, -1])
def test_no_labels_at_all_cannot_be_asked_for(tmp_path: Path, top_k: int) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        text_classifier(tmp_path).processor.preprocess(ClassifyItem(Text("one"), top_k))
    image = tasks.Image(encoded(Image.new("L", (3, 2))))
    with pytest.raises(InvalidInputError, match="top_k"):
        image_classifier().processor.preprocess(ClassifyItem(image, top_k))


def test_texts_with_other_numbers_of_end_tokens_are_of_other_groups(tmp_path: Path) -> None:
    def groups(family: Opened[ClassifyItem, Classification]) -> list[Any]:
        items = [
            ClassifyItem(Text("one")),
            ClassifyItem(Text("two three")),
            ClassifyItem(Text("one"), text_pair="two"),
            ClassifyItem(Text("one [SEP]")),
        ]
        return [family.processor.preprocess(item).group for item in items]

    assert groups(text_classifier(tmp_path, eos_id=SEP)) == [(1,), (1,), (0,), (2,)]
    assert groups(text_classifier(tmp_path)) == [None] * 4


def test_large_logits_do_not_overflow(tmp_path: Path) -> None:
    found = labelled(text_classifier(tmp_path), giving(1e4, -1e4, 0))
    assert found.labels[0] == Label("a", 1.0)
    assert all(np.isfinite(label.score) for label in found.labels)


def test_a_graph_of_other_labels_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, check=sentence):
        labelled(text_classifier(tmp_path), giving(1, 2))


def test_texts_are_cut_and_padded_and_masked(tmp_path: Path) -> None:
    family = text_classifier(tmp_path)
    fed: list[dict[str, Any]] = []
    session = text_session("logits", 3)
    recording = NumpySession(lambda feeds: fed.append(feeds) or session.compute(feeds))
    texts = ["one", "one two three four one two"]
    works = [family.processor.preprocess(ClassifyItem(Text(text))) for text in texts]
    assert [work.length for work in works] == [3, 6]
    family.model.infer({"model": recording}, works)
    assert fed[0]["input_ids"].tolist() == [[CLS, 4, SEP, 7, 7, 7], [CLS, 4, 5, 6, 7, SEP]]
    assert fed[0]["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [(6, [6]), (8, [8]), (9, [8, 9]), (64, [8, 16, 32, 64]), (100, [8, 16, 32, 64, 100])],
)
def test_lengths_double_up_to_the_longest(
    tmp_path: Path, max_length: int, lengths: list[int]
) -> None:
    assert list(text_classifier(tmp_path, max_length=max_length).model.lanes[0].lengths) == lengths


def test_an_image_is_stretched_and_normalised() -> None:
    family = image_classifier()
    grey = Image.new("L", (3, 2))
    grey.putdata([0, 51, 102, 153, 204, 255])
    work = family.processor.preprocess(ClassifyItem(tasks.Image(encoded(grey))))
    expected = np.array([[[-1, -0.6, -0.2], [0.2, 0.6, 1]]])
    np.testing.assert_allclose(work.tensors["pixel_values"], expected, atol=1e-6)
    large = family.processor.preprocess(ClassifyItem(tasks.Image(encoded(grey.resize((30, 50))))))
    assert large.tensors["pixel_values"].shape == (1, 2, 3)
    assert large.length == work.length == 6


def test_transparent_pixels_show_the_background() -> None:
    clear = tasks.Image(encoded(Image.new("LA", (3, 2), (0, 0))))
    white = image_classifier().processor.preprocess(ClassifyItem(clear))
    black = image_classifier(background=[0, 0, 0]).processor.preprocess(ClassifyItem(clear))
    assert (white.tensors["pixel_values"] == 1).all()
    assert (black.tensors["pixel_values"] == -1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []},
        {"labels": [1]},
        {"max_length": "6"},
    ],
)
def test_a_text_manifest_that_makes_no_sense_does_not_load(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        text_classifier(tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.5, 0.5]},
        {"std": [0.0]},
        {"mode": "RGB"},
        {"mode": "CMYK"},
        {"image_size": [0, 3]},
        {"image_size": [3]},
        {"background": [0, 0, 256]},
    ],
)
def test_an_image_manifest_that_makes_no_sense_does_not_load(changes: dict[str, Any]) -> None:
    with pytest.raises((ModelLoadError, ValueError), check=sentence):
        image_classifier(**changes)


def test_a_sigmoid_of_large_scores_still_tells_which_is_larger() -> None:
    rows = ranked(np.array([[17.5], [18.0], [30.0]], np.float32), ["score"], "sigmoid")
    scores = [float(row["scores"][0]) for row in rows]
    assert scores == sorted(set(scores))
    assert scores[-1] < 1
