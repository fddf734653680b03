"""LRGAN: the published networks, who learns from which loss and when, and the pixel target that keeps the content."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.params import Params
from charreg.core.resampling import ds, ds_area, up
from charreg.networks.blocks import ResidualBlock
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.base import PeerInputs
from charreg.peers.lrgan import BETAS, HighToLow, TrainLrgan, hinge_discriminator, hinge_generator, standard_normal
from conftest import Recorder, advanced, build_peer, count, graph_of, rouse

Make = Callable[..., Params]
Build = Callable[..., TrainLrgan]
SMALL = {
    "iterations": 8,
    "batch": 2,
    "width": 4,
    "blocks": [1, 1, 1],
    "d_width": 4,
    "norm": "none",
    "output": "residual",
    "order": "together",
    "lr": 2e-3,
    "ema": 0.0,
}
TANH = {"output": "tanh"}
HL, LH = 0, 4  # a step of each half


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """What a test draws for itself is the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def build(inputs: PeerInputs) -> Build:
    """A small job with changed options: `build(1, order="halves")`; `on` are other inputs, `kind` another job."""

    def build(
        seed: int = 0,
        on: PeerInputs = inputs,
        kind: type[TrainLrgan] = TrainLrgan,
        **options: Any,
    ) -> TrainLrgan:
        job: TrainLrgan = build_peer(kind, {**SMALL, **options}, on, seed)
        return job

    return build


def parts(job: TrainLrgan) -> dict[str, nn.Module]:
    """The networks by the names of their optimisers."""
    return {"hl": job.hl, "d_lr": job.d_lr, "lh": job.lh, "d_hr": job.d_hr}


