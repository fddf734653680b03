"""What a method does with genuine and with artificial faces, and what it writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, FaceWriter, digest_of_faces, open_faces
from charreg.core.methods import Method, load_method, resolve_faces, resolve_images
from charreg.core.models import Blueprint, compose, save_model
from charreg.core.params import Params
from charreg.core.resampling import resize_image, up
from charreg.core.tensors import to_images, to_tensor
from charreg.cr.regulariser import Regulariser
from charreg.networks.super_resolver import SuperResolver
from conftest import fresh_model

CPU = torch.device("cpu")


class Recorder(nn.Module):
    """A stand-in network: adds `shift`, enlarges where asked, and remembers what it saw."""

    def __init__(self, shift: float, enlarge: bool = False) -> None:
        super().__init__()
        self.shift, self.enlarge = shift, enlarge
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return (up(x) if self.enlarge else x) + self.shift


@pytest.fixture
def recorded() -> Method:
    return Method(phi_sr=Recorder(0.125, enlarge=True), phi_cr=Recorder(-0.25))


def seen(network: nn.Module | None) -> list[Tensor]:
    assert isinstance(network, Recorder)
    return network.seen


@pytest.fixture
def lr(genuine_faces: FaceSet) -> Tensor:
    return to_tensor(np.asarray(genuine_faces.images))


def test_bicubic_is_up(genuine_faces: FaceSet, lr: Tensor, tmp_path: Path) -> None:
    compose("bicubic", None, None, tmp_path / "bicubic")
    method = load_method(tmp_path / "bicubic", CPU)
    assert method == Method(None, None)
    for domain in ("genuine", "artificial"):
        assert torch.equal(method.super_resolve(lr, domain), up(lr))  # type: ignore[arg-type]
        assert method.regulate(lr, domain) is None  # type: ignore[arg-type]
    images, regulated = resolve_images(method, genuine_faces.images, "genuine", CPU)
    assert regulated is None
    pillow = np.stack([resize_image(image, 64) for image in genuine_faces.images])
    assert np.abs(images.astype(int) - pillow).mean() < 0.3


def test_genuine_faces_pass_phi_cr_once(recorded: Method, lr: Tensor) -> None:
    S = recorded.super_resolve(lr, "genuine")
    assert len(seen(recorded.phi_cr)) == len(seen(recorded.phi_sr)) == 1
    assert torch.equal(seen(recorded.phi_cr)[0], lr)
    assert torch.equal(seen(recorded.phi_sr)[0], lr - 0.25)
    assert torch.equal(S, up(lr - 0.25) + 0.125)


def test_artificial_faces_skip_phi_cr(recorded: Method, lr: Tensor) -> None:
    """phi_cr on the HR-test set's faces gives another picture."""
    S = recorded.super_resolve(lr, "artificial")
    assert not seen(recorded.phi_cr)
    assert torch.equal(S, up(lr) + 0.125)
    wrong = recorded.super_resolve(lr, "genuine")
    assert (S - wrong).abs().max() > 0.2


def test_strength_blends_the_regulated_face(recorded: Method, lr: Tensor) -> None:
    half = replace(recorded, strength=0.5).regulate(lr, "genuine")
    assert half is not None
    torch.testing.assert_close(half, lr - 0.125)
    assert replace(recorded, strength=0.0).regulate(lr, "genuine") is None
    assert torch.equal(replace(recorded, strength=0.0).super_resolve(lr, "genuine"), up(lr) + 0.125)


def test_clamping_waits_until_saving(genuine_faces: FaceSet) -> None:
    """R leaves [-1, 1], comes back through phi_sr, and no grey level is lost; clamped or rounded between, it would."""
    method = Method(phi_sr=Recorder(3.0, enlarge=True), phi_cr=Recorder(-3.0))
    images, regulated = resolve_images(method, genuine_faces.images, "genuine", CPU)
    lr = to_tensor(np.asarray(genuine_faces.images))
    assert np.abs(images.astype(int) - to_images(up(lr))).max() <= 1
    assert regulated is not None
    assert regulated.max() == 0
    wrong = to_images(up(to_tensor(regulated)) + 3.0)  # from the clamped faces: white
    assert np.abs(images.astype(int) - wrong).min() > 10
    assert method.super_resolve(lr, "genuine").max() <= 1.2
    assert Method(None, Recorder(-3.0)).super_resolve(lr, "genuine").min() < -2  # networks' outputs are not clamped


