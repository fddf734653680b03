"""LRGAN (Bulat, Yang, Tzimiropoulos, ECCV 2018): learn to degrade HR faces as genuine LR ones are, then undo it.

HL(H, z) looks like genuine faces G and LH takes it back to H; H and G are unpaired. At test time LH enlarges G.
    HL: pixel_weight * mse(avgpool4x4(H), HL(H, z)) + gan_weight * -E[D_lr(HL(H, z))]
    LH: pixel_weight * mse(H, LH(HL(H, z)))         + gan_weight * -E[D_hr(LH(HL(H, z)))], HL(H, z) detached
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.distributed import world_size
from charreg.jobs.data import Genuine
from charreg.jobs.peer import Inputs, PeerJob
from charreg.jobs.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts
from charreg.jobs.stabilisers import share
from charreg.losses import mse
from charreg.models import Blueprint
from charreg.networks.discriminators import Discriminator
from charreg.networks.lrgan import NOISE, HighToLow
from charreg.networks.super_resolver import SuperResolver
from charreg.params import Lrgan, Params
from charreg.resampling import ds_area, up
from charreg.sampling import torch_seed
from charreg.training import Losses, without_gradients

LOSSES = ("l_d_lr", "hl_pixel", "hl_gan", "l_d_hr", "lh_pixel", "lh_gan")


def hinge_judge(real: Tensor, fake: Tensor) -> Tensor:
    """What D_lr and D_hr minimise: E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))], of logits [B]."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_fool(fake: Tensor) -> Tensor:
    """What HL and LH minimise of their discriminators: -E[D(fake)], of logits [B]."""
    return -fake.mean()


class TrainLrgan(PeerJob):
    """HL against D_lr (real: genuine faces) and LH against D_hr (real: HR faces)."""

    name = "lrgan"
    averaged = ("super_resolver", "high_to_low")
    exports = ("super_resolver", "high_to_low")

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = params.peers[self.name]
        assert isinstance(options, Lrgan)
        self.options = options
        self.genuine = Genuine(inputs.genuine, options.batch, params.seed, device)
        layout = {"width": options.width, "norm": options.norm, "output": options.output}
        judge = {"width": options.d_width, "pooling": options.d_pooling, "spectral_norm": True}
        self.hl = self.add_network("high_to_low", Blueprint.of(HighToLow, layout))
        self.lh = self.add_network(
            "super_resolver",
            Blueprint.of(SuperResolver, {**layout, "blocks": list(options.blocks), "activation": "relu"}),
        )
        self.d_lr = self.add_network("lr_discriminator", Blueprint.of(Discriminator, {"size": 16, **judge}))
        self.d_hr = self.add_network("hr_discriminator", Blueprint.of(Discriminator, {"size": 64, **judge}))
        for name, network in (("hl", self.hl), ("d_lr", self.d_lr), ("lh", self.lh), ("d_hr", self.d_hr)):
            self.add_adam(name, [network], options.lr, options.betas)

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
        l_d = hinge_judge(real=d(real), fake=d(fake.detach()))
        self.descend(judge, l_d)
        if not both:
            return {f"l_{judge}": l_d}
        with without_gradients(d):
            pixel, gan = mse(target, fake), hinge_fool(d(fake))
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
        S, d_lr, d_hr = (
            in_batches(networks["super_resolver"], L),
            networks["lr_discriminator"],
            networks["hr_discriminator"],
        )
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
