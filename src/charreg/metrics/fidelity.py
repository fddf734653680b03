"""PSNR and SSIM of super-resolved faces against the true ones, by scikit-image."""

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from charreg.core.errors import CharregError
from charreg.metrics.bootstrap import Floats

RANGE = 255.0  # of 8-bit images; luminance 16-235 keeps it, as is customary
PSNR_CAP = 100.0  # dB, for identical images; one value off by one level in a 64x64 face is already 89 dB
SSIM_WINDOW = 11  # px


def measure_fidelity(result: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, Floats]:
    """`psnr_rgb` (dB), `ssim_rgb`, `psnr_y` (dB) of every pair of images: float64 [N] each.

    result, truth: uint8 [N, H, W, 3] RGB. Raises CharregError for another dtype, layout or unequal shapes.
    """
    _check(result, truth)
    pairs = list(zip(result, truth, strict=True))
    return {
        "psnr_rgb": np.array([psnr(x, y) for x, y in pairs]),
        "ssim_rgb": np.array([ssim(x, y) for x, y in pairs]),
        "psnr_y": np.array([psnr(luminance(x), luminance(y)) for x, y in pairs]),
    }


def psnr(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """dB from the mean squared error over all pixels and channels of values in 0..255.

    Identical images give PSNR_CAP, never infinity, which a JSON file cannot hold.
    """
    with np.errstate(divide="ignore"):
        return min(float(peak_signal_noise_ratio(y, x, data_range=RANGE)), PSNR_CAP)


def luminance(x: npt.NDArray[Any]) -> Floats:
    """BT.601 luminance 16..235 of RGB [..., 3] in 0..255; not rounded."""
    return np.asarray(16 + x @ np.array([65.481, 128.553, 24.966]) / 255)


def ssim(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 [H, W, 3], mean over channels.

    11x11 Gaussian window, sigma 1.5, only positions where the window lies inside the image: 54x54 of 64x64.
    """
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(x, y, channel_axis=2, data_range=RANGE, **window))


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
