"""Labels that a request gives, against transformers' zero-shot pipelines."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402
from PIL import Image  # noqa: E402

from service import tasks  # noqa: E402
from service.errors import ServiceError  # noqa: E402
from service.registry.loader import Loaded  # noqa: E402
from service.requests.pipeline import Outcome  # noqa: E402
from service.requests.request import Request, Selection  # noqa: E402
from service.requests.zero_shot import GivenLabels, classify_by_labels  # noqa: E402
from service.tasks import ClassifyItem, ComposedTask, Text  # noqa: E402
from tests.exports.exporting import export_directory, seeded  # noqa: E402
from tests.exports.pictures import FILES  # noqa: E402
from tests.exports.serving import serving  # noqa: E402
from tests.exports.test_embedders import LENGTH, MODELS, SMALL, _siglip, tokenizer  # noqa: E402
from tests.unit.transforms.texts import WORDS  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore"),  # transformers' own
]

LABELS = ["one", "two three", "four four one", "three", "two one two one four"]
TEXTS = ["one two", "four three two one " * 2, "three", "two four one three " * 10]
SIGLIP_LENGTH = 64
"""To which transformers' pipeline pads the labels for SigLIP, whatever its tokenizer says."""
ENTAILMENTS = {
    "last": ["contradiction", "neutral", "entailment"],
    "first": ["Entailment", "neutral", "contradiction"],
    "two": ["not_entailment", "entailment"],
}
_DISTILBERT = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}


class One:
    """The registry of a test: one model."""

    def __init__(self, loaded: Loaded) -> None:
        self.pipeline = loaded.pipeline

    def find(
        self, task: Any, modality: str, model: str | None, version: int | None, key: str = ""
    ) -> Any:
        assert (task, modality) in self.pipeline.abilities
        return self.pipeline


async def served(
    folder: Path, contents: Sequence[tasks.Content], **more: Any
) -> list[dict[str, float]]:
    """Scores by label, for each item."""
    labels = GivenLabels(tuple(LABELS), **more)
    items: list[ClassifyItem | ServiceError] = [ClassifyItem(one) for one in contents]
    async with serving(folder) as loaded:
        answers = await classify_by_labels(One(loaded), Request(), Selection(), items, labels)
    found = []
    for result in answers.results:
        assert isinstance(result, Outcome), result
        found.append({label.name: label.score for label in result.answer.labels})
    return found


def equal(found: Sequence[dict[str, float]], expected: Sequence[Any]) -> None:
    assert len(found) == len(expected)
    for scores, wanted in zip(found, expected, strict=True):
        assert scores == pytest.approx(wanted, abs=1e-3)
        # Equally scored labels may stand in another order.
        assert list(scores.values()) == sorted(scores.values(), reverse=True)


@pytest.fixture(scope="module", params=MODELS)
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A directory, and transformers' pipeline of the same model."""
    is_siglip = request.param == "SigLIP"
    model, processor = _siglip(SIGLIP_LENGTH) if is_siglip else MODELS[request.param]()
    with torch.no_grad():  # a trained model's scale is far from its start
        model.logit_scale.fill_(3.0)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-7.0)
    words = tokenizer(length=SIGLIP_LENGTH if is_siglip else LENGTH)
    if is_siglip:
        words.model_input_names = ["input_ids"]  # as SigLIP's own tokenizer
    folder = tmp_path_factory.mktemp("exports") / "model"
    export_directory(model, words, folder, "feature-extraction")
    processor.save_pretrained(folder)
    pipeline = tf.pipeline(
        "zero-shot-image-classification", model=model, tokenizer=words, image_processor=processor
    )
    return folder, pipeline


def expected_of_images(pipeline: Any, **more: Any) -> list[dict[str, float]]:
    found = []
    for file in FILES:
        image = Image.open(io.BytesIO(file)).convert("RGB")
        rows = pipeline(image, candidate_labels=LABELS, **more)
        found.append({row["label"]: row["score"] for row in rows})
    return found


