"""Distances of a set of faces from a reference set that was looked at once.

A reference folder holds four parts: `hr` (the HR training faces, for super-resolved ones), `lr` (their artificial
16x16 faces, for genuine and regulated ones), and `lr_a`, `lr_b`, the artificial faces in two halves, whose distance
is the floor of the LR distances. Each part is a Gaussian and a sample of the features, in .npy files.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from charreg.core.errors import RESTORE, CharregError
from charreg.core.faces import FaceSet, digest_of_faces
from charreg.core.files import sha256_of_file, write_json
from charreg.core.params import EvaluateOptions
from charreg.metrics.bootstrap import centred_interval
from charreg.metrics.features import FeatureNetwork
from charreg.metrics.frechet import BLOCK, Gaussian, Moments, bootstrap_frechet, frechet_distance
from charreg.metrics.kernel import bootstrap_kernel, kernel_distance
from charreg.metrics.scores import Scores

PARTS = ("hr", "lr", "lr_a", "lr_b")
ARRAYS = ("mean", "root", "sample")
SAMPLE = 5000  # features kept of a part; kernel subsets of 1,000 are drawn from them


@dataclass(frozen=True)
class Reference:
    """One part: the Gaussian of all its features, and an evenly spaced sample of them, float32 [<= SAMPLE, C]."""

    gaussian: Gaussian
    sample: npt.NDArray[np.float32]


def write_reference(hr: FaceSet, network: FeatureNetwork, options: EvaluateOptions, out: Path) -> None:
    """Write the four parts of an HR face set into an existing folder; memory does not grow with the set.

    Raises CharregError when the set has no artificial faces or too few faces.
    """
    if hr.lr is None:
        raise CharregError(f"{hr.folder}: found no lr.npy, wanted an HR face set with its artificial faces")
    in_a = first_half([str(photo) for photo in hr.index["photo"]])
    if min(in_a.sum(), (~in_a).sum()) < 2:
        raise CharregError(f"{hr.folder}: found {len(set(hr.index['photo']))} photos, wanted 2 faces in each half")
    counts = {}
    for space, images, halves in (("hr", hr.images, {}), ("lr", hr.lr, {"lr_a": in_a, "lr_b": ~in_a})):
        members = {space: np.ones(len(hr), dtype=bool), **halves}
        batches = network.stream(images, options.batch)
        for part, reference in _split(batches, members, network.dims).items():
            counts[part] = reference.gaussian.n
            for array, values in zip(ARRAYS, _arrays(reference), strict=True):
                np.save(out / f"{part}_{array}.npy", values, allow_pickle=False)
    names = [f"{part}_{array}.npy" for part in PARTS for array in ARRAYS]
    notes = {
        **_dialect(network),
        "faces": digest_of_faces(hr),
        "counts": counts,
        "sha256": {name: sha256_of_file(out / name) for name in names},
    }
    write_json(out / "meta.json", notes)


def first_half(photos: list[str]) -> npt.NDArray[np.bool_]:
    """Which faces belong to the first of two random halves, bool [N]; all crops of a photograph to the same one.

    Depends on the names of the photographs alone, not on their order.
    """
    shuffled = sorted(set(photos), key=lambda photo: hashlib.sha256(photo.encode()).digest())
    chosen = set(shuffled[::2])
    return np.array([photo in chosen for photo in photos], dtype=bool)


def _split(
    batches: Iterator[npt.NDArray[np.float32]], members: dict[str, npt.NDArray[np.bool_]], dims: int
) -> dict[str, Reference]:
    """The parts of a stream of features, each given by its members, bool [N].

    A part that is kept whole and has no more members than features needs no covariance matrix.
    """
    kept = {part: _evenly_spaced(member) for part, member in members.items()}
    large = [part for part, member in members.items() if member.sum() > min(SAMPLE, dims)]
    moments: dict[str, Moments] = {}
    samples: dict[str, list[npt.NDArray[np.float32]]] = {part: [] for part in members}
    start = 0
    for block in _blocks(batches):
        rows = slice(start, start + len(block))
        start += len(block)
        for part in members:
            samples[part].append(block[kept[part][rows]])
        for part in large:
            if members[part][rows].any():
                seen = Moments.of(block[members[part][rows]])
                moments[part] = moments[part] + seen if part in moments else seen
    found = {}
    for part in members:
        sample = np.concatenate(samples[part])
        found[part] = Reference(moments[part].gaussian() if part in large else Gaussian.of(sample), sample)
    return found


def _blocks(batches: Iterator[npt.NDArray[np.float32]]) -> Iterator[npt.NDArray[np.float32]]:
    """The rows of a stream, BLOCK or a few more at a time: matrices of all features are added once a block."""
    waiting: list[npt.NDArray[np.float32]] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _evenly_spaced(member: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    positions = np.flatnonzero(member)
    chosen = np.zeros(len(member), dtype=bool)
    chosen[positions[np.linspace(0, len(positions) - 1, min(SAMPLE, len(positions))).round().astype(int)]] = True
    return chosen


def _arrays(reference: Reference) -> tuple[npt.NDArray[Any], ...]:
    return reference.gaussian.mean, reference.gaussian.root, reference.sample


def _dialect(network: FeatureNetwork) -> dict[str, Any]:
    return {"features": network.name, "side": network.side, "weights": network.weights_sha256}


def open_reference(folder: Path, network: FeatureNetwork) -> dict[str, Reference]:
    """The parts of a reference folder, by name.

    Raises CharregError when a file is missing or damaged, or made with other features than `network`.
    """
    note = folder / "meta.json"
    try:
        meta = json.loads(note.read_text(encoding="utf-8"))
        found, digests, counts = {key: meta[key] for key in _dialect(network)}, meta["sha256"], meta["counts"]
    except FileNotFoundError:
        raise CharregError(f"{note}: not found, wanted what stage benchmark writes; run dvc repro") from None
    except (ValueError, KeyError, TypeError):
        raise CharregError(f"{note}: not the note of reference features; repeat stage benchmark") from None
    if found != _dialect(network):
        raise CharregError(f"{note}: found {found}, wanted {_dialect(network)}; repeat stage benchmark")
    parts = {}
    for part in PARTS:
        arrays = []
        for array in ARRAYS:
            path = folder / f"{part}_{array}.npy"
            if not path.is_file() or sha256_of_file(path) != digests.get(path.name):
                raise CharregError(f"{path}: missing or damaged, its sha256 is in meta.json; {RESTORE}")
            arrays.append(np.load(path, allow_pickle=False))
        parts[part] = Reference(Gaussian(int(counts[part]), arrays[0], arrays[1]), arrays[2])
    return parts


def measure_distances(
    reference: Reference,
    features: npt.NDArray[np.float32],
    network: FeatureNetwork,
    options: EvaluateOptions,
    seed: int,
    prefix: str = "",
) -> Scores:
    """Both distances of generated (or genuine) features [N, C] from a reference, with 95% bootstrap intervals.

    Names: `<prefix><distance>`, `_lo`, `_hi`, `_std` (over subsets, kernel distance only), `n_real`, `n_fake`.
    Intervals are over the N faces, for a reference that stays as it is.
    """
    scores = Scores({"n_real": reference.gaussian.n, "n_fake": len(features)})
    frechet, kernel = (prefix + name for name in network.distances)
    if len(features) < 2:
        reason = f"found {len(features)} faces, wanted at least 2"
        return Scores(scores.numbers, {frechet: reason, kernel: reason})
    words = (seed, options.features)
    point = frechet_distance(reference.gaussian, Gaussian.of(features))
    low, high = centred_interval(point, bootstrap_frechet(reference.gaussian, features, options.bootstrap, *words))
    scores.add(frechet, point, (max(0.0, low), high))
    few = [f"{name} {scores.numbers[name]:g}" for name in ("n_real", "n_fake") if scores.numbers[name] <= network.dims]
    if few:
        scores.warnings[frechet] = (
            f"{' and '.join(few)}, features {network.dims}: biased upwards, compare at equal numbers only"
        )
    mean, deviation = kernel_distance(reference.sample, features, options.kd_subsets, options.kd_subset_size, *words)
    resampled = bootstrap_kernel(reference.sample, features, options.bootstrap, *words)
    scores.add(kernel, mean, centred_interval(mean, resampled))
    scores.add(f"{kernel}_std", deviation)
    return scores
