"""CLIP, SigLIP, Chinese-CLIP and DINOv2 from export directories, against transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import onnx  # noqa: E402
import transformers as tf  # noqa: E402

from service import tasks  # noqa: E402
from service.errors import ModelLoadError  # noqa: E402
from service.tasks import EmbedItem, Text  # noqa: E402
from tests.exports.exporting import export_directory, seeded  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers, serving  # noqa: E402
from tests.sentences import sentence  # noqa: E402
from tests.unit.transforms.texts import WORDS, word_tokenizer  # noqa: E402

pytestmark = [pytest.mark.looptime(False)]

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
TEXTS = ["one", "two three four one", "three two", "four four one two " * 3, "one two " * 40]
LENGTH = 16
CROPPED = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def tokenizer(pad: str = "[PAD]", length: int = LENGTH) -> Any:
    """Words, with special tokens around every text, as a checkpoint's tokenizer."""
    made = tf.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), model_max_length=length, pad_token=pad
    )
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


def _clip() -> tuple[Any, Any]:
    text = {**SMALL, "vocab_size": len(WORDS) + 8, "max_position_embeddings": LENGTH,
            "eos_token_id": WORDS.index("[SEP]")}  # fmt: skip
    config = tf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    return seeded(tf.CLIPModel, config), tf.CLIPImageProcessor(**CROPPED)


def _siglip(length: int = LENGTH) -> tuple[Any, Any]:
    text = {**SMALL, "vocab_size": len(WORDS) + 8, "max_position_embeddings": length}
    config = tf.SiglipConfig(text_config=text, vision_config=VISION)
    model = seeded(tf.SiglipModel, config)
    return model, tf.SiglipImageProcessor(size={"height": 32, "width": 32})


def _chinese_clip() -> tuple[Any, Any]:
    text = {**SMALL, "vocab_size": len(WORDS) + 8, "max_position_embeddings": LENGTH}
    config = tf.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    return seeded(tf.ChineseCLIPModel, config), tf.ChineseCLIPImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "CLIP": _clip,
    "SigLIP": _siglip,
    "Chinese-CLIP": _chinese_clip,
}


