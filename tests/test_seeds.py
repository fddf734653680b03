"""Several seeds: all training repeats, each run is that of its seed alone, the metrics say mean and spread."""

import json
import math
import shutil
from pathlib import Path

import pytest

from charreg.core.errors import CharregError
from charreg.core.models import compose, load_model, seed_folder, seed_folders
from charreg.metrics.evaluate import over_seeds
from training_fixtures import ForkServer, Run, Workshop

pytest_plugins = ["training_fixtures"]

PLACES = (".", "seed-5")


def weights(folder: Path, network: str = "super_resolver") -> bytes:
    return (folder / f"{network}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def shop(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("seeds"), server)


@pytest.fixture(scope="module")
def two_seeds(shop: Workshop) -> Run:
    shop.set_params({"seeds": [3, 5]})
    run = shop.run("pretrain_sr", "both")
    assert run.code == 0, run.text
    return run


@pytest.mark.parametrize(("seed", "place"), [(3, "."), (5, "seed-5")])
def test_each_training_is_that_of_its_seed_alone(shop: Workshop, two_seeds: Run, seed: int, place: str) -> None:
    shop.set_params({"seeds": [seed]})
    alone = shop.run("pretrain_sr", f"alone-{seed}")
    for kind in ("models", "curves"):
        files, together = (
            {path.name: path.read_bytes() for path in where.iterdir() if path.is_file() and path.stem != "timings"}
            for where in (alone.folder(kind), two_seeds.folder(kind) / place)
        )
        assert files
        assert files == together
    assert weights(two_seeds.model) != weights(two_seeds.model / "seed-5")


def test_timings_tell_every_training(two_seeds: Run) -> None:
    first, second = (json.loads((two_seeds.curves / place / "timings.json").read_text()) for place in PLACES)
    assert (first["seed"], second["seed"]) == (3, 5)
    assert first["iterations"] == second["iterations"] == 12


def test_peers_may_repeat_less_often(shop: Workshop) -> None:
    shop.set_params({"seeds": [3, 5], "peer_seeds": [5]})
    run = shop.run("train_peer@vdsr", "peer")
    assert run.code == 0, run.text
    shop.set_params({"seeds": [5]})
    alone = shop.run("train_peer@vdsr", "alone")
    assert not list(run.model.glob("seed-*"))
    assert (run.model / "model.json").read_bytes() == (alone.model / "model.json").read_bytes()
    assert weights(run.model) == weights(alone.model)


def test_a_seed_goes_on_with_the_models_of_its_own(shop: Workshop) -> None:
    shop.set_params({"seeds": [0, 1]})
    inverse = shop.run("pretrain_inverse_cr", "first")
    assert inverse.code == 0, inverse.text
    shutil.rmtree(shop.folder / "inverse_cr")
    inverse.model.rename(shop.folder / "inverse_cr")
    run = shop.run("pretrain_cr", "second")
    assert run.code == 0, run.text
    for place in (".", "seed-1"):
        note = json.loads((run.model / place / "model.json").read_text())
        assert note["data"]["inverse"] == load_model(shop.folder / "inverse_cr" / place).digest
    shop.set_params({"seeds": [0, 7]})
    refused = shop.run("pretrain_cr", "third")
    assert refused.code != 0
    wanted = "no model of seed 7, wanted one for every entry of `seeds`; run dvc repro"
    assert refused.errors == [f"charreg: {refused.out}/models/inverse_cr: {wanted}"]


def test_composed_methods_have_every_seed(two_seeds: Run, tmp_path: Path) -> None:
    compose("sr", two_seeds.model, None, tmp_path / "composed")
    assert list(seed_folders(tmp_path / "composed")) == [*PLACES]
    for place in PLACES:
        assert weights(tmp_path / "composed" / place) == weights(two_seeds.model / place)


def test_the_model_of_a_seed(two_seeds: Run) -> None:
    model = two_seeds.model
    assert (seed_folder(model, 3), seed_folder(model, 5)) == (model, model / "seed-5")
    with pytest.raises(CharregError, match="no model of seed 4"):
        seed_folder(model, 4)


def test_a_further_seed_trains_only_itself(shop: Workshop, two_seeds: Run) -> None:
    before = {path.name for path in two_seeds.model.iterdir()}
    shop.set_params({"seeds": [3, 5, 6]})
    again = shop.run("pretrain_sr", "both")
    assert again.code == 0, again.text
    assert again.text.count("sr_module: goes on from step 12 of 12\n") == 2
    assert {path.name for path in again.model.iterdir()} == before | {"seed-6"}


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
