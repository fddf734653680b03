"""Benchmarks and scores: every promised key, the same bytes twice, never NaN, and a reason for what is missing."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, FaceWriter, open_faces
from charreg.core.models import Blueprint, save_model
from charreg.core.params import EvaluateOptions, check_params
from charreg.core.resampling import resize_image
from charreg.metrics.benchmark import Benchmark, open_benchmark, write_benchmark
from charreg.metrics.distances import first_half, measure_distances, open_reference, write_reference
from charreg.metrics.evaluate import compare_with_truth, evaluate_genuine, evaluate_method, headline
from charreg.metrics.features import FeatureNetwork
from charreg.metrics.frechet import Gaussian, frechet_distance
from charreg.metrics.scores import Scores
from charreg.networks.centreface import CentreFace
from conftest import ROOT, draw_genuine_faces, draw_hr_faces, toy_content

CPU = torch.device("cpu")


class Patches(torch.nn.Module):
    """Features without weights: 2x2 averages."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def toy_network(name: str = "efficientnet_lite0", side: int = 32) -> FeatureNetwork:
    return FeatureNetwork(name, Patches(), 12, side, (0.5,) * 3, (0.5,) * 3, CPU, "0" * 64)


def write_result(folder: Path, of: FaceSet, size: int = 64) -> FaceSet:
    """What stage evaluate writes: enlarged faces (bicubic) in the order of the set, with its rows."""
    folder.mkdir(parents=True)
    rows = of.index.astype(object).fillna("").to_dict("records")
    with FaceWriter(folder, size) as writer:
        for image, row in zip(of.images if of.lr is None else of.lr, rows, strict=True):
            writer.add(resize_image(image, size), {str(key): value for key, value in row.items()})
    return open_faces(folder)


