"""SRGAN: the published networks, its two phases, and its content loss with and without VGG."""

import hashlib
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.resampling import up
from charreg.networks.centreface import CentreFace
from charreg.networks.content import VGG_FACTOR, face_content, vgg_content
from charreg.peers.base import PeerInputs
from charreg.peers.srgan import SrganDiscriminator, TrainSrgan
from conftest import build_peer, graph_of

CPU = torch.device("cpu")
Build = Callable[..., TrainSrgan]
SMALL = {
    "iterations": 10,
    "batch": 4,
    "width": 8,
    "blocks": 2,
    "norm": "bn",
    "output": "tanh",
    "d_width": 4,
    "gan_share": 0.4,
    "lr": 2e-3,
    "lr_decay": "none",
    "ema": 0.0,
}
GAN_STEP = 6  # the first of SMALL
VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels and convolutions before each pooling


def drawn_recogniser() -> CentreFace:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CentreFace(0.125, 8, batch_norm=True).train()  # the job has to freeze it


@pytest.fixture
def build(inputs: PeerInputs) -> Build:
    """A small job with changed options."""
    return lambda **options: build_peer(TrainSrgan, {**SMALL, **options}, inputs)


def two_faces(seed: int = 0) -> tuple[Tensor, Tensor]:
    S, H = (torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1).chunk(2)
    return S, H


# --- the networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["flatten", "global"])
def test_the_discriminator_has_the_published_layout(pooling: Any) -> None:
    network = SrganDiscriminator(4, pooling)
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4, 4, 8, 8, 16, 16, 32, 32]
    assert [layer.stride[0] for layer in convolutions] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.features) == 7
    assert not isinstance(network.features[1], nn.BatchNorm2d)
    assert network.features(torch.zeros(2, 3, 64, 64)).shape == (2, 32, 4, 4)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2,)
    assert [layer.out_features for layer in network.linear if isinstance(layer, nn.Linear)] == [64, 1]


# --- two phases ------------------------------------------------------------------------------------------


def test_a_gan_step_is_the_published_loss(build: Build) -> None:
    job = build(pixel_weight=0.7)
    losses, totals = graph_of(job, GAN_STEP)
    (A, H), phi = job.pairs.batch(GAN_STEP), job.content
    S = job.generator(A)
    wanted = {
        "l_sr": (S - H).square().mean(),
        "l_d": F.softplus(-job.d(H)).mean() + F.softplus(job.d(S)).mean(),
        "l_content": phi.scale * (phi.maps(S) - phi.maps(H)).square().mean(),
        "l_adv": F.softplus(-job.d(S)).mean(),
    }
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-6)
    whole = 0.7 * wanted["l_sr"] + 0.006 * wanted["l_content"] + 1e-3 * wanted["l_adv"]
    torch.testing.assert_close(totals, {"d": wanted["l_d"], "generator": whole}, rtol=1e-4, atol=1e-6)
    swapped = F.softplus(job.d(H)).mean() + F.softplus(-job.d(S)).mean()
    assert not torch.allclose(swapped, wanted["l_d"], rtol=1e-4)
    torch.testing.assert_close(graph_of(job, 0)[1], {"generator": graph_of(job, 0)[0]["l_sr"]})  # SRResNet's


def test_rates(build: Build) -> None:
    """A tenth for the second half of the GAN's part."""
    job = build(iterations=100, gan_share=0.2)
    assert {job.rate(step) for step in range(90)} == {1.0}
    assert {job.rate(step) for step in range(90, 100)} == {0.1}
    assert job.rates == {"generator": 2e-3, "d": 2e-3}
    gentle = build(iterations=100, gan_share=0.2, gan_lr_factor=0.2)
    assert [gentle.rate(step) for step in (79, 80, 89, 90, 99)] == pytest.approx([1.0, 0.2, 0.2, 0.02, 0.02])
    cosine = build(iterations=100, gan_share=0.2, lr_decay="cosine")
    late = (1 + math.cos(math.pi * 0.29 / 0.3)) / 2
    assert cosine.rate(99) == pytest.approx(0.1 * (0.1 + 0.9 * late))


def test_without_a_gan_part_it_is_srresnet(build: Build) -> None:
    job = build(gan_share=0.0)
    assert (job.gan_start, job.label, job.rate(9)) == (10, "SRResNet", 1.0)
    assert build(gan_share=1.0).gan_start == 0


# --- the stand-in for VGG --------------------------------------------------------------------------------


def test_without_vgg_the_label_says_so(build: Build) -> None:
    assert build().label == "SRGAN (face-feature content loss)"


def test_the_stand_in_is_the_recognisers_8x8_map_at_the_magnitude_of_the_pixels(eight_faces: FaceSet) -> None:
    recogniser, (_, H) = drawn_recogniser(), two_faces()
    A = torch.rand(2, 3, 16, 16) * 2 - 1
    loss = face_content(recogniser, A, H)
    recogniser.eval()
    maps = loss.maps(H)
    assert maps.shape == (2, 64, 8, 8)
    last = [place for place, layer in enumerate(recogniser.features) if isinstance(layer, nn.MaxPool2d)][-1]
    torch.testing.assert_close(recogniser.features[last:](maps), recogniser.features(H))
    pixels = (up(A) - H).square().mean()
    torch.testing.assert_close(0.006 * loss(up(A), H), pixels, rtol=1e-4, atol=0)
    assert VGG_FACTOR == 0.006


