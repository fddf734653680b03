"""The Fréchet distance: closed forms, two other libraries, and the mistakes that are easily made."""

import warnings
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.metrics import frechet as module
from charreg.metrics.bootstrap import centred_interval, multiplicities, resampled_means
from charreg.metrics.frechet import Gaussian, Moments, bootstrap_frechet, frechet_distance

Array = np.ndarray[Any, Any]


def draw(n: int, dims: int, seed: int, shift: float = 0.0) -> Array:
    """Correlated features with unequal variances."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dims, dims)) / np.sqrt(dims)
    return random.normal(size=(n, dims)) * np.linspace(0.2, 2, dims) @ mixing + shift


def known(mean: Array, variances: Array) -> Gaussian:
    return Moments(101, mean, 100 * np.diag(variances)).gaussian()


def test_equal_covariances_leave_the_squared_norm_of_the_mean_difference() -> None:
    x = draw(300, 20, seed=0)
    assert frechet_distance(Gaussian.of(x), Gaussian.of(x + 0.5)) == pytest.approx(20 * 0.25, rel=1e-9)


def test_diagonal_gaussians_give_the_closed_form() -> None:
    a, b = np.array([1.0, 4.0, 9.0, 0.0]), np.array([4.0, 1.0, 0.0, 2.0])
    mean = np.array([1.0, -2.0, 0.0, 3.0])
    wanted = mean @ mean + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(known(np.zeros(4), a), known(mean, b)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("n", [12, 40, 400])
def test_equal_sets_have_distance_zero(n: int) -> None:
    x = draw(n, 40, seed=1)
    a, b = Gaussian.of(x), Moments.of(x).gaussian()
    assert abs(frechet_distance(a, a)) < 1e-9 * a.total_variance
    assert abs(frechet_distance(a, b)) < 1e-6 * a.total_variance


def test_all_images_alike_is_a_point_and_stays_finite() -> None:
    point, cloud = Gaussian.of(np.ones((5, 3))), Gaussian.of(draw(50, 3, seed=2))
    wanted = np.sum((cloud.mean - 1) ** 2) + cloud.total_variance
    assert frechet_distance(point, cloud) == pytest.approx(wanted)
    assert frechet_distance(point, point) == 0.0
    flat = Moments.of(np.ones((5, 3))).gaussian()
    assert frechet_distance(flat, cloud) == pytest.approx(wanted)


@pytest.mark.parametrize(("n", "m"), [(500, 600), (30, 25), (30, 600)])
def test_agrees_with_pytorch_fid_and_torch_fidelity(n: int, m: int) -> None:
    """To 1e-5 of the total variance, also where there are fewer images (30, 25) than features (64)."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    x, y = draw(n, 64, seed=3), 1.3 * draw(m, 64, seed=4, shift=0.2)
    statistics = [(z.mean(axis=0), np.cov(z, rowvar=False)) for z in (x, y)]
    found = frechet_distance(Gaussian.of(x), Gaussian.of(y))
    from_moments = frechet_distance(Moments.of(x).gaussian(), Moments.of(y).gaussian())
    tolerance = 1e-5 * sum(np.trace(covariance) for _, covariance in statistics)
    assert from_moments == pytest.approx(found, abs=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy on singular products and on the argument `disp`
        oracle = calculate_frechet_distance(*statistics[0], *statistics[1])
    assert found == pytest.approx(oracle, abs=tolerance)
    from torch_fidelity import metric_fid

    named = [{"mu": mean, "sigma": covariance} for mean, covariance in statistics]
    oracle = metric_fid.fid_statistics_to_metric(*named, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(oracle, abs=tolerance)


def test_is_symmetric_and_never_negative_with_fewer_images_than_features() -> None:
    for seed in range(5):
        a, b = Gaussian.of(draw(7, 200, seed)), Gaussian.of(draw(11, 200, seed + 50))
        there, back = frechet_distance(a, b), frechet_distance(b, a)
        assert there >= 0
        assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize("cuts", [[1], [250], [3, 4, 5, 200], list(range(7, 500, 7))])
def test_moments_do_not_depend_on_batches_or_shards(cuts: list[int]) -> None:
    x = (draw(500, 16, seed=5) + 1000).astype(np.float32)  # far from zero: sums of squares would lose digits
    whole = Moments.of(x)
    shards = [Moments.of(part) for part in np.split(x, cuts)]
    streamed = reduce(add, shards)
    while len(shards) > 1:  # joined in another order, as processes may finish
        shards = [*shards[2:], shards[1] + shards[0]]
    for found in (streamed, shards[0]):
        assert found.n == whole.n
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-9)


def test_old_wrong_ways_fail() -> None:
    """Float32 sums of squares, covariances divided by N, and the trace of a product taken eigenvalue by eigenvalue."""
    x, y = draw(60, 16, seed=6), draw(60, 16, seed=7) * np.linspace(2, 0.5, 16)
    right = frechet_distance(Gaussian.of(x), Gaussian.of(y))
    far = (x + 1000).astype(np.float32)
    sums = (far.T @ far - len(far) * np.outer(far.mean(0), far.mean(0))) / (len(far) - 1)
    assert np.abs(sums - Moments.of(far).covariance).max() > 0.01
    biased = [Gaussian(60, g.mean, g.root * np.sqrt(59 / 60)) for g in (Gaussian.of(x), Gaussian.of(y))]
    assert frechet_distance(*biased) != pytest.approx(right, rel=1e-3)
    values = [np.linalg.eigvalsh(Moments.of(z).covariance) for z in (x, y)]
    commuting = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.sum((np.sqrt(values[0]) - np.sqrt(values[1])) ** 2)
    assert commuting != pytest.approx(right, rel=1e-2)


@pytest.mark.parametrize(("n", "dims"), [(9, 30), (25, 30), (30, 8)])
def test_bootstrap_is_the_distance_of_every_resample(n: int, dims: int) -> None:
    """Also where a resample has fewer images than features: no approximation."""
    real, generated = Gaussian.of(draw(80, dims, seed=8)), draw(n, dims, seed=9, shift=0.3)
    found = bootstrap_frechet(real, generated, 6, 0)
    for value, counts in zip(found, multiplicities(n, 6, 0), strict=True):
        resample = np.repeat(generated, counts.astype(int), axis=0)
        assert value == pytest.approx(frechet_distance(real, Gaussian.of(resample)), rel=1e-6)


@pytest.mark.parametrize("times", [5, 40])
def test_bootstrap_of_many_images_is_linear_and_near_the_exact_one(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same resamples: nearly the same spread, around the estimate."""
    dims = 12
    real, generated = Gaussian.of(draw(900, dims, seed=8)), draw(times * dims, dims, seed=9, shift=0.3)
    monkeypatch.setattr(module, "BLOCK", 17)  # read in pieces
    linear = bootstrap_frechet(real, generated, 400, 0)
    monkeypatch.setattr(module, "LINEAR", 10**9)
    exact = bootstrap_frechet(real, generated, 400, 0)
    point = frechet_distance(real, Gaussian.of(generated))
    assert linear.std() == pytest.approx(exact.std(), rel=0.15 if times == 5 else 0.03)
    assert np.corrcoef(linear, exact)[0, 1] > (0.85 if times == 5 else 0.98)
    assert linear.mean() == pytest.approx(point, abs=3 * linear.std() / 20)
    wrong = resampled_means(np.square(generated - real.mean).sum(axis=1), 400, 0)  # without what the covariances share
    assert wrong.std() > 1.2 * exact.std()


def test_means_are_those_of_the_multiplicities() -> None:
    values = np.random.default_rng(0).normal(size=30)
    np.testing.assert_allclose(resampled_means(values, 21, 1, "a"), multiplicities(30, 21, 1, "a") @ values / 30)


def test_memory_mapped_features_are_read_in_blocks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(500, 16, seed=5).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    whole = Gaussian.of(x)
    monkeypatch.setattr(module, "BLOCK", 37)
    mapped = Gaussian.of(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert mapped.n == 500
    np.testing.assert_allclose(mapped.root.T @ mapped.root, whole.root.T @ whole.root, rtol=1e-9, atol=1e-9)


def test_the_root_stops_at_the_rank() -> None:
    """30 images of 200 features: covariance of rank 29, whose other 171 directions are rounding noise."""
    x = draw(30, 200, seed=6)
    gaussian = Moments.of(x).gaussian()
    assert gaussian.root.shape == (29, 200)
    np.testing.assert_allclose(gaussian.root.T @ gaussian.root, np.cov(x, rowvar=False), atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(500, 600), (30, 600)])
def test_roots_of_eigenvalues_agree_with_singular_values(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Gaussian.of(draw(n, 64, seed=3)), Gaussian.of(draw(m, 64, seed=4, shift=0.2))
    exact = frechet_distance(a, b)
    monkeypatch.setattr(module, "LARGE", 1)
    assert frechet_distance(a, b) == pytest.approx(exact, rel=1e-7)
    assert frechet_distance(a, a) < 1e-6 * a.total_variance


def test_the_interval_is_centred_because_resamples_lie_above_the_estimate() -> None:
    real, generated = Gaussian.of(draw(200, 60, seed=10)), draw(40, 60, seed=11)
    point = frechet_distance(real, Gaussian.of(generated))
    resampled = bootstrap_frechet(real, generated, 200, 0)
    assert np.quantile(resampled, 0.025) > point  # the plain interval would not even hold the estimate
    low, high = centred_interval(point, resampled)
    assert low < point < high


def test_bootstrap_depends_on_the_seed_alone() -> None:
    np.testing.assert_array_equal(multiplicities(9, 4, 1, "a"), multiplicities(9, 4, 1, "a"))
    assert (multiplicities(9, 4, 1, "a") != multiplicities(9, 4, 2, "a")).any()
    assert (multiplicities(9, 4, 1).sum(axis=1) == 9).all()


def test_one_image_is_refused() -> None:
    with pytest.raises(CharregError, match="found 1 image, wanted at least 2"):
        Gaussian.of(np.ones((1, 4)))
    with pytest.raises(CharregError, match="empty set"):
        Moments.of(np.ones((0, 4)))


@pytest.mark.parametrize(
    ("features", "fault"),
    [
        (np.ones((4, 3), np.uint8), "wanted floats"),
        (np.ones(4), "wanted floats"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "not finite"),
    ],
)
def test_what_is_not_features_is_refused(features: Array, fault: str) -> None:
    with pytest.raises(CharregError, match=fault):
        Gaussian.of(features)
