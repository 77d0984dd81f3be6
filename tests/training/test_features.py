"""Features are the same, whatever computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import lively
from toolchain.backbones.networks import body_of, frozen_and_trained, normalised
from toolchain.training.features import BATCH, WORTH_COMPILING, Frozen, logits_of

SHAPE = (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_openvino_and_torch_give_the_networks_logits(name: str) -> None:
    network = lively(name, 5, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (3 * BATCH + 3, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        expected = network(normalised(torch.from_numpy(images))).numpy()
    for many in (1, WORTH_COMPILING + 1):
        extract = Frozen(body_of(network), SHAPE, torch.device("cpu"), pooled=True).extractor(many=many, exact=True)
        # A batch that is not full comes last, and must not be padded into the answer.
        found = extract(images[start : start + BATCH] for start in range(0, len(images), BATCH))
        np.testing.assert_allclose(logits_of(network, found), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_bfloat16_is_near() -> None:
    network = lively("mobilenet_v2", 5, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 64, 64, 3), np.uint8)
    body = Frozen(body_of(network), SHAPE, torch.device("cpu"), pooled=True)
    exact = body.extractor(many=1, exact=True)([images])
    for many in (1, WORTH_COMPILING + 1):
        near = body.extractor(many=many, exact=False)([images])
        assert np.corrcoef(near.ravel(), exact.ravel())[0, 1] > 0.95


def test_maps_of_a_prefix_lead_to_the_same_logits() -> None:
    network = lively("mobilenet_v2", 5, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (BATCH + 1, 64, 64, 3), np.uint8)
    with torch.inference_mode():
        expected = network(normalised(torch.from_numpy(images))).numpy()
    prefix, tail = frozen_and_trained(network, 5)
    for many in (1, WORTH_COMPILING + 1):
        extract = Frozen(prefix, SHAPE, torch.device("cpu"), pooled=False).extractor(many=many, exact=True)
        maps = extract(images[start : start + BATCH] for start in range(0, len(images), BATCH))
        with torch.inference_mode():
            found = tail(torch.from_numpy(maps)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
