"""True FID against pytorch-fid: the distance at 2,048 features, the features themselves, and many images in little
memory.

python benchmarks/fid.py [distance] [features] [large]

Seconds of the processor (all threads) stand beside those of the clock: others may be using the machine.
"""

import argparse
import hashlib
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from charreg.core.params import EvaluateOptions
from charreg.core.runtime import machine
from charreg.metrics.distances import Reference, measure_distances
from charreg.metrics.features import FeatureNetwork, build_inception, load_inception
from charreg.metrics.frechet import Gaussian, Moments, frechet_distance

CPU = torch.device("cpu")
DIMS = 2048


@dataclass(frozen=True, order=True)
class Seconds:
    """Of the processor and of the clock."""

    cpu: float
    wall: float

    def __str__(self) -> str:
        return f"{self.cpu:.2f} s cpu, {self.wall:.2f} s wall"


def timed(run: Callable[[], Any]) -> tuple[Seconds, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    value = run()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall), value


def made_up_features(count: int, seed: int, factor: float = 1.0) -> Any:
    """Positive, correlated features with a spectrum that falls over two decades, as pooled activations have."""
    mixing = np.random.default_rng(0).normal(size=(DIMS, DIMS)) / np.sqrt(DIMS)
    draws = np.random.default_rng(seed).normal(size=(count, DIMS)) * np.geomspace(1, 0.01, DIMS)
    return np.maximum(0, draws @ mixing * factor + 0.1).astype(np.float32)


def distance(repeats: int) -> None:
    """From means and covariances to the number, in turns; the fastest of each counts."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    a, b = (Moments.of(made_up_features(5000, seed, factor)) for seed, factor in ((1, 1.0), (2, 1.1)))
    seconds: dict[str, list[Seconds]] = {"charreg": [], "pytorch-fid": []}
    for _ in range(repeats):
        ours, found = timed(lambda: frechet_distance(a.gaussian(), b.gaussian()))
        theirs, wanted = timed(lambda: calculate_frechet_distance(a.mean, a.covariance, b.mean, b.covariance))
        seconds["charreg"].append(ours)
        seconds["pytorch-fid"].append(theirs)
    for name, value in (("charreg", found), ("pytorch-fid", float(wanted))):
        print(f"distance  {name:12} {min(seconds[name])}, fastest of {repeats}   {value:.9f}")
    ours, theirs = (min(each) for each in seconds.values())
    print(f"distance  ratio {ours.cpu / theirs.cpu:.3f} cpu, {ours.wall / theirs.wall:.3f} wall (wanted at most 0.333)")
    print(f"distance  relative difference {abs(found / wanted - 1):.1e}")


def random_inception(path: Path) -> str:
    """Write random weights of the FID Inception under which activations neither die nor explode; their SHA-256."""
    generator = torch.Generator().manual_seed(0)
    network = build_inception()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            fan = value[0].numel() if value.ndim > 1 else 1
            noise = torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5
            value.copy_(noise.abs() * 0.1 + 0.9 if name.endswith(("running_var", "bn.weight")) else noise)
    torch.save(network.state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_up_images(count: int, seed: int) -> Any:
    """Smooth random pictures, uint8 [count, 64, 64, 3]."""
    cells = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(each).resize((64, 64), Image.Resampling.BICUBIC)) for each in cells])


def features(count: int) -> None:
    """One weight file in both libraries, from 64x64 faces: memory-mapped here, PNG files there."""
    from pytorch_fid import fid_score
    from pytorch_fid import inception as fid

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sha256 = random_inception(folder / "weights.pth")
        tensors = torch.load(folder / "weights.pth", weights_only=True)
        fid.load_state_dict_from_url = lambda *_, **__: tensors
        ours, theirs = load_inception(folder / "weights.pth", sha256, CPU), fid.InceptionV3([3]).eval()
        results: dict[str, list[Any]] = {"charreg": [], "pytorch-fid": []}
        seconds = dict.fromkeys(results, 0.0)  # cpu
        for number in (1, 2):
            images = made_up_images(count, number)
            files = [folder / f"{number}-{i:04}.png" for i in range(count)]
            for file, image in zip(files, images, strict=True):
                Image.fromarray(image).save(file)
            for library, run in (
                ("charreg", lambda images=images: ours.extract(images, 16)),
                ("pytorch-fid", lambda files=files: fid_score.get_activations(files, theirs, 16, DIMS, CPU, 0)),
            ):
                took, found = timed(run)
                seconds[library] += took.cpu
                results[library].append(found)
        worst = max(
            float(np.abs(mine - other).max() / np.abs(other).max())
            for mine, other in zip(results["charreg"], results["pytorch-fid"], strict=True)
        )
        for library, took in seconds.items():
            print(f"features  {library:12} {2 * count / took:7.1f} images a second of the processor")
        print(f"features  largest difference over the largest feature {worst:.1e} (wanted at most 1e-4)")
        found = frechet_distance(*(Gaussian.of(each) for each in results["charreg"]))
        statistics = [
            (each.mean(axis=0), np.cov(each, rowvar=False)) for each in map(np.float64, results["pytorch-fid"])
        ]
        wanted = float(fid_score.calculate_frechet_distance(*statistics[0], *statistics[1]))
        print(f"features  FID of {count} and {count} images: charreg {found:.6f}, pytorch-fid {wanted:.6f}")
        print(f"features  relative difference {abs(found / wanted - 1):.1e} (wanted at most 1e-4)")


class Projection(torch.nn.Module):
    """2,048 features for nothing, so that memory and time are those of what comes after a network."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(768, DIMS, generator=torch.Generator().manual_seed(0)) / 768**0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.weight).relu()


