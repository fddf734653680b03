"""Model folders: the same bytes from the same networks, and nothing executed from a bad one."""

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from charreg.core.errors import CharregError
from charreg.core.models import Blueprint, compose, load_model, part, save_model
from charreg.cr.regulariser import Regulariser
from charreg.networks.centreface import CentreFace
from charreg.networks.discriminators import Discriminator, FeatureDiscriminator
from charreg.networks.super_resolver import SuperResolver
from conftest import rouse

SMALL = {
    "regulariser": Blueprint.of(Regulariser, {"width": 4, "blocks": 1}),
    "super_resolver": Blueprint.of(SuperResolver, {"width": 4, "blocks": [1, 1, 1], "output": "residual"}),
    "discriminator": Blueprint.of(Discriminator, {"size": 16, "width": 4, "pooling": "early"}),
    "feature_discriminator": Blueprint.of(FeatureDiscriminator, {"embedding": 8, "widths": [8, 4]}),
    "centreface": Blueprint.of(CentreFace, {"width": 0.0625, "embedding": 8, "batch_norm": True}),
}


def networks(seed: int = 0) -> dict[str, nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: rouse(blueprint.build(), seed) for name, blueprint in SMALL.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, networks(), SMALL, {"job": "test", "seed": 0})
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def edit(folder: Path, change: Any) -> None:
    note = folder / "model.json"
    content = json.loads(note.read_text())
    change(content)
    note.write_text(json.dumps(content))


def put(folder: Path, name: str, content: bytes) -> None:
    """Replace a weight file and make model.json agree, as someone who forges a model would."""
    (folder / f"{name}.safetensors").write_bytes(content)
    edit(folder, lambda note: note["networks"][name].update(sha256=hashlib.sha256(content).hexdigest()))


def refusal(folder: Path) -> str:
    with pytest.raises(CharregError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip_is_bit_identical(folder: Path) -> None:
    model, saved = load_model(folder), networks()
    assert set(model.networks) == set(saved)
    assert model.info["job"] == "test"
    assert model.blueprints == SMALL
    for name, network in model.networks.items():
        assert not network.training
        mine, theirs = network.state_dict(), saved[name].state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in mine)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for name in ("regulariser", "super_resolver", "discriminator"):
        # In the layout load_model gives: another one takes other kernels, which round differently on some machines.
        theirs_laid = saved[name].eval().to(memory_format=torch.channels_last)
        assert torch.equal(model.networks[name](x), theirs_laid(x))


def test_same_networks_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    for place, seed in ((again, 0), (other, 1)):
        place.mkdir()
        save_model(place, networks(seed), SMALL, {"job": "test", "seed": 0})
    assert digests(again) == digests(folder)
    assert load_model(again).digest == load_model(folder).digest
    assert digests(other)["regulariser.safetensors"] != digests(folder)["regulariser.safetensors"]
    assert load_model(other).digest != load_model(folder).digest  # the digest covers the weights


def test_a_folder_needs_no_params_to_be_rebuilt(folder: Path) -> None:
    note = json.loads((folder / "model.json").read_text())
    assert note["networks"]["regulariser"]["arguments"] == {"width": 4, "blocks": 1}
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{n}.safetensors" for n in SMALL), "model.json"]
    )


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("forged_digest", [False, True])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_payload_is_not_executed(folder: Path, tmp_path: Path, forged_digest: bool, how: str) -> None:
    mark = tmp_path / "ran"
    bomb = tmp_path / "bomb"
    if how == "pickle":
        bomb.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save({"weight": Payload(mark)}, bomb)
    pickle.loads(pickle.dumps(Payload(mark)))  # the wrong way, to show that the payload works
    assert mark.exists()
    mark.rmdir()
    if forged_digest:
        put(folder, "regulariser", bomb.read_bytes())
    else:
        (folder / "regulariser.safetensors").write_bytes(bomb.read_bytes())
    message = refusal(folder)
    assert not mark.exists()
    assert str(folder / "regulariser.safetensors") in message


