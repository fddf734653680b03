"""VDSR: the published network, its residual, and the two ways of training it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.resampling import up
from charreg.networks.deep_residual import Vdsr
from charreg.peers.base import PeerInputs
from charreg.peers.vdsr import TrainVdsr
from charreg.training.loop import Training
from charreg.training.signals import psnr
from conftest import advanced, build_peer, count, rouse

CPU = torch.device("cpu")
Build = Callable[..., TrainVdsr]
SMALL = {"iterations": 40, "batch": 8, "width": 8, "depth": 4, "lr": 3e-3, "lr_decay": "none", "ema": 0.0}
ORIGINAL = {"optim": "sgd_clip", "lr": 0.1, "clip_theta": 1e-3}
YCBCR = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])  # JFIF


@pytest.fixture
def build(inputs: PeerInputs) -> Build:
    """A small job with changed options."""
    return lambda **options: build_peer(TrainVdsr, {**SMALL, **options}, inputs)


def trained(job: TrainVdsr) -> tuple[float, float]:
    """PSNR in dB on its eight faces after the whole training, and that of bicubic."""
    advanced(job)
    A, H = job.pairs.sample(8)
    with torch.no_grad():
        return psnr(job.network(A), H), psnr(up(A), H)


def ycbcr(x: Tensor) -> Tensor:
    return torch.einsum("kc,bchw->bkhw", YCBCR, x)


# --- the network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "wanted"), [("rgb", 668_227), ("y", 665_921)])
def test_published_size(colour: Any, wanted: int) -> None:
    network = Vdsr(colour=colour)
    assert count(network) == wanted
    kinds = [type(layer) for layer in network.body]
    assert kinds == [nn.Conv2d, nn.ReLU] * 19 + [nn.Conv2d]


@pytest.mark.parametrize("colour", ["rgb", "y"])
def test_it_starts_at_bicubic(colour: Any) -> None:
    A = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(Vdsr(4, 5, colour)(A), up(A))


def test_the_output_is_bicubic_plus_a_residual_of_bicubic() -> None:
    network, A = rouse(Vdsr(4, 5)), torch.rand(2, 3, 16, 16) * 2 - 1
    assert isinstance(network, Vdsr)
    torch.testing.assert_close(network(A), up(A) + network.body(up(A)))
    assert not torch.allclose(network(A), up(A), atol=1e-2)


def test_with_y_luminance_moves_and_chroma_stays_bicubic() -> None:
    network, A = rouse(Vdsr(4, 5, "y")), torch.rand(2, 3, 16, 16) * 2 - 1
    assert isinstance(network, Vdsr)
    S, B = ycbcr(network(A)), ycbcr(up(A))
    torch.testing.assert_close(S[:, 1:], B[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(S[:, :1], B[:, :1] + network.body(B[:, :1]), rtol=0, atol=1e-5)
    assert (S - B)[:, 0].abs().max() > 1e-2


# --- what a step does ------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["rgb", "y"])
@pytest.mark.parametrize("optim", ["adam", "sgd_clip"])
def test_the_loss_is_half_the_squared_error(build: Build, colour: str, optim: str) -> None:
    """Its mean with Adam, its SUM over the batch in the original recipe; of luminance alone with `y`."""
    job = build(**({**ORIGINAL} if optim == "sgd_clip" else {}), colour=colour)
    rouse(job.network)
    descended: list[Tensor] = []
    job.descend = lambda name, loss: descended.append(loss.detach())  # type: ignore[method-assign]
    job.descend_cut = descended.append  # type: ignore[method-assign]
    A, H = job.pairs.batch(3)
    with torch.no_grad():
        error = (ycbcr(job.network(A)) - ycbcr(H))[:, :1] if colour == "y" else job.network(A) - H
    losses = job.step(3)
    torch.testing.assert_close(losses["l_sr"].detach(), error.square().mean(), rtol=1e-4, atol=1e-6)
    wanted = error.square().sum() if optim == "sgd_clip" else error.square().mean()
    torch.testing.assert_close(descended[0].detach(), wanted / 2, rtol=1e-4, atol=1e-6)


def test_the_original_recipe_cuts_values_to_theta_over_the_rate(build: Build) -> None:
    """At every rate; and clip_norm, which would shrink a summed gradient to nothing, stays out of it."""
    job = build(**ORIGINAL, clip_norm=1e-9)
    training = Training(job)
    for step, bound in ((0, 1e-3 / 0.1), (10, 1e-3 / 0.01)):
        training.done = step
        training.advance()
        largest = max(parameter.grad.abs().max().item() for parameter in job.network.parameters())  # type: ignore[union-attr]
        assert largest == pytest.approx(bound)


def test_rates_of_both_recipes(build: Build) -> None:
    original = build(**ORIGINAL, iterations=80, lr_decay="cosine")
    assert [original.rate(step) for step in (0, 19, 20, 39, 40, 60, 79)] == pytest.approx(
        [1, 1, 0.1, 0.1, 1e-2, 1e-3, 1e-3]
    )
    assert original.rates == {"vdsr": 0.1}
    adam = build(iterations=80)
    assert {adam.rate(step) for step in range(80)} == {1.0}


# --- it learns -------------------------------------------------------------------------------------------


def test_it_learns_eight_faces_by_heart(build: Build) -> None:
    found, bicubic = trained(build(iterations=60))
    assert found > max(30, bicubic + 2)


def test_with_y_it_learns_their_luminance(build: Build) -> None:
    job = build(colour="y")
    trained(job)
    A, H = (ycbcr(x)[:, :1] for x in (up(job.pairs.sample(8)[0]), job.pairs.sample(8)[1]))
    with torch.no_grad():
        S = ycbcr(job.network(job.pairs.sample(8)[0]))[:, :1]
    assert F.mse_loss(S, H) < 0.7 * F.mse_loss(A, H)


class OnTheMean(TrainVdsr):
    """The trap: the original's rate on the mean instead of the sum."""

    def descend_cut(self, loss: Tensor) -> None:
        super().descend_cut(loss / (self.options.batch * 3 * 64 * 64))


def test_the_original_rate_trains_on_the_sum_and_hardly_on_the_mean(build: Build) -> None:
    found, bicubic = trained(build(**ORIGINAL))
    assert found > bicubic + 1.5
    job = build(**ORIGINAL)
    job.__class__ = OnTheMean
    found, bicubic = trained(job)
    assert found < bicubic + 0.1
