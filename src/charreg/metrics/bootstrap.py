"""Bootstrap resamples as multiplicities, and the 95% interval they give."""

import numpy as np
import numpy.typing as npt

from charreg.core.seeding import random_numbers

RESAMPLES = 8  # drawn at a time where images are many
Floats = npt.NDArray[np.float64]


def multiplicities(count: int, resamples: int, *words: object) -> Floats:
    """How often each of `count` items is drawn, float64 [resamples, count]; every row sums to `count`.

    A function of the words (seed, metric) alone.
    """
    return random_numbers(*words, "bootstrap").multinomial(count, np.full(count, 1 / count), resamples).astype(float)


def resampled_means(values: Floats, resamples: int, *words: object) -> Floats:
    """Means [resamples] of resampled values [N], over the draws of `multiplicities`, made a few at a time."""
    random, n = random_numbers(*words, "bootstrap"), len(values)
    means = np.zeros(resamples)
    for start in range(0, resamples, RESAMPLES):
        some = slice(start, min(start + RESAMPLES, resamples))
        means[some] = random.multinomial(n, np.full(n, 1 / n), some.stop - some.start) @ values / n
    return means


def centred_interval(point: float, resampled: Floats) -> tuple[float, float]:
    """95% interval: the spread of the resampled values, laid around the point estimate.

    Resampling repeats items, so a Fréchet distance of a resample is too large on average (its covariance has
    a lower rank); quantiles taken as they are would lie above the estimate. Subtracting the mean of the
    resampled values takes that shift out. It does not take out the small-sample bias of the estimate itself.
    """
    low, high = np.quantile(resampled, (0.025, 0.975)) - resampled.mean()
    return point + float(low), point + float(high)
