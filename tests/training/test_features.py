"""Features are the same, whatever computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import lively
from toolchain.backbones import normalised
from toolchain.preprocess import Preprocess
from toolchain.training import features
from toolchain.training.features import BATCH, Body, logits_of

SPEC = Preprocess(height=64, width=64, shortest_edge=64)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_openvino_and_torch_give_the_networks_logits(name: str) -> None:
    network = lively(name, 5, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (3 * BATCH + 3, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        expected = network(normalised(torch.from_numpy(images))).numpy()
    for many in (1, features.WORTH_COMPILING + 1):
        extract = Body(network, SPEC, torch.device("cpu")).extractor(many=many, exact=True)
        # A batch that is not full comes last, and must not be padded into the answer.
        found = extract(images[start : start + BATCH] for start in range(0, len(images), BATCH))
        np.testing.assert_allclose(logits_of(network, found), expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_is_near() -> None:
    network = lively("mobilenet_v2", 5, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), np.uint8)
    body = Body(network, SPEC, torch.device("cpu"))
    exact = body.extractor(many=1, exact=True)([images])
    for many in (1, features.WORTH_COMPILING + 1):
        near = body.extractor(many=many, exact=False)([images])
        assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.95
