"""pretrain_cr: phi_cr against D on artificial faces, with the frozen phi_inv (eq. 3, 4 and 6)."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Params, scaled_iterations
from charreg.cr.losses import l_cr, l_d
from charreg.cr.regulariser import Regulariser
from charreg.metrics.lr_distance import LrDistance
from charreg.networks.blocks import freeze
from charreg.networks.discriminators import Discriminator
from charreg.training.augment import Augment
from charreg.training.batches import Genuine, Pairs
from charreg.training.job import GAN_BETAS, Job, Losses, without_gradients
from charreg.training.objectives import mse
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts


class PretrainCr(Job):
    """phi_cr and D; genuine and pseudo-genuine faces pass phi_cr as ONE batch, so that batch statistics are those
    of the mixture kept for evaluation."""

    name = "characteristic"
    averaged = ("regulariser",)
    exports = ("regulariser", "discriminator")

    def __init__(self, params: Params, hr: FaceSet, genuine: FaceSet, phi_inv: nn.Module, device: torch.device) -> None:
        self.options, self.lambda_gan = params.pretrain_cr, params.lambda_gan
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.genuine = Genuine(genuine, self.options.batch, params.seed, device)
        self.augment = Augment(self.options.d_jitter, params.seed, self.name)
        self.phi_inv = freeze(phi_inv.to(device))
        self.phi_cr = self.add_network(
            "regulariser", Blueprint.of(Regulariser, params.regulariser.model_dump(mode="json"))
        )
        self.d = self.add_network(
            "discriminator",
            Blueprint.of(Discriminator, {"size": 16, **params.discriminator.model_dump(mode="json")}),
        )
        count = self.options.lr_distance_faces
        self.lr_distance = LrDistance(lambda: self.pairs.sample(count)[0], device) if count else None
        self.add_adam("phi_cr", [self.phi_cr], self.options.lr, GAN_BETAS)
        self.add_adam("d", [self.d], self.options.lr * self.options.d_lr_factor, GAN_BETAS)

    def step(self, step: int) -> Losses:
        A = self.pairs.artificial(step)
        G = self.genuine.batch(step)
        with torch.no_grad():
            P = self.phi_inv(A)
        R, regulated_P = self.phi_cr(torch.cat([G, P])).chunk(2)

        logits_A, logits_R = self.d(self.augment(A, step, "A")), self.d(self.augment(R.detach(), step, "R"))
        judge = l_d(logits_A, logits_R)
        self.descend("d", judge)

        with without_gradients(self.d):
            cr = l_cr(A, regulated_P, self.d(self.augment(R, step, "R to fool")), self.lambda_gan)
            self.descend("phi_cr", cr)
        return {"l_d": judge, "l_cr": cr, "reconstruction": mse(A, regulated_P), "identity": mse(R, G)}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, G = self.pairs.sample(256)[0], self.genuine.sample(256)
        P = in_batches(self.phi_inv, A)
        R, judge = in_batches(networks["regulariser"], G), networks["discriminator"]
        signals = {}
        if self.lr_distance is not None:
            faces = self.genuine.sample(self.options.lr_distance_faces)
            signals["lr_distance"] = self.lr_distance(in_batches(networks["regulariser"], faces))
        return {
            "psnr_R_G": psnr(R, G),
            "psnr_P_A": psnr(P, A),
            "psnr_regulated_P_A": psnr(in_batches(networks["regulariser"], P), A),  # should exceed psnr_P_A
            **verdicts(judge(A), judge(R), "d"),
            **signals,
        }

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: genuine LR, regulated LR, (other) artificial LR."""
        G = self.genuine.sample(SHEET_FACES)
        return rows_of_faces(G, networks["regulariser"](G), self.pairs.sample(SHEET_FACES)[0])
