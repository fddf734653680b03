"""pretrain_sr: phi_sr on artificial pairs, L_sr + adv_weight * E[sp(-D_sr(phi_sr(A)))]."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Params, scaled_iterations
from charreg.core.resampling import up
from charreg.cr.losses import l_sr
from charreg.networks.discriminators import Discriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.training.batches import Pairs
from charreg.training.job import Job, Losses, without_gradients
from charreg.training.objectives import discriminator_loss, generator_loss
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts


class PretrainSr(Job):
    """phi_sr and D_sr; the adversarial term starts after `adv_warmup` of the run."""

    name = "sr_module"
    averaged = ("super_resolver",)
    exports = ("super_resolver", "image_discriminator")

    def __init__(self, params: Params, hr: FaceSet, device: torch.device) -> None:
        self.options = params.pretrain_sr
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.phi_sr = self.add_network(
            "super_resolver", Blueprint.of(SuperResolver, params.super_resolver.model_dump(mode="json"))
        )
        self.d_sr = self.add_network(
            "image_discriminator",
            Blueprint.of(Discriminator, {"size": 64, **params.discriminator.model_dump(mode="json")}),
        )
        self.add_adam("phi_sr", [self.phi_sr], self.options.lr)
        self.add_adam("d_sr", [self.d_sr], self.options.lr * self.options.d_lr_factor)

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        S = self.phi_sr(A)
        sr = l_sr(S, H)
        if not self.options.adv_weight or step < self.options.adv_warmup * self.iterations:
            self.descend("phi_sr", sr)
            return {"l_sr": sr, "l_d_sr": sr.new_zeros(()), "l_adv": sr.new_zeros(())}
        judge = discriminator_loss(real=self.d_sr(H), fake=self.d_sr(S.detach()))
        self.descend("d_sr", judge)
        with without_gradients(self.d_sr):
            adversarial = generator_loss(self.d_sr(S))
            self.descend("phi_sr", sr + self.options.adv_weight * adversarial)
        return {"l_sr": sr, "l_d_sr": judge, "l_adv": adversarial}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        S, judge = in_batches(networks["super_resolver"], A), networks["image_discriminator"]
        verdict = verdicts(in_batches(judge, H), in_batches(judge, S), "d_sr")
        return {"psnr_train": psnr(S, H), "psnr_bicubic": psnr(up(A), H), **verdict}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: artificial LR, bicubic, super-resolved, HR."""
        A, H = self.pairs.sample(SHEET_FACES)
        return rows_of_faces(A, up(A), networks["super_resolver"](A), H)