@pytest.mark.parametrize(("domain", "regulates"), [("genuine", True), ("artificial", False)])
def test_the_sets_domain_decides(
    recorded: Method, hr_faces: FaceSet, genuine_faces: FaceSet, tmp_path: Path, domain: str, regulates: bool
) -> None:
    faces = genuine_faces if domain == "genuine" else hr_faces
    lr = genuine_faces.images if domain == "genuine" else hr_faces.lr
    assert lr is not None
    out = tmp_path / "out"
    out.mkdir()
    resolve_faces(recorded, faces, out, "web", CPU, batch=5)
    assert sorted(path.name for path in out.iterdir()) == (["web", "web_regulated"] if regulates else ["web"])
    R = to_tensor(np.asarray(lr)) - 0.25 * regulates
    resolved = open_faces(out / "web")
    assert np.array_equal(resolved.images, to_images(up(R) + 0.125))
    assert resolved.identities == faces.identities
    assert resolved.index.equals(faces.index)
    assert resolved.meta["of"] == digest_of_faces(faces)
    if regulates:
        regulated = open_faces(out / "web_regulated")
        assert np.array_equal(regulated.images, to_images(R))
        assert regulated.identities == faces.identities


def test_batches_do_not_change_the_faces(toy_params: Params, genuine_faces: FaceSet, tmp_path: Path) -> None:
    """Evaluation mode: a face is resolved the same whatever else is in its batch."""
    arguments = {**toy_params.regulariser.model_dump(mode="json"), "norm": "bn"}
    sr_arguments = {**toy_params.super_resolver.model_dump(mode="json"), "norm": "bn"}
    blueprints = {
        "regulariser": Blueprint.of(Regulariser, arguments),
        "super_resolver": Blueprint.of(SuperResolver, sr_arguments),
    }
    networks = {name: network.train() for name, network in fresh_model(blueprints).networks.items()}
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", networks, blueprints, {})
    method = load_method(tmp_path / "model", CPU)
    whole, regulated = resolve_images(method, genuine_faces.images, "genuine", CPU)
    for start in range(4):
        one, R = resolve_images(method, genuine_faces.images[start : start + 1], "genuine", CPU)
        assert R is not None
        assert regulated is not None
        assert np.abs(one[0].astype(int) - whole[start]).max() <= 1
        assert np.abs(R[0].astype(int) - regulated[start]).max() <= 1


def test_resolving_twice_gives_the_same_bytes(recorded: Method, genuine_faces: FaceSet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        resolve_faces(recorded, genuine_faces, tmp_path / name, "web", CPU)
    files = [path.relative_to(tmp_path / "one") for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(files) == 6
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_an_empty_set_stays_an_empty_set(recorded: Method, tmp_path: Path) -> None:
    folder, out = tmp_path / "empty", tmp_path / "out"
    for path in (folder, out):
        path.mkdir()
    with FaceWriter(folder, 16) as writer:
        writer.notes = {"domain": "genuine"}
    resolve_faces(recorded, open_faces(folder), out, "web", CPU)
    assert len(open_faces(out / "web")) == len(open_faces(out / "web_regulated")) == 0


def test_a_folder_without_super_resolver_is_no_method(tmp_path: Path) -> None:
    blueprints = {"regulariser": Blueprint.of(Regulariser, {"width": 4, "blocks": 1})}
    save_model(tmp_path, fresh_model(blueprints).networks, blueprints, {})
    with pytest.raises(CharregError, match="wanted a super_resolver") as caught:
        load_method(tmp_path, CPU)
    assert str(tmp_path) in str(caught.value)
