"""The metrics files: which faces are compared with which, test set by test set."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from charreg.core.embedding import Embedder, embed_for_matching, embedder_of
from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, open_faces
from charreg.core.models import load_model, part
from charreg.core.params import EvaluateOptions
from charreg.metrics.benchmark import Benchmark
from charreg.metrics.bootstrap import centred_interval, multiplicities
from charreg.metrics.distances import Reference, measure_distances
from charreg.metrics.features import FeatureNetwork
from charreg.metrics.fidelity import measure_fidelity
from charreg.metrics.identification import RANKS, identify, make_trials
from charreg.metrics.scores import Scores

GENUINE_SETS = ("web", "cctv")


def evaluate_genuine(benchmark: Benchmark, network: FeatureNetwork) -> dict[str, Any]:
    """Distances of genuine LR faces, by test set, from the artificial LR faces (Table 5, first row).

    `artificial` is the floor: one half of the artificial faces from the other.
    """
    reference, options, seed = benchmark.reference(network), benchmark.options, benchmark.seed
    features = {name: network.extract(benchmark.tests[name].images, options.batch) for name in GENUINE_SETS}
    scores = {
        name: measure_distances(reference["lr"], found, network, options, seed, "lr_")
        for name, found in features.items()
    }
    floor = measure_distances(reference["lr_a"], reference["lr_b"].sample, network, options, seed, "lr_")
    return {name: found.as_json() for name, found in {**scores, "artificial": floor}.items()}


def evaluate_method(sr: Path, benchmark: Benchmark, network: FeatureNetwork, device: torch.device) -> dict[str, Any]:
    """Everything measured on one method; the mean over its trainings where several seeds trained it.

    sr: its FaceSets `web`, `cctv`, `hr_test` and, if any, `<name>_regulated`; those of further seeds in `seed-<k>`.
    Raises CharregError when a set is missing or damaged, or `hr_test` does not follow the true faces.
    """
    matcher = part(load_model(benchmark.matcher), "centreface", benchmark.matcher)
    embed, reference = embedder_of(matcher, device), benchmark.reference(network)
    places = [sr, *sorted(sr.glob("seed-*"))]
    found = [evaluate_results(place, benchmark, reference, network, embed) for place in places]
    label = open_faces(sr / "hr_test").meta.get("label", "")
    return {**({"label": label} if label else {}), **(found[0] if len(found) == 1 else over_seeds(found))}


def headline(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The few numbers a person compares (`dvc metrics diff`), by test set, under short names.

    `fd` and `kd` are distances on ImageNet features, `fid` and `kid` the same on Inception's; rank-1 in percent; PSNR
    (dB) and SSIM over RGB. What could not be measured is missing.
    """
    names = {"fd_imagenet": "fd", "kd_imagenet": "kd", "fid": "fid", "kid": "kid", "rank1": "rank1"}
    names |= {"psnr_rgb": "psnr", "ssim_rgb": "ssim"}
    return {
        test_set: {short: scores[test_set][name] for name, short in names.items() if name in scores[test_set]}
        for test_set in (*GENUINE_SETS, "hr_test")
    }


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One metrics file from those of several trainings.

    A number is the mean, `<name>_seeds` its standard deviation over the trainings, and its interval spans all their
    intervals. What one training lacks is absent.
    """
    merged: dict[str, Any] = {"seeds": len(found)}
    for test_set in found[0]:
        scores = Scores()
        parts = [one[test_set] for one in found]
        for one in parts:
            scores.absent |= one.get("absent", {})
            scores.warnings |= one.get("warnings", {})
        for name in parts[0]:
            values = [one.get(name) for one in parts]
            numbers = [float(value) for value in values if isinstance(value, int | float)]
            if len(numbers) < len(parts):
                continue
            if name.endswith("_lo"):
                scores.numbers[name] = min(numbers)
            elif name.endswith("_hi"):
                scores.numbers[name] = max(numbers)
            else:
                scores.numbers[name] = statistics.fmean(numbers)
                if not name.startswith("n_"):
                    scores.numbers[f"{name}_seeds"] = statistics.stdev(numbers)
        merged[test_set] = scores.as_json()
    return merged


def evaluate_results(
    sr: Path, benchmark: Benchmark, reference: Mapping[str, Reference], network: FeatureNetwork, embed: Embedder
) -> dict[str, Any]:
    """Everything measured on the results of one training."""
    options, seed, found = benchmark.options, benchmark.seed, {}
    for name in GENUINE_SETS:
        faces = open_faces(sr / name)
        regulated = open_faces(sr / f"{name}_regulated") if (sr / f"{name}_regulated").exists() else None
        if regulated is not None and len(regulated) != len(faces):
            raise CharregError(
                f"{regulated.folder}: found {len(regulated)} faces, wanted {len(faces)} as in {faces.folder};"
                " repeat stage evaluate"
            )
        scores = Scores()
        for reference_part, prefix, results in (("hr", "", faces), ("lr", "lr_", regulated)):
            if results is not None:
                features = network.extract(results.images, options.batch)
                scores.update(measure_distances(reference[reference_part], features, network, options, seed, prefix))
        scores.update(measure_identification(faces, embed, options, seed))
        found[name] = scores.as_json()
    found["hr_test"] = compare_with_truth(
        open_faces(sr / "hr_test"), benchmark.tests["hr_test"], options, seed
    ).as_json()
    return found


def measure_identification(faces: FaceSet, embed: Embedder, options: EvaluateOptions, seed: int) -> Scores:
    """Rank-1, 5 and 20 on a set of super-resolved faces (Table 2); absent with the reason where it cannot be."""
    albums = [str(album) for album in faces.index["album"]]
    try:
        trials = make_trials(faces.identities, albums, options.trials)
        vectors = embed_for_matching(embed, faces.images)
        numbers = identify(vectors, trials, options.bootstrap, seed, "identification")
    except CharregError as error:
        return Scores(absent={f"rank{k}": str(error) for k in RANKS})
    people = int(numbers["n_identities"])
    reason = f"{people} identities in the gallery: everybody is among the first"
    return Scores(numbers, {f"rank{k}": f"{reason} {k}" for k in RANKS if k >= people})


def compare_with_truth(results: FaceSet, truth: FaceSet, options: EvaluateOptions, seed: int) -> Scores:
    """PSNR and SSIM of super-resolved artificial faces (Table 3), means over images with 95% intervals."""
    rows = ["source", "photo"]
    if len(results) != len(truth) or not (results.index[rows].values == truth.index[rows].values).all():
        raise CharregError(
            f"{results.folder}: {len(results)} faces that do not follow the {len(truth)} of {truth.folder};"
            " repeat stage evaluate"
        )
    scores = Scores({"n_images": len(truth)})
    values = measure_fidelity(results.images, truth.images)
    if not len(truth):
        return Scores(scores.numbers, dict.fromkeys(values, "found 0 faces, wanted at least 1"))
    means = multiplicities(len(truth), options.bootstrap, seed, "fidelity") / len(truth)
    for name, per_image in values.items():
        point = float(per_image.mean())
        scores.add(name, point, centred_interval(point, means @ per_image))
    return scores
