"""PSNR and SSIM of super-resolved faces against the true ones.

Computed here rather than by torchmetrics, whose SSIM averages the reflected borders in (scikit-image and Wang et al.
keep to valid positions; they differ by 1e-4 to 5e-2) and whose PSNR of identical images is infinite.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from charreg.core.errors import CharregError
from charreg.metrics.bootstrap import Floats

RANGE = 255.0  # of 8-bit images; luminance 16-235 keeps it, as is customary
PSNR_CAP = 100.0  # dB, for identical images; one value off by one level in a 64x64 face is already 89 dB
SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03


def measure_fidelity(result: npt.NDArray[Any], truth: npt.NDArray[Any], batch: int = 64) -> dict[str, Floats]:
    """`psnr_rgb` (dB), `ssim_rgb`, `psnr_y` (dB) of every pair of images: float64 [N] each.

    result, truth: uint8 [N, H, W, 3] RGB. Raises CharregError for another dtype, layout or unequal shapes.
    """
    _check(result, truth)
    found: dict[str, list[Floats]] = {"psnr_rgb": [], "ssim_rgb": [], "psnr_y": []}
    for start in range(0, len(result), batch):
        x, y = (images[start : start + batch].astype(np.float64) for images in (result, truth))
        found["psnr_rgb"].append(psnr(x, y))
        found["ssim_rgb"].append(ssim(x, y))
        found["psnr_y"].append(psnr(luminance(x), luminance(y)))
    return {name: np.concatenate(values) if values else np.zeros(0) for name, values in found.items()}


def psnr(x: Floats, y: Floats) -> Floats:
    """dB per image from the mean squared error over all pixels and channels of float [N, ...] in 0..255.

    Identical images give PSNR_CAP, never infinity.
    """
    errors = np.mean((x - y) ** 2, axis=tuple(range(1, x.ndim)))
    floor = RANGE**2 / 10 ** (PSNR_CAP / 10)
    return np.asarray(10 * np.log10(RANGE**2 / np.maximum(errors, floor)))


def luminance(x: Floats) -> Floats:
    """BT.601 luminance 16..235 of RGB [N, H, W, 3] in 0..255; not rounded."""
    return np.asarray(16 + x @ np.array([65.481, 128.553, 24.966]) / 255)


def ssim(x: Floats, y: Floats) -> Floats:
    """Structural similarity per image (Wang et al. 2004), mean over channels, of float [N, H, W, 3] in 0..255.

    11x11 Gaussian window, sigma 1.5, only positions where the window lies inside the image: 54x54 of 64x64.
    """
    c1, c2 = (SSIM_K1 * RANGE) ** 2, (SSIM_K2 * RANGE) ** 2
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similar /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return np.asarray(similar.mean(axis=(1, 2, 3)))


def _windowed(x: Floats) -> Floats:
    """Gaussian-weighted local means of [N, H, W, C] at the valid positions."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    for axis in (1, 2):
        valid = x.shape[axis] - SSIM_WINDOW + 1
        x = sum(weight * x.take(range(i, i + valid), axis) for i, weight in enumerate(window))
    return x


def _check(result: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    for name, images in (("result", result), ("truth", truth)):
        if images.dtype != np.uint8:
            raise CharregError(f"{name}: found {images.dtype}, wanted uint8 images in 0..255; do not rescale them")
        if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < SSIM_WINDOW:
            raise CharregError(
                f"{name}: found shape {images.shape}, wanted [N, H, W, 3] of {SSIM_WINDOW} px or more a side"
            )
    if result.shape != truth.shape:
        raise CharregError(f"result: found shape {result.shape}, wanted {truth.shape} like the truth")
