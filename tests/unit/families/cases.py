"""One case for each family: how to open it, what to ask it, and graphs that answer.

A new family needs a case in CASES: without it the tests of the family fail and say so.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tokenizers import Tokenizer

from service import tasks
from service.families import FAMILIES
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.tasks import (
    ClassifyItem,
    DetectItem,
    EmbedItem,
    GenerateItem,
    InferItem,
    TagItem,
    Text,
    TranslateItem,
)
from service.types import PreparedItem
from tests.unit.families.exported_translator import ExportedTranslator
from tests.unit.families.sessions import (
    NumpySession,
    detector_session,
    image_session,
    map_session,
    object_session,
    query_session,
    set_session,
    states_session,
    tensor_session,
    text_session,
    tokens_session,
)
from tests.unit.families.step_models import step_sessions
from tests.unit.transforms.images import encoded
from tests.unit.transforms.texts import WORDS, word_tokenizer

TEXTS = [
    "one",
    "two three four one two three four one two",
    "three two",
    "four four one",
    "two one",
    "one two three four " * 20,
    "nothing known here",
]

EOS, TARGET_VOCABULARY = 2, 24


def drawing(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> bytes:
    """A black PNG with a red rectangle, then a green one."""
    image = Image.new("RGB", size)
    for box, colour in zip(boxes, ["#ff0000", "#00ff00"], strict=False):
        left, top, right, bottom = box
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), colour)
    return encoded(image)


IMAGES = [
    drawing((64, 64), (8, 8, 24, 40), (40, 40, 60, 60)),
    drawing((200, 100), (20, 20, 120, 80)),
    drawing((10, 90)),
    drawing((64, 48), (0, 0, 64, 20), (0, 30, 64, 48)),
]

TENSORS = [
    (np.arange(6, dtype=np.float32).reshape(2, 3) * scale, np.array([scale > 1, True]))
    for scale in (0, 1, 2, -0.5)
]

LANDSCAPES = [
    drawing((64, 48), (8, 8, 24, 40), (40, 10, 60, 40)),
    drawing((128, 96), (20, 20, 80, 60)),
    drawing((96, 48), (0, 0, 60, 20), (60, 30, 96, 48)),
    drawing((48, 24)),
]


def target_tokenizer() -> Tokenizer:
    """Words for every id that TranslatorGraphs may write."""
    tokenizer = word_tokenizer()
    tokenizer.add_tokens([f"word{n}" for n in range(len(WORDS), TARGET_VOCABULARY)])
    return tokenizer


@dataclass(frozen=True)
class Case:
    parameters: Mapping[str, Any]
    """As a manifest holds them."""
    sessions: Callable[[], dict[str, NumpySession]]
    items: Sequence[Any]
    empty: Sequence[Any]
    """Items with nothing in them."""
    foreign: Sequence[Any]
    """Items of the family's task that are not for this family."""
    answer: type


def open_case(name: str, folder: Path) -> Opened[Any, Any]:
    """Open a family as the loader does, from the parameters of a manifest."""
    for file in ("tokenizer.json", "source_tokenizer.json"):
        word_tokenizer().save(str(folder / file))
    target_tokenizer().save(str(folder / "target_tokenizer.json"))
    entry = FAMILIES[name]
    return entry.open(folder, read_parameters(case_of(name).parameters, entry.parameters))


def case_of(name: str) -> Case:
    """Return the case of a family, or say where to add it."""
    assert name in CASES, (
        f"the family {name!r} has no case: add one to CASES in tests/unit/families/cases.py "
        "(its parameters, sessions that compute with numpy, and items)"
    )
    return CASES[name]