def faces_and_noise(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1, torch.randn(3, 64, generator=generator)


# --- the networks ----------------------------------------------------------------------------------------


def test_parameters_of_the_published_size(build: Build) -> None:
    """The published 4.0 M; batch norm averages and the vectors of spectral norm are not counted."""
    full = {"width": 64, "d_width": 64, "blocks": [12, 3, 2], "norm": "bn", "d_pooling": "late"}
    counts = {name: count(network) for name, network in build(**full, **TANH).networks.items()}
    assert counts == {
        "high_to_low": 1_603_331,
        "super_resolver": 1_586_499,
        "lr_discriminator": 409_281,
        "hr_discriminator": 409_281,
    }
    assert sum(counts.values()) == 4_008_392


@pytest.mark.parametrize("output", ["tanh", "residual"])
def test_noise_makes_several_faces_of_one(output: Any) -> None:
    network, (H, z) = rouse(HighToLow(8, "none", output)), faces_and_noise()
    one = H[:1].expand(3, -1, -1, -1)
    L = network(one, z)
    assert L.shape == (3, 3, 16, 16)
    assert (L[0] - L[1]).abs().max() > 1e-4  # far above rounding; training makes more of it
    assert torch.equal(network(one, z), L)


def test_residual_outputs_start_at_the_pixel_target_and_at_bicubic(build: Build) -> None:
    job, (H, z) = build(), faces_and_noise()
    L = job.hl(H, z)
    assert torch.equal(L, F.avg_pool2d(H, 4))
    assert not torch.allclose(L, ds(H), atol=1e-2)  # the trap: DS, which makes artificial faces, is no mean
    assert torch.equal(job.lh(L), up(L))
    assert graph_of(job, 0)[0]["hl_pixel"] == 0


def test_low_to_high_is_the_super_resolver_without_slopes(build: Build) -> None:
    job = build(blocks=[12, 3, 2])
    assert isinstance(job.lh, SuperResolver)
    assert sum(isinstance(layer, ResidualBlock) for layer in job.lh.modules()) == 17
    assert not any(isinstance(layer, nn.PReLU) for network in parts(job).values() for layer in network.modules())


def test_discriminators_judge_their_sizes_with_spectral_norm(build: Build) -> None:
    job = build()
    for d, size in ((job.d_lr, 16), (job.d_hr, 64)):
        assert d(torch.zeros(2, 3, size, size)).shape == (2,)
        layers = [layer for layer in d.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        assert all(nn.utils.parametrize.is_parametrized(layer, "weight") for layer in layers)


# --- the losses ------------------------------------------------------------------------------------------


def test_losses_are_hinges_with_a_side_each() -> None:
    real, fake = torch.tensor([2.0, 0.5], requires_grad=True), torch.tensor([-2.0, 0.5], requires_grad=True)
    loss = hinge_discriminator(real, fake)
    assert loss.item() == (0 + 0.5) / 2 + (0 + 1.5) / 2
    loss.backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0, -0.5]  # what is clear already teaches nothing
    assert fake.grad.tolist() == [0, 0.5]
    assert hinge_generator(fake).item() == 0.75
    swapped, softplus = hinge_discriminator(fake, real), F.softplus(-real).mean() + F.softplus(fake).mean()
    assert loss.item() not in (swapped.item(), softplus.item())


def test_a_step_is_the_published_loss(build: Build) -> None:
    """LH and D_hr see what HL made before its step."""
    job = build(pixel_weight=0.7, gan_weight=0.3, **TANH)
    job.d_lr.eval()  # spectral norm moves with every pass in training
    job.d_hr.eval()
    losses, totals = graph_of(job, 3)
    H, G, z = job.pairs.batch(3)[1], job.genuine.batch(3), job.noise(3)
    L = job.hl(H, z)
    S = job.lh(L)
    wanted = {
        "l_d_lr": (1 - job.d_lr(G)).clamp(min=0).mean() + (1 + job.d_lr(L)).clamp(min=0).mean(),
        "hl_pixel": (F.avg_pool2d(H, 4) - L).square().mean(),
        "hl_gan": -job.d_lr(L).mean(),
        "l_d_hr": (1 - job.d_hr(H)).clamp(min=0).mean() + (1 + job.d_hr(S)).clamp(min=0).mean(),
        "lh_pixel": (H - S).square().mean(),
        "lh_gan": -job.d_hr(S).mean(),
    }
    torch.testing.assert_close(losses, wanted)
    generators = {name: 0.7 * wanted[f"{name}_pixel"] + 0.3 * wanted[f"{name}_gan"] for name in ("hl", "lh")}
    torch.testing.assert_close(totals, {"d_lr": wanted["l_d_lr"], "d_hr": wanted["l_d_hr"], **generators})
    unpaired = (G - L).square().mean()  # the trap
    assert not torch.allclose(unpaired, wanted["hl_pixel"], rtol=1e-2)


# --- who learns from what, and when ----------------------------------------------------------------------


def test_a_finished_high_to_low_is_not_moved_by_the_batches_it_degrades(build: Build) -> None:
    """LH sees it as it will be measured; in training mode, the trap, each batch would get statistics of its own."""
    job = build(order="halves", norm="bn", **TANH)
    for step in range(LH):
        job.step(step)
    recorder = Recorder(job.lh)
    job.lh = recorder
    for step in (LH, LH + 1):  # the loop may have left it in training mode
        job.hl.train()
        H, z = job.pairs.batch(step)[1], job.noise(step)
        trap = deepcopy(job.hl)(H, z)
        wanted = deepcopy(job.hl).eval()(H, z)
        job.step(step)
        torch.testing.assert_close(recorder.inputs[-1], wanted)
        assert not torch.allclose(recorder.inputs[-1], trap, atol=1e-2)
    assert not job.hl.training


def test_discriminators_step_as_often_as_asked_on_further_batches(build: Build) -> None:
    job = build(n_critic=3)
    recorders = {"d_lr": Recorder(job.d_lr), "d_hr": Recorder(job.d_hr)}
    job.d_lr, job.d_hr = recorders["d_lr"], recorders["d_hr"]
    plain, order = job.descend, []

    def descend(name: str, loss: Tensor) -> None:
        order.append(name)
        plain(name, loss)

    job.descend = descend  # type: ignore[method-assign]
    job.step(2)
    assert order == ["d_lr", "d_hr"] * 2 + ["d_lr", "hl", "d_hr", "lh"]
    batches = [(job.genuine.batch(number), job.pairs.batch(number)[1]) for number in (6, 7, 8)]
    for recorder, reals in zip(recorders.values(), zip(*batches, strict=True), strict=True):
        assert len(recorder.inputs) == 7  # real and generated three times, and the last of these again
        assert all(torch.equal(*pair) for pair in zip(recorder.inputs[:6:2], reals, strict=True))
        assert not torch.equal(recorder.inputs[1], recorder.inputs[3])  # the trap: one batch for all
        assert torch.equal(recorder.inputs[5], recorder.inputs[6])
    L = ds_area(torch.cat([H for _, H in batches]))  # an untrained HL
    assert torch.equal(torch.cat(recorders["d_lr"].inputs[1:6:2]), L)
    following = build(n_critic=3)
    recorder = following.d_lr = Recorder(following.d_lr)
    following.step(3)
    assert torch.equal(recorder.inputs[0], job.genuine.batch(9))


# --- noise -----------------------------------------------------------------------------------------------


def test_noise_is_drawn_anew_for_every_batch(build: Build) -> None:
    job = build()
    assert job.noise(5).shape == (2, 64)
    assert torch.equal(job.noise(5), build().noise(5))
    assert not any(torch.equal(job.noise(5), other) for other in (job.noise(6), build(1).noise(5)))
    many = standard_normal(2000, "words")
    assert many.mean().item() == pytest.approx(0, abs=0.01)
    assert many.std().item() == pytest.approx(1, abs=0.01)


def darken(job: TrainLrgan) -> None:
    """Make HL a bad camera: its faces are dark, and noise has an effect."""
    rouse(job.hl)
    with torch.no_grad():
        job.hl.tail.bias.copy_(torch.tensor([-0.4, -0.3, -0.2]))  # type: ignore[union-attr, operator]


# --- traps -----------------------------------------------------------------------------------------------


class OnGenuine(TrainLrgan):
    """The trap: a genuine face, of somebody else, as pixel target of HL."""

    def compete(
        self, generator: str, judge: str, real: Tensor, fake: Tensor, target: Tensor, both: bool
    ) -> dict[str, Tensor]:
        return super().compete(generator, judge, real, fake, real if generator == "hl" else target, both)


class Mixing(nn.Module):
    """An HL that can do nothing but mix colours: it soon is what its losses want."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.mix(ds_area(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [TrainLrgan, OnGenuine])
def test_the_pixel_target_links_a_face_to_its_own_content(build: Build, kind: type[TrainLrgan]) -> None:
    """Unpaired targets leave nothing of the face: HL makes one mean genuine face of all."""
    job = build(kind=kind, order="halves", iterations=100, batch=4, gan_weight=0.01, lr=0.05, ema=0.9)
    job.hl = job.networks["high_to_low"] = Mixing()
    job.add_adam("hl", [job.hl], job.options.lr, BETAS)
    networks = advanced(job, 50).measured()
    H = job.pairs.sample(8)[1]
    with torch.no_grad():
        L = job.degraded(networks, H)
    contrast, wanted = (x - x.mean(dim=0) for x in (L, ds_area(H)))
    kept = ((contrast * wanted).sum() / wanted.square().sum()).item()  # 1: faces differ as they do, 0: not at all
    assert kept > 0.7 if kind is TrainLrgan else abs(kept) < 0.3


# --- optimisers ------------------------------------------------------------------------------------------


def test_options_are_the_published_ones(make_params: Make) -> None:
    options: Any = make_params().peers["lrgan"]
    assert (options.pixel_weight, options.gan_weight, options.blocks) == (1, 0.05, [12, 3, 2])


# --- it learns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["hl", "lh"])
def test_each_half_learns_eight_faces_by_heart(build: Build, inputs: PeerInputs, half: str) -> None:
    """HL what a camera as good as DS does to them; LH to take back what HL does, far better than bicubic."""
    assert inputs.hr.lr is not None
    daylight = replace(inputs, genuine=replace(inputs.genuine, images=inputs.hr.lr))
    learning = {"iterations": 50, "batch": 4, "order": "halves", "gan_weight": 2e-3, "lr": 3e-3}
    job = build(on=daylight, **learning) if half == "hl" else build(**learning, ema=0.7)
    darken(job)
    training = advanced(job, 25, first=0 if half == "hl" else 25)
    first, *_, last = (row[f"{half}_pixel"] for row in training.curves)
    with torch.no_grad():
        found = job.health({name: network.eval() for name, network in training.measured().items()})
    if half == "hl":
        assert last < 0.2 * first
        assert found["psnr_hl"] > 24
    else:
        assert last < 0.4 * first
        assert found["psnr_train"] > max(23, found["psnr_bicubic"] + 4)