@pytest.mark.parametrize("forged_digest", [False, True])
@pytest.mark.parametrize("left", [0, 5, 40, 0.5, -1])
def test_truncated_files_are_refused(folder: Path, forged_digest: bool, left: float) -> None:
    path = folder / "regulariser.safetensors"
    content = path.read_bytes()
    content = content[: int(left * len(content)) if isinstance(left, float) else left]
    if forged_digest:
        put(folder, "regulariser", content)
    else:
        path.write_bytes(content)
    assert str(path) in refusal(folder)


def test_a_flipped_bit_is_noticed(folder: Path) -> None:
    path = folder / "centreface.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = refusal(folder)
    assert str(path) in message
    assert "sha256" in message


def test_a_missing_weight_file_is_named(folder: Path) -> None:
    (folder / "discriminator.safetensors").unlink()
    assert str(folder / "discriminator.safetensors") in refusal(folder)


def test_a_missing_note_is_named(folder: Path) -> None:
    (folder / "model.json").unlink()
    assert "no model.json" in refusal(folder)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    "note", ["", "{", "[]", "null", '{"networks": []}', '{"networks": {"a": 1}}', '{"networks": {"a": {}}}', "\x00"]
)
def test_a_damaged_note_is_named(folder: Path, note: str) -> None:
    (folder / "model.json").write_text(note)
    assert str(folder / "model.json") in refusal(folder)


@pytest.mark.parametrize("wrong", ["Generator", "os.system", "Blueprint", "", ["Regulariser"], None])
def test_unknown_networks_are_refused(folder: Path, wrong: Any) -> None:
    edit(folder, lambda note: note["networks"]["regulariser"].update(network=wrong))
    message = refusal(folder)
    assert "model.json" in message or "regulariser" in message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("regulariser", {"width": 8, "blocks": 1}),
        ("regulariser", {"width": 4, "blocks": 1, "depth": 3}),
        ("regulariser", {"width": -1}),
        ("regulariser", {"width": "wide"}),
        ("discriminator", {"size": 32, "width": 4}),
        ("discriminator", {"size": 16, "width": 4, "pooling": "never"}),
        ("feature_discriminator", {"embedding": 8, "widths": []}),
    ],
)
def test_arguments_of_another_shape_are_refused(folder: Path, name: str, arguments: dict[str, Any]) -> None:
    edit(folder, lambda note: note["networks"][name].update(arguments=arguments))
    assert str(folder / f"{name}.safetensors") in refusal(folder)


def test_part_says_what_the_folder_holds_instead(folder: Path) -> None:
    model = load_model(folder)
    assert part(model, "regulariser", folder) is model.networks["regulariser"]
    with pytest.raises(CharregError, match="wanted inverse_regulariser") as caught:
        part(model, "inverse_regulariser", folder)
    assert str(folder) in str(caught.value)
    assert "super_resolver" in str(caught.value)


def test_compose_takes_one_part_of_each_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_model(other, networks(1), SMALL, {"job": "other"})
    for method, sr, cr, wanted in (
        ("bicubic", None, None, []),
        ("sr_module", folder, None, ["super_resolver"]),
        ("cr_stage1", folder, other, ["regulariser", "super_resolver"]),
    ):
        compose(method, sr, cr, tmp_path / method)
        model = load_model(tmp_path / method)
        assert sorted(model.networks) == wanted
        assert model.info["method"] == method
    digest = digests(tmp_path / "cr_stage1")
    assert digest["super_resolver.safetensors"] == digests(folder)["super_resolver.safetensors"]
    assert digest["regulariser.safetensors"] == digests(other)["regulariser.safetensors"]


def test_nothing_is_left_of_a_failed_composition(folder: Path, tmp_path: Path) -> None:
    edit(folder, lambda note: note["networks"].pop("regulariser"))
    with pytest.raises(CharregError, match="wanted regulariser"):
        compose("cr_stage1", folder, folder, tmp_path / "cr_stage1")
    assert not [path for path in tmp_path.iterdir() if "cr_stage1" in path.name]