_EMPTY_TEXTS = ["", " ", "\n\t\u3000"]
_COLOUR = {"image_size": [24, 32], "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.5, 1, 2]}

_TRANSLATIONS = (
    [TranslateItem(text) for text in TEXTS],
    [TranslateItem(text) for text in _EMPTY_TEXTS],
    [TranslateItem("one", target="fr"), TranslateItem("one", source="en")],
)
_WRITER = {
    "rules": {"start_id": 1, "eos_ids": [EOS], "no_repeat_ngram_size": 3},
    "pad_id": 5,
    "max_source_length": 24,
    "max_target_length": 20,
    "num_beams": 3,
}


def _detector(
    parameters: Mapping[str, Any],
    session: Callable[[], NumpySession],
    images: Sequence[bytes] = IMAGES,
) -> Case:
    return Case(
        parameters,
        lambda: {"model": session()},
        [DetectItem(tasks.Image(image)) for image in images],
        [DetectItem(tasks.Image(b""))],
        [],
        tasks.Detections,
    )


def _generator(parameters: Mapping[str, Any], sessions: Any) -> Case:
    items, empty = ([GenerateItem(text) for text in texts] for texts in (TEXTS, _EMPTY_TEXTS))
    return Case({**_WRITER, **parameters}, sessions, items, empty, [], tasks.Generation)


CASES: dict[str, Case] = {
    "text_classifier": Case(
        {"labels": ["a", "b", "c"], "max_length": 24, "pad_id": 5},
        lambda: {"model": text_session("logits", 3)},
        [ClassifyItem(Text(text)) for text in TEXTS],
        [ClassifyItem(Text(text)) for text in _EMPTY_TEXTS],
        [ClassifyItem(tasks.Image(IMAGES[0]))],
        tasks.Classification,
    ),
    "token_classifier": Case(
        {"labels": ["O", "B-X", "I-X", "I-Y"], "max_length": 24, "pad_id": 5, "stride": 4},
        lambda: {"model": tokens_session(4)},
        [TagItem(text, way) for text in TEXTS for way in ("none", "simple", "average")],
        [TagItem(text) for text in _EMPTY_TEXTS],
        [],
        tasks.Tagging,
    ),
    "text_embedder": Case(
        {"max_length": 24, "pad_id": 5, "pooling": "mean"},
        lambda: {"model": states_session(4)},
        [EmbedItem(Text(text)) for text in TEXTS],
        [EmbedItem(Text(text)) for text in _EMPTY_TEXTS],
        [EmbedItem(tasks.Image(IMAGES[0]))],
        tasks.Embedding,
    ),
    "sparse_embedder": Case(
        {"max_length": 24, "pad_id": 5},
        lambda: {"model": tokens_session(64)},
        [EmbedItem(Text(text), form="sparse") for text in TEXTS],
        [EmbedItem(Text(text), form="sparse") for text in _EMPTY_TEXTS],
        [EmbedItem(tasks.Image(IMAGES[0]), form="sparse")],
        tasks.Embedding,
    ),
    "image_classifier": Case(
        {"labels": ["a", "b"], **_COLOUR},
        lambda: {"model": image_session("logits", 2)},
        [ClassifyItem(tasks.Image(image)) for image in IMAGES],
        [ClassifyItem(tasks.Image(b""))],
        [ClassifyItem(Text("one"))],
        tasks.Classification,
    ),
    "encoder_decoder": Case(
        {**_WRITER, "source_language": "zh", "target_language": "en"},
        lambda: ExportedTranslator(TARGET_VOCABULARY, EOS, 1.0).sessions_of("merged"),
        *_TRANSLATIONS,
        tasks.Translation,
    ),
    "encoder_decoder_steps": Case(
        {
            **_WRITER,
            "tokenizer_files": ["source_tokenizer.json", "target_tokenizer.json"],
            "source_language": "zh",
            "target_language": "en",
        },
        lambda: step_sessions(64, TARGET_VOCABULARY),
        *_TRANSLATIONS,
        tasks.Translation,
    ),
    "generator": _generator(
        {"prefix": "one ", "before": [6]},
        lambda: ExportedTranslator(TARGET_VOCABULARY, EOS, 1.0).sessions_of("merged"),
    ),
    "generator_steps": _generator(
        {"tokenizer_files": ["source_tokenizer.json", "target_tokenizer.json"]},
        lambda: step_sessions(64, TARGET_VOCABULARY),
    ),
    "detector": _detector({"labels": ["red", "green"], "image_size": 64}, detector_session),
    "detr_detector": _detector(
        {
            "labels": ["red", "green"],
            "scores": "softmax",
            "processing": {
                "resize": "shortest_edge",
                "shortest_edge": 24,
                "longest_edge": 48,
                "resample": "nearest",
            },
        },
        set_session,
        LANDSCAPES,
    ),
    "segmenter": _detector(
        {"labels": ["black", "red", "green"], "processing": {"size": [32, 64]}}, map_session
    ),
    "set_segmenter": _detector(
        {"labels": ["red", "green"], "processing": {"size": [32, 64]}}, query_session
    ),
    "torchvision_detector": _detector(
        {"labels": ["none", "red", "green"], "masks": True, "processing": {"size": [32, 64]}},
        object_session,
    ),
    "dual_encoder": Case(
        {"max_length": 24, "pad_id": 5, **_COLOUR},
        lambda: {"text": text_session("text_embeds", 4), "image": image_session("image_embeds", 4)},
        [EmbedItem(Text(t)) for t in TEXTS] + [EmbedItem(tasks.Image(i)) for i in IMAGES],
        [*(EmbedItem(Text(text)) for text in _EMPTY_TEXTS), EmbedItem(tasks.Image(b""))],
        [],
        tasks.Embedding,
    ),
    "image_embedder": Case(
        {"processing": {"size": [24, 32], "crop": [16, 16], "mean": [0.5, 0.4, 0.3]}},
        lambda: {"model": image_session("pooler_output", 4)},
        [EmbedItem(tasks.Image(image)) for image in IMAGES],
        [EmbedItem(tasks.Image(b""))],
        [EmbedItem(Text("one"))],
        tasks.Embedding,
    ),
    "tensors": Case(
        {
            "inputs": {
                "x": {"dtype": "float32", "shape": [-1, 2, 3]},
                "keep": {"dtype": "bool", "shape": [-1, 2]},
            },
            "outputs": {
                "total": {"dtype": "float32", "shape": [-1, 3]},
                "count": {"dtype": "int64", "shape": [-1]},
            },
        },
        lambda: {"model": tensor_session()},
        [InferItem({"x": x, "keep": keep}) for x, keep in TENSORS],
        [InferItem({})],
        [],
        tasks.Inference,
    ),
}


def item_of(name: str, content: str | bytes) -> Any:  # noqa: PLR0911 - one for each task
    """An item of the family's task."""
    made = Text(content) if isinstance(content, str) else tasks.Image(content)
    match FAMILIES[name].task:
        case tasks.Task.CLASSIFY:
            return ClassifyItem(made)
        case tasks.Task.EMBED:
            return EmbedItem(made)
        case tasks.Task.SPARSE:
            return EmbedItem(made, form="sparse")
        case tasks.Task.TAG:
            return TagItem(str(content))
        case tasks.Task.TRANSLATE:
            return TranslateItem(str(content))
        case tasks.Task.GENERATE:
            return GenerateItem(str(content))
        case tasks.Task.DETECT:
            assert isinstance(made, tasks.Image)
            return DetectItem(made)


def batches(family: Opened[Any, Any], items: Sequence[Any]) -> list[list[PreparedItem]]:
    """Works of all items, in one batch for each lane and group."""
    together = defaultdict(list)
    for item in items:
        work = family.processor.preprocess(item)
        together[work.lane, work.group].append(work)
    return list(together.values())
