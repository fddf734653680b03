"""The LR-space health signal."""

import pytest
import torch
from torch import Tensor

from charreg.metrics.lr_distance import LrDistance
from conftest import smooth_images


def faces(seed: int) -> Tensor:
    return torch.from_numpy(smooth_images(6, seed, size=16)).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_the_distance_is_zero_for_the_reference_itself_and_grows_with_noise() -> None:
    calls = []

    def reference() -> Tensor:
        calls.append(1)
        return faces(0)

    distance = LrDistance(reference, torch.device("cpu"))
    assert not calls  # nothing is loaded before it is asked for
    noise = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    itself, near, far = (distance(faces(0) + level * noise) for level in (0.0, 0.1, 0.5))
    assert itself == pytest.approx(0, abs=1e-3)
    assert itself < near < far
    assert len(calls) == 1
