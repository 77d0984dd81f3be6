"""What the tests of networks share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
