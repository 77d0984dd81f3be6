"""How sure a network is that it sees one of its classes at all, from its logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolchain.artifact.card import Score


def scores(kind: Score, logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """A score for each row of `logits` [n, classes]; higher means surer.

    `max_probability` is the largest probability after `temperature` (Hendrycks and Gimpel, ICLR 2017); `energy` is
    temperature * log(sum(exp(logits / temperature))), the negative free energy (Liu et al., NeurIPS 2020).
    """
    scaled = logits.astype(np.float64) / temperature
    largest = scaled.max(1)
    log_sum = largest + np.log(np.exp(scaled - largest[:, None]).sum(1))
    return np.asarray(np.exp(largest - log_sum) if kind == "max_probability" else temperature * log_sum)
