"""LRGAN (Bulat, Yang, Tzimiropoulos, ECCV 2018): learn to degrade HR faces as genuine LR ones are, then undo it.

HL(H, z) looks like genuine faces G and LH, a `SuperResolver` with ReLU, takes it back to H; H and G are unpaired. At
test time LH enlarges G.
    HL: pixel_weight * mse(avgpool4x4(H), HL(H, z)) + gan_weight * -E[D_lr(HL(H, z))]
    LH: pixel_weight * mse(H, LH(HL(H, z)))         + gan_weight * -E[D_hr(LH(HL(H, z)))], HL(H, z) detached
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.faces import HR_SIZE
from charreg.core.models import Blueprint
from charreg.core.params import Count, Norm, Output, Params, PeerOptions, Weight
from charreg.core.resampling import ds_area, up
from charreg.core.seeding import torch_seed
from charreg.networks.blocks import ResidualBlock, Upsampler, norm_layer, zero_initialise
from charreg.networks.discriminators import Discriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training.augment import share
from charreg.training.batches import Genuine
from charreg.training.distributed import world_size
from charreg.training.job import Losses, without_gradients
from charreg.training.objectives import mse
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts

NOISE = 64  # entries of z
BETAS = (0.0, 0.9)  # of Adam, as published


class HighToLow(nn.Module):
    """Faces [B, 3, 64, 64] in [-1, 1] and noise z [B, 64] to [B, 3, 16, 16] in [-1, 1]: 64 -> 4 -> 16.

    z passes a linear layer to one further input channel. Twelve residual blocks, two at each of six resolutions.
    output: `tanh` as published, or `residual`, 4x4 means of the face plus a zero-initialised last layer (beyond the
    paper: starts at the pixel target, which pays in short runs). 1,603,331 parameters at width 64.
    """

    def __init__(self, width: int = 64, norm: Norm = "bn", output: Literal["tanh", "residual"] = "tanh") -> None:
        super().__init__()
        self.output = output
        self.noise = nn.Linear(NOISE, HR_SIZE * HR_SIZE)
        self.head = nn.Sequential(nn.Conv2d(4, width, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(*(_halving(width, norm) for _ in range(4)))
        self.up = nn.Sequential(*(_doubling(width, norm) for _ in range(2)))
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        channel = self.noise(z).view(-1, 1, HR_SIZE, HR_SIZE)
        y = self.tail(self.up(self.down(self.head(torch.cat([x, channel], dim=1)))))
        return ds_area(x) + y if self.output == "residual" else torch.tanh(y)


def _two_blocks(width: int, norm: Norm) -> list[nn.Module]:
    return [ResidualBlock(width, norm, "relu") for _ in range(2)]


def _halving(width: int, norm: Norm) -> nn.Sequential:
    down = nn.Conv2d(width, width, 3, stride=2, padding=1)
    return nn.Sequential(*_two_blocks(width, norm), norm_layer(norm, width), nn.ReLU(), down)


def _doubling(width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*_two_blocks(width, norm), Upsampler(width, "relu"))


LOSSES = ("l_d_lr", "hl_pixel", "hl_gan", "l_d_hr", "lh_pixel", "lh_gan")


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """What D_lr and D_hr minimise: E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))], of logits [B]."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """What HL and LH minimise of their discriminators: -E[D(fake)], of logits [B]."""
    return -fake.mean()


class LrganOptions(PeerOptions):
    width: Count
    blocks: tuple[Count, Count, Count]  # of the low-to-high generator
    norm: Norm
    output: Output
    d_width: Count
    d_pooling: Literal["late", "early"]
    pixel_weight: Weight
    gan_weight: Weight
    n_critic: Count  # discriminator steps for one of the generator
    order: Literal["together", "halves"]  # halves: high-to-low alone for the first half


class TrainLrgan(PeerJob):
    """HL against D_lr (real: genuine faces) and LH against D_hr (real: HR faces)."""

    name = "lrgan"
    options: LrganOptions
    averaged = ("super_resolver", "high_to_low")
    exports = ("super_resolver", "high_to_low")

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.genuine = Genuine(inputs.genuine, options.batch, params.seed, device)
        layout = {"width": options.width, "norm": options.norm, "output": options.output}
        judge = {"width": options.d_width, "pooling": options.d_pooling, "spectral_norm": True}
        self.hl = self.add_network("high_to_low", Blueprint.of(HighToLow, layout))
        enlarging = {**layout, "blocks": list(options.blocks), "activation": "relu"}
        self.lh = self.add_network("super_resolver", Blueprint.of(SuperResolver, enlarging))
        self.d_lr = self.add_network("lr_discriminator", Blueprint.of(Discriminator, {"size": 16, **judge}))
        self.d_hr = self.add_network("hr_discriminator", Blueprint.of(Discriminator, {"size": 64, **judge}))
        for name, network in (("hl", self.hl), ("d_lr", self.d_lr), ("lh", self.lh), ("d_hr", self.d_hr)):
            self.add_adam(name, [network], options.lr, BETAS)

    def trains(self, step: int) -> tuple[bool, bool]:
        """Whether HL with D_lr, and whether LH with D_hr, learn at a step."""
        late = step >= self.iterations // 2
        return (True, True) if self.options.order == "together" else (not late, late)

    def noise(self, number: int) -> Tensor:
        """z [b, 64] ~ N(0, I) of a batch: this process's share of the global batch's."""
        draws = standard_normal(self.options.batch, self.seed, self.name, "z", number)
        return share(draws, self.options.batch // world_size()).to(self.device)

    def step(self, step: int) -> Losses:
        """Every discriminator step sees a further batch; the generators step on the last of them."""
        trains_hl, trains_lh = self.trains(step)
        self.hl.train(trains_hl)  # frozen: with the batch statistics it has kept
        losses = dict.fromkeys(LOSSES, torch.zeros((), device=self.device))
        numbers = range(step * self.options.n_critic, (step + 1) * self.options.n_critic)
        for number in numbers:
            (_, H), G, last = self.pairs.batch(number), self.genuine.batch(number), number == numbers[-1]
            with torch.set_grad_enabled(last and trains_hl):
                L = self.hl(H, self.noise(number))
            if trains_hl:
                losses |= self.compete("hl", "d_lr", real=G, fake=L, target=ds_area(H), both=last)
            if trains_lh:
                with torch.set_grad_enabled(last):
                    S = self.lh(L.detach())
                losses |= self.compete("lh", "d_hr", real=H, fake=S, target=H, both=last)
        return losses

    def compete(self, generator: str, judge: str, real: Tensor, fake: Tensor, target: Tensor, both: bool) -> Losses:
        """One step of a discriminator and, if `both`, then one of its generator, which made `fake`."""
        d = self.d_lr if judge == "d_lr" else self.d_hr
        l_d = hinge_discriminator(real=d(real), fake=d(fake.detach()))
        self.descend(judge, l_d)
        if not both:
            return {f"l_{judge}": l_d}
        with without_gradients(d):
            pixel, gan = mse(target, fake), hinge_generator(d(fake))
            self.descend(generator, self.options.pixel_weight * pixel + self.options.gan_weight * gan)
        return {f"l_{judge}": l_d, f"{generator}_pixel": pixel, f"{generator}_gan": gan}

    def degraded(self, networks: Mapping[str, nn.Module], H: Tensor) -> Tensor:
        """HL(H, z) of fixed z."""
        z = standard_normal(len(H), self.seed, self.name, "z", "fixed").to(self.device)
        return torch.cat([networks["high_to_low"](*part) for part in zip(H.split(64), z.split(64), strict=True)])

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """psnr_train is that of LH on its own inputs, HL(H, z); psnr_bicubic of UP on the same."""
        (_, H), G = self.pairs.sample(128), self.genuine.sample(128)
        L = self.degraded(networks, H)
        S = in_batches(networks["super_resolver"], L)
        d_lr, d_hr = networks["lr_discriminator"], networks["hr_discriminator"]
        return {
            "psnr_train": psnr(S, H),
            "psnr_bicubic": psnr(up(L), H),
            "psnr_hl": psnr(L, ds_area(H)),
            **verdicts(in_batches(d_lr, G), in_batches(d_lr, L), "d_lr"),
            **verdicts(in_batches(d_hr, H), in_batches(d_hr, S), "d_hr"),
        }

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: HR, degraded by HL, taken back by LH, genuine LR, super-resolved."""
        (_, H), G = self.pairs.sample(SHEET_FACES), self.genuine.sample(SHEET_FACES)
        L, lh = self.degraded(networks, H), networks["super_resolver"]
        return rows_of_faces(H, L, lh(L), G, lh(G))


def standard_normal(count: int, *words: object) -> Tensor:
    """[count, 64] from a seed that depends on the words alone."""
    return torch.randn(count, NOISE, generator=torch.Generator().manual_seed(torch_seed(*words)))
