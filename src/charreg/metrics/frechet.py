"""Fréchet distance of two sets of features, each taken as a Gaussian (Heusel et al. 2017, Eq. 6).

    |m1 - m2|^2 + Tr(C1) + Tr(C2) - 2 Tr((C1^1/2 C2 C1^1/2)^1/2)

The last trace is computed as the sum of the singular values of A B^T, where A^T A = C1 and B^T B = C2: the square
roots of the eigenvalues of the symmetric form, without squaring, so that sets with fewer members than features
lose no digits. Only for large matrices they are the roots of eigenvalues, which takes a quarter of the time.
Everything is float64; covariances are divided by N - 1.

Computed here because pytorch-fid and torch-fidelity, with which it agrees, give no interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from charreg.core.errors import CharregError
from charreg.metrics.bootstrap import Floats, multiplicities, resampled_means

BLOCK = 4096  # features held in float64 at a time: 64 MiB of 2,048 numbers each
LARGE = 1024  # rank of both sets from which singular values are taken as roots of eigenvalues
LINEAR = 4  # times as many images as features from which the bootstrap is the linear one


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
        """The Gaussian of features [N, C], which may be memory-mapped; more than features are read in blocks.

        Raises CharregError for N < 2 or features that are not finite.
        """
        if features.ndim == 2 and not 2 <= len(features) <= features.shape[1]:
            return Moments.of(features).gaussian()
        rows = _checked(features)
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
        """Moments of features [N, C], N >= 1; memory-mapped ones are read in blocks."""
        if len(features) == 0:
            raise CharregError("features: found an empty set, wanted at least 1 image")
        return reduce(add, (cls._of_block(rows) for rows in _blocks(features)))

    @classmethod
    def _of_block(cls, rows: Floats) -> "Moments":
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
        """The Gaussian with these moments; what is rounding noise in the covariance is taken as the zero it is.

        The root is a Cholesky factor with pivots (LAPACK's dpstrf), which stops at the rank and costs a tenth of
        eigenvectors.
        """
        factor, pivots, rank, _ = lapack.dpstrf(self.covariance)
        root = np.zeros((rank, len(pivots)))
        root[:, pivots - 1] = np.triu(factor)[:rank]
        return Gaussian(self.n, self.mean, root)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance; finite, >= 0, symmetric, and 0 for equal arguments up to rounding."""
    shift = a.mean - b.mean
    overlap = _sum_of_singular_values(a.root @ b.root.T)
    return max(0.0, float(shift @ shift + a.total_variance + b.total_variance - 2 * overlap))


def _sum_of_singular_values(matrix: Floats) -> float:
    if not matrix.size:
        return 0.0
    if min(matrix.shape) < LARGE:
        return float(np.linalg.svd(matrix, compute_uv=False).sum())
    return _sum_of_roots(matrix.T @ matrix if matrix.shape[1] <= matrix.shape[0] else matrix @ matrix.T)


def _sum_of_roots(gram: Floats) -> float:
    """Sum of the roots of the eigenvalues of a symmetric matrix that has no negative ones but by rounding."""
    return float(np.sqrt(np.maximum(0.0, np.linalg.eigvalsh(gram))).sum())


def bootstrap_frechet(real: Gaussian, generated: npt.NDArray[Any], resamples: int, *words: object) -> Floats:
    """Distances [resamples] of resampled generated features [N, C] from a fixed reference.

    Exact, without a low rank cut, for up to LINEAR times as many images as features. Every resample then costs the
    eigenvalues of a matrix; above, where that takes hours, the distance is taken as linear in what a resample changes
    (the delta method). At the border the two spreads differ by a tenth, and less the more images there are.
    """
    if len(generated) > LINEAR * generated.shape[1]:
        return resampled_means(_influences(real, generated), resamples, *words)
    return _bootstrap_exactly(real, _checked(generated), resamples, *words)


def _influences(real: Gaussian, generated: npt.NDArray[Any]) -> Floats:
    """What each image adds to the distance, to first order, [N]; their mean is the distance.

    With d = x - m2, M = A C2 A^T and A^T A = C1 an image moves the distance by 2 (m2 - m1).d + |d|^2 - |M^-1/4 A d|^2.
    """
    found = Moments.of(generated)
    point = frechet_distance(real, found.gaussian())
    values, vectors = np.linalg.eigh(real.root @ found.covariance @ real.root.T)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    transport = (vectors[:, kept] * values[kept] ** -0.25).T @ real.root
    parts = []
    for rows in _blocks(generated):
        deviations = rows - found.mean
        lost = np.square(deviations @ transport.T).sum(axis=1)
        parts.append(2 * deviations @ (found.mean - real.mean) + np.square(deviations).sum(axis=1) - lost)
    influences = np.concatenate(parts)
    return np.asarray(influences - influences.mean() + point)


def _bootstrap_exactly(real: Gaussian, generated: Floats, resamples: int, *words: object) -> Floats:
    """A resample is a set of multiplicities, and its root is a weighting of the same projected rows P = X A^T. So
    one matrix serves all resamples: the N x N products of the rows of P when N is small, else the rows themselves.
    """
    rows = generated - real.mean  # near zero, which keeps the sums below exact
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
    return _sum_of_roots(gram)


def _blocks(features: npt.NDArray[Any]) -> Iterator[Floats]:
    """The features [N, C] in float64, BLOCK at a time."""
    for start in range(0, len(features), BLOCK):
        yield _checked(features[start : start + BLOCK])


def _checked(features: npt.NDArray[Any]) -> Floats:
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise CharregError(f"features: found {features.dtype} {features.shape}, wanted floats [N, C]")
    rows = features.astype(np.float64)
    if not np.isfinite(rows).all():
        raise CharregError("features: found a value that is not finite; check the feature network's weights")
    return rows
