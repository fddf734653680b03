"""DS and UP: torch in losses, Pillow on disk, one image domain."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charreg.core.faces import Pixels
from charreg.core.resampling import ds, ds_area, resize_image, up
from charreg.core.tensors import to_images, to_tensor
from conftest import smooth_images


def noisy_images(count: int, size: int) -> Pixels:
    """White noise that stays away from black and white: Pillow clips between its two passes, torch never does."""
    return np.random.default_rng(7).integers(60, 196, (count, size, size, 3), dtype=np.uint8)


def without_antialias(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False)


def difference(stored: Pixels, x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Grey levels between stored images and rounded tensors."""
    return np.abs(stored.astype(np.float64) - to_images(x))


@pytest.mark.parametrize("images", [smooth_images(8, 0, cells=12), noisy_images(8, 64)], ids=["smooth", "noise"])
def test_ds_agrees_with_stored_faces_within_one_level(images: Pixels) -> None:
    stored = np.stack([resize_image(image, 16) for image in images])
    right = difference(stored, ds(to_tensor(images)))
    assert right.max() <= 1
    assert right.mean() < 0.15
    wrong = difference(stored, without_antialias(to_tensor(images), 16))  # without antialias
    assert wrong.max() > 5
    assert wrong.mean() > 8 * right.mean()


@pytest.mark.parametrize("images", [smooth_images(8, 0, size=16), noisy_images(8, 16)], ids=["smooth", "noise"])
def test_up_takes_pillows_cubic_kernel(images: Pixels) -> None:
    stored = np.stack([resize_image(image, 64) for image in images])
    right, wrong = (difference(stored, x) for x in (up(to_tensor(images)), without_antialias(to_tensor(images), 64)))
    assert right.max() <= 1
    assert right.mean() < 0.3
    assert wrong.max() > 2
    assert wrong.mean() > 2 * right.mean()


def test_area_averages_four_by_four() -> None:
    x = torch.arange(64.0).expand(1, 3, 64, 64)  # a row of averages 1.5, 5.5, 9.5, ...
    torch.testing.assert_close(ds_area(x), (1.5 + 4 * torch.arange(16.0)).expand(1, 3, 16, 16))


def test_no_clamping_inside_losses() -> None:
    """Bicubic overshoots at an edge; a clamp would stop the gradient there."""
    x = torch.where(torch.arange(16) < 8, -1.0, 1.0).expand(1, 3, 16, 16).contiguous().requires_grad_(True)
    enlarged = up(x)
    assert enlarged.max() > 1.01
    (gradient,) = torch.autograd.grad(enlarged.sum(), x)
    torch.testing.assert_close(gradient.sum(), torch.tensor(3.0 * 64 * 64))


@pytest.mark.parametrize("level", [-1.0, 0.3])
def test_constant_images_stay_constant(level: float) -> None:
    torch.testing.assert_close(ds(torch.full((1, 3, 64, 64), level)), torch.full((1, 3, 16, 16), level))
    torch.testing.assert_close(up(torch.full((1, 3, 16, 16), level)), torch.full((1, 3, 64, 64), level))
