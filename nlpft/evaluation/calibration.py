"""Calibration: how far confidences are from the share that is right, and the temperature that brings them closer."""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15


class Bin(NamedTuple):
    """Rows whose confidence lies in one part of 0 to 1: a point of the reliability diagram."""

    low: float
    high: float
    rows: int
    confidence: float  # mean
    accuracy: float


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The bins that hold rows, of equal width. probabilities: [rows, labels]; targets: [rows], label numbers."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (low, high], as Guo et al. cut them
    found = [(b, number == b) for b in range(bins) if (number == b).any()]
    return [
        Bin(b / bins, (b + 1) / bins, int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
        for b, own in found
    ]


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of accuracy from confidence over bins, by rows (ECE, Naeini et al. 2015)."""
    found = reliability(probabilities, targets, bins)
    return sum(b.rows * abs(b.accuracy - b.confidence) for b in found) / len(targets)


def temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The number by which logits [rows, labels] are to be divided, so that the mean log-likelihood of held-out `targets` [rows]
    is highest (temperature scaling, Guo et al. 2017). It changes no prediction. From 0.05 to 20.
    """

    def nats(log_t: float) -> float:
        return float(-log_softmax(logits / math.exp(log_t), axis=1)[np.arange(len(targets)), targets].mean())

    bound = math.log(20)
    return math.exp(minimize_scalar(nats, bounds=(-bound, bound), method="bounded").x)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """[rows, labels], each row's sum 1."""
    return softmax(logits / temperature, axis=1)
