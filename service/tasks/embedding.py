"""A text or an image to turn into a vector, and the vector."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.tasks.common import Content, fingerprint

VectorForm: TypeAlias = Literal["vector", "tokens", "sparse"]
"""One vector, a vector for each token of a text, or the weights of tokens of the vocabulary."""


@dataclass(frozen=True, slots=True)
class EmbedItem:
    """A text or an image to turn into a vector."""

    content: Content
    prompt_name: str | None = None
    """Which of the model's prompts to put before the text; None is the model's default."""
    dimensions: int | None = None
    """How many numbers of the vector to keep, the first ones (Matryoshka); None keeps all."""
    normalize: bool | None = None
    """Whether to scale the vector to unit length; None is the model's default. A vector that has
    unit length keeps it when it is shortened. Vectors of tokens are not scaled by default."""
    form: VectorForm = "vector"

    @property
    def modality(self) -> str:
        """What the content is: "text" or "image"."""
        return self.content.modality

    def fingerprint(self) -> bytes:
        """Return the content, the name of the prompt, and what to make of the vector."""
        more = fingerprint(self.prompt_name, self.dimensions, self.normalize, self.form)
        return self.content.fingerprint() + more


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A vector, float32; of unit length unless the model's own are not.

    Of the form "tokens" a matrix [T, D], special tokens included.
    """

    vector: NDArray[np.float32]
    indices: NDArray[np.int32] | None = None
    """Of a sparse vector: the places, ascending, of the numbers in `vector`; the others are 0."""
