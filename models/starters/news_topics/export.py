"""Exports `news-topics` to a version of the model repository.

The folder of the checkpoint is the `--out` of the training recipe:

    python -m models.starters.news_topics.export --checkpoint runs/news-topics --data DIR \
        --to models/repository/news-topics/1
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from models.datasets.files import PAD_ID
from models.datasets.news import LABELS, read_news
from models.graphs.files import (
    export_graph,
    round_to_fp16,
    save_graph,
    store_weights_as_fp16,
)
from models.graphs.quantise import quantise_embeddings, quantise_weights
from models.starters.export_command_line import ExportRequest, read_export_request
from models.starters.news_topics.model import NewsTopics
from models.starters.text_encoder import TextEncoderShape
from models.version_files import Goldens, label_scores, write_card, write_manifest

ODD_TEXTS = (
    "Apple",
    "L'Oréal and Nestlé renegotiate: “déjà vu” for Zürich’s investors…",
    "苹果公司发布新款手机",
    "Ebola: WHO says 1,603 cases, 887 deaths in 4 countries as of 1 Aug",
    "🎬 Box office: 'Guardians' earns $94m!!!",
    "the " * 200 + "vaccine",
    "hello",
)

CARD = f"""# news-topics

The topic of an English news headline: {", ".join(LABELS)}. Four topics only; there is no
class for sports, politics or anything else, so headlines of those get one of the four. A text
that is no headline (small talk, a request, an everyday sentence, a single word, gibberish) gets a
score of about 0.25 for each topic: take a best score under 0.4 as "none of them". Questions about
a company, a film or an illness can still get a topic.

<!-- architecture -->

Data:
- UCI News Aggregator (Fabio Gasparetti, 2016), https://archive.ics.uci.edu/dataset/359 ,
  CC BY 4.0: 89,533 headlines of March to August 2014 to train on, split by news story.
- News Category Dataset (Rishabh Misra, 2022),
  https://www.kaggle.com/datasets/rmisra/news-category-dataset , CC BY 4.0: 38,000 HuffPost
  headlines, 5,100 of them with one of the four topics; near copies of evaluated headlines were
  left out.

- Texts that are no headlines: CLINC150 (Larson et al., 2019),
  https://github.com/clinc/oos-eval , CC BY 3.0; the English side of MASSIVE (Amazon, 2022),
  https://github.com/alexa/massive , and BANKING77 (Casanueva et al., 2020),
  https://github.com/PolyAI-LDN/task-specific-datasets , CC BY 4.0; English sentences of Tatoeba,
  https://tatoeba.org , CC BY 2.0 FR, Tatoeba contributors; their common words, one to three at a
  time; random letters, numbers, signs and other scripts; greetings written for this project.

A linear model over word and character n-grams learnt the labels first; the Transformer learnt
its answers to these headlines and to variations of them, and the same score for all topics for
texts that are no headlines. A temperature, chosen on dev, makes scores mean what they say.

The headlines are those of 2014: names that became known later say nothing to it. Business and
science_technology overlap (company news about technology firms), also in the labels.

int8: weights of the matrix products and embedding rows in 8 bits, activations quantised row by
row, so an answer does not depend on its neighbours in a batch. At this size it is a tenth slower
than fp32 on a CPU (0.21 ms for a headline on one core), so fp32 is the default there.

Measured on the 8,000 test headlines (2,000 a topic) through the served code; on the texts of small
talk in the test split of CLINC150 and the English requests in that of MASSIVE; and on 60 texts
written for this project (`models/datasets/small_talk.toml`), none of which was trained on:

<!-- evaluation -->
<!-- /evaluation -->
"""


ORIGIN = """Trained from scratch by `models/starters/news_topics/train.py` on a CPU, then once more
from its own weights (`--start`), or taught by one that was
(`models/starters/news_topics/distil.py`)."""


def card_of(model: NewsTopics) -> str:
    """Return the card, with the sizes of this model."""
    shape = model.encoder.shape
    count = sum(weight.numel() for weight in model.parameters())
    again = f" gone through {shape.passes} times" if shape.passes > 1 else ""
    architecture = (
        f"Architecture: Transformer encoder (width {shape.width}, heads: {shape.heads}, pre-norm, "
        f"layers: {shape.layers}{again}),\n{shape.vocabulary:,} lower-cased WordPieces with "
        f"embeddings of width {shape.embedding} widened to {shape.width}, mean over the tokens,\n"
        f"one linear layer; {count:,} parameters.\n{ORIGIN}"
    )
    return CARD.replace("<!-- architecture -->", architecture)


def load_checkpoint(folder: Path) -> tuple[NewsTopics, Tokenizer]:
    """Return the trained model, weights rounded to fp16 values, and its tokenizer, truncating."""
    checkpoint = torch.load(folder / "model.pt", weights_only=True)
    shape = TextEncoderShape(**checkpoint["shape"])
    model = NewsTopics(shape)
    model.load_state_dict(checkpoint["model"])
    round_to_fp16(model)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(shape.max_length)
    return model.eval(), tokenizer


def write_graphs(model: NewsTopics, folder: Path) -> None:
    """Write `model.onnx` and `model_int8.onnx`."""
    ids = torch.full((2, 7), 5)
    axes = {0: "batch", 1: "sequence"}
    graph = export_graph(
        model,
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        outputs=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes},
    )
    save_graph(store_weights_as_fp16(graph), folder / "model.onnx")
    small = quantise_embeddings(quantise_weights(graph))
    save_graph(store_weights_as_fp16(small, exact=False), folder / "model_int8.onnx")


@torch.no_grad()
def write_goldens(model: NewsTopics, tokenizer: Tokenizer, texts: list[str], folder: Path) -> None:
    """Record PyTorch's answers, one text at a time."""
    goldens = Goldens(folder)
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        goldens.add_text(text, label_scores(LABELS, model(ids, torch.ones_like(ids))[0]))
    goldens.write()


def export(request: ExportRequest) -> None:
    """Write the whole version: graphs, tokenizer, goldens, manifest and card."""
    model, tokenizer = load_checkpoint(request.checkpoint)
    write_graphs(model, request.to)
    dev = [one.text for one in read_news(request.data, "dev")]
    chosen = np.random.default_rng(0).choice(len(dev), 8, replace=False)
    write_goldens(model, tokenizer, [*(dev[at] for at in chosen), *ODD_TEXTS], request.to)
    tokenizer.no_truncation()
    tokenizer.save(str(request.to / "tokenizer.json"), pretty=False)
    shape = model.encoder.shape
    write_manifest(
        request.to,
        {
            "task": "classify",
            "family": "text_classifier",
            "description": "The topic of an English news headline",
            "graphs": {
                "fp32": {"model": "model.onnx"},
                "int8": {"model": "model_int8.onnx"},
            },
            "default_precision": {"cpu": "fp32", "cuda": "fp32"},
            "batching": {"max_batch_size": 32, "max_queue_size": 512, "max_batch_cost": 2048},
            "tolerance": {"fp32": 0.001, "int8": 0.05},
            "parameters": {
                "tokenizer": "tokenizer.json",
                "labels": list(LABELS),
                "max_length": shape.max_length,
                "pad_id": PAD_ID,
            },
        },
    )
    write_card(request.to, card_of(model))
    tqdm.write(f"wrote {request.to}")


if __name__ == "__main__":
    export(read_export_request(__doc__))
