"""Several seeds: all training repeats, each run is that of its seed alone, the metrics say mean and spread."""

import json
import math
from pathlib import Path

import pytest

from charreg.core.errors import CharregError
from charreg.core.models import compose, load_model, seed_folder, seed_folders
from charreg.metrics.evaluate import over_seeds
from training_fixtures import Run, Workshop

pytest_plugins = ["training_fixtures"]


def weights(folder: Path, network: str = "super_resolver") -> bytes:
    return (folder / f"{network}.safetensors").read_bytes()


@pytest.fixture
def two_seeds(workshop: Workshop) -> Run:
    workshop.set_params({"seeds": [3, 5]})
    run = workshop.run("pretrain_sr", "both")
    assert run.code == 0, run.text
    return run


@pytest.mark.parametrize(("seed", "place"), [(3, "."), (5, "seed-5")])
def test_each_training_is_that_of_its_seed_alone(workshop: Workshop, two_seeds: Run, seed: int, place: str) -> None:
    workshop.set_params({"seeds": [seed]})
    alone = workshop.run("pretrain_sr", "alone")
    for folder in ("model", "curves"):
        files = {path.name: path.read_bytes() for path in (alone.out / folder).iterdir()}
        together = two_seeds.out / folder / place
        assert files
        assert files == {path.name: path.read_bytes() for path in together.iterdir() if path.is_file()}
    assert weights(two_seeds.out / "model") != weights(two_seeds.out / "model/seed-5")


def test_timings_tell_every_training(two_seeds: Run) -> None:
    timings = json.loads((two_seeds.out / "timings.json").read_text())
    assert timings["seed"] == 3
    assert list(timings["other_seeds"]) == ["5"]
    assert timings["other_seeds"]["5"]["iterations"] == timings["iterations"]


def test_a_further_seed_trains_only_itself(workshop: Workshop, two_seeds: Run) -> None:
    before = {path.name for path in (two_seeds.out / "model").iterdir()}
    workshop.set_params({"seeds": [3, 5, 6]})
    again = workshop.run("pretrain_sr", "both")
    assert again.code == 0, again.text
    assert [line for line in again.text.splitlines() if "goes on from step 12 of 12" in line] == [
        "sr_module: goes on from step 12 of 12"
    ] * 2
    assert {path.name for path in (again.out / "model").iterdir()} == before | {"seed-6"}


def test_peers_may_repeat_less_often(workshop: Workshop) -> None:
    workshop.set_params({"seeds": [3, 5], "peer_seeds": [5]})
    run = workshop.run("train_peer@vdsr", "peer")
    assert run.code == 0, run.text
    workshop.set_params({"seeds": [5]})
    alone = workshop.run("train_peer@vdsr", "alone")
    assert not list((run.out / "model").glob("seed-*"))
    assert (run.out / "model/model.json").read_bytes() == (alone.out / "model/model.json").read_bytes()
    assert weights(run.out / "model") == weights(alone.out / "model")


def test_a_seed_goes_on_with_the_models_of_its_own(workshop: Workshop) -> None:
    workshop.set_params({"seeds": [0, 1]})
    inverse = workshop.run("pretrain_inverse_cr", "first")
    assert inverse.code == 0, inverse.text
    for path in (workshop.folder / "inverse_cr").iterdir():
        path.unlink()
    (inverse.out / "model").rename(workshop.folder / "inverse_cr" / "whole")
    for path in (workshop.folder / "inverse_cr" / "whole").iterdir():
        path.rename(workshop.folder / "inverse_cr" / path.name)
    run = workshop.run("pretrain_cr", "second")
    assert run.code == 0, run.text
    for place in (".", "seed-1"):
        note = json.loads((run.out / "model" / place / "model.json").read_text())
        assert note["data"]["inverse"] == load_model(workshop.folder / "inverse_cr" / place).digest
    missing = workshop.set_params({"seeds": [0, 7]})
    assert missing is None
    refused = workshop.run("pretrain_cr", "third")
    assert refused.code != 0
    assert refused.errors == [
        "charreg: inverse_cr: no model of seed 7, wanted one for every entry of `seeds`; run dvc repro"
    ]


def test_composed_methods_have_every_seed(two_seeds: Run, tmp_path: Path) -> None:
    compose("sr", two_seeds.out / "model", None, tmp_path / "composed")
    assert list(seed_folders(tmp_path / "composed")) == [".", "seed-5"]
    for place in (".", "seed-5"):
        assert weights(tmp_path / "composed" / place) == weights(two_seeds.out / "model" / place)


def test_the_model_of_a_seed(two_seeds: Run) -> None:
    model = two_seeds.out / "model"
    assert (seed_folder(model, 3), seed_folder(model, 5)) == (model, model / "seed-5")
    with pytest.raises(CharregError, match="no model of seed 4"):
        seed_folder(model, 4)


# --- metrics ---------------------------------------------------------------------------------------------


def test_metrics_over_seeds_are_means_with_spread_and_the_widest_interval() -> None:
    one = {"web": {"fd_imagenet": 10.0, "fd_imagenet_lo": 8.0, "fd_imagenet_hi": 12.0, "n_fake": 7}}
    two = {"web": {"fd_imagenet": 14.0, "fd_imagenet_lo": 9.0, "fd_imagenet_hi": 19.0, "n_fake": 7}}
    found = over_seeds([one, two])
    assert found["seeds"] == 2
    web = found["web"]
    assert web["fd_imagenet"] == 12.0
    assert web["fd_imagenet_seeds"] == pytest.approx(math.sqrt(8), rel=1e-5)
    assert (web["fd_imagenet_lo"], web["fd_imagenet_hi"]) == (8.0, 19.0)
    assert web["n_fake"] == 7
    assert "n_fake_seeds" not in web


def test_a_number_one_training_lacks_is_absent() -> None:
    one = {"web": {"rank1": 10.0}}
    two = {"web": {"absent": {"rank1": "nobody"}}}
    assert over_seeds([one, two])["web"] == {"absent": {"rank1": "nobody"}}
