"""Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017, Eq. 6).

    |m1 - m2|^2 + Tr(C1) + Tr(C2) - 2 Tr((C1^1/2 C2 C1^1/2)^1/2)

The last trace is computed as the sum of the singular values of A B^T, where A^T A = C1 and B^T B = C2: the square
roots of the eigenvalues of the symmetric form, without squaring, so that sets with fewer members than features
lose no digits. Everything is float64; covariances are divided by N - 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charreg.errors import CharregError
from charreg.metrics.bootstrap import Floats, multiplicities


@dataclass(frozen=True)
class Gaussian:
    """A set of features as the distance sees it: root [r, C] with root^T root = covariance, r <= min(n - 1, C)."""

    n: int
    mean: Floats
    root: Floats

    @property
    def total_variance(self) -> float:
        return float(np.sum(self.root**2))

    @classmethod
    def of(cls, features: npt.NDArray[Any]) -> "Gaussian":
        """The Gaussian of features [N, C] held in memory. Raises CharregError for N < 2 or non-finite features."""
        rows = _checked(features)
        if not 2 <= len(rows) <= rows.shape[1]:
            return Moments.of(rows).gaussian()
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, (rows - mean) / np.sqrt(len(rows) - 1))


@dataclass(frozen=True)
class Moments:
    """Count, mean [C] and scatter [C, C] (sum of outer products of deviations) of features seen so far.

    `+` joins the moments of two disjoint parts, so a set may be streamed or sharded in any way.
    """

    n: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, features: npt.NDArray[Any]) -> "Moments":
        """Moments of features [N, C], N >= 1."""
        rows = _checked(features)
        if len(rows) == 0:
            raise CharregError("features: found an empty set, wanted at least 1 image")
        mean = rows.mean(axis=0)
        deviations = rows - mean
        return cls(len(rows), mean, deviations.T @ deviations)

    def __add__(self, other: "Moments") -> "Moments":
        n = self.n + other.n
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), scatter)

    @property
    def covariance(self) -> Floats:
        """[C, C], divided by N - 1. Raises CharregError for N < 2."""
        if self.n < 2:
            raise CharregError(f"Fréchet distance: found {self.n} image, wanted at least 2 to have a covariance")
        return self.scatter / (self.n - 1)

    def gaussian(self) -> Gaussian:
        """The Gaussian with these moments; eigenvalues that are rounding noise are taken as the zeros they are."""
        values, vectors = np.linalg.eigh(self.covariance)
        real = values > values[-1] * len(values) * np.finfo(np.float64).eps
        return Gaussian(self.n, self.mean, np.sqrt(values[real])[:, None] * vectors[:, real].T)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance; finite, >= 0, symmetric, and 0 for equal arguments up to rounding."""
    shift = a.mean - b.mean
    overlap = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum() if len(a.root) and len(b.root) else 0.0
    return max(0.0, float(shift @ shift + a.total_variance + b.total_variance - 2 * overlap))


def bootstrap_frechet(real: Gaussian, generated: npt.NDArray[Any], resamples: int, *words: object) -> Floats:
    """Distances [resamples] of resampled generated features [N, C] from a fixed reference; exact, no low rank cut.

    A resample is a set of multiplicities, and its root is a weighting of the same projected rows P = X A^T. So
    one matrix serves all resamples: the N x N products of the rows of P when N is small, else the rows themselves.
    """
    rows = _checked(generated) - real.mean  # near zero, which keeps the sums below exact
    n, projected = len(rows), rows @ real.root.T
    counts = multiplicities(n, resamples, *words)
    means = counts @ rows / n
    squares = np.einsum("nc,nc->n", rows, rows)
    mean_squares = np.einsum("bc,bc->b", means, means)
    variances = (counts @ squares - n * mean_squares) / (n - 1)
    products = projected @ projected.T if n <= 2 * len(real.root) else None
    overlaps = np.array([_overlap(projected, products, row) for row in counts]) / np.sqrt(n - 1)
    return np.asarray(np.maximum(0.0, mean_squares + real.total_variance + variances - 2 * overlaps))


def _overlap(projected: Floats, products: Floats | None, counts: Floats) -> float:
    """Sum of the singular values of the rows of `projected`, centred and weighted by the roots of their counts."""
    drawn = np.flatnonzero(counts)
    weights, share = np.sqrt(counts[drawn]), counts[drawn] / counts.sum()
    if products is not None:
        gram = products[np.ix_(drawn, drawn)]
        row_means = gram @ share
        gram = (gram - row_means[:, None] - row_means + share @ row_means) * np.outer(weights, weights)
    else:
        rows = projected[drawn]
        rows = (rows - share @ rows) * weights[:, None]
        gram = rows.T @ rows
    return float(np.sqrt(np.maximum(0.0, np.linalg.eigvalsh(gram))).sum())


def _checked(features: npt.NDArray[Any]) -> Floats:
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise CharregError(f"features: found {features.dtype} {features.shape}, wanted floats [N, C]")
    rows = features.astype(np.float64)
    if not np.isfinite(rows).all():
        raise CharregError("features: found a value that is not finite; check the feature network's weights")
    return rows