@pytest.fixture(scope="module")
def options() -> EvaluateOptions:
    return check_params(toy_content(), Path("params.yaml")).evaluate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, options: EvaluateOptions) -> Path:
    """Face sets, a matcher, the benchmark of both, and the results of a method; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    train = draw_hr_faces(root / "hr" / "train")
    sets = {
        "hr_test": draw_hr_faces(root / "hr" / "test", people=3, first=20),
        "web": draw_genuine_faces(root / "lr" / "web", people=6),
        "cctv": draw_genuine_faces(root / "lr" / "cctv", people=3, first=70),
    }
    blueprint = Blueprint.of(CentreFace, {"width": 0.0625, "embedding": 8})
    torch.manual_seed(0)
    for folder in ("matcher", "benchmark"):
        (root / folder).mkdir()
    save_model(root / "matcher", {"centreface": blueprint.build()}, {"centreface": blueprint}, {})
    folders = {name: faces.folder for name, faces in sets.items()}
    write_benchmark(root / "benchmark", train, folders, root / "matcher", toy_network(), options, 0)
    for name, faces in sets.items():
        write_result(root / "sr" / name, faces)
        if name != "hr_test":
            write_result(root / "sr" / f"{name}_regulated", faces, 16)
    return root


@pytest.fixture
def benchmark(made: Path) -> Benchmark:
    return open_benchmark(made / "benchmark")


@pytest.fixture
def sr(made: Path, tmp_path: Path) -> Path:
    """A copy of the results."""
    return Path(shutil.copytree(made / "sr", tmp_path / "sr"))


@pytest.fixture
def train(made: Path) -> FaceSet:
    return open_faces(made / "hr" / "train")


def strictly(content: dict[str, Any]) -> dict[str, Any]:
    """Through strict JSON and back."""
    found: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return found


def with_bounds(*names: str) -> set[str]:
    return {f"{name}{end}" for name in names for end in ("", "_lo", "_hi")}


# --- benchmark -------------------------------------------------------------------------------------------


def test_reference_is_the_gaussian_of_all_faces(benchmark: Benchmark, train: FaceSet) -> None:
    network = toy_network()
    parts = benchmark.reference(network)
    assert {name: part.gaussian.n for name, part in parts.items()} == {"hr": 16, "lr": 16, "lr_a": 8, "lr_b": 8}
    for part, images in (("hr", train.images), ("lr", train.lr)):
        assert images is not None
        features = network.extract(images, 5)
        np.testing.assert_allclose(parts[part].sample, features)
        assert frechet_distance(parts[part].gaussian, Gaussian.of(features)) == pytest.approx(0, abs=1e-9)
    halves = np.concatenate([parts["lr_a"].sample, parts["lr_b"].sample])
    np.testing.assert_allclose(np.sort(halves, axis=0), np.sort(parts["lr"].sample, axis=0))


def test_reference_keeps_a_spread_sample_of_large_sets(
    train: FaceSet, options: EvaluateOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charreg.metrics.distances.SAMPLE", 5)
    write_reference(train, toy_network(), options, tmp_path)
    part = open_reference(tmp_path, toy_network())["hr"]
    assert (part.gaussian.n, len(part.sample)) == (16, 5)
    features = toy_network().extract(train.images, 16)
    np.testing.assert_allclose(part.sample[[0, -1]], features[[0, -1]])


def test_copies_of_a_portrait_stay_in_one_half() -> None:
    photos = [f"{photo}.png" for photo in range(21) for _ in range(4)]
    found = first_half(photos)
    assert found.reshape(21, 4).all(axis=1).sum() + (~found).reshape(21, 4).all(axis=1).sum() == 21
    assert found.sum() == 44
    order = np.random.default_rng(0).permutation(len(photos))
    np.testing.assert_array_equal(first_half([photos[i] for i in order]), found[order])


def test_a_floor_between_copies_would_be_too_low() -> None:
    """Halves that share portraits are nearer to each other than halves of different portraits: an easy mistake."""
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(40, 12)), 4, axis=0) + 0.1 * random.normal(size=(160, 12))
    photos = [f"{photo}.png" for photo in range(40) for _ in range(4)]
    apart, shared = first_half(photos), np.arange(160) % 2 == 0
    distances = [
        frechet_distance(Gaussian.of(features[half]), Gaussian.of(features[~half])) for half in (apart, shared)
    ]
    assert distances[0] > 3 * distances[1]


def test_a_benchmark_of_other_features_or_a_damaged_one_is_refused(
    made: Path, benchmark: Benchmark, tmp_path: Path
) -> None:
    for other in (toy_network("inception"), toy_network(side=64)):
        with pytest.raises(CharregError, match=r"wanted .* repeat stage benchmark"):
            benchmark.reference(other)
    folder = Path(shutil.copytree(made / "benchmark", tmp_path / "benchmark"))
    content = bytearray((folder / "reference/lr_root.npy").read_bytes())
    content[-1] ^= 1
    (folder / "reference/lr_root.npy").write_bytes(content)
    with pytest.raises(CharregError, match=r"lr_root.npy: missing or damaged"):
        open_reference(folder / "reference", toy_network())
    (folder / "reference/meta.json").write_text("{}")
    with pytest.raises(CharregError, match="not the note of reference features"):
        open_reference(folder / "reference", toy_network())
    (folder / "protocol.json").write_text('{"seed": 0}')
    with pytest.raises(CharregError, match=r"protocol\.json: not the protocol of a benchmark"):
        open_benchmark(folder)
    (folder / "protocol.json").unlink()
    for opened in (lambda: open_benchmark(folder), lambda: open_reference(folder / "nowhere", toy_network())):
        with pytest.raises(CharregError, match="not found, wanted what stage benchmark writes"):
            opened()


def test_sets_without_artificial_faces_or_with_one_photo_are_refused(
    benchmark: Benchmark, options: EvaluateOptions, tmp_path: Path
) -> None:
    with pytest.raises(CharregError, match=r"no lr\.npy"):
        write_reference(benchmark.tests["web"], toy_network(), options, tmp_path)
    with pytest.raises(CharregError, match="found 1 photos, wanted 2 faces in each half"):
        write_reference(draw_hr_faces(tmp_path / "one", people=1, photos=1), toy_network(), options, tmp_path)


# --- scores ----------------------------------------------------------------------------------------------


def test_genuine_scores_have_the_distances_and_the_floor(benchmark: Benchmark) -> None:
    found = strictly(evaluate_genuine(benchmark, toy_network()))
    assert list(found) == ["web", "cctv", "artificial"]
    for numbers in found.values():
        names = with_bounds("lr_fd_imagenet", "lr_kd_imagenet") | {"lr_kd_imagenet_std", "n_real", "n_fake"}
        assert set(numbers) - {"warnings"} == names
    assert (found["artificial"]["n_real"], found["artificial"]["n_fake"]) == (8, 8)
    assert found["web"]["lr_kd_imagenet"] > found["artificial"]["lr_kd_imagenet"]


def test_scores_of_a_method_have_every_promised_key(sr: Path, benchmark: Benchmark) -> None:
    found = strictly(evaluate_method(sr, benchmark, toy_network(), CPU))
    distances = with_bounds("fd_imagenet", "kd_imagenet", "lr_fd_imagenet", "lr_kd_imagenet") | {
        *("kd_imagenet_std", "lr_kd_imagenet_std", "n_real", "n_fake", "n_identities", "n_probes"),
    }
    ranks = {name: with_bounds(name) | {f"{name}_std"} for name in ("rank1", "rank5", "rank20")}
    assert set(found["web"]) - {"warnings"} == distances | ranks["rank1"] | ranks["rank5"] | {"absent"}
    assert found["web"]["absent"] == {"rank20": "6 identities in the gallery: everybody is among the first 20"}
    assert set(found["cctv"]) - {"warnings"} == distances | ranks["rank1"] | {"absent"}
    assert set(found["cctv"]["absent"]) == {"rank5", "rank20"}
    assert set(found["hr_test"]) == with_bounds("psnr_rgb", "ssim_rgb", "psnr_y") | {"n_images"}
    assert found["hr_test"]["n_images"] == 12
    for numbers in found.values():
        for name in (name for name in numbers if f"{name}_lo" in numbers):
            assert numbers[f"{name}_lo"] <= numbers[name] <= numbers[f"{name}_hi"], name
    assert {test_set: list(numbers) for test_set, numbers in headline(found).items()} == {
        "web": ["fd", "kd", "rank1"],
        "cctv": ["fd", "kd", "rank1"],
        "hr_test": ["psnr", "ssim"],
    }

    for name in ("web", "cctv"):
        shutil.rmtree(sr / f"{name}_regulated")
    without = strictly(evaluate_method(sr, benchmark, toy_network(), CPU))
    wanted = {key: value for key, value in found["web"].items() if not key.startswith("lr_")}
    assert {**without["web"], "warnings": 0} == {**wanted, "warnings": 0}


def test_fid_is_the_name_of_inception_features_and_of_nothing_else(benchmark: Benchmark) -> None:
    network, inception = toy_network(), toy_network("inception")
    part, options = benchmark.reference(network)["lr"], benchmark.options
    features = network.extract(benchmark.tests["web"].images, 8)
    names = [set(measure_distances(part, features, some, options, 0, "lr_").numbers) for some in (network, inception)]
    assert not any("fid" in name or "kid" in name for name in names[0])
    assert not any("fd" in name or "kd" in name for name in names[1])
    assert {"lr_fid", "lr_kid"} <= names[1]


def test_few_images_are_a_warning(benchmark: Benchmark) -> None:
    part = benchmark.reference(toy_network())["lr"]
    features = toy_network().extract(benchmark.tests["web"].images, 8)
    few = measure_distances(part, features[:5], toy_network(), benchmark.options, 0)
    assert few.warnings == {"fd_imagenet": "n_fake 5, features 12: biased upwards, compare at equal numbers only"}
    assert measure_distances(part, features, toy_network(), benchmark.options, 0).warnings == {}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_faces_give_reasons_and_no_nan(count: int, sr: Path, benchmark: Benchmark) -> None:
    shutil.rmtree(sr / "web")
    (sr / "web").mkdir()
    with FaceWriter(sr / "web", 64) as writer:
        for face in range(count):
            writer.add(np.full((64, 64, 3), 90 + face, np.uint8), {"source": "drawn", "photo": f"{face}.png"})
    with pytest.raises(CharregError, match=rf"web_regulated: found 24 faces, wanted {count} as in"):
        evaluate_method(sr, benchmark, toy_network(), CPU)
    shutil.rmtree(sr / "web_regulated")
    scores = strictly(evaluate_method(sr, benchmark, toy_network(), CPU))
    found = scores["web"]
    assert found["absent"]["rank1"].startswith("identification: found 0 identities")
    assert found["n_fake"] == count
    if count < 2:
        assert found["absent"]["fd_imagenet"] == f"found {count} faces, wanted at least 2"
        assert found["absent"]["kd_imagenet"] == f"found {count} faces, wanted at least 2"
        assert headline(scores)["web"] == {}
    else:
        assert {"fd_imagenet", "kd_imagenet"} <= set(found)


def test_results_in_another_order_are_refused(sr: Path, benchmark: Benchmark, train: FaceSet) -> None:
    results, truth = open_faces(sr / "hr_test"), benchmark.tests["hr_test"]
    turned = FaceSet(results.folder, results.images, None, results.index.iloc[::-1].reset_index(drop=True), {})
    with pytest.raises(CharregError, match="12 faces that do not follow the 12"):
        compare_with_truth(turned, truth, benchmark.options, 0)
    with pytest.raises(CharregError, match="12 faces that do not follow the 16"):
        compare_with_truth(results, train, benchmark.options, 0)


def test_numbers_are_plain_rounded_and_finite() -> None:
    scores = Scores()
    scores.add("a", 1 / 3, (np.float64(0.25), 2 / 3))
    scores.add("n_faces", 12.0)
    scores.add("noise", -1e-13)
    scores.add("b", float("nan"))
    scores.add("c", float("inf"), (0.0, 1.0))
    found = scores.as_json()
    reasons = {"b": "found nan, wanted a finite number", "c": "found inf, wanted a finite number"}
    assert found == {"a": 0.333333, "a_lo": 0.25, "a_hi": 0.666667, "n_faces": 12, "noise": 0.0, "absent": reasons}
    assert json.dumps(found["noise"]) == "0.0"
    assert type(found["n_faces"]) is int


# --- stages ----------------------------------------------------------------------------------------------


def run_stage(name: str, **words: Path | str) -> None:
    argv = [word for key, value in words.items() for word in (f"--{key}", str(value))]
    runpy.run_path(str(ROOT / "stages" / f"{name}.py"))["main"](argv)


def test_stages_write_the_same_files_twice(made: Path, tmp_path: Path) -> None:
    """With the real embedded network, from params.yaml to the scores."""
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(toy_content({"evaluate.resize": 32})), encoding="utf-8")
    run_stage("compose", method="bicubic", models=tmp_path / "models")
    files = []
    for run in ("first", "second"):
        out = tmp_path / run
        out.mkdir()
        run_stage(
            "benchmark", params=params, train=made / "hr/train", hr=made / "hr", lr=made / "lr",
            matcher=made / "matcher", out=out / "benchmark", scores=out / "genuine.json",
        )  # fmt: skip
        run_stage(
            "evaluate", method="bicubic", models=tmp_path / "models", benchmark=out / "benchmark", sr=out / "sr",
            reports=out,
        )  # fmt: skip
        files.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert files[0] == files[1]
    scores, short = (json.loads(files[0][Path(name)]) for name in ("scores/bicubic.json", "metrics/bicubic.json"))
    assert short == headline(scores)
    assert short["web"]["fd"] == scores["web"]["fd_imagenet"]


def test_stages_start_without_the_slow_imports() -> None:
    """timm, torchvision and torchmetrics are imported by whoever needs them, when they do."""
    code = (
        "import runpy, sys; [runpy.run_path(f'stages/{name}.py') for name in sys.argv[1:]];"
        " sys.exit(' '.join({'timm', 'torchvision', 'torchmetrics', 'pytorch_fid'} & set(sys.modules)) or 0)"
    )
    words = [sys.executable, "-c", code, "benchmark", "evaluate"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
