"""A linear classifier over word and character n-grams that teaches `news-topics`.

On dev it reaches 89.4 %, while the same Transformer trained on the labels alone stopped at
88.1 %: it learnt the stories of the training set by heart, where a wide-margin linear model
weighs every word by itself. Its 150,000 n-grams would be too large to serve.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from models.datasets.news import Headline

# Margins times this are logits: the factor of least log loss on dev.
SHARPNESS = 2.5


class Teacher:
    """Probabilities of the topics for any text."""

    def __init__(self, headlines: Sequence[Headline]) -> None:
        """Learn from the headlines that have a topic."""
        labelled = [one for one in headlines if one.topic is not None]
        texts = [one.text for one in labelled]
        self._words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(texts)
        self._characters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(4, 4), min_df=3, sublinear_tf=True
        ).fit(texts)
        self._classifier = LinearSVC(C=0.2, random_state=0)
        self._classifier.fit(self._n_grams(texts), [one.topic for one in labelled])

    def answers(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [texts, topics], rows summing to 1."""
        logits = SHARPNESS * self._classifier.decision_function(self._n_grams(texts))
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        answers: NDArray[np.float32] = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return answers

    def _n_grams(self, texts: Sequence[str]) -> csr_matrix:
        parts = [vectoriser.transform(texts) for vectoriser in (self._words, self._characters)]
        return csr_matrix(hstack(parts))
