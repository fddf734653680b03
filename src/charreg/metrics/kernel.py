"""Kernel distance of two sets of features (KID; Binkowski et al. 2018): unbiased squared MMD, cubic kernel.

An unbiased estimate of something that may be zero is negative now and then; it is reported as it is.
Computed here because torch-fidelity, with which it agrees, gives a spread over subsets and no interval over the faces.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from charreg.core.errors import CharregError
from charreg.core.seeding import random_numbers
from charreg.metrics.bootstrap import Floats, multiplicities, resampled_means

SCALE = 1000.0  # printed, as everywhere, times a thousand
AT_ONCE = 4096  # features of both sets together; up to this many, all kernel values are held (134 MB)
BLOCK = 1024  # rows of a kernel matrix computed at a time for larger sets
LARGE = 10_000  # generated features from which the bootstrap is the linear one
SAMPLE = 5000  # of the generated features, which stand for all of them there


def kernel(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
    """(x.y / C + 1)^3 for every pair of rows of x [N, C] and y [M, C], float64 [N, M]."""
    return (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3  # type: ignore[no-any-return]


def squared_mmd(k_xx: Floats, k_xy: Floats, k_yy: Floats) -> float:
    """Unbiased squared MMD of kernel matrices [N, N], [N, M], [M, M]; a feature is never paired with itself."""
    n, m = k_xy.shape
    within_x = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1))
    within_y = (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * k_xy.mean())


def kernel_distance(
    real: npt.NDArray[Any], generated: npt.NDArray[Any], subsets: int, subset_size: int, *words: object
) -> tuple[float, float]:
    """Mean and standard deviation, x1000, of the squared MMD over random subsets without replacement.

    real [N, C], generated [M, C]; a subset has min(subset_size, N, M) of each. Raises CharregError for fewer than 2.
    """
    size = min(subset_size, len(real), len(generated))
    if size < 2:
        raise CharregError(f"kernel distance: found {size} image, wanted at least 2 in either set")
    at_once = len(real) + len(generated) <= AT_ONCE
    whole = (kernel(real, real), kernel(real, generated), kernel(generated, generated)) if at_once else None
    random = random_numbers(*words, "kernel subsets")
    values = []
    for _ in range(subsets):
        i = random.choice(len(real), size, replace=False)
        j = random.choice(len(generated), size, replace=False)
        if whole is not None:
            values.append(squared_mmd(whole[0][np.ix_(i, i)], whole[1][np.ix_(i, j)], whole[2][np.ix_(j, j)]))
        else:
            x, y = real[i], generated[j]
            values.append(squared_mmd(kernel(x, x), kernel(x, y), kernel(y, y)))
    return SCALE * float(np.mean(values)), SCALE * float(np.std(values))


def bootstrap_kernel(real: npt.NDArray[Any], generated: npt.NDArray[Any], resamples: int, *words: object) -> Floats:
    """Squared MMD, x1000, of resampled generated features from all real ones, up to a constant.

    A resample repeats images. Pairs of an image with itself are left out with all their repetitions, or the
    estimate would no longer be unbiased. The part within `real` is the constant left out. All pairs of more than
    LARGE images would take hours: there only what is linear in the images is kept, the larger part by far.
    """
    n = len(generated)
    if n > LARGE:
        return SCALE * resampled_means(_influences(real, generated), resamples, *words)
    counts = multiplicities(n, resamples, *words)
    counts = counts[counts.max(axis=1) < n]  # one image n times has no pair; happens for a handful of images
    if not len(counts):
        raise CharregError(f"kernel distance: found {n} images, wanted more to bootstrap over")
    pairs = n**2 - (counts**2).sum(axis=1)
    within, across = np.zeros(len(counts)), np.zeros(len(counts))
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        block = kernel(generated[rows], generated)
        block[np.arange(len(block)), np.arange(start, start + len(block))] = 0.0
        within += np.einsum("br,br->b", counts[:, rows], counts @ block.T)
        across += counts[:, rows] @ kernel(generated[rows], real).mean(axis=1)
    return np.asarray(SCALE * (within / pairs - 2 * across / n))


def _influences(real: npt.NDArray[Any], generated: npt.NDArray[Any]) -> Floats:
    """What each generated feature adds to the squared MMD, to first order, [N].

    That is twice its mean kernel value with the generated features (an evenly spaced sample of them, itself left out)
    less that with the real ones.
    """
    chosen = np.linspace(0, len(generated) - 1, min(SAMPLE, len(generated))).round().astype(int)
    sample, parts = generated[chosen], []
    for start in range(0, len(generated), BLOCK):
        rows = generated[start : start + BLOCK]
        within = kernel(rows, sample)
        own = chosen == np.arange(start, start + len(rows))[:, None]
        others = np.where(own, 0.0, within).sum(axis=1) / (len(chosen) - own.sum(axis=1))
        parts.append(2 * (others - kernel(rows, real).mean(axis=1)))
    return np.concatenate(parts)
