"""PSNR and SSIM: closed forms, torchmetrics, the wrong dialects, and refusals."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from charreg.core.errors import CharregError
from charreg.metrics.fidelity import PSNR_CAP, luminance, measure_fidelity

Array = np.ndarray[Any, Any]


def pair(n: int = 3, seed: int = 0) -> tuple[Array, Array]:
    """Noise of several strengths on smooth pictures, uint8 [n, 64, 64, 3]."""
    random = np.random.default_rng(seed)
    smooth = np.kron(random.integers(40, 215, (n, 8, 8, 3)), np.ones((1, 8, 8, 1), int))
    noise = random.normal(size=smooth.shape) * np.linspace(2, 40, n)[:, None, None, None]
    return np.clip(smooth + noise, 0, 255).round().astype(np.uint8), smooth.astype(np.uint8)


def test_constant_images_give_the_closed_forms() -> None:
    x = np.full((2, 64, 64, 3), 100, np.uint8)
    found = measure_fidelity(x + np.uint8(5), x)
    np.testing.assert_allclose(found["psnr_rgb"], 20 * np.log10(255 / 5))
    np.testing.assert_allclose(found["psnr_y"], 20 * np.log10(255 / (5 * 219 / 255)))
    c1 = (0.01 * 255) ** 2
    wanted = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    np.testing.assert_allclose(measure_fidelity(x, x + np.uint8(50))["ssim_rgb"], wanted, rtol=1e-9)
    assert [len(values) for values in measure_fidelity(x[:0], x[:0]).values()] == [0, 0, 0]


def test_identical_images_reach_the_cap_and_never_infinity() -> None:
    _, x = pair()
    found = measure_fidelity(x, x)
    np.testing.assert_array_equal(found["psnr_rgb"], PSNR_CAP)
    np.testing.assert_array_equal(found["psnr_y"], PSNR_CAP)
    np.testing.assert_allclose(found["ssim_rgb"], 1)
    y = x.copy()
    y[:, 0, 0, 0] ^= 1
    assert (measure_fidelity(x, y)["psnr_rgb"] < PSNR_CAP).all()  # the cap lies above every real difference


def test_agrees_with_torchmetrics_and_not_with_the_wrong_dialects() -> None:
    """SSIM at valid positions only and by a Gaussian window; PSNR averaged over images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    x, y = pair(5)
    found = measure_fidelity(x, y)
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2).double() for images in (x, y)]
    bordered, maps = structural_similarity_index_measure(
        *tensors, data_range=255.0, reduction="none", return_full_image=True
    )
    np.testing.assert_allclose(found["ssim_rgb"], maps[:, :, 5:-5, 5:-5].mean((1, 2, 3)), rtol=0, atol=1e-6)
    assert np.abs(found["ssim_rgb"] - bordered.numpy()).max() > 1e-3  # reflected borders averaged in
    uniform = [structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in zip(x, y, strict=True)]
    assert np.abs(found["ssim_rgb"] - uniform).max() > 1e-3  # scikit-image's default: a uniform 7x7 window
    wanted = peak_signal_noise_ratio(*tensors, data_range=255.0, reduction="none", dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(found["psnr_rgb"], wanted, rtol=1e-6)
    pooled = float(peak_signal_noise_ratio(*tensors, data_range=255.0))  # of the error over all images: lower
    assert found["psnr_rgb"].mean() - pooled > 1


def test_luminance_is_bt601_16_to_235() -> None:
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], float)
    np.testing.assert_allclose(luminance(colours), [16, 235, 81.481, 144.553, 40.966], atol=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "fault"),
    [
        (np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64, 3)), "found float64, wanted uint8"),
        (np.zeros((1, 3, 64, 64), np.uint8), np.zeros((1, 3, 64, 64), np.uint8), r"wanted \[N, H, W, 3\]"),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), r"wanted \[N, H, W, 3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), "of 11 px or more"),
        (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((2, 64, 64, 3), np.uint8), "like the truth"),
    ],
)
def test_wrong_range_layout_or_shape_is_refused(x: Array, y: Array, fault: str) -> None:
    with pytest.raises(CharregError, match=fault):
        measure_fidelity(x, y)
