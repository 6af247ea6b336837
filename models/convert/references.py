"""Goldens: what transformers answers to some items with the PyTorch model, before any export."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, pipeline

from models.convert.checkpoint import Checkpoint
from models.convert.embeddings import EMBEDDERS, record_embeddings
from models.convert.errors import CheckpointError
from models.convert.samples import Contents
from models.convert.translations import (
    GENERATORS,
    TRANSLATORS,
    record_texts,
    record_translations,
)
from models.graphs.quiet import quiet
from models.version_files import Goldens, unit_embedding
from service.repository.deviation import CERTAIN_SCORE
from service.repository.manifest import Manifest


def record_goldens(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, folder: Path
) -> None:
    """Write `goldens.json`, and the images it names, into a version's folder.

    Raises:
        CheckpointError: it is not known here how to ask transformers for this family's answers,
            or the contents hold nothing that the model reads.
    """
    family = manifest.family
    if not any(family in known for known in (_REFERENCES, TRANSLATORS, GENERATORS, EMBEDDERS)):
        raise CheckpointError(f"goldens of the family {family} cannot be recorded here")
    goldens = Goldens(folder)
    with quiet(), torch.inference_mode():
        if family in TRANSLATORS:
            record_translations(checkpoint, manifest, contents, goldens)
        elif family in GENERATORS:
            record_texts(checkpoint, manifest, contents, goldens)
        elif family in EMBEDDERS:
            record_embeddings(checkpoint, manifest, contents, goldens)
        else:
            _REFERENCES[family](checkpoint, contents, goldens)
    if not goldens.records:
        raise CheckpointError("the contents hold nothing that the model reads")
    goldens.write()


def _text_classes(checkpoint: Checkpoint, contents: Contents, goldens: Goldens) -> None:
    words = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    ask = pipeline("text-classification", checkpoint.model, tokenizer=words, device="cpu")
    for text in contents.texts:
        goldens.add_text(text, _labels(ask(text, top_k=None, truncation=True)))
    for text, pair in contents.pairs:
        both = {"text": text, "text_pair": pair}
        goldens.add_text(text, _labels(ask(both, top_k=None, truncation=True)), text_pair=pair)


def _tags(checkpoint: Checkpoint, contents: Contents, goldens: Goldens) -> None:
    """Ask for every token: spans of several would hide which one differs."""
    words = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    ask = pipeline("token-classification", checkpoint.model, tokenizer=words, device="cpu")
    for text in contents.texts:
        spans = [
            {
                "label": one["entity"],
                "score": float(one["score"]),
                "start": one["start"],
                "end": one["end"],
            }
            for one in ask(text, ignore_labels=["O"])
        ]
        goldens.add_text(text, {"spans": spans}, aggregate="none")


def _image_classes(checkpoint: Checkpoint, contents: Contents, goldens: Goldens) -> None:
    pictures = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
    ask = pipeline("image-classification", checkpoint.model, image_processor=pictures, device="cpu")
    for image in contents.images:
        goldens.add_image(image, _labels(ask(image, top_k=checkpoint.model.config.num_labels)))


def _labels(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"labels": [{"label": one["label"], "score": float(one["score"])} for one in found]}


def _objects(checkpoint: Checkpoint, contents: Contents, goldens: Goldens) -> None:
    pictures = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
    names = checkpoint.model.config.id2label
    for image in contents.images:
        outputs = checkpoint.model(**pictures(image, return_tensors="pt"))
        (found,) = pictures.post_process_object_detection(
            outputs, CERTAIN_SCORE, target_sizes=[(image.height, image.width)]
        )
        columns = (found[key].tolist() for key in ("labels", "scores", "boxes"))
        objects = [
            {"label": names[label], "score": score, "box": box}
            for label, score, box in zip(*columns, strict=True)
        ]
        answer = {"objects": objects, "width": image.width, "height": image.height}
        goldens.add_image(image, answer)
        goldens.records[-1]["item"]["threshold"] = CERTAIN_SCORE
    if not any(record["answer"]["objects"] for record in goldens.records):
        raise CheckpointError("no image shows an object that the model sees: give it --goldens")


def _joint_vectors(checkpoint: Checkpoint, contents: Contents, goldens: Goldens) -> None:
    """Ask the whole model for either side: some towers alone fail in transformers 4.57."""
    words = AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
    pictures = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
    padding = "max_length" if checkpoint.model.config.model_type == "siglip" else False
    some_image = pictures(Image.new("RGB", (64, 64)), return_tensors="pt")
    some_text = words("a", padding=padding, return_tensors="pt")
    for text in contents.texts:
        read = words(text, padding=padding, truncation=True, return_tensors="pt")
        outputs = checkpoint.model(**_read_by_towers(read), **some_image)
        goldens.add_text(text, unit_embedding(outputs.text_embeds[0].numpy()))
    for image in contents.images:
        shown = pictures(image, return_tensors="pt")
        outputs = checkpoint.model(**_read_by_towers(some_text), **shown)
        goldens.add_image(image, unit_embedding(outputs.image_embeds[0].numpy()))


def _read_by_towers(read: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in read.items() if name != "token_type_ids"}


_REFERENCES: Final[Mapping[str, Callable[[Checkpoint, Contents, Goldens], None]]] = {
    "text_classifier": _text_classes,
    "token_classifier": _tags,
    "image_classifier": _image_classes,
    "detr_detector": _objects,
    "dual_encoder": _joint_vectors,
}