def unit(vectors: Any) -> np.ndarray:
    return (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()


def expected(model: Any, words: Any, pictures: Any) -> list[np.ndarray]:
    """Vectors of all texts, then of all pictures, one by one, as transformers has them."""
    padding = "max_length" if isinstance(model, tf.SiglipModel) else False
    found = []
    # The whole model, as Chinese-CLIP's `get_text_features` fails in transformers 4.57.
    some_image = pictures(PICTURES[0], return_tensors="pt")
    some_text = {"input_ids": torch.zeros(1, LENGTH, dtype=torch.int64)}
    with torch.no_grad():
        for text in TEXTS:
            inputs = words(text, padding=padding, truncation=True, return_tensors="pt")
            wanted = {"input_ids": inputs["input_ids"]}
            if not padding:
                wanted["attention_mask"] = inputs["attention_mask"]
            found.append(unit(model(**wanted, **some_image).text_embeds)[0])
        for image in PICTURES:
            outputs = model(**some_text, **pictures(image, return_tensors="pt"))
            found.append(unit(outputs.image_embeds)[0])
    return found


ITEMS = [EmbedItem(Text(text)) for text in TEXTS] + [EmbedItem(tasks.Image(f)) for f in FILES]


@pytest.mark.parametrize("name", MODELS)
async def test_one_graph_answers_as_transformers_for_either_side(name: str, tmp_path: Path) -> None:
    model, pictures = MODELS[name]()
    words = tokenizer()
    folder = export_directory(model, words, tmp_path / "m", "feature-extraction")
    pictures.save_pretrained(folder)
    await _assert_answers(folder, expected(model, words, pictures))


async def _assert_answers(folder: Path, wanted: list[np.ndarray]) -> None:
    for found in await answers(folder, ITEMS):
        for answer, vector in zip(found, wanted, strict=True):
            np.testing.assert_allclose(answer.vector, vector, atol=1e-4)


def _one_graph(folder: Path) -> tuple[Path, list[np.ndarray]]:
    model, pictures = _clip()
    words = tokenizer()
    export_directory(model, words, folder, "feature-extraction")
    pictures.save_pretrained(folder)
    return folder, expected(model, words, pictures)


async def test_neither_side_of_one_graph_runs_the_other(tmp_path: Path) -> None:
    folder, _ = _one_graph(tmp_path / "m")
    async with serving(folder) as loaded:
        inputs = {name: set(s.inputs) for name, s in loaded.instances.single_thread.items()}
    assert inputs == {"text": {"input_ids", "attention_mask"}, "image": {"pixel_values"}}


async def test_one_graph_with_its_weights_in_another_file_answers_the_same(tmp_path: Path) -> None:
    folder, wanted = _one_graph(tmp_path / "m")
    whole = onnx.load(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    onnx.save(
        whole, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data",
        size_threshold=128,
    )  # fmt: skip
    assert (folder / "model.onnx_data").stat().st_size > (folder / "model.onnx").stat().st_size / 2
    await _assert_answers(folder, wanted)


async def test_one_graph_that_cannot_be_taken_apart_answers_as_a_whole(tmp_path: Path) -> None:
    folder, wanted = _one_graph(tmp_path / "m")
    whole = onnx.load(folder / "model.onnx")
    for node in whole.graph.node:
        node.output[:] = ["bare" if name == "text_embeds" else name for name in node.output]
        node.input[:] = ["bare" if name == "text_embeds" else name for name in node.input]
    whole.graph.node.extend(
        [
            onnx.helper.make_node("ReduceSum", ["pixel_values"], ["sum"], keepdims=0),
            onnx.helper.make_node("Sub", ["sum", "sum"], ["nothing"]),
            onnx.helper.make_node("Add", ["bare", "nothing"], ["text_embeds"]),
        ]
    )
    onnx.save(whole, folder / "model.onnx")
    await _assert_answers(folder, wanted)
    async with serving(folder) as loaded:
        assert list(loaded.instances.single_thread) == ["model"]


class _Tower(torch.nn.Module):
    """One side of CLIP, as transformers.js has it in a graph of its own."""

    def __init__(self, model: Any, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.compute = model, compute

    def forward(self, inputs: Any) -> Any:
        return self.compute(self.model, inputs)


def _export_tower(tower: _Tower, example: Any, path: Path, names: tuple[str, str]) -> None:
    axes = {name: {0: "batch"} for name in names}
    if example.ndim == 2:
        axes[names[0]][1] = "length"
    torch.onnx.export(
        tower.eval(), (example,), str(path), input_names=[names[0]],
        output_names=[names[1]], dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
async def test_two_graphs_answer_as_transformers_without_a_mask(tmp_path: Path) -> None:
    model, pictures = _clip()
    words = tokenizer()
    folder = tmp_path / "m"
    (folder / "onnx").mkdir(parents=True)
    model.config.architectures = ["CLIPModel"]
    for part in (model.config, words, pictures):
        part.save_pretrained(folder)
    ids = words(TEXTS[1], return_tensors="pt")["input_ids"]
    pixels = pictures(PICTURES[0], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        _export_tower(
            _Tower(model, lambda whole, ids: whole.get_text_features(input_ids=ids)),
            ids, folder / "onnx" / "text_model.onnx", ("input_ids", "text_embeds"),
        )  # fmt: skip
        _export_tower(
            _Tower(model, lambda whole, pixels: whole.get_image_features(pixel_values=pixels)),
            pixels, folder / "onnx" / "vision_model.onnx", ("pixel_values", "image_embeds"),
        )  # fmt: skip
    wanted = expected(model, words, pictures)
    for found in await answers(folder, ITEMS):
        for answer, vector in zip(found, wanted, strict=True):
            np.testing.assert_allclose(answer.vector, vector, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
async def test_a_tower_without_its_projection_is_refused(tmp_path: Path) -> None:
    model, pictures = _clip()
    folder = tmp_path / "m"
    folder.mkdir()
    for part in (model.config, tokenizer(), pictures):
        part.save_pretrained(folder)
    pixels = pictures(PICTURES[0], return_tensors="pt")["pixel_values"]
    for role in ("text_model", "vision_model"):
        _export_tower(
            _Tower(model, lambda whole, pixels: whole.vision_model(pixels).pooler_output),
            pixels, folder / f"{role}.onnx", ("pixel_values", "pooler_output"),
        )  # fmt: skip
    with pytest.raises(ModelLoadError, check=sentence):
        async with serving(folder):
            pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["pooler_output", "last_hidden_state"])
async def test_dinov2_gives_the_token_of_the_class(output: str, tmp_path: Path) -> None:
    config = tf.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=32,
        patch_size=8, architectures=["Dinov2Model"],
    )  # fmt: skip
    model, pictures = seeded(tf.Dinov2Model, config), tf.BitImageProcessor(**CROPPED)
    folder = tmp_path / "m"
    folder.mkdir()
    model.config.save_pretrained(folder)
    pictures.save_pretrained(folder)
    pixels = pictures(PICTURES[0], return_tensors="pt")["pixel_values"]
    tower = _Tower(model, lambda whole, inputs: whole(inputs)[output])
    _export_tower(tower, pixels, folder / "model.onnx", ("pixel_values", output))
    with torch.no_grad():
        wanted = [
            unit(model(**pictures(image, return_tensors="pt")).pooler_output)[0]
            for image in PICTURES
        ]
    for found in await answers(folder, ITEMS[len(TEXTS) :]):
        for answer, vector in zip(found, wanted, strict=True):
            np.testing.assert_allclose(answer.vector, vector, atol=1e-4)
