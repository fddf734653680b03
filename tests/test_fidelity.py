"""PSNR and SSIM: closed forms, scikit-image, torchmetrics, and refusals."""

import warnings
from typing import Any

import numpy as np
import pytest
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


def test_psnr_of_a_constant_difference_is_the_closed_form() -> None:
    x = np.full((2, 64, 64, 3), 100, np.uint8)
    found = measure_fidelity(x + np.uint8(5), x)
    np.testing.assert_allclose(found["psnr_rgb"], 20 * np.log10(255 / 5))
    np.testing.assert_allclose(found["psnr_y"], 20 * np.log10(255 / (5 * 219 / 255)))


def test_ssim_of_constant_images_is_the_closed_form() -> None:
    x, y = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    wanted = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert measure_fidelity(x, y)["ssim_rgb"][0] == pytest.approx(wanted, rel=1e-9)


def test_identical_images_reach_the_cap_and_never_infinity() -> None:
    _, x = pair()
    found = measure_fidelity(x, x)
    np.testing.assert_array_equal(found["psnr_rgb"], PSNR_CAP)
    np.testing.assert_array_equal(found["psnr_y"], PSNR_CAP)
    np.testing.assert_allclose(found["ssim_rgb"], 1)
    y = x.copy()
    y[:, 0, 0, 0] ^= 1
    assert (measure_fidelity(x, y)["psnr_rgb"] < PSNR_CAP).all()  # the cap lies above every real difference


def test_ssim_agrees_with_scikit_image() -> None:
    x, y = pair(5)
    wanted = [
        structural_similarity(
            a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(measure_fidelity(x, y)["ssim_rgb"], wanted, rtol=0, atol=1e-6)


def test_old_wrong_ssims_fail() -> None:
    """A uniform 7x7 window (scikit-image's default), and torchmetrics, which averages reflected borders in."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = pair(5)
    right = measure_fidelity(x, y)["ssim_rgb"]
    uniform = [structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in zip(x, y, strict=True)]
    assert np.abs(right - uniform).max() > 1e-3
    tensors = (torch.from_numpy(images).permute(0, 3, 1, 2).double() for images in (x, y))
    bordered, maps = structural_similarity_index_measure(
        *tensors, data_range=255.0, reduction="none", return_full_image=True
    )
    assert np.abs(right - bordered.numpy()).max() > 1e-3
    np.testing.assert_allclose(maps[:, :, 5:-5, 5:-5].mean((1, 2, 3)), right, rtol=0, atol=1e-6)  # without the borders


def test_psnr_agrees_with_torchmetrics_and_is_averaged_over_images() -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.image import peak_signal_noise_ratio

    x, y = pair(5)
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2).double() for images in (x, y)]
    wanted = peak_signal_noise_ratio(*tensors, data_range=255.0, reduction="none", dim=(1, 2, 3)).numpy()
    found = measure_fidelity(x, y)["psnr_rgb"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    pooled = float(peak_signal_noise_ratio(*tensors, data_range=255.0))  # of the error over all images: lower
    assert found.mean() - pooled > 1


def test_luminance_is_bt601_16_to_235() -> None:
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], float)
    found = luminance(colours[:, None, None])[:, 0, 0]
    np.testing.assert_allclose(found, [16, 235, 81.481, 144.553, 40.966], atol=1e-9)


def test_does_not_depend_on_the_batch_size() -> None:
    x, y = pair(5)
    whole = measure_fidelity(x, y)
    for name, values in measure_fidelity(x, y, batch=2).items():
        np.testing.assert_array_equal(values, whole[name])
    assert len(measure_fidelity(x[:0], y[:0])["psnr_rgb"]) == 0


@pytest.mark.parametrize(
    ("x", "y", "fault"),
    [
        (np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64, 3)), "found float64, wanted uint8"),
        (np.zeros((1, 64, 64, 3), np.int16), np.zeros((1, 64, 64, 3), np.uint8), "found int16, wanted uint8"),
        (np.zeros((1, 3, 64, 64), np.uint8), np.zeros((1, 3, 64, 64), np.uint8), r"wanted \[N, H, W, 3\]"),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8), r"wanted \[N, H, W, 3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8), "of 11 px or more"),
        (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((2, 64, 64, 3), np.uint8), "like the truth"),
        (np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 64, 64, 3), np.uint8), "like the truth"),
    ],
)
def test_wrong_range_layout_or_shape_is_refused(x: Array, y: Array, fault: str) -> None:
    with pytest.raises(CharregError, match=fault):
        measure_fidelity(x, y)