def test_the_recogniser_is_frozen_and_lets_gradients_through() -> None:
    recogniser, (S, H) = drawn_recogniser(), two_faces()
    before = deepcopy(recogniser.state_dict())
    loss = face_content(recogniser, torch.zeros(2, 3, 16, 16), H)
    S.requires_grad_(True)
    loss(S, H).backward()
    assert S.grad is not None
    assert S.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in loss.parameters())
    assert not any(module.training for module in loss.features.modules())
    assert all(torch.equal(value, before[name]) for name, value in recogniser.state_dict().items())
    assert recogniser.training  # the caller's own is left as it was


def test_features_that_do_not_differ_are_refused() -> None:
    A = torch.zeros(2, 3, 16, 16)
    with pytest.raises(CharregError, match=r"differ by 0 .*wanted a difference"):
        face_content(drawn_recogniser(), A, up(A))


# --- VGG from a file -------------------------------------------------------------------------------------


def drawn_vgg(convolutions: int = 16) -> dict[str, Tensor]:
    """Lively weights with torchvision's names, and a piece of the classifier."""
    generator, before, place, tensors = torch.Generator().manual_seed(0), 3, 0, {}
    for channels, many in VGG19:
        for _ in range(many):
            weight = torch.randn(channels, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5
            tensors[f"features.{place}.weight"] = weight
            tensors[f"features.{place}.bias"] = torch.randn(channels, generator=generator) * 0.1
            before, place = channels, place + 2
        place += 1
    tensors = dict(list(tensors.items())[: 2 * convolutions])
    return {**tensors, "classifier.6.bias": torch.zeros(1000)}


def written(tensors: dict[str, Tensor], path: Path) -> tuple[Path, str]:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return written(drawn_vgg(), tmp_path_factory.mktemp("vgg") / "vgg19.pth")


def test_vgg_features_are_the_published_ones(tmp_path: Path) -> None:
    """VGG19 written out: ImageNet normalisation, row by row, AFTER the last activation, BEFORE the pooling."""
    tensors = drawn_vgg()
    loss = vgg_content(*written(tensors, tmp_path / "vgg19.safetensors"), CPU)
    S, H = two_faces()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def published(x: Tensor) -> Tensor:
        x, place = (x * 0.5 + 0.5 - mean) / std, 0
        for row, (_, many) in enumerate(VGG19, start=1):
            for _ in range(many):
                x = F.conv2d(x, tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"], padding=1)
                x, place = F.relu(x), place + 2
            if row < len(VGG19):
                x, place = F.max_pool2d(x, 2), place + 1
        return x

    found, wanted = loss.maps(S), published(S)
    assert found.shape == (2, 512, 4, 4)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss(S, H), (wanted - published(H)).square().mean(), rtol=1e-3, atol=0)
    S.requires_grad_(True)
    loss(S, H).backward()
    assert S.grad is not None
    assert S.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_both_kinds_of_file_give_the_same(vgg: tuple[Path, str], tmp_path: Path) -> None:
    S, H = two_faces()
    other = written(drawn_vgg(), tmp_path / "vgg19.safetensors")
    assert torch.equal(vgg_content(*vgg, CPU)(S, H), vgg_content(*other, CPU)(S, H))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_file_is_refused(suffix: str, tmp_path: Path) -> None:
    path, sha256 = written(drawn_vgg(1), tmp_path / f"vgg19{suffix}")
    with pytest.raises(
        CharregError, match=r"sha256 \w{12} differs from 000000000000; run charreg fetch-weights vgg19, or leave"
    ):
        vgg_content(path, "0" * 64, CPU)
    with pytest.raises(CharregError, match="no SHA-256 is set"):
        vgg_content(path, "", CPU)
    with pytest.raises(CharregError, match=r"weights of another network .*Missing key"):
        vgg_content(path, sha256, CPU)
    with pytest.raises(CharregError, match=r"absent\S*: No such file.*wanted a weight file"):
        vgg_content(tmp_path / f"absent{suffix}", sha256, CPU)
    path.write_bytes(b"not weights at all")
    with pytest.raises(CharregError, match="not a "):
        vgg_content(path, hashlib.sha256(path.read_bytes()).hexdigest(), CPU)


class Program:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_program_in_the_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, sha256 = written({"features.0.weight": Program()}, tmp_path / "vgg19.pth")  # type: ignore[dict-item]
    with pytest.raises(CharregError, match="not a file of plain tensors, refused"):
        vgg_content(path, sha256, CPU)
    assert not Path("ran").exists()


def test_with_vgg_the_row_needs_no_label(build: Build, vgg: tuple[Path, str]) -> None:
    path, sha256 = vgg
    job = build(vgg=str(path), vgg_sha256=sha256)
    assert (job.label, job.content.scale) == ("", 1.0)
    A, H = job.pairs.batch(GAN_STEP)
    S = deepcopy(job.generator)(A)
    losses = job.step(GAN_STEP)
    reference = vgg_content(path, sha256, CPU)
    torch.testing.assert_close(losses["l_content"].detach(), reference(S, H).detach())
