"""A linear classifier of texts: counts of words, hashed, with calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FEATURES = 2**18
_HEAD_CHARS, _TAIL_CHARS = 1_500, 500
_TOKEN = r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]"
"""Scripts that write no blanks between words are read by the character."""

_PENALTY, _EPOCHS = 1e-5, 10
_MOST_LOG_TEMPERATURE = 5.0
_BINS = 10


@cache
def _vectorizer() -> HashingVectorizer:
    return HashingVectorizer(
        ngram_range=(1, 1), n_features=_FEATURES, alternate_sign=False, norm=None, token_pattern=_TOKEN, dtype=np.float32
    )


def features(texts: Sequence[str]) -> csr_matrix:
    """Texts as rows of unit length: 1 + log of the count of each word. Of a long text its beginning and end count."""
    cut = (text if len(text) <= _HEAD_CHARS + _TAIL_CHARS else f"{text[:_HEAD_CHARS]}\n{text[-_TAIL_CHARS:]}" for text in texts)
    matrix = _vectorizer().transform(cut)
    matrix.data = 1 + np.log(matrix.data)
    return normalize(matrix, copy=False)


@dataclass(frozen=True)
class LinearModel:
    """One marker's classifier.

    Attributes:
        values: the marker's values that it can give.
        weights: (features, values); bias: (values).
        temperature: what the scores are divided by before the softmax (Guo et al., 2017, arXiv 1706.04599).
    """

    values: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    temperature: float = 1.0

    def scores(self, matrix: csr_matrix) -> Floats:
        """(texts, values), before temperature and softmax."""
        return np.asarray(matrix @ self.weights + self.bias, dtype=np.float64)

    def predict(self, matrix: csr_matrix) -> tuple[Ints, Floats]:
        """Of each text the likeliest value's place in `values` and its probability, to four digits."""
        probabilities = softmax(self.scores(matrix) / self.temperature)
        best = probabilities.argmax(axis=1)
        return best, np.round(probabilities[np.arange(len(best)), best], 4)


def fit(matrix: csr_matrix, labels: Sequence[str], values: tuple[str, ...]) -> LinearModel:
    """Train on one core with a fixed seed, so that the same rows give the same weights: averaged stochastic gradient descent on the
    logistic loss, one value against the others, every value with the same total weight."""
    learner = SGDClassifier(
        loss="log_loss", alpha=_PENALTY, average=True, max_iter=_EPOCHS, tol=None, random_state=0, class_weight="balanced"
    )
    with threadpool_limits(1):
        learner.fit(matrix, labels)
    weights, bias = learner.coef_, learner.intercept_
    if len(learner.classes_) == 2:  # scikit-learn keeps one row, for the second class
        weights, bias = np.vstack([-weights, weights]), np.concatenate([-bias, bias])
    order = [list(learner.classes_).index(value) for value in values]
    return LinearModel(values, np.ascontiguousarray(weights[order].T, dtype=np.float32), bias[order].astype(np.float32))


def best_temperature(scores: Floats, right: Ints) -> float:
    """The temperature under which the right values (their places) are likeliest, within a factor of e^5."""

    def loss(log_temperature: float) -> float:
        chosen = softmax(scores / np.exp(log_temperature))[np.arange(len(right)), right]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(-_MOST_LOG_TEMPERATURE, _MOST_LOG_TEMPERATURE), method="bounded")
    return round(float(np.exp(found.x)), 4)


def softmax(scores: Floats) -> Floats:
    """Row-wise."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over ten bins of equal width, by rows (Guo et al., 2017)."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    error = sum(abs(confidence[bins == number].sum() - right[bins == number].sum()) for number in range(_BINS))
    return float(error / max(len(confidence), 1))