class AnonymousMemory:
    """The largest amount of memory, MiB, that is the process's own: what it mapped from files can be dropped."""

    def __enter__(self) -> "AnonymousMemory":
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            self.peak = max(self.peak, int(status.partition("RssAnon:")[2].split()[0]) // 1024)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def large(counts: list[int], options: EvaluateOptions) -> None:
    """Features and both distances with their intervals, for some images and for more."""
    network = FeatureNetwork("inception", Projection(), DIMS, 16, (0.5,) * 3, (0.5,) * 3, CPU, "")  # type: ignore[arg-type]
    real = network.extract(noise(6000, 1), 64)
    reference = Reference(Moments.of(real).gaussian(), np.array(real[:5000]))
    for n in counts:
        with tempfile.TemporaryDirectory() as folder:
            images = np.lib.format.open_memmap(f"{folder}/images.npy", "w+", np.uint8, (n, 16, 16, 3))
            for start in range(0, n, 10_000):
                images[start : start + 10_000] = noise(min(10_000, n - start), 2 + start)
            with AnonymousMemory() as memory:
                extraction, found = timed(lambda images=images: network.extract(images, 64))
                measuring, scores = timed(lambda found=found: measure_distances(reference, found, network, options, 0))
        print(
            f"large     {n:7} images: features {extraction}; distances and intervals {measuring}; "
            f"memory {memory.peak} MiB   " + " ".join(f"{key} {scores.numbers[key]:.4g}" for key in ("fid", "kid")),
            flush=True,
        )


def noise(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], "distance", "features", "large"], default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=64, help="of each set, for `features`")
    parser.add_argument("--count", type=int, nargs="+", default=[40_000, 200_000], help="images, for `large`")
    parser.add_argument("--resamples", type=int, default=1000, help="of the intervals, for `large`")
    parser.add_argument("--subsets", type=int, default=100, help="of the kernel distance, for `large`")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # SciPy on an argument pytorch-fid passes
    print(f"machine   {machine()}", file=sys.stderr)
    options = EvaluateOptions(
        features="inception", weights="", sha256="", resize=16, batch=64, bootstrap=args.resamples,
        kd_subsets=args.subsets, kd_subset_size=1000, trials=1,
    )  # fmt: skip
    parts = args.parts or ["distance", "features", "large"]
    if "distance" in parts:
        distance(args.repeats)
    if "features" in parts:
        features(args.images)
    if "large" in parts:
        large(args.count, options)


if __name__ == "__main__":
    main()