@pytest.mark.parametrize("template", [None, "{}", "two {} one"])
async def test_images_are_scored_as_by_transformers(images: Any, template: str | None) -> None:
    folder, pipeline = images
    found = await served(folder, [tasks.Image(file) for file in FILES], template=template)
    more = {} if template is None else {"hypothesis_template": template}
    expected = expected_of_images(pipeline, **more)
    assert any(abs(a - b) > 0.01 for row in expected for a in row.values() for b in row.values())
    equal(found, expected)


async def test_texts_are_scored_by_the_cosines_of_the_same_model(images: Any) -> None:
    folder, pipeline = images
    model, words = pipeline.model, pipeline.tokenizer
    padding = "max_length" if model.config.model_type == "siglip" else True
    found = await served(folder, [Text(text) for text in TEXTS])

    def vectors(texts: list[str]) -> Any:
        inputs = words(texts, padding=padding, truncation=True, return_tensors="pt")
        image = pipeline.image_processor(
            Image.open(io.BytesIO(FILES[0])).convert("RGB"), return_tensors="pt"
        )
        return model(**inputs, **image).text_embeds

    with torch.no_grad():
        cosines = vectors(TEXTS) @ vectors(LABELS).T
        expected = (cosines * model.logit_scale.exp()).softmax(dim=-1).tolist()
    equal(found, [dict(zip(LABELS, row, strict=True)) for row in expected])


@pytest.fixture(
    scope="module",
    params=[
        *((tf.BertForSequenceClassification, labels) for labels in ENTAILMENTS),
        (tf.RobertaForSequenceClassification, "last"),
        (tf.DistilBertForSequenceClassification, "first"),
        (tf.ElectraForSequenceClassification, "last"),
    ],
    ids=lambda param: f"{param[0].__name__} {param[1]}",
)
def inference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of natural language inference: its directory, and transformers' pipeline."""
    kind, labels = request.param[0], ENTAILMENTS[request.param[1]]
    config = kind.config_class(
        **(SMALL if kind is not tf.DistilBertForSequenceClassification else _DISTILBERT),
        vocab_size=len(WORDS) + 8, max_position_embeddings=18,
        pad_token_id=0, num_labels=len(labels),
        id2label=dict(enumerate(labels)), label2id={name: n for n, name in enumerate(labels)},
    )  # fmt: skip
    model, words = seeded(kind, config), tokenizer()
    has_types = kind in (tf.BertForSequenceClassification, tf.ElectraForSequenceClassification)
    types = ["token_type_ids"] if has_types else []
    words.model_input_names = ["input_ids", *types, "attention_mask"]
    folder = export_directory(
        model, words, tmp_path_factory.mktemp("exports") / "model", "text-classification"
    )
    return folder, tf.pipeline("zero-shot-classification", model=model, tokenizer=words)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("template", [None, "two {} one"])
async def test_texts_are_scored_as_by_transformers(
    inference: Any, template: str | None, multi_label: bool
) -> None:
    folder, pipeline = inference
    found = await served(
        folder, [Text(text) for text in TEXTS], template=template, multi_label=multi_label
    )
    more = {} if template is None else {"hypothesis_template": template}
    rows = pipeline(TEXTS, candidate_labels=LABELS, multi_label=multi_label, **more)
    equal(found, [dict(zip(row["labels"], row["scores"], strict=True)) for row in rows])


async def test_the_scale_of_towers_alone_comes_from_model_toml(tmp_path: Path) -> None:
    """Without it, the model embeds, and scores no labels."""
    model, processor = MODELS["CLIP"]()
    folder = export_directory(model, tokenizer(), tmp_path / "model", "feature-extraction")
    processor.save_pretrained(folder)
    async with serving(folder) as loaded:
        scale = loaded.files.manifest.parameters["logit_scale"]
        assert scale == pytest.approx(float(model.logit_scale.exp()))
        assert (ComposedTask.ZERO_SHOT, "image") in loaded.pipeline.abilities
    (folder / "model.toml").write_text("[parameters]\nlogit_scale = 50.0\n")
    async with serving(folder) as loaded:
        assert loaded.pipeline.family.traits.label_scores.scale == 50.0
