"""Goldens of embedders of one kind: what their authors' libraries make of texts or images."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoImageProcessor

from models.convert.checkpoint import Checkpoint
from models.convert.samples import Contents
from models.version_files import Goldens, embedding, unit_embedding
from service.families.image_embedder import ImageEmbedderParameters
from service.families.text_embedder import TextEmbedderParameters
from service.repository.layouts.exports import MODULES
from service.repository.manifest import Manifest, read_parameters

_PROMPTED = 2
"""Texts that each prompt is put before."""


def record_embeddings(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, goldens: Goldens
) -> None:
    """Add the vector of every text, also behind each of the model's prompts, or of every image."""
    EMBEDDERS[manifest.family](checkpoint, manifest, contents, goldens)


def _texts(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, goldens: Goldens
) -> None:
    """Ask sentence-transformers."""
    own = read_parameters(manifest.parameters, TextEmbedderParameters)
    original = _original(checkpoint, own)

    def vector(text: str, prompt: str) -> Any:
        return original.encode(text, prompt=prompt, show_progress_bar=False)

    default = "" if own.default_prompt_name is None else own.prompts[own.default_prompt_name]
    for text in contents.texts:
        goldens.add_text(text, embedding(vector(text, default)))
    for name, prompt in own.prompts.items():
        for text in contents.texts[:_PROMPTED]:
            goldens.add_text(text, embedding(vector(text, prompt)), prompt_name=name)


def _original(checkpoint: Checkpoint, own: TextEmbedderParameters) -> Any:
    """Open the checkpoint as its own modules say, or else as the manifest does."""
    # Loaded only here: it takes seconds.
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.sentence_transformer import modules  # noqa: PLC0415

    folder = str(checkpoint.folder)
    if (checkpoint.folder / MODULES).exists():
        return SentenceTransformer(folder, device="cpu", local_files_only=True)
    states = modules.Transformer(folder, max_seq_length=own.max_length)
    width = states.get_word_embedding_dimension()
    steps: list[Any] = [
        states,
        modules.Pooling(width, own.pooling, include_prompt=own.pools_prompt),
    ]
    return SentenceTransformer(
        modules=[*steps, modules.Normalize()][: 2 + own.normalize], device="cpu"
    )


def _images(
    checkpoint: Checkpoint, manifest: Manifest, contents: Contents, goldens: Goldens
) -> None:
    """Ask transformers for the output that is served, and pool it as is said there."""
    own = read_parameters(manifest.parameters, ImageEmbedderParameters)
    pictures = AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True)
    for image in contents.images:
        shown = pictures(image, return_tensors="pt")
        (output,) = checkpoint.model(**shown)[own.output]
        goldens.add_image(image, unit_embedding(_pooled(output, own).numpy()))


def _pooled(output: Tensor, own: ImageEmbedderParameters) -> Tensor:
    match own.pooling, output.ndim:
        case "cls", _:
            return output[0]
        case "mean", 3:  # a map of width, height and width of a vector, vectors first
            return output.mean((1, 2))
        case "mean", _:
            return output[own.prefix_tokens :].mean(0)
        case _:
            return torch.flatten(output)


EMBEDDERS: Final[Mapping[str, Callable[[Checkpoint, Manifest, Contents, Goldens], None]]] = {
    "text_embedder": _texts,
    "image_embedder": _images,
}
"""By family; embedders of texts and images in one space are among the other references."""
